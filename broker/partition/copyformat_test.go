package partition

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"

	"tidewater/broker/segment"
	"tidewater/internal/record"
)

func sampleState(t testing.TB) state {
	return state{position: samplePosition(), producers: sampleProducers(t)}
}

func sampleFrames(t testing.TB) []copyFrame {
	batch := makeBatch(t, record.Builder{}, 77, 1, 3)
	batch.SetEpoch(4)
	return []copyFrame{
		{kind: frameBegin, first: 7, base: 100},
		{kind: frameEntries, entries: []segment.Entry{{Index: 7, Term: 4}, {Index: 8, Term: 4, Data: batch}}},
		{kind: frameSeal, next: 101, snapshot: []byte("producers at 101")},
		{kind: frameEnd},
	}
}

func frameBytes(t testing.TB, frames []copyFrame) []byte {
	t.Helper()
	var b bytes.Buffer
	for i := range frames {
		if err := writeFrame(&b, &frames[i]); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// The forms that travel when a replica is brought up to date, and the file that
// lies beside a copy, are the golden bytes and come back as they were.
func TestCopyForms(t *testing.T) {
	s := sampleState(t)
	data := encodeRaftSnapshot(testIdentity(), &s)
	golden(t, "raft-snapshot", data)
	id, back, _, err := decodeRaftSnapshot(data)
	if err == nil && !bytes.Equal(encodeRaftSnapshot(id, &back), data) {
		t.Errorf("RaftSnapshot came back as %+v", back)
	}
	if err != nil {
		t.Fatal(err)
	}
	request := copyRequest{from: 5, to: 900}
	golden(t, "copy-request", request.encode())
	if back, err := decodeCopyRequest(request.encode()); err != nil || back != request {
		t.Errorf("request came back as %+v, %v", back, err)
	}
	file := copyFile{first: 70, last: 900}
	golden(t, "copy-file", file.encode())
	if back, err := decodeCopyFile(file.encode()); err != nil || back != file {
		t.Errorf("copy file came back as %+v, %v", back, err)
	}
	frames := sampleFrames(t)
	stream := frameBytes(t, frames)
	golden(t, "copy-frames", stream)
	r := bytes.NewReader(stream)
	for i := range frames {
		if back, err := readFrame(r); err != nil || !reflect.DeepEqual(back, frames[i]) {
			t.Errorf("frame %d came back as %+v, %v", i, back, err)
		}
	}
	if _, err := readFrame(r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a stream without an end: %v", err)
	}
}

// Damage of any byte of a stream, and its end anywhere, are noticed; so are
// forms of a newer version.
func TestCopyFormsRefuse(t *testing.T) {
	s := sampleState(t)
	for name, c := range map[string]struct {
		data   []byte
		decode func([]byte) error
	}{
		"snapshot": {encodeRaftSnapshot(testIdentity(), &s), func(b []byte) error { _, _, _, err := decodeRaftSnapshot(b); return err }},
		"request":  {copyRequest{from: 1, to: 2}.encode(), func(b []byte) error { _, err := decodeCopyRequest(b); return err }},
		"file":     {copyFile{first: 1, last: 2}.encode(), func(b []byte) error { _, err := decodeCopyFile(b); return err }},
	} {
		newer := bytes.Clone(c.data)
		newer[7] = 9
		if err := c.decode(newer); !errors.Is(err, ErrVersion) {
			t.Errorf("%s of a newer version: %v", name, err)
		}
		for i := range c.data {
			bad := bytes.Clone(c.data)
			bad[i] ^= 0x10
			if c.decode(bad) == nil || c.decode(c.data[:i]) == nil {
				t.Errorf("%s with byte %d changed, or cut there, was taken", name, i)
			}
		}
	}
	zeros := map[int]bool{}
	at := 0
	for _, one := range sampleFrames(t)[:3] {
		zeros[at+1], zeros[at+2], zeros[at+3] = true, true, true
		at += len(frameBytes(t, []copyFrame{one}))
	}
	stream := frameBytes(t, sampleFrames(t)[:3])
	for i := range stream {
		bad := bytes.Clone(stream)
		bad[i] ^= 0x10
		if zeros[i] {
			continue // not looked at
		}
		if readAllFrames(bad) == nil {
			t.Errorf("stream with byte %d changed was taken", i)
		}
		if readAllFrames(stream[:i]) == nil {
			t.Errorf("stream cut at %d was taken", i)
		}
	}
}

// readAllFrames reads three frames.
func readAllFrames(stream []byte) error {
	r := bytes.NewReader(stream)
	for range 3 {
		if _, err := readFrame(r); err != nil {
			return err
		}
	}
	return nil
}

func FuzzRaftSnapshot(f *testing.F) {
	s := sampleState(f)
	f.Add(encodeRaftSnapshot(testIdentity(), &s))
	f.Fuzz(func(t *testing.T, data []byte) {
		id, s, _, err := decodeRaftSnapshot(resum(data))
		if err != nil {
			return
		}
		if _, _, _, err := decodeRaftSnapshot(encodeRaftSnapshot(id, &s)); err != nil {
			t.Fatalf("%+v does not come back: %v", s, err)
		}
	})
}

func FuzzCopyRequest(f *testing.F) {
	f.Add(copyRequest{from: 5, to: 900}.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeCopyRequest(resum(data))
		if back, again := decodeCopyRequest(r.encode()); err == nil && (again != nil || back != r) {
			t.Fatalf("%+v came back as %+v, %v", r, back, again)
		}
	})
}

func FuzzCopyFile(f *testing.F) {
	f.Add(copyFile{first: 70, last: 900}.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeCopyFile(resum(data))
		if back, again := decodeCopyFile(c.encode()); err == nil && (again != nil || back != c) {
			t.Fatalf("%+v came back as %+v, %v", c, back, again)
		}
	})
}

// A frame that is read is written as the same bytes, and nothing panics or
// takes memory that the input does not have.
func FuzzCopyFrame(f *testing.F) {
	for _, one := range sampleFrames(f) {
		b := frameBytes(f, []copyFrame{one})
		f.Add(b[0], b[frameHeadBytes:])
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		c, err := decodeFrame(frameKind(kind), body)
		if err != nil {
			return
		}
		b := frameBytes(t, []copyFrame{c})
		if c.kind == frameBegin {
			return // a newer version's numbers are not kept
		}
		if !bytes.Equal(b[frameHeadBytes:], body) {
			t.Fatalf("%x came back as %x", body, b[frameHeadBytes:])
		}
	})
}

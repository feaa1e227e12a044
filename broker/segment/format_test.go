package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"testing"

	"tidewater/internal/disk"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// goldenLog is a sealed segment with batches, a command and raft's own entries
// in two chunks; it never changes.
func goldenLog(t testing.TB) (segment, index []byte) {
	fs := disk.NewMem(0)
	l := openLog(t, fs, nil)
	s := newStory(40)
	appendAll(t, l, s.add(t, 8))
	appendAll(t, l, s.add(t, 4))
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	in := l.Segments()[0]
	return fileBytes(t, fs, l.Path(in)), fileBytes(t, fs, l.IndexPath(in))
}

func fileBytes(t testing.TB, fs disk.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b, err := readAll(f, 0, size)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// writeFile puts whole blocks into a new file.
func writeFile(t testing.TB, fs disk.FS, name string, b []byte) {
	t.Helper()
	if err := fs.MkdirAll("topic/5"); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := disk.Alloc(int(alignUp(int64(len(b)))))
	copy(block, b)
	if len(block) > 0 {
		if _, err := f.WriteAt(block, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// The files of version 1 are these bytes, and are read as they were written.
func TestGoldenFiles(t *testing.T) {
	segment, index := goldenLog(t)
	for _, g := range []struct {
		name string
		got  []byte
	}{{"testdata/v1.segment", segment}, {"testdata/v1.index", index}} {
		if *rewrite {
			if err := os.WriteFile(g.name, g.got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(g.name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(g.got, want) {
			t.Errorf("%s: bytes written today differ from version 1", g.name)
		}
	}
	fs := disk.NewMem(0)
	name := segmentName(0, 1, 0)
	writeFile(t, fs, "topic/5/"+name, segment)
	writeFile(t, fs, "topic/5/"+indexName(name), index)
	s := newStory(40)
	s.add(t, 12)
	checkAgainst(t, openLog(t, fs, nil), s)
}

// A format from the future is refused by name, in segments and in indexes,
// and the files stay.
func TestUnknownVersionIsRefused(t *testing.T) {
	segment, index := goldenLog(t)
	name := segmentName(0, 1, 0)
	for what, change := range map[string]func(b []byte){
		"reader version": func(b []byte) { binary.BigEndian.PutUint16(b[14:], 2) },
		"flags": func(b []byte) {
			b[47] = 1
			sealHeader(b)
		},
		"key id": func(b []byte) {
			b[43] = 9
			sealHeader(b)
		},
	} {
		for _, inIndex := range []bool{false, true} {
			seg, ix := bytes.Clone(segment), bytes.Clone(index)
			fs := disk.NewMem(0)
			if inIndex {
				change(ix)
				writeFile(t, fs, "topic/5/"+indexName(name), ix)
			} else {
				change(seg)
			}
			writeFile(t, fs, "topic/5/"+name, seg)
			if _, err := tryOpen(fs, nil); !errors.Is(err, ErrVersion) {
				t.Errorf("%s, in the index %v: %v", what, inIndex, err)
			}
			if _, err := fs.Open("topic/5/" + name); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

// Any bytes behind a chunk header's magic: never a panic, no more memory than
// the bytes, and what decodes encodes to the same bytes.
func FuzzChunk(f *testing.F) {
	segment, _ := goldenLog(f)
	f.Add(segment[headerBytes:headerBytes+600], headerSum(segment))
	f.Add(segment[2*headerBytes:2*headerBytes+300], headerSum(segment))
	f.Add([]byte(chunkMagic), uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, sum uint32) {
		if n := chunkHeaderBytes(b); n > 0 && n <= int64(len(b)) {
			// Let the fuzzer past the checksums.
			b = bytes.Clone(b)
			binary.BigEndian.PutUint64(b[24:], headerBytes)
			binary.BigEndian.PutUint32(b[100:], sum)
			binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:n], castagnoli))
		}
		c, err := decodeChunk(b, headerBytes, sum)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error is not ErrCorrupt: %v", err)
			}
			return
		}
		again := make([]byte, c.headerBytes)
		c.put(again)
		if !bytes.Equal(again, b[:c.headerBytes]) {
			t.Fatalf("decoded %+v, encodes to other bytes", c)
		}
	})
}

// Any bytes as an index file: never a panic, and what decodes encodes to the
// same bytes.
func FuzzIndex(f *testing.F) {
	_, index := goldenLog(f)
	f.Add(index)
	f.Add(index[:headerBytes])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= headerBytes {
			b = bytes.Clone(b)
			sealHeader(b)
		}
		x, err := decodeIndexHead(b)
		if err != nil {
			return
		}
		if x.points < len(b)/pointBytes && len(b) >= headerBytes+x.points*pointBytes {
			x.sum = crc32.Checksum(b[headerBytes:headerBytes+x.points*pointBytes], castagnoli)
		}
		points, err := decodePoints(b[headerBytes:], x)
		if err != nil {
			return
		}
		again := make([]byte, indexFileBytes(len(points)))
		encodeIndex(again, x.fileHeader, x.info, points)
		y, err := decodeIndexHead(again)
		if err != nil || y.info != x.info || y.fileHeader != x.fileHeader {
			t.Fatalf("decoded %+v, again %+v: %v", x, y, err)
		}
		back, err := decodePoints(again[headerBytes:], y)
		if err != nil || len(back) != len(points) {
			t.Fatalf("decoded %d points, again %d: %v", len(points), len(back), err)
		}
	})
}

// Any bytes as a segment in the directory: Open and reads end with an answer,
// and what can be read are whole batches.
func FuzzSegment(f *testing.F) {
	segment, _ := goldenLog(f)
	f.Add(segment, uint16(0), byte(0))
	f.Add(segment, uint16(headerBytes+20), byte(7))
	f.Add(segment, uint16(headerBytes+700), byte(1))
	f.Add(segment[:2*headerBytes], uint16(9), byte(1))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, x byte) {
		b = bytes.Clone(b[:min(len(b), 1<<20)])
		if int(at) < len(b) {
			b[at] ^= x
		}
		fs := disk.NewMem(0)
		writeFile(t, fs, "topic/5/"+segmentName(0, 1, 0), b)
		l, err := tryOpen(fs, nil)
		if err != nil {
			return
		}
		_, _, end := l.End()
		got, err := l.Read(0, 1<<20, end)
		if err != nil || len(l.Segments()) == 0 {
			return
		}
		for _, one := range got {
			if len(one) < 61 {
				t.Fatalf("read gave %d bytes", len(one))
			}
		}
		_, _ = l.Entries(1, 100, 1<<20)
		_, _, _, _ = l.Find(5000)
	})
}

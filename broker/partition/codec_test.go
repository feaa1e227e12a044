package partition

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"tidewater/broker/journal"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

var updateGolden = flag.Bool("update-golden", false, "write golden bytes again")

// golden compares data with the hex dump in testdata: stored forms do not
// change by accident.
func golden(t *testing.T, name string, data []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	if *updateGolden {
		if err := os.WriteFile(path, []byte(hex.Dump(data)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.Dump(data); got != string(want) {
		t.Errorf("%s: the format changed:\n%s\nwant\n%s", name, got, want)
	}
}

func sampleProducers(t testing.TB) producers {
	t.Helper()
	var s producers
	for _, b := range []record.Batch{
		makeBatch(t, record.Builder{Producer: &record.Producer{ID: 5, Epoch: 2, Sequence: 10}}, 77, 3, 1),
		makeBatch(t, record.Builder{Producer: &record.Producer{ID: 6}, Transactional: true}, 78, 1, 1),
		makeBatch(t, record.Builder{Producer: &record.Producer{ID: 7}, Transactional: true}, 79, 1, 1),
		markerBatch(t, 6, 0, false, 9),
	} {
		if err := s.append(b, 3, 1, 1000); err != nil {
			t.Fatal(err)
		}
	}
	s.txns.commit(100)
	return s
}

func samplePosition() position {
	return position{next: 1000, logStart: 10, archived: 500, manifest: 3, epochs: epochHistory{{Epoch: 1, Start: 0}, {Epoch: 7, Start: 600}}}
}

// The stored forms are the golden bytes and come back as they were.
func TestStoredForms(t *testing.T) {
	s := sampleProducers(t)
	snapshot := encodeSnapshot(testIdentity(), 100, &s)
	golden(t, "producers", snapshot)
	p := samplePosition()
	golden(t, "mark", p.encode())
	if back, with, err := decodeMark(p.encode()); err != nil || with != nil || !reflect.DeepEqual(back, p) {
		t.Errorf("mark came back as %+v with %v, %v", back, with, err)
	}
	both := state{position: p, producers: s}
	golden(t, "mark-producers", both.encodeMark())
	back, with, err := decodeMark(both.encodeMark())
	if err != nil || with == nil || !reflect.DeepEqual(back, p) || !bytes.Equal(with.encode(nil), s.encode(nil)) {
		t.Errorf("mark came back as %+v with %+v, %v", back, with, err)
	}
	for name, c := range map[string]command{
		"command-log-start": {kind: setLogStart, logStart: 12345},
		"command-archived":  {kind: setArchived, archived: 12345, manifest: 67},
	} {
		golden(t, name, c.encode())
		if back, err := decodeCommand(c.encode()); err != nil || back != c {
			t.Errorf("%s came back as %+v, %v", name, back, err)
		}
	}
}

// A snapshot brought forward over batches is that of a log that holds them:
// transactions that ended in them are not open in it.
func TestReplaySnapshot(t *testing.T) {
	batches := []record.Batch{
		makeBatch(t, record.Builder{Producer: &record.Producer{ID: 6}, Transactional: true}, 78, 1, 1),
		makeBatch(t, record.Builder{Producer: &record.Producer{ID: 7}, Transactional: true}, 78, 1, 1),
		markerBatch(t, 6, 0, false, 9),
	}
	for i, b := range batches {
		b.SetBaseOffset(record.Offset(i))
	}
	data, err := ReplaySnapshot(context.Background(), testIdentity(), nil, 3, 1000, func(_ context.Context, fn func(record.Batch) error) error {
		for _, b := range batches {
			if err := fn(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, next, s, err := decodeSnapshot(data)
	if err != nil || next != 3 || len(s.txns.undecided) != 1 || s.txns.undecided[0].producer != 7 || len(s.txns.aborted) != 1 {
		t.Fatalf("at %d: %+v, %v", next, s.txns, err)
	}
}

// The longest mark fits the journal's bound of 64 KiB.
func TestMarkFits(t *testing.T) {
	var p position
	for i := range 2 * epochsMax {
		p.epochs.add(record.LeaderEpoch(i), record.Offset(i))
	}
	p.next = 2 * epochsMax
	s := state{position: p}
	for id := int64(0); s.producers.encodedBytes(markProducersMax) <= markProducersMax; id++ {
		most := s.encodeMark()
		if len(most) > journal.MarkBytesMax || int64(id)*producerFixedBytes > markProducersMax {
			t.Fatalf("%d bytes for %d producers", len(most), id)
		}
		s.producers.producer(id, 0).recent = make([]recentBatch, id%(recentMax+1))
	}
	if n := len(s.encodeMark()); n != len(p.encode()) {
		t.Fatalf("%d bytes with too many producers, %d without", n, len(p.encode()))
	}
	if first := p.epochs[0]; first != (logio.EpochStart{Epoch: epochsMax, Start: epochsMax}) || len(p.epochs) != epochsMax {
		t.Fatalf("history of %d begins with %v", len(p.epochs), first)
	}
}

// What needs a newer program is refused by name, damage by ErrCorrupt.
func TestDecodersRefuse(t *testing.T) {
	p, s := samplePosition(), sampleProducers(t)
	for name, c := range map[string]struct {
		data   []byte
		decode func([]byte) error
		least  int // where the minimum reader version's last byte is
	}{
		"mark":     {p.encode(), func(b []byte) error { _, _, err := decodeMark(b); return err }, 7},
		"snapshot": {encodeSnapshot(testIdentity(), 1, &s), func(b []byte) error { _, _, _, err := decodeSnapshot(b); return err }, 7},
		"command":  {command{kind: setLogStart, logStart: 1}.encode(), func(b []byte) error { _, err := decodeCommand(b); return err }, 2},
	} {
		newer := bytes.Clone(c.data)
		newer[c.least] = 9
		if err := c.decode(newer); !errors.Is(err, ErrVersion) {
			t.Errorf("%s of a newer version: %v", name, err)
		}
		for n := range len(c.data) {
			if err := c.decode(c.data[:n]); err == nil {
				t.Errorf("%s cut to %d of %d bytes was taken", name, n, len(c.data))
			}
		}
		if name == "command" {
			continue // the entry it is in carries the checksum
		}
		for i := range c.data {
			bad := bytes.Clone(c.data)
			bad[i] ^= 0x10
			if err := c.decode(bad); err == nil {
				t.Errorf("%s with byte %d changed was taken", name, i)
			}
		}
	}
	if _, err := decodeCommand([]byte{0x99, 1, 1, 0}); !errors.Is(err, ErrVersion) {
		t.Errorf("unknown command: %v", err)
	}
}

// resum mends the checksum, so that a fuzzer gets past it.
func resum(data []byte) []byte {
	if len(data) < sumBytes {
		return data
	}
	return seal(bytes.Clone(data[:len(data)-sumBytes]), 0)
}

// What decodes encodes to the same bytes, and nothing panics.
func FuzzSnapshot(f *testing.F) {
	s := sampleProducers(f)
	f.Add(encodeSnapshot(testIdentity(), 100, &s))
	f.Add(encodeSnapshot(testIdentity(), 0, &producers{}))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = resum(data)
		id, next, s, err := decodeSnapshot(data)
		if err != nil {
			return
		}
		again := encodeSnapshot(id, next, &s)
		if _, _, _, err := decodeSnapshot(again); err != nil || len(again) != len(data) {
			t.Fatalf("%x came back as %x, %v", data, again, err)
		}
	})
}

func FuzzMark(f *testing.F) {
	p := samplePosition()
	f.Add(p.encode())
	both := state{position: p, producers: sampleProducers(f)}
	f.Add(both.encodeMark())
	f.Fuzz(func(t *testing.T, data []byte) {
		p, with, err := decodeMark(resum(data))
		if err != nil {
			return
		}
		again := p.encode()
		if with != nil {
			again = seal(with.encode(p.appendTo(nil, markVersion)), 0)
		}
		if back, _, err := decodeMark(again); err != nil || len(again) != len(data) || !reflect.DeepEqual(back, p) {
			t.Fatalf("%+v came back as %+v, %v", p, back, err)
		}
	})
}

func FuzzCommand(f *testing.F) {
	f.Add(command{kind: setLogStart, logStart: 12345}.encode())
	f.Add(command{kind: setArchived, archived: 12345, manifest: 67}.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeCommand(data)
		if err != nil {
			return
		}
		if back, err := decodeCommand(c.encode()); err != nil || back != c {
			t.Fatalf("%+v came back as %+v, %v", c, back, err)
		}
	})
}

func FuzzMarker(f *testing.F) {
	f.Add([]byte(markerBatch(f, 1, 2, true, 3)))
	f.Add([]byte(markerBatch(f, 1, 2, false, 3)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, _, err := record.Next(data); err == nil {
			_, _ = parseMarker(b) // it does not panic
		}
	})
}

package segment

import (
	"fmt"
	"testing"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

var testIdentity = Identity{ClusterID: [16]byte{0xc1}, Incarnation: 3, Tenant: "acme", Partition: record.PartitionID{Topic: record.TopicID{0x70}, Partition: 5}}

// story makes the entries of a log: batches of a few records, and other
// entries between them, from a plain counter.
type story struct {
	index record.Index
	term  uint64
	next  record.Offset
	// bytes is the size of each record's value.
	bytes int
	all   []Entry
}

func newStory(bytes int) *story { return &story{term: 1, bytes: bytes} }

// add makes n entries and gives them.
func (s *story) add(tb testing.TB, n int) []Entry {
	tb.Helper()
	from := len(s.all)
	for range n {
		s.index++
		if s.index%11 == 0 {
			s.term++
		}
		e := Entry{Index: s.index, Term: s.term}
		switch s.index % 7 {
		case 0:
			e.Data = nil // raft's own
		case 3:
			e.Data = []byte{0x80, byte(s.index)} // a command
		default:
			e.Data = s.batch(tb)
		}
		s.all = append(s.all, e)
	}
	return s.all[from:]
}

func (s *story) batch(tb testing.TB) record.Batch {
	tb.Helper()
	var b record.Builder
	for i := range int64(s.index%3 + 1) {
		value := make([]byte, s.bytes)
		copy(value, fmt.Sprintf("%d/%d", s.index, i))
		b.Add(s.timestamp(i), []byte("key"), value)
	}
	out, err := b.Build(s.next)
	if err != nil {
		tb.Fatal(err)
	}
	out.SetEpoch(record.LeaderEpoch(s.term))
	s.next = out.NextOffset()
	return out
}

// timestamp rises with steps back, as producers' clocks do.
func (s *story) timestamp(record int64) int64 {
	ms := int64(s.index)*1000 + record*10
	if s.index%5 == 0 {
		ms -= 2500
	}
	return ms
}

// batches gives the batches of the story that hold offsets in [from, to).
func (s *story) batches(from, to record.Offset) []record.Batch {
	var out []record.Batch
	for _, e := range s.all {
		if isBatch(e.Data) {
			if b := record.Batch(e.Data); b.NextOffset() > from && b.BaseOffset() < to {
				out = append(out, b)
			}
		}
	}
	return out
}

func openLog(tb testing.TB, fs disk.FS, change func(*Config)) *Log {
	tb.Helper()
	l, err := tryOpen(fs, change)
	if err != nil {
		tb.Fatalf("open log: %v", err)
	}
	return l
}

func tryOpen(fs disk.FS, change func(*Config)) (*Log, error) {
	cfg := Config{FS: fs, Dir: "topic/5", Identity: testIdentity}
	if change != nil {
		change(&cfg)
	}
	return Open(cfg)
}

func appendAll(tb testing.TB, l *Log, entries []Entry) {
	tb.Helper()
	if err := l.Append(entries); err != nil {
		tb.Fatalf("append: %v", err)
	}
	if err := l.Sync(); err != nil {
		tb.Fatalf("sync: %v", err)
	}
}

// readAllBatches reads from an offset to the end, bytesMax at a time.
func readAllBatches(tb testing.TB, l *Log, from record.Offset, bytesMax int) []record.Batch {
	tb.Helper()
	_, _, end := l.End()
	var out []record.Batch
	for from < end {
		got, err := l.Read(from, bytesMax, end)
		if err != nil {
			tb.Fatalf("read at %d: %v", from, err)
		}
		if len(got) == 0 {
			tb.Fatalf("read at %d gave nothing, log ends at %d", from, end)
		}
		for _, b := range got {
			if err := record.Batch(b).Check(); err != nil {
				tb.Fatalf("batch read at %d: %v", from, err)
			}
			out = append(out, b)
		}
		from = out[len(out)-1].NextOffset()
	}
	return out
}

func sameBatches(tb testing.TB, got, want []record.Batch) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Fatalf("got %d batches, want %d", len(got), len(want))
	}
	for i := range got {
		if string(got[i]) != string(want[i]) {
			tb.Fatalf("batch %d at offset %d differs from what was appended at %d", i, got[i].BaseOffset(), want[i].BaseOffset())
		}
	}
}

func sameEntries(tb testing.TB, got, want []Entry) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Fatalf("got %d entries, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].Index != want[i].Index || got[i].Term != want[i].Term || string(got[i].Data) != string(want[i].Data) {
			tb.Fatalf("entry %d: got (%d, %d, %d bytes), want (%d, %d, %d bytes)", i, got[i].Index, got[i].Term, len(got[i].Data), want[i].Index, want[i].Term, len(want[i].Data))
		}
	}
}

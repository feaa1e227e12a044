package segment

import (
	"bytes"
	"errors"
	"testing"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// rotLog is a log of a few segments, the last of them active.
func rotLog(t *testing.T, fs disk.FS, bytes int) (*Log, *story) {
	t.Helper()
	l, err := Open(Config{FS: fs, Dir: "log", Identity: testIdentity})
	if err != nil {
		t.Fatal(err)
	}
	s := newStory(bytes)
	for range 3 {
		for range 3 {
			if err := l.Append(s.add(t, 9)); err != nil {
				t.Fatal(err)
			}
		}
		if len(s.all) < 60 {
			if err := l.Roll(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	return l, s
}

// One bit of a segment is flipped, anywhere: a reader gets the bytes that were
// appended, or ErrCorrupt, and never other ones or fewer. A batch's leader
// epoch is outside its CRC; who knows the epochs looks at it.
func TestRotIsNeverGiven(t *testing.T) {
	for _, size := range []int{40, 9000} {
		mem := disk.NewMem(0)
		l, s := rotLog(t, mem, size)
		seen := 0
		for _, in := range l.Segments() {
			step := in.Bytes/25 + 1 // of no block's size
			for at := int64(0); at < in.Bytes; at += step {
				flip(t, mem, l.Path(in), at)
				fresh, err := Open(Config{FS: mem, Dir: "log", Identity: testIdentity, Durable: s.index})
				if err == nil {
					seen += rotSeen(t, fresh, s)
					_ = fresh.Close()
				} else if !errors.Is(err, ErrCorrupt) {
					t.Fatal(err)
				}
				seen += rotSeen(t, l, s)
				flip(t, mem, l.Path(in), at)
			}
		}
		if seen < 200 {
			t.Errorf("rot was seen %d times: the test tests nothing", seen)
		}
		checkAgainst(t, l, s)
	}
}

// rotSeen reads all of a log in every way and gives how often rot was seen.
func rotSeen(t *testing.T, l *Log, s *story) (seen int) {
	t.Helper()
	_, _, end := l.End()
	want := s.batches(0, end)
	for _, bytesMax := range []int{1, 64 << 10} {
		for i := 0; i < len(want); {
			got, err := l.Read(want[i].BaseOffset(), bytesMax, end)
			if errors.Is(err, ErrCorrupt) {
				seen++
				i++
				continue
			}
			if err != nil || len(got) == 0 {
				t.Fatalf("read at %d: %d batches, %v", want[i].BaseOffset(), len(got), err)
			}
			for _, b := range got {
				if !sameButEpoch(b, want[i]) {
					t.Fatalf("read gave other bytes at offset %d", want[i].BaseOffset())
				}
				i++
			}
		}
	}
	last, _, _ := l.End()
	for at := record.Index(1); at <= last; {
		got, err := l.Entries(at, last+1, 64<<10)
		if errors.Is(err, ErrCorrupt) {
			seen++
			at++
			continue
		}
		if err != nil || len(got) == 0 {
			t.Fatalf("entries from %d: %d, %v", at, len(got), err)
		}
		for _, e := range got {
			w := s.all[at-1]
			if e.Index != at || isBatch(w.Data) != isBatch(e.Data) || isBatch(w.Data) && !sameButEpoch(e.Data, w.Data) ||
				!isBatch(w.Data) && (e.Term != w.Term || !bytes.Equal(e.Data, w.Data)) {
				t.Fatalf("entries gave another entry at %d", at)
			}
			at++
		}
	}
	return seen + rotFound(t, l, s)
}

// rotFound looks up times.
func rotFound(t *testing.T, l *Log, s *story) (seen int) {
	t.Helper()
	for i := 0; i < len(s.all); i += 13 {
		ts := int64(i)*1000 + 300
		offset, at, ok, err := l.Find(ts)
		if errors.Is(err, ErrCorrupt) {
			seen++
		} else if err == nil {
			if _, _, next := l.End(); next == s.next {
				wantOffset, wantAt, wantOK := storyFind(t, s, ts)
				if ok != wantOK || ok && (offset != wantOffset || at != wantAt) {
					t.Fatalf("find %d gave %d at %d, %v", ts, offset, at, ok)
				}
			}
		} else {
			t.Fatal(err)
		}
	}
	return seen
}

func sameButEpoch(a, b []byte) bool {
	return len(a) == len(b) && bytes.Equal(a[:12], b[:12]) && bytes.Equal(a[16:], b[16:])
}

package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"tidewater/internal/disk"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// checkAgainst compares every way of reading the log with the story.
func checkAgainst(t *testing.T, l *Log, s *story) {
	t.Helper()
	index, term, next := l.End()
	last := s.all[len(s.all)-1]
	if index != last.Index || term != last.Term || next != s.next {
		t.Fatalf("log ends at entry %d, term %d, offset %d, want %d, %d, %d", index, term, next, last.Index, last.Term, s.next)
	}
	rng := rand.New(rand.NewPCG(1, uint64(len(s.all))))
	for _, bytesMax := range []int{1, 5000, 100 << 10, 8 << 20} {
		from := record.Offset(rng.Int64N(int64(s.next)))
		sameBatches(t, readAllBatches(t, l, from, bytesMax), s.batches(from, s.next))
	}
	var scanned int
	from := record.Offset(rng.Int64N(int64(s.next)))
	want := s.batches(from, s.next)
	if err := l.Scan(from, func(h record.Batch) error {
		if h.BaseOffset() != want[scanned].BaseOffset() || h.CRC() != want[scanned].CRC() {
			return fmt.Errorf("scan gives offset %d, want %d", h.BaseOffset(), want[scanned].BaseOffset())
		}
		scanned++
		return nil
	}); err != nil || scanned != len(want) {
		t.Fatalf("scanned %d of %d headers: %v", scanned, len(want), err)
	}
	for range 5 {
		lo := record.Index(rng.IntN(len(s.all)) + 1)
		hi := lo + record.Index(rng.IntN(len(s.all)-int(lo)+1)) + 1
		got, err := l.Entries(lo, hi, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		sameEntries(t, got, s.all[lo-1:min(int(hi)-1, len(s.all))])
		checkFind(t, l, s, int64(lo)*1000-700)
	}
}

func checkFind(t *testing.T, l *Log, s *story, ts int64) {
	t.Helper()
	wantOffset, wantAt, wantOK := storyFind(t, s, ts)
	offset, at, ok, err := l.Find(ts)
	if err != nil || ok != wantOK || ok && (offset != wantOffset || at != wantAt) {
		t.Fatalf("find %d: %d at %d, %v, %v; want %d at %d, %v", ts, offset, at, ok, err, wantOffset, wantAt, wantOK)
	}
}

// storyFind is what Find is to give.
func storyFind(t *testing.T, s *story, ts int64) (record.Offset, int64, bool) {
	t.Helper()
	for _, b := range s.batches(0, s.next) {
		if b.MaxTimestamp() < ts {
			continue
		}
		offset, at, ok, err := findRecord(b, ts)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			return offset, at, true
		}
	}
	return 0, 0, false
}

// What is appended is read back by offset, index and time, from active and
// sealed segments, large and small, before and after opening again, with
// indexes from files and without.
func TestReadsGiveWhatWasAppended(t *testing.T) {
	for _, size := range []struct{ value, chunk, chunks int }{{10, 3, 60}, {900, 40, 30}, {30_000, 9, 12}, {300_000, 2, 8}} {
		t.Run(fmt.Sprint(size.value, " bytes"), func(t *testing.T) {
			fs := disk.NewMem(0)
			change := func(c *Config) { c.SegmentBytes = 1 << 20 }
			l := openLog(t, fs, change)
			s := newStory(size.value)
			for i := range size.chunks {
				appendAll(t, l, s.add(t, size.chunk))
				if i == size.chunks/3 {
					if err := l.Roll(); err != nil {
						t.Fatal(err)
					}
				}
			}
			checkAgainst(t, l, s)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = openLog(t, fs, change)
			checkAgainst(t, l, s)
			appendAll(t, l, s.add(t, size.chunk))
			if err := l.Roll(); err != nil {
				t.Fatal(err)
			}
			for _, in := range l.Segments() {
				if err := fs.Remove(l.IndexPath(in)); err != nil {
					t.Fatal(err)
				}
			}
			l = openLog(t, fs, change)
			checkAgainst(t, l, s)
			got := int64(-1)
			for _, in := range l.Segments() {
				got = max(got, in.MaxTimestamp)
			}
			if got != maxTimestamp(s) {
				t.Errorf("max timestamp %d, want %d", got, maxTimestamp(s))
			}
		})
	}
}

func maxTimestamp(s *story) int64 {
	ts := int64(-1)
	for _, b := range s.batches(0, s.next) {
		ts = max(ts, b.MaxTimestamp())
	}
	return ts
}

// The limits of a read: at least one batch, then bytesMax, then limit; none
// at the end; out of range before the start and after the end.
func TestReadLimits(t *testing.T) {
	l := openLog(t, disk.NewMem(0), nil)
	s := newStory(100)
	appendAll(t, l, s.add(t, 40))
	all := s.batches(0, s.next)
	got, err := l.Read(all[3].BaseOffset(), 1, s.next)
	if err != nil || len(got) != 1 || string(got[0]) != string(all[3]) {
		t.Fatalf("one byte gives %d batches: %v", len(got), err)
	}
	two := len(all[3]) + len(all[4])
	if got, err = l.Read(all[3].LastOffset(), two, s.next); err != nil || len(got) != 2 {
		t.Fatalf("room for two gives %d batches: %v", len(got), err)
	}
	if got, err = l.Read(all[3].BaseOffset(), 1<<20, all[6].BaseOffset()); err != nil || len(got) != 3 {
		t.Fatalf("limit after three gives %d batches: %v", len(got), err)
	}
	if got, err = l.Read(all[3].BaseOffset(), 1<<20, all[3].LastOffset()); err != nil || len(got) != 0 {
		t.Fatalf("limit inside the first gives %d batches: %v", len(got), err)
	}
	if got, err = l.Read(s.next, 1<<20, s.next+5); err != nil || len(got) != 0 {
		t.Fatalf("read at the end gives %d batches: %v", len(got), err)
	}
	if _, err = l.Read(s.next+1, 1<<20, s.next+5); !errors.Is(err, logio.ErrOffsetOutOfRange) {
		t.Fatalf("read after the end: %v", err)
	}
}

// Removal takes whole sealed segments below an offset, files and all; the
// rest is read as before, also after opening again.
func TestRemoveBefore(t *testing.T) {
	fs := disk.NewMem(0)
	l := openLog(t, fs, nil)
	s := newStory(100)
	for range 4 {
		appendAll(t, l, s.add(t, 20))
		if err := l.Roll(); err != nil {
			t.Fatal(err)
		}
	}
	infos := l.Segments()
	if err := l.RemoveBefore(infos[2].Next - 1); err != nil {
		t.Fatal(err)
	}
	for _, log := range []*Log{l, openLog(t, fs, nil)} {
		left := log.Segments()
		if len(left) != 2 || left[0] != infos[2] {
			t.Fatalf("left %+v", left)
		}
		if _, err := log.Read(0, 100, s.next); !errors.Is(err, logio.ErrOffsetOutOfRange) {
			t.Errorf("read of what is gone: %v", err)
		}
		if _, err := log.Entries(1, 5, 100); !errors.Is(err, ErrGap) {
			t.Errorf("entries that are gone: %v", err)
		}
		from := infos[2].Base
		sameBatches(t, readAllBatches(t, log, from, 1<<20), s.batches(from, s.next))
	}
	if names, _ := fs.List("topic/5"); len(names) != 4 {
		t.Errorf("files left: %v", names)
	}
	if err := l.RemoveBefore(s.next); err != nil || len(l.Segments()) != 0 {
		t.Fatalf("remove all: %v, %v", err, l.Segments())
	}
	appendAll(t, l, s.add(t, 5))
	if err := l.Remove(); err != nil {
		t.Fatal(err)
	}
	if names, err := fs.List("topic/5"); err == nil {
		t.Errorf("directory is still there: %v", names)
	}
}

// Appends that do not continue the log are refused and change nothing.
func TestAppendRefusesGaps(t *testing.T) {
	l := openLog(t, disk.NewMem(0), func(c *Config) { c.Start = Position{Index: 10, Term: 2, Next: 50} })
	s := &story{index: 10, term: 2, next: 50, bytes: 10}
	good := s.add(t, 12)
	for name, bad := range map[string][]Entry{
		"first index": good[1:],
		"hole":        {good[0], good[2]},
		"term back":   {{Index: 11, Term: 1}},
		"half batch":  {{Index: 11, Term: 3, Data: good[0].Data[:70]}},
		"offset":      {{Index: 11, Term: 3, Data: good[2].Data}},
		"epoch":       {{Index: 11, Term: 4, Data: good[0].Data}},
	} {
		if err := l.Append(bad); !errors.Is(err, ErrGap) {
			t.Errorf("%s: %v", name, err)
		}
	}
	appendAll(t, l, good)
	if in := l.Segments()[0]; in.First != 11 || in.Base != 50 {
		t.Errorf("segment %+v", in)
	}
}

// A full disk refuses the append; the same entries go in when space returns,
// whether the segment was there before or not.
func TestFullDiskRecovers(t *testing.T) {
	fs := disk.NewMem(1)
	l := openLog(t, fs, nil)
	s := newStory(500)
	for range 2 {
		entries := s.add(t, 50)
		if err := l.Append(entries); !errors.Is(err, disk.ErrFull) {
			t.Fatalf("append on a full disk: %v", err)
		}
		fs.SetCapacity(1 << 30)
		appendAll(t, l, entries)
		fs.SetCapacity(1)
	}
	fs.SetCapacity(1 << 30)
	checkAgainst(t, l, s)
	checkAgainst(t, openLog(t, fs, nil), s)
}

// After a failed sync nothing more is written.
func TestFailedSyncIsFinal(t *testing.T) {
	faulty := disk.NewFault(disk.NewMem(0))
	l := openLog(t, faulty, nil)
	s := newStory(10)
	if err := l.Append(s.add(t, 5)); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("medium error")
	faulty.Add(disk.Rule{When: func(c disk.Call) bool { return c.Op == disk.OpSync }, Err: broken, Times: 1})
	for range 2 {
		if err := l.Sync(); !errors.Is(err, broken) {
			t.Fatalf("sync: %v", err)
		}
	}
	if err := l.Append(s.add(t, 5)); !errors.Is(err, broken) {
		t.Fatalf("append: %v", err)
	}
}

// Ten thousand idle logs keep no file open beyond the cache's bound.
func TestIdleLogsKeepNoFiles(t *testing.T) {
	fs := disk.NewMem(0)
	cache := NewCache(8, 0)
	for i := range 200 {
		l := openLog(t, fs, func(c *Config) { c.Cache, c.Dir = cache, fmt.Sprint("p/", i) })
		s := newStory(10)
		appendAll(t, l, s.add(t, 10))
		checkAgainst(t, l, s)
		if n := cache.order.Len(); n > 8 {
			t.Fatalf("%d files open after %d logs", n, i+1)
		}
	}
}

// Readers run beside the appender, rolling and removal, and see whole batches
// in order or that they are gone.
func TestReadersBesideAppender(t *testing.T) {
	fs := disk.NewMem(0)
	l := openLog(t, fs, func(c *Config) { c.SegmentBytes = 64 << 10 })
	s := newStory(400)
	appendAll(t, l, s.add(t, 10))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for from := record.Offset(0); ; {
				select {
				case <-stop:
					return
				default:
				}
				_, _, end := l.End()
				got, err := l.Read(from, 10_000, end)
				if errors.Is(err, logio.ErrOffsetOutOfRange) {
					from = l.Segments()[0].Base
					continue
				}
				if err != nil {
					t.Errorf("read at %d: %v", from, err)
					return
				}
				for _, b := range got {
					if record.Batch(b).NextOffset() <= from {
						t.Errorf("batch at %d, want %d", record.Batch(b).BaseOffset(), from)
					}
					from = record.Batch(b).NextOffset()
				}
				if from >= end {
					from = l.Segments()[0].Base
				}
			}
		})
	}
	for i := range 150 {
		appendAll(t, l, s.add(t, 10))
		if i%20 == 19 {
			if err := l.RemoveBefore(s.next / 2); err != nil {
				t.Error(err)
			}
		}
	}
	close(stop)
	wg.Wait()
}

// A directory of something else is refused by name.
func TestForeignFilesAreRefused(t *testing.T) {
	fs := disk.NewMem(0)
	l := openLog(t, fs, nil)
	appendAll(t, l, newStory(10).add(t, 5))
	for name, change := range map[string]func(*Config){
		"cluster":     func(c *Config) { c.Identity.ClusterID[0]++ },
		"partition":   func(c *Config) { c.Identity.Partition.Partition++ },
		"tenant":      func(c *Config) { c.Identity.Tenant = "" },
		"incarnation": func(c *Config) { c.Identity.Incarnation-- },
	} {
		if _, err := tryOpen(fs, change); !errors.Is(err, ErrIdentity) || !strings.Contains(err.Error(), ".segment") {
			t.Errorf("other %s: %v", name, err)
		}
	}
	if _, err := tryOpen(fs, func(c *Config) { c.Identity.Incarnation++ }); err != nil {
		t.Errorf("later incarnation: %v", err)
	}
}

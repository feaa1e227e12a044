package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// powerCut is what a disk call panics with when the power goes.
type powerCut struct{}

// crashRun is a log that is appended to, synced, rolled and trimmed at random
// until the power goes at a given disk call; then it is opened again and must
// hold everything synced and nothing that was not appended.
type crashRun struct {
	t      *testing.T
	rng    *rand.Rand
	disk   *disk.Mem
	fuse   int
	story  *story
	log    *Log
	synced record.Index
	start  record.Offset // everything below may be trimmed
}

func (r *crashRun) burn(c disk.Call) {
	if !c.Changes() || r.fuse < 0 {
		return
	}
	if r.fuse--; r.fuse < 0 {
		panic(powerCut{})
	}
}

func (r *crashRun) open() error {
	faulty := disk.NewFault(r.disk)
	faulty.Before(r.burn)
	l, err := tryOpen(faulty, func(c *Config) { c.Durable, c.SegmentBytes = r.synced, 256<<10 })
	r.log = l
	return err
}

// work does random things until the fuse burns down or steps run out.
func (r *crashRun) work(steps int) (cut bool) {
	defer func() {
		if p := recover(); p == any(powerCut{}) {
			cut = true
		} else if p != nil {
			panic(p)
		}
	}()
	for range steps {
		switch n := r.rng.IntN(10); {
		case n < 6:
			r.must(r.log.Append(r.story.add(r.t, r.rng.IntN(8)+1)))
		case n < 8:
			r.must(r.log.Sync())
			r.synced, _, _ = r.log.End()
		case n < 9:
			r.must(r.log.Roll())
			r.synced, _, _ = r.log.End()
		default:
			if in := r.log.Segments(); len(in) > 2 {
				r.start = in[1].Base
				r.must(r.log.RemoveBefore(r.start))
			}
		}
	}
	return false
}

func (r *crashRun) must(err error) {
	if err != nil {
		r.t.Fatal(err)
	}
}

// check opens the log after a power cut, compares it with the story, and cuts
// the story to what survived.
func (r *crashRun) check() {
	r.t.Helper()
	r.fuse = -1
	r.disk.Crash(r.rng)
	r.must(r.open())
	index, _, next := r.log.End()
	if index < r.synced || int(index) > len(r.story.all) {
		r.t.Fatalf("log ends at entry %d, synced %d, appended %d", index, r.synced, len(r.story.all))
	}
	r.story.cut(index)
	if next != r.story.next {
		r.t.Fatalf("log ends at offset %d, want %d", next, r.story.next)
	}
	if in := r.log.Segments(); len(in) > 0 {
		if in[0].Base > r.start {
			r.t.Fatalf("log begins at %d, trimmed to %d", in[0].Base, r.start)
		}
		got, err := r.log.Entries(in[0].First, index+1, 1<<30)
		r.must(err)
		sameEntries(r.t, got, r.story.all[in[0].First-1:])
		sameBatches(r.t, readAllBatches(r.t, r.log, in[0].Base, 50_000), r.story.batches(in[0].Base, next))
	}
}

// cut forgets the entries above index.
func (s *story) cut(index record.Index) {
	s.all = s.all[:index]
	s.index, s.next, s.term = index, 0, 1
	for _, e := range s.all {
		s.term = e.Term
		if isBatch(e.Data) {
			s.next = record.Batch(e.Data).NextOffset()
		}
	}
}

// The power goes at every disk call of a run in turn, and again while the
// log is being opened; each time everything synced is there.
func TestPowerCutAtEveryWrite(t *testing.T) {
	for _, value := range []int{20, 9000} {
		for fuse := range 60 {
			t.Run(fmt.Sprint(value, " bytes, call ", fuse), func(t *testing.T) {
				r := &crashRun{t: t, rng: rand.New(rand.NewPCG(uint64(fuse), uint64(value))), disk: disk.NewMem(0), fuse: fuse, story: newStory(value)}
				r.must(r.open())
				for range 4 {
					r.work(40)
					r.check()
					r.fuse = r.rng.IntN(12)
				}
			})
		}
	}
}

// flip changes one bit of a file.
func flip(t *testing.T, fs disk.FS, name string, pos int64) {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := disk.Alloc(disk.BlockBytes)
	if _, err := f.ReadAt(block, alignDown(pos)); err != nil {
		t.Fatal(err)
	}
	block[pos-alignDown(pos)] ^= 4
	if _, err := f.WriteAt(block, alignDown(pos)); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// damaged is a log of three synced chunks in one segment.
func damaged(t *testing.T) (fs *disk.Mem, name string, chunks []int64, end record.Index) {
	fs = disk.NewMem(0)
	l := openLog(t, fs, nil)
	s := newStory(3000)
	for range 3 {
		in, _ := l.Active()
		chunks = append(chunks, max(in.Bytes, headerBytes))
		appendAll(t, l, s.add(t, 6))
	}
	in, _ := l.Active()
	return fs, l.Path(in), chunks, in.Last
}

// Damage to what a later chunk, or the mark, says was durable is an error that
// names the place; nothing is cut off. Without such a witness the last chunk
// is a torn end.
func TestDamageIsNotTakenForATornEnd(t *testing.T) {
	fs, name, chunks, end := damaged(t)
	for what, try := range map[string]struct {
		pos     int64
		durable record.Index
	}{
		"header block":              {100, 0},
		"first chunk's header":      {chunks[0] + 50, 0},
		"second chunk's header":     {chunks[1] + 9, 0},
		"last chunk, known by mark": {chunks[2] + 50, end},
		"last batch, known by mark": {chunks[2] + 5000, end},
	} {
		hurt := fs.CrashClone(rand.New(rand.NewPCG(1, 1)))
		flip(t, hurt, name, try.pos)
		_, err := tryOpen(hurt, func(c *Config) { c.Durable = try.durable })
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "position") {
			t.Errorf("%s: %v", what, err)
		}
		if f, err := hurt.Open(name); err != nil {
			t.Errorf("%s: file is gone: %v", what, err)
		} else if size, _ := f.Size(); size <= chunks[2] {
			t.Errorf("%s: file was cut to %d", what, size)
		}
	}
	for _, pos := range []int64{chunks[2], chunks[2] + 50, chunks[2] + 5000} {
		torn := fs.CrashClone(rand.New(rand.NewPCG(1, 1)))
		flip(t, torn, name, pos)
		l := openLog(t, torn, nil)
		if index, _, _ := l.End(); index != 12 {
			t.Errorf("torn at %d: log ends at %d, want 12", pos, index)
		}
		if in, _ := l.Active(); in.Bytes != chunks[2] {
			t.Errorf("torn at %d: segment has %d bytes, want %d", pos, in.Bytes, chunks[2])
		}
	}
}

// A segment that is missing between two is damage, not a gap to jump over.
func TestMissingSegmentIsCorrupt(t *testing.T) {
	fs := disk.NewMem(0)
	l := openLog(t, fs, nil)
	s := newStory(10)
	for range 3 {
		appendAll(t, l, s.add(t, 10))
		if err := l.Roll(); err != nil {
			t.Fatal(err)
		}
	}
	gone := l.Segments()[1]
	if err := fs.Remove(l.Path(gone)); err != nil {
		t.Fatal(err)
	}
	if _, err := tryOpen(fs, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("open: %v", err)
	}
	if _, err := tryOpen(disk.NewMem(0), func(c *Config) { c.Durable = 3 }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("open of nothing where entries were durable: %v", err)
	}
}

// A broken index is built again from its segment; a broken batch in a sealed
// segment is found by whoever reads it.
func TestBrokenIndexIsRebuilt(t *testing.T) {
	for _, pos := range []int64{0, 9, 200, headerBytes + 5} {
		fs := disk.NewMem(0)
		l := openLog(t, fs, nil)
		s := newStory(20_000)
		for range 2 {
			appendAll(t, l, s.add(t, 20))
			if err := l.Roll(); err != nil {
				t.Fatal(err)
			}
		}
		flip(t, fs, l.IndexPath(l.Segments()[0]), pos)
		flip(t, fs, l.IndexPath(l.Segments()[1]), pos)
		checkAgainst(t, openLog(t, fs, nil), s)
	}
}

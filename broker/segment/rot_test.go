package segment

import (
	"bytes"
	"errors"
	"math/rand/v2"
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

// mend makes damaged segments anew with what the story says, and gives their
// number.
func mend(t *testing.T, l *Log, s *story) (n int) {
	t.Helper()
	for _, in := range l.Segments() {
		for pos := int64(0); ; {
			next, err := l.Check(in, pos, 4096)
			if err != nil {
				t.Fatal(err)
			}
			if pos = next; next == 0 {
				break
			}
		}
	}
	for _, d := range l.Damaged() {
		n++
		if !d.Info.Sealed {
			if err := l.Roll(); err != nil {
				t.Fatal(err)
			}
			d.Info.Sealed = true
		}
		r, err := l.Rebuild(d.Info, func(m Stretch, add func([]Entry) error) error {
			for at := m.First; at <= m.Last; at++ {
				if err := add(s.all[at-1 : at]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || r == nil {
			t.Fatalf("%s: %v, %v", d.Err, r, err)
		}
		if err := l.Use(r); err != nil {
			t.Fatal(err)
		}
	}
	if left := l.Damaged(); len(left) > 0 {
		t.Fatalf("still damaged: %v", left)
	}
	return n
}

// A bit flips anywhere: Check finds it if it matters, and the segment is made
// anew from what is sound and what others have, again and again.
func TestDamagedSegmentIsMadeAnew(t *testing.T) {
	mem := disk.NewMem(0)
	l, s := rotLog(t, mem, 3000)
	mended := 0
	for round := range int64(40) {
		in := l.Segments()[round%3]
		flip(t, mem, l.Path(in), round*round*977%in.Bytes)
		mended += mend(t, l, s)
		checkAgainst(t, l, s)
		if l, _ = reopened(t, l, mem, s.index); round%7 == 0 {
			checkAgainst(t, l, s)
		}
	}
	if mended < 20 {
		t.Errorf("%d segments were made anew: the test tests nothing", mended)
	}
	if names, _ := mem.List("log"); len(names) != 2*len(l.Segments()) {
		t.Errorf("files are left over: %v", names)
	}
}

func reopened(t *testing.T, l *Log, fs disk.FS, last record.Index) (*Log, error) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := Open(Config{FS: fs, Dir: "log", Identity: testIdentity, Durable: last})
	if err != nil {
		t.Fatal(err)
	}
	return l, err
}

// The power fails at any write, sync or removal while a segment is made anew:
// the log is there, damaged or not, and is mended again.
func TestMakingAnewSurvivesCrashAtAnyWrite(t *testing.T) {
	for at, done := 0, false; !done; at++ {
		mem := disk.NewMem(0)
		l, s := rotLog(t, mem, 3000)
		if err := l.Roll(); err != nil {
			t.Fatal(err)
		}
		in := l.Segments()[1]
		flip(t, mem, l.Path(in), 6000)
		faulty := disk.NewFault(mem)
		calls := 0
		faulty.Before(func(c disk.Call) {
			if c.Changes() {
				if calls == at {
					panic(errFound)
				}
				calls++
			}
		})
		l.cfg.FS = faulty
		l.cache = NewCache(4, 1<<20)
		func() {
			defer func() {
				if r := recover(); r != nil && r != errFound {
					panic(r)
				}
			}()
			mend(t, l, s)
			done = true
		}()
		mem.Crash(rand.New(rand.NewPCG(uint64(at), 1)))
		l, err := Open(Config{FS: mem, Dir: "log", Identity: testIdentity, Durable: s.index})
		if err != nil {
			t.Fatalf("call %d: %v", at, err)
		}
		mend(t, l, s)
		checkAgainst(t, l, s)
		if names, _ := mem.List("log"); len(names) != 6 {
			t.Errorf("call %d: files are left over: %v", at, names)
		}
	}
}

package segment

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// A sync of a segment, an index or a new directory fails, and what it was to
// make durable never becomes so, though it can be read: the next process finds
// it, and a later sync that succeeds says nothing of it. What the next process
// has synced outlasts the power cut all the same, whether it wrote more or not.
func TestWhatIsSyncedAfterAFailedSyncLasts(t *testing.T) {
	failed, found := 0, 0
	for n := range 60 {
		for _, more := range []int{0, 4} {
			t.Run(fmt.Sprintf("sync %d, %d entries more", n, more), func(t *testing.T) {
				mem := disk.NewMem(0)
				s := newStory(3000)
				synced := failingSync(t, mem, s, n)
				if int(synced) == len(s.all) {
					return // nothing failed
				}
				failed++
				// The same cache, another process; the disk is well again. The
				// mark may be older than what was synced.
				known := synced - min(synced, record.Index(n%3)*5)
				l := openLog(t, mem, func(c *Config) { c.Durable = known })
				end, _, _ := l.End()
				if end > synced {
					found++
				}
				s.cut(end)
				if more > 0 {
					if err := l.Append(s.add(t, more)); err != nil {
						t.Fatal(err)
					}
				}
				if err := l.Sync(); err != nil {
					t.Fatal(err)
				}
				mem.Crash(rand.New(rand.NewPCG(uint64(n), 1)))
				l = openLog(t, mem, func(c *Config) { c.Durable = s.index })
				if s.index > 0 {
					got, err := l.Entries(1, s.index+1, 1<<30)
					if err != nil {
						t.Fatal(err)
					}
					sameEntries(t, got, s.all)
				}
			})
		}
	}
	if failed < 20 || found < 10 {
		t.Fatalf("%d syncs failed, %d left something behind: the test tests nothing", failed, found)
	}
}

// failingSync appends until the n-th sync, which fails, and gives the last
// entry that a sync covered.
func failingSync(t *testing.T, mem *disk.Mem, s *story, n int) (synced record.Index) {
	t.Helper()
	faulty := disk.NewFault(mem)
	faulty.Add(disk.Rule{Times: 1, Err: errors.New("medium error"), LoseWrites: true, When: func(c disk.Call) bool {
		if c.Op == disk.OpSync {
			n--
		}
		return n < 0 && c.Op == disk.OpSync
	}})
	l := openLog(t, faulty, nil)
	for i := range 30 {
		if err := l.Append(s.add(t, 5)); err != nil {
			t.Fatal(err)
		}
		err := l.Sync()
		if err == nil {
			synced = s.index
		}
		if err == nil && i%7 == 6 {
			err = l.Roll()
		}
		if err != nil {
			return synced
		}
	}
	return synced
}

// Of what a start finds only what no header and no mark calls durable is
// written again.
func TestOnlyWhatIsInDoubtIsWrittenAgain(t *testing.T) {
	mem := disk.NewMem(0)
	l := openLog(t, mem, nil)
	s := newStory(3000)
	var ends []int64
	for range 4 {
		appendAll(t, l, s.add(t, 5))
		in, _ := l.Active()
		ends = append(ends, in.Bytes)
	}
	for _, try := range []struct {
		durable record.Index
		from    int64
	}{{0, ends[2]}, {12, ends[2]}, {15, ends[2]}, {20, ends[3]}} {
		faulty := disk.NewFault(mem.CrashClone(rand.New(rand.NewPCG(1, 1))))
		from, syncs := ends[3], 0
		faulty.Before(func(c disk.Call) {
			switch c.Op {
			case disk.OpWrite:
				from = min(from, c.Offset)
			case disk.OpSync:
				syncs++
			}
		})
		l := openLog(t, faulty, func(c *Config) { c.Durable = try.durable })
		if syncs > 0 {
			t.Errorf("mark at %d: the start synced a file", try.durable)
		}
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		if from != try.from {
			t.Errorf("mark at %d: written again from %d, want %d", try.durable, from, try.from)
		}
	}
}

package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// A sync fails, and what it was to make durable never becomes so, though it can
// be read: the next process finds it, and a later sync that succeeds says
// nothing of it. What Open gives must outlast the next power cut all the same,
// wherever the sync failed: in a flush, a note, a new file's header, in Open.
func TestWhatOpenGivesLasts(t *testing.T) {
	failed := 0
	for n := range 120 {
		t.Run(fmt.Sprintf("sync %d", n), func(t *testing.T) {
			mem := disk.NewMem(0)
			cfg := small(disk.NewFault(mem))
			left := n
			cfg.FS.(*disk.Fault).Add(disk.Rule{Times: 1, Err: errors.New("medium error"), LoseWrites: true, When: func(c disk.Call) bool {
				if c.Op == disk.OpSync {
					left--
				}
				return left < 0
			}})
			writeUntilDead(cfg)
			if left >= 0 {
				return
			}
			failed++
			// The same cache, another process; the disk is well again.
			cfg.FS = mem
			j, groups := mustOpen(t, cfg)
			truth := model{}
			for _, g := range groups {
				truth.apply(Write{Group: g.ID, Entries: g.Entries, HardState: &g.HardState, ConfState: &g.ConfState, Mark: &g.Mark})
			}
			w := Write{Group: testID(7), Entries: []raftpb.Entry{entry(1, 1, 5000)}}
			must(t, errors.Join(j.Append(w), j.Flush()))
			truth.apply(w)
			mem.Crash(rand.New(rand.NewPCG(uint64(n), 1)))
			_, groups = mustOpen(t, cfg)
			if diff := truth.equal(groups); diff != "" {
				t.Fatalf("after the power cut: %s", diff)
			}
		})
	}
	if failed < 60 {
		t.Fatalf("only %d syncs failed", failed)
	}
}

// writeUntilDead opens a journal again and again and writes, through several
// files, until it dies.
func writeUntilDead(cfg Config) {
	for i := uint64(1); ; {
		j, groups, err := Open(cfg)
		if err != nil {
			return
		}
		for _, g := range groups {
			if g.ID == testID(0) {
				i = uint64(g.Mark.Index) + uint64(len(g.Entries)) + 1
			}
		}
		for range 12 {
			w := Write{Group: testID(0), Entries: []raftpb.Entry{entry(i, 1, 5000)}, HardState: &raftpb.HardState{Term: i, Commit: i - 1}}
			if i > 8 {
				w.Mark = &Mark{Index: record.Index(i - 4), Term: 1}
			}
			if j.Append(w) != nil || j.Flush() != nil {
				return
			}
			i++
		}
		if i%2 == 0 && j.Close() != nil || i > 400 {
			return
		}
	}
}

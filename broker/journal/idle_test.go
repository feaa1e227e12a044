package journal

import (
	"math/rand/v2"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// idleGroups gives n groups a vote, a ConfState and a mark, then writes only
// to one busy group until the journal has wrapped rounds times, with every
// file in use; then the power is cut.
func idleGroups(t *testing.T, n, rounds int, fault Fault) (truth model, cfg Config) {
	mem := disk.NewMem(0)
	cfg = small(mem)
	cfg.FileBytes, cfg.FirstBytes, cfg.LiveBytesMax = 256<<10, 256<<10, 4<<20
	cfg.Fault = fault
	j, _ := mustOpen(t, cfg)
	truth = model{}
	put := func(w Write) {
		t.Helper()
		must(t, j.Append(w))
		truth.apply(w)
	}
	for i := range n {
		put(Write{Group: testID(i),
			HardState: &raftpb.HardState{Term: 7, Vote: uint64(i%3 + 1), Commit: uint64(i)},
			ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, uint64(i + 3)}},
			Mark:      &Mark{Index: record.Index(i), Term: 6, Data: []byte{byte(i)}}})
	}
	must(t, j.Flush())
	busy := testID(n)
	files := uint64(0)
	for i := uint64(1); j.recycled < uint64(rounds)*files || files == 0; i++ {
		put(Write{Group: busy, HardState: &raftpb.HardState{Term: 1, Vote: 1, Commit: i},
			Entries: []raftpb.Entry{{Index: i, Term: 1, Data: make([]byte, 8000)}}})
		must(t, j.Flush())
		if i%20 == 0 {
			put(Write{Group: busy, Mark: &Mark{Index: record.Index(i), Term: 1}})
		}
		_, err := j.Prepare()
		must(t, err)
		files = uint64(len(j.live) + len(j.free))
	}
	must(t, j.Flush())
	mem.Crash(rand.New(rand.NewPCG(1, 1)))
	return truth, cfg
}

// A thousand idle groups, the journal wrapped three times, power cut: no vote,
// ConfState or mark is lost, although no file they were written to first
// exists any more.
func TestIdleGroupsKeepTheirVotes(t *testing.T) {
	truth, cfg := idleGroups(t, 1000, 3, Fault{})
	j, groups := mustOpen(t, cfg)
	if diff := truth.equal(groups); diff != "" {
		t.Fatal(diff)
	}
	if j.live[0].use < 4 {
		t.Fatalf("the oldest use is %d: the journal did not wrap", j.live[0].use)
	}
	must(t, j.Close())
}

// The planted fault loses votes, and the comparison sees it.
func TestKeptHardStatesAreCaught(t *testing.T) {
	truth, cfg := idleGroups(t, 1000, 3, Fault{KeepHardStates: true})
	_, groups := mustOpen(t, cfg)
	if diff := truth.equal(groups); !strings.Contains(diff, "hard state {0 0") && !strings.Contains(diff, "hard state {Term:0") {
		t.Fatalf("a lost vote was not seen: %q", diff)
	}
}

// The planted fault answers before the bytes are synced, and the power cut
// tests see it.
func TestAckBeforeFlushIsCaught(t *testing.T) {
	for seed := range uint64(50) {
		h := newHistory(t, seed)
		h.cfg.Fault.AckBeforeFlush = true
		for range 4 {
			if err := h.cut(100, 5, 60); err != nil {
				return
			}
		}
	}
	t.Fatal("50 seeds saw nothing")
}

// A clean stop leaves nothing for the next start to read but the newest file:
// what only marks kept in older ones is written again before Close returns.
func TestCloseLeavesLittleToReplay(t *testing.T) {
	mem := disk.NewMem(0)
	cfg := small(mem)
	j, _ := mustOpen(t, cfg)
	truth := model{}
	for i := uint64(0); len(j.live) < 6; i++ {
		w := Write{Group: testID(int(i % 20)), HardState: &raftpb.HardState{Term: 1, Vote: 1, Commit: i / 20},
			Entries: []raftpb.Entry{{Index: i/20 + 1, Term: 1, Data: make([]byte, 2000)}}}
		must(t, j.Append(w))
		truth.apply(w)
	}
	for id, g := range truth {
		w := Write{Group: id, Mark: &Mark{Index: record.Index(len(g.Entries)), Term: 1, Data: []byte("all")}}
		must(t, j.Append(w))
		truth.apply(w)
	}
	must(t, j.Close())
	read := int64(0)
	fault := disk.NewFault(mem)
	fault.Before(func(c disk.Call) {
		if c.Op == disk.OpRead {
			read += int64(c.Bytes)
		}
	})
	cfg.FS = fault
	j, groups := mustOpen(t, cfg)
	if diff := truth.equal(groups); diff != "" {
		t.Fatal(diff)
	}
	headers := int64(len(j.live)+len(j.free)) * disk.BlockBytes
	again := int64(3 * disk.BlockBytes) // the header, and the last note twice
	if len(j.live) != 1 || read > j.active().size+headers+again {
		t.Fatalf("%d files are live, the start read %d bytes of a file of %d", len(j.live), read, j.active().size)
	}
}

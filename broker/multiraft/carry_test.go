package multiraft

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/journal"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// pinnedNode is a node over a journal of eight small files.
func pinnedNode(t *testing.T, fs disk.FS) (*Node, *journal.Journal) {
	t.Helper()
	j, groups, err := journal.Open(journal.Config{FS: fs, Dir: "journal", FileBytes: 256 << 10, FirstBytes: 64 << 10, LiveBytesMax: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	n, err := NewNode(Config{Node: 1, Shards: 2, Journal: j, Recovered: groups, PinnedBytesMax: 512 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return n, j
}

// stuck starts a replica of a group of three that hears of its leader once: the
// entries are written, and nobody ever decides them.
func stuck(t *testing.T, n *Node, group int, entries ...string) *tape {
	t.Helper()
	m := &tape{}
	err := n.Start(GroupConfig{ID: groupID(group), Replica: 1, Voters: []uint64{1, 2, 3}, StateMachine: m,
		NodeOf: func(replica uint64) (int32, bool) { return int32(replica), true }})
	if err != nil {
		t.Fatal(err)
	}
	app := raftpb.Message{Type: raftpb.MsgApp, From: 2, To: 1, Term: 1, Entries: []raftpb.Entry{{Term: 1, Index: 1}}, Commit: 1}
	for i, data := range entries {
		app.Entries = append(app.Entries, raftpb.Entry{Term: 1, Index: uint64(i + 2), Data: []byte(data)})
	}
	n.Receive([]Message{{Group: groupID(group), Node: 2, Message: app}})
	rest(n)
	_ = n.Do(groupID(group), func(g *Group) { g.Release(journal.Mark{Index: 1, Term: 1}) })
	rest(n)
	if m.committed != 1 || int(m.last()) != len(entries)+1 {
		t.Fatalf("group %d: committed %d of %d", group, m.committed, m.last())
	}
	return m
}

// Groups whose entries nobody decides stand beside a busy one: the journal does
// not grow with what the busy one writes, and after a power cut, at any time,
// every entry is there.
func TestUndecidedEntriesDoNotFillTheJournal(t *testing.T) {
	fs := disk.NewMem(0)
	n, j := pinnedNode(t, fs)
	for g := range 3 {
		stuck(t, n, 2+g, "one", strings.Repeat("z", 20<<10), "three")
	}
	m := startOne(t, n, 1)
	rest(n)
	liveMax, rng := int64(0), rand.New(rand.NewPCG(1, 9))
	for i := range 400 {
		if _, err := propose(t, n, 1, strings.Repeat("x", 32<<10)); err != nil {
			t.Fatalf("proposal %d beside stuck groups: %v (%d live bytes)", i, err, j.LiveBytes())
		}
		rest(n)
		_ = n.Pinning()
		_ = n.Do(groupID(1), func(g *Group) {
			g.Release(journal.Mark{Index: g.Committed(), Term: m.at(g.Committed()).Term})
		})
		rest(n)
		for n.commit.prepare() { // as a Host's loop does when nothing waits
		}
		liveMax = max(liveMax, j.LiveBytes())
		if i%50 == 49 {
			keepsUndecided(t, fs.CrashClone(rng))
		}
	}
	if carried := n.Stats().Carried; liveMax > 3<<19 || carried < 3 {
		t.Errorf("%d live bytes at the most, carried %d times", liveMax, carried)
	}
	n.Close()
	keepsUndecided(t, fs)
}

func keepsUndecided(t *testing.T, fs disk.FS) {
	t.Helper()
	_, j := pinnedNode(t, fs)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	_, groups, err := journal.Open(journal.Config{FS: fs, Dir: "journal", FileBytes: 256 << 10, FirstBytes: 64 << 10, LiveBytesMax: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	kept := map[record.PartitionID]string{}
	for _, g := range groups {
		for _, e := range g.Entries {
			kept[g.ID] += fmt.Sprint(e.Index, ":", e.Term, ":", len(e.Data), " ")
		}
	}
	for g := range 3 {
		if got := kept[groupID(2+g)]; got != "2:1:3 3:1:20480 4:1:5 " {
			t.Fatalf("group %d has %q after a power cut", 2+g, got)
		}
	}
}

// A leader decides at last, or another replaces what was carried: both find the
// log as it was.
func TestCarriedEntriesAreDecided(t *testing.T) {
	for _, term := range []uint64{1, 2} {
		fs := disk.NewMem(0)
		n, _ := pinnedNode(t, fs)
		waiting := stuck(t, n, 2, "one", "two", "three")
		m := startOne(t, n, 1)
		rest(n)
		for range 60 {
			if _, err := propose(t, n, 1, strings.Repeat("x", 32<<10)); err != nil {
				t.Fatal(err)
			}
			rest(n)
			_ = n.Pinning()
			_ = n.Do(groupID(1), func(g *Group) {
				g.Release(journal.Mark{Index: g.Committed(), Term: m.at(g.Committed()).Term})
			})
			rest(n)
		}
		if n.Stats().Carried == 0 {
			t.Fatal("nothing was carried")
		}
		n.Receive([]Message{{Group: groupID(2), Node: 2, Message: raftpb.Message{Type: raftpb.MsgApp, From: 2, To: 1, Term: term,
			Index: 2, LogTerm: 1, Entries: []raftpb.Entry{{Term: term, Index: 3, Data: []byte("new")}}, Commit: 3}}})
		rest(n)
		want := "two"
		if term == 2 {
			want = "new"
		}
		if got := string(waiting.at(3).Data); got != want || waiting.committed != 3 {
			t.Errorf("term %d: entry 3 is %q, committed %d", term, got, waiting.committed)
		}
		waiting.check(t)
		_, groups := openJournal(t, fs.CrashClone(rand.New(rand.NewPCG(term, 3))))
		entries := groups[1].Entries
		if term == 2 && len(entries) != 2 || term == 1 && len(entries) != 3 || string(entries[1].Data) != want {
			t.Errorf("term %d: the journal has %d entries, %q", term, len(entries), entries[1].Data)
		}
	}
}

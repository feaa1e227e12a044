package multiraft

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/cryptotest"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/journal"
	"tidewater/internal/disk"
)

// The journal is at LiveBytesMax when the power goes. What each group committed
// last is not known to be committed after the restart until an entry of the new
// term is, and that finds no room until something was released: the groups
// must come out of it, or the broker is wedged for ever.
func TestRestartWithFullJournalComesOut(t *testing.T) {
	fs := disk.NewMem(0)
	open := func() (*Node, []*tape) {
		j, groups, err := journal.Open(journal.Config{FS: fs, Dir: "journal", FileBytes: 256 << 10, FirstBytes: 256 << 10, LiveBytesMax: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		n, err := NewNode(Config{Node: 1, Journal: j, Recovered: groups})
		if err != nil {
			t.Fatal(err)
		}
		var tapes []*tape
		for g := range 3 {
			tapes = append(tapes, startOne(t, n, g+1))
		}
		return n, tapes
	}
	n, _ := open()
	rest(n)
	for g := range 3 { // one entry each in the oldest file, then rest
		if _, err := propose(t, n, g+1, "little"); err != nil {
			t.Fatal(err)
		}
		rest(n)
	}
	for {
		if _, err := propose(t, n, 1, strings.Repeat("x", 100<<10)); err != nil {
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			break
		}
		rest(n)
	}
	fs.Crash(rand.New(rand.NewPCG(1, 5)))
	n, tapes := open()
	rest(n)
	for range 10 {
		for g, m := range tapes {
			_ = n.Do(groupID(g+1), func(gr *Group) {
				if at := gr.Committed(); at > m.base {
					gr.Release(journal.Mark{Index: at, Term: m.at(at).Term})
				}
			})
			rest(n)
		}
	}
	for g, m := range tapes {
		if !m.lead.Ready || n.Stats().Full {
			t.Errorf("group %d: leadership %+v, journal full: %v", g+1, m.lead, n.Stats().Full)
		}
	}
}

// A restored group starts on a full disk: its first write has mark and
// ConfState, and waits. The mark alone must not pass what waits: a mark without
// a ConfState is a group that no restart can begin.
func TestMarkWithConfStateWaitsInFullJournal(t *testing.T) {
	fs := disk.NewMem(0)
	n := newNode(t, fs, nil)
	startOne(t, n, 1)
	rest(n)
	fs.SetCapacity(1)
	for {
		if _, err := propose(t, n, 1, strings.Repeat("x", 100<<10)); err != nil {
			break
		}
	}
	mark := &journal.Mark{Index: 1, Term: 5, Data: []byte("restored")}
	if err := n.Start(GroupConfig{ID: groupID(2), Replica: 1, StateMachine: &tape{base: 1}, FloorTerm: 5, Mark: mark}); err != nil {
		t.Fatal(err)
	}
	rest(n)
	fs.Crash(rand.New(rand.NewPCG(1, 5)))
	fs.SetCapacity(1 << 30)
	_, groups := openJournal(t, fs)
	for _, g := range groups {
		if len(g.ConfState.Voters) == 0 {
			t.Errorf("group %s: mark %d, and no ConfState", g.ID, g.Mark.Index)
		}
	}
}

// A change of members is committed while the journal is full, with another
// group's entries waiting, and the mark that lets go of its entry comes. After a power cut the members are still the ones that were agreed on.
func TestMarkTakesConfStateAlongInFullJournal(t *testing.T) {
	fs := disk.NewMem(0)
	open := func() *Node {
		j, groups, err := journal.Open(journal.Config{FS: fs, Dir: "journal", FileBytes: 256 << 10, FirstBytes: 256 << 10, LiveBytesMax: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		n, err := NewNode(Config{Node: 1, Journal: j, Recovered: groups})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	n := open()
	startOne(t, n, 1)
	m := startOne(t, n, 2)
	rest(n)
	// The second group's change is durable, and before it is applied a large
	// entry of the first one finds no room on the disk.
	fs.SetCapacity(1)
	kinds := []raftpb.ConfChangeType{raftpb.ConfChangeAddLearnerNode, raftpb.ConfChangeRemoveNode}
	for i := 0; !n.Stats().Full; i++ {
		if i > 100 {
			t.Fatal("the journal is never full")
		}
		_ = n.Do(groupID(2), func(g *Group) { _, _ = g.ProposeConfChangeV2(changes(kinds[i%2], 9)) })
		n.Step()
		_ = n.Do(groupID(1), func(g *Group) {
			for range 4 {
				_, _ = g.Propose([]byte(strings.Repeat("x", 100<<10)))
				g.handle()
			}
		})
		n.Step()
	}
	if !waits(n, func(w *journal.Write) bool { return len(w.Entries) > 0 }) {
		t.Fatal("nothing waits: the test tests nothing")
	}
	rest(n)
	var want string
	_ = n.Do(groupID(2), func(g *Group) {
		want = fmt.Sprint(g.ConfState().Learners)
		g.Release(journal.Mark{Index: g.Committed(), Term: m.at(g.Committed()).Term})
	})
	rest(n)
	fs.Crash(rand.New(rand.NewPCG(1, 5)))
	fs.SetCapacity(1 << 30)
	n = open()
	startOne(t, n, 1)
	startOne(t, n, 2)
	rest(n)
	_ = n.Do(groupID(2), func(g *Group) {
		if got := fmt.Sprint(g.ConfState().Learners); got != want {
			t.Errorf("learners are %s after the power cut, %s were agreed on; mark %d", got, want, g.mark)
		}
	})
	rest(n)
}

// A follower's disk is full with entries of a leader waiting for room, and the
// leader's broker is lost, with no third one in reach: votes do not wait behind
// the entries, so another leads, and nothing that was not durable was said to
// be. When there is room again all goes on.
func TestVotesPassFullJournal(t *testing.T) {
	for _, behind := range []bool{false, true} {
		cryptotest.SetGlobalRandom(t, 1)
		c := newCluster(t, 1, 1, Fault{})
		c.lastedSince(t, 20)
		first := c.leaderOf(0)
		full, other := c.members[first.id%3], c.members[(first.id+1)%3]
		full.disk.SetCapacity(1)
		var dark []int
		if behind { // the other one has less, and so cannot lead
			dark = []int{other.id}
		}
		for i := 0; !full.node.Stats().Full; i++ {
			if i > 100 {
				t.Fatal("the journal is never full")
			}
			c.proposeOnLeader(func(g *Group) { _, _ = g.Propose([]byte(strings.Repeat("x", 100<<10))) })
			c.beat(dark...)
		}
		if !waits(full.node, func(w *journal.Write) bool { return len(w.Entries) > 0 }) {
			t.Fatal("nothing waits: the test tests nothing")
		}
		c.lose(first, true)
		term, led := uint64(0), false
		for range 60 {
			c.beat()
			led = led || full.tape[0].lead.Leading || other.tape[0].lead.Leading
		}
		if !led {
			t.Errorf("behind %t: nobody leads without the lost broker", behind)
		}
		_ = full.node.Do(groupID(0), func(g *Group) { term = g.hard.Term })
		rest(full.node)
		_, kept := openJournal(t, full.disk.CrashClone(c.rng))
		if len(kept) != 1 || kept[0].HardState.Term != term {
			t.Errorf("behind %t: the journal knows %+v of term %d", behind, kept[0].HardState, term)
		}
		full.disk.SetCapacity(1 << 30)
		c.lastedSince(t, 60)
		c.proposeOnLeader(func(g *Group) { _, _ = g.Propose([]byte("on")) })
		c.beats(10)
		if a, b := full.tape[0], other.tape[0]; a.committed != a.last() || a.committed != b.committed {
			t.Errorf("behind %t: committed %d of %d, and %d of %d", behind, a.committed, a.last(), b.committed, b.last())
		}
		c.verify(t)
	}
}

// waits reports whether a write that finds no room is such.
func waits(n *Node, such func(*journal.Write) bool) bool {
	for _, b := range n.commit.waiting {
		for k := b.next; k < len(b.Writes); k++ {
			if such(&b.Writes[k]) {
				return true
			}
		}
	}
	return false
}

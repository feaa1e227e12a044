package multiraft

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/cryptotest"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/journal"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// changes is a change of membership in several replicas.
func changes(kind raftpb.ConfChangeType, ids ...uint64) raftpb.ConfChangeV2 {
	var cc raftpb.ConfChangeV2
	for _, id := range ids {
		cc.Changes = append(cc.Changes, raftpb.ConfChangeSingle{Type: kind, NodeID: id})
	}
	return cc
}

// newGroupOfOne is a cluster with one group, which its first member founded
// alone; the others have nothing of it.
func newGroupOfOne(t *testing.T, seed uint64) *cluster {
	c := newCluster(t, seed, 0, Fault{})
	c.groups = 1
	c.committed[0] = map[record.Index]Entry{}
	c.members[0].start(t, GroupConfig{Voters: []uint64{1}})
	c.settle()
	return c
}

// start starts the member's replica of group 0; its replica id is its number.
func (m *clusterMember) start(t *testing.T, gc GroupConfig) {
	t.Helper()
	tape := &clusterTape{m: m, group: 0}
	known, _ := m.node.Recovered(groupID(0))
	tape.base, tape.committed = known.Mark.Index, known.Mark.Index
	m.tape[0] = tape
	gc.ID, gc.Replica, gc.StateMachine = groupID(0), uint64(m.id), tape
	gc.NodeOf = func(r uint64) (int32, bool) { return int32(r), true }
	if err := m.node.Start(gc); err != nil {
		t.Fatal(err)
	}
}

// change proposes a change of membership on the leader until holds says that
// it does.
func (c *cluster) change(t *testing.T, cc raftpb.ConfChangeV2, holds func(raftpb.ConfState) bool) {
	t.Helper()
	var conf raftpb.ConfState
	for range 30 {
		c.proposeOnLeader(func(g *Group) {
			if conf = g.ConfState(); !holds(conf) {
				_, _ = g.ProposeConfChangeV2(cc)
			}
		})
		c.settle()
		if holds(conf) {
			return
		}
	}
	t.Fatalf("change %v never held: %v", cc, conf)
}

func sameMembers(want string) func(raftpb.ConfState) bool {
	return func(c raftpb.ConfState) bool { return fmt.Sprint(c.Voters, c.Learners, c.VotersOutgoing) == want }
}

// A group of one grows to three by learners and a joint change, and loses its
// first member, who led it: each change is in the journals when the power goes,
// the removed replica stops and its journal forgets the group, and the others
// go on.
func TestMembershipChanges(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	c := newGroupOfOne(t, 1)
	for _, m := range c.members[1:] {
		// Told who began the group; the log, which is whole, says the rest.
		m.start(t, GroupConfig{Voters: []uint64{1}})
	}
	c.proposeOnLeader(func(g *Group) {
		if _, err := g.ProposeConfChangeV2(changes(raftpb.ConfChangeAddNode, 2)); !errors.Is(err, ErrDropped) {
			t.Errorf("a voter that was no learner: %v", err)
		}
		if _, err := g.ProposeConfChangeV2(changes(raftpb.ConfChangeRemoveNode, 1)); err == nil || errors.Is(err, ErrDropped) {
			t.Errorf("removal of the only voter: %v", err)
		}
	})
	c.change(t, changes(raftpb.ConfChangeAddLearnerNode, 2, 3), sameMembers("[1] [2 3] []"))
	c.proposeOnLeader(func(g *Group) {
		if _, err := g.ProposeConfChangeV2(changes(raftpb.ConfChangeAddNode, 2, 3)); err != nil {
			t.Errorf("joint change: %v", err)
		}
		if _, err := g.ProposeConfChangeV2(changes(raftpb.ConfChangeAddLearnerNode, 9)); !errors.Is(err, ErrDropped) {
			t.Errorf("a second change under way: %v", err)
		}
	})
	c.change(t, changes(raftpb.ConfChangeAddNode, 2, 3), sameMembers("[1 2 3] [] []"))
	c.proposeOnLeader(func(g *Group) { _, _ = g.Propose([]byte("by three")) })
	c.settle()
	c.restartAll(t, "[1 2 3]", c.members...)
	c.lead(t, 1)
	c.change(t, changes(raftpb.ConfChangeRemoveNode, 1), func(s raftpb.ConfState) bool { return fmt.Sprint(s.Voters) == "[2 3]" })
	gone := c.members[0]
	if err := gone.tape[0].stopped; !errors.Is(err, ErrRemoved) {
		t.Errorf("removed replica stopped with %v", err)
	}
	c.settle()
	c.proposeOnLeader(func(g *Group) { _, _ = g.Propose([]byte("by two")) })
	c.settle()
	if _, groups := openJournal(t, gone.disk.CrashClone(c.rng)); len(groups) != 0 {
		t.Errorf("the removed replica's journal holds %v", groups)
	}
	c.restartAll(t, "[2 3]", c.members[1:]...)
	c.proposeOnLeader(func(g *Group) { _, _ = g.Propose([]byte("after the cut")) })
	c.settle()
	for _, m := range c.members[1:] {
		if a := m.tape[0]; string(a.at(a.committed).Data) != "after the cut" {
			t.Errorf("node %d: log ends with %+v", m.id, a.at(a.committed))
		}
	}
	for _, f := range c.faults {
		t.Error(f)
	}
}

// A group of one moves to another broker, whose power fails at once. The old
// replica forgets the group when it hears that its removal is committed, so
// whoever says so must know the new members after the power cut: else nobody
// could ever lead.
func TestCommittedMembersAreDurableBeforeOthersHear(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	c := newGroupOfOne(t, 1)
	for _, m := range c.members[1:] {
		m.start(t, GroupConfig{Voters: []uint64{1}})
	}
	c.change(t, changes(raftpb.ConfChangeAddLearnerNode, 2), sameMembers("[1] [2] []"))
	c.change(t, changes(raftpb.ConfChangeAddNode, 2), sameMembers("[1 2] [] []"))
	c.lead(t, 2)
	removal, told := uint64(0), false
	c.onSend = func(m *clusterMember, messages []Message) {
		for _, msg := range messages {
			if m.id != 2 || removal == 0 || msg.Commit < removal || told {
				continue
			}
			told = true
			disk := m.disk.CrashClone(rand.New(rand.NewPCG(1, 5)))
			if _, groups := openJournal(t, disk); fmt.Sprint(groups[0].ConfState.Voters) != "[2]" {
				t.Errorf("%s says that entry %d is committed; after a power cut the voters are %v", msg.Type, msg.Commit, groups[0].ConfState.Voters)
			}
		}
	}
	c.proposeOnLeader(func(g *Group) {
		at, err := g.ProposeConfChangeV2(changes(raftpb.ConfChangeRemoveNode, 1))
		if err != nil {
			t.Error(err)
		}
		removal = uint64(at)
	})
	c.beats(20)
	if err := c.members[0].tape[0].stopped; !errors.Is(err, ErrRemoved) || !told {
		t.Errorf("removed replica stopped with %v, told %t", err, told)
	}
	c.proposeOnLeader(func(g *Group) {
		if !g.Settled() {
			t.Error("the members are not settled")
		}
	})
	rest(c.members[1].node)
	for _, f := range c.faults {
		t.Error(f)
	}
}

// lead brings leadership to a replica.
func (c *cluster) lead(t *testing.T, to uint64) {
	t.Helper()
	for range 20 {
		if c.members[to-1].tape[0].lead.Ready {
			return
		}
		c.proposeOnLeader(func(g *Group) { g.Transfer(to, nil) })
		c.settle()
	}
	t.Fatalf("replica %d never led", to)
}

// restartAll cuts the power of nodes and has them begin on what they have.
func (c *cluster) restartAll(t *testing.T, voters string, members ...*clusterMember) {
	t.Helper()
	for _, m := range members {
		m.disk.Crash(c.rng)
		m.installs = nil
		m.node = newNode(t, m.disk, func(cfg *Config) { cfg.Node, cfg.Transport = int32(m.id), m })
		if known, _ := m.node.Recovered(groupID(0)); fmt.Sprint(known.ConfState.Voters) != voters {
			t.Errorf("node %d recovered voters %v, want %s", m.id, known.ConfState.Voters, voters)
		}
		m.start(t, GroupConfig{Origin: Resuming})
	}
	c.settle()
}

// A replica joins a group whose log nobody has released anything of: the
// leader's machine hears that somebody waits for a RaftSnapshot, and with its
// first mark the replica gets one.
func TestJoiningReplicaMeetsAWholeLog(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	c := newGroupOfOne(t, 1)
	c.members[1].start(t, GroupConfig{Origin: Joining})
	c.members = c.members[:2]
	leader, learner := c.members[0].tape[0], c.members[1].tape[0]
	c.change(t, changes(raftpb.ConfChangeAddLearnerNode, 2), sameMembers("[1] [2] []"))
	c.settle()
	if leader.asked == 0 || learner.committed > 0 {
		t.Fatalf("the machine was asked %d times, the learner is at %d", leader.asked, learner.committed)
	}
	_ = c.members[0].node.Do(groupID(0), func(g *Group) {
		at := g.Committed()
		g.Release(journal.Mark{Index: at, Term: leader.at(at).Term})
	})
	for range 20 {
		c.settle()
	}
	if learner.committed != leader.committed {
		t.Errorf("the learner is at %d, the leader at %d", learner.committed, leader.committed)
	}
}

// A replica that should have a log and has none does not begin again; with the
// planted fault it does.
func TestWipedReplicaIsMissing(t *testing.T) {
	for _, fault := range []bool{false, true} {
		c := newCluster(t, 4, 0, Fault{WipedRejoins: fault})
		gc := GroupConfig{ID: groupID(0), Replica: 2, Origin: Resuming, Voters: []uint64{1, 2, 3}, StateMachine: &tape{}}
		if err := c.members[1].node.Start(gc); errors.Is(err, ErrMissing) == fault {
			t.Errorf("fault %v: %v", fault, err)
		}
	}
}

// Leadership moves where it is asked to, and the asker hears of it; a replica
// that cannot take it is named.
func TestTransferTellsItsOutcome(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 6)
	c := newCluster(t, 6, 1, Fault{})
	c.settle()
	c.lead(t, 1)
	got := map[uint64][]error{}
	ask := func(to uint64) {
		_ = c.members[0].node.Do(groupID(0), func(g *Group) {
			g.Transfer(to, func(err error) { got[to] = append(got[to], err) })
		})
		c.settle()
	}
	ask(9)
	ask(1)
	ask(3)
	ask(2)
	if len(got[9]) != 1 || !errors.Is(got[9][0], ErrTransfer) || len(got[1]) != 1 || got[1][0] != nil {
		t.Errorf("to 9: %v, to itself: %v", got[9], got[1])
	}
	if len(got[3]) != 1 || got[3][0] != nil || !c.members[2].tape[0].lead.Ready {
		t.Errorf("to 3: %v", got[3])
	}
	var not *NotLeaderError
	if len(got[2]) != 1 || !errors.As(got[2][0], &not) || not.Leader != 3 {
		t.Errorf("asked of a follower: %v", got[2])
	}
}

// The first of two members leads and removes itself. The other is then alone
// and was never a leader: it must lead without being told that the first one's
// broker is gone, which it is not.
func TestLastMemberLeads(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	c := newGroupOfOne(t, 1)
	c.members[1].start(t, GroupConfig{Voters: []uint64{1}})
	c.members = c.members[:2]
	c.change(t, changes(raftpb.ConfChangeAddLearnerNode, 2), sameMembers("[1] [2] []"))
	c.change(t, changes(raftpb.ConfChangeAddNode, 2), sameMembers("[1 2] [] []"))
	c.lead(t, 1)
	c.proposeOnLeader(func(g *Group) {
		if _, err := g.ProposeConfChangeV2(changes(raftpb.ConfChangeRemoveNode, 1)); err != nil {
			t.Error(err)
		}
	})
	c.settle()
	if c.members[0].tape[0].stopped == nil {
		t.Error("the removed replica runs")
	}
	if l := c.members[1].tape[0].lead; !l.Ready {
		t.Errorf("the member that is left has %+v", l)
	}
}

// The disk of a leader fails while two others live: its machine is told that it
// does not lead any more, else it would show what it knew for ever.
func TestDeadLeaderDoesNotLead(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	c := newCluster(t, 3, 1, Fault{})
	c.settle()
	c.lead(t, 1)
	m := c.members[0]
	m.node.commit.dead = disk.ErrFull // whatever it was
	c.proposeOnLeader(func(g *Group) { _, _ = g.Propose([]byte("never durable")) })
	rest(m.node)
	if a := m.tape[0]; a.stopped == nil || a.lead.Leading || a.lead.Ready {
		t.Errorf("stopped with %v, leadership %+v", a.stopped, a.lead)
	}
}

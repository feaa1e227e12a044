package multiraft

import (
	"bytes"
	"fmt"
	"testing"
	"testing/cryptotest"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// Held implements Holder: it comes before the commit, and rises.
func (t *tape) Held(last record.Index) {
	if last <= t.committed || last > t.last() || !t.lead.Leading {
		t.fault("held %d, committed %d, last %d, %+v", last, t.committed, t.last(), t.lead)
	}
	t.held = max(t.held, last)
}

// Held notes what a majority is said to have in memory: without a power cut it
// is committed some day.
func (t *clusterTape) Held(last record.Index) {
	t.tape.Held(last)
	c := t.m.c
	for i := max(t.committed, t.base) + 1; i <= last; i++ {
		key := fmt.Sprint(t.group, "/", i)
		if was, ok := c.held[key]; ok && was.Term > t.at(i).Term {
			continue
		}
		c.held[key] = t.at(i)
	}
}

// heldCluster is three nodes at rest on a network that loses nothing.
func heldCluster(t *testing.T, fault Fault) (c *cluster, leader *clusterMember, others []*clusterMember) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 11)
	c = newCluster(t, 11, 1, fault)
	c.settle()
	c.calm = true
	for _, m := range c.members {
		if m.tape[0].lead.Ready {
			leader = m
		} else {
			others = append(others, m)
		}
	}
	if leader == nil || len(others) != 2 {
		t.Fatal("nobody leads")
	}
	return c, leader, others
}

// ask proposes and asks, and steps the node without a flush.
func (m *clusterMember) ask(data string) (index record.Index) {
	_ = m.node.Do(groupID(0), func(g *Group) {
		var err error
		if index, err = g.Propose([]byte(data)); err != nil {
			m.c.fail("propose: %v", err)
			return
		}
		g.AskHeld(index)
	})
	m.node.Work()
	return index
}

// pass delivers what is on the network to one node, after a look at it, and has
// it work without a flush. What is for others stays.
func (c *cluster) pass(to *clusterMember, look func(*Message)) {
	var rest []Message
	for _, m := range c.net {
		if m.Node != int32(to.id) {
			rest = append(rest, m)
			continue
		}
		if look != nil {
			look(&m)
		}
		to.node.Receive([]Message{m})
	}
	c.net = rest
	for to.node.Work() {
	}
}

// A leader's machine is told as soon as one of two followers has the entry in
// memory: before anybody has flushed it, and nothing is committed by that.
func TestHeldBeforeFlush(t *testing.T) {
	c, leader, others := heldCluster(t, Fault{})
	index := leader.ask("a")
	if leader.tape[0].held >= index {
		t.Fatal("held by the leader alone")
	}
	c.pass(others[0], nil)
	c.pass(leader, nil)
	if tape := leader.tape[0]; tape.held != index || tape.committed >= index {
		t.Fatalf("held up to %d of %d, committed %d", tape.held, index, tape.committed)
	}
	c.settle()
	c.agree()
	for _, m := range c.members {
		m.tape[0].check(t)
		if m.tape[0].committed < index {
			t.Errorf("node %d committed %d of %d", m.id, m.tape[0].committed, index)
		}
	}
	for _, f := range c.faults {
		t.Error(f)
	}
}

// Without AskHeld no message is other than without this feature.
func TestNobodyAskedForHeld(t *testing.T) {
	c, leader, _ := heldCluster(t, Fault{})
	c.onSend = func(_ *clusterMember, messages []Message) {
		for _, m := range messages {
			if bytes.Equal(m.Context, []byte(heldContext)) {
				t.Errorf("message %+v", m)
			}
		}
	}
	if err := leader.node.Do(groupID(0), func(g *Group) { _, _ = g.Propose([]byte("a")) }); err != nil {
		t.Fatal(err)
	}
	c.settle()
	if tape := leader.tape[0]; tape.held != 0 || tape.committed != tape.last() {
		t.Errorf("held %d, committed %d of %d", tape.held, tape.committed, tape.last())
	}
}

// Followers of the build before do not answer: the machine hears of the commit.
func TestHeldIsNotKnownToOldFollowers(t *testing.T) {
	c, leader, others := heldCluster(t, Fault{})
	index := leader.ask("a")
	old := func(m *Message) {
		if m.Type == raftpb.MsgApp {
			m.Context = nil // as one that passes it over
		}
	}
	for _, m := range others {
		c.pass(m, old)
	}
	c.pass(leader, nil)
	if tape := leader.tape[0]; tape.held != 0 || tape.committed >= index {
		t.Fatalf("held %d, committed %d", tape.held, tape.committed)
	}
	c.settle()
	if tape := leader.tape[0]; tape.held != 0 || tape.committed < index {
		t.Fatalf("held %d, committed %d of %d", tape.held, tape.committed, index)
	}
}

// What a follower said to a leader of an earlier term counts no more.
func TestHeldOfAnEarlierTerm(t *testing.T) {
	c, leader, others := heldCluster(t, Fault{})
	index := leader.ask("a")
	c.pass(others[0], func(m *Message) { m.Entries = nil }) // all but the entry
	c.net = nil
	late := Message{Group: groupID(0), Node: int32(leader.id), Message: raftpb.Message{Type: raftpb.MsgHeartbeat, From: uint64(others[0].id),
		To: uint64(leader.id), Term: leader.tape[0].lead.Term - 1, LogTerm: leader.tape[0].lead.Term - 1, Index: uint64(index), Context: []byte(heldContext)}}
	leader.node.Receive([]Message{late})
	leader.node.Work()
	if leader.tape[0].held != 0 {
		t.Errorf("held up to %d", leader.tape[0].held)
	}
}

// A group of one holds what it proposes, up to the bound; the rest waits for
// the flush.
func TestHeldIsBounded(t *testing.T) {
	n := newNode(t, disk.NewMem(0), nil)
	m := startOne(t, n, 1)
	rest(n)
	const each = 256 << 10
	var last record.Index
	for range 2 * heldAheadMax / each {
		if err := n.Do(groupID(1), func(g *Group) {
			index, err := g.Propose(make([]byte, each))
			if err != nil {
				t.Error(err)
			}
			last = index
			g.AskHeld(index)
		}); err != nil {
			t.Fatal(err)
		}
	}
	n.Work()
	if want := m.committed + heldAheadMax/each; m.held != want || last != m.committed+2*heldAheadMax/each {
		t.Errorf("held up to %d of %d, want %d", m.held, last, want)
	}
	for n.Step() {
	}
	if m.committed != last {
		t.Errorf("committed %d of %d", m.committed, last)
	}
	m.check(t)
}

// Over a bad network with elections, but without a power cut, all that was held
// is committed as it was; a leader that takes its own memory for a majority's
// loses some of it.
func TestHeldIsCommitted(t *testing.T) {
	for _, fault := range []Fault{{}, {HeldAlone: true}} {
		told, lost := 0, 0
		for seed := range uint64(8) {
			t.Run(fmt.Sprint("alone ", fault.HeldAlone, " seed ", seed), func(t *testing.T) {
				cryptotest.SetGlobalRandom(t, seed)
				c := newCluster(t, seed, 2, fault)
				c.powered = true
				c.run(5000)
				for _, f := range c.faults {
					t.Error(f)
				}
				for g := range c.groups {
					for i, e := range c.committed[g] {
						held, ok := c.held[fmt.Sprint(g, "/", i)]
						if !ok {
							continue
						}
						told++
						if held.Term != e.Term || !bytes.Equal(held.Data, e.Data) {
							lost++
						}
					}
				}
			})
		}
		if told < 100 || fault.HeldAlone != (lost > 0) {
			t.Errorf("%+v: %d entries were held, %d of them lost", fault, told, lost)
		}
	}
}

// In a joint configuration both memberships must have an entry in memory.
func TestHeldInJointConfiguration(t *testing.T) {
	c, leader, others := heldCluster(t, Fault{})
	if err := leader.node.Do(groupID(0), func(g *Group) { g.conf.VotersOutgoing = []uint64{g.replica, 8, 9} }); err != nil {
		t.Fatal(err)
	}
	index := leader.ask("a")
	for _, m := range others {
		c.pass(m, nil)
	}
	c.pass(leader, nil)
	if leader.tape[0].held != 0 {
		t.Fatalf("held up to %d by one of two memberships", leader.tape[0].held)
	}
	term := leader.tape[0].lead.Term
	leader.node.Receive([]Message{{Group: groupID(0), Node: int32(leader.id), Message: raftpb.Message{Type: raftpb.MsgHeartbeat, From: 9,
		To: uint64(leader.id), Term: term, LogTerm: term, Index: uint64(index), Context: []byte(heldContext)}}})
	leader.node.Work()
	if leader.tape[0].held != index {
		t.Errorf("held up to %d of %d", leader.tape[0].held, index)
	}
}

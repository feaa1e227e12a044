package multiraft

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"
)

// told is a calm cluster of one group that counts appends without entries.
type told struct {
	*cluster
	leader *clusterMember
	empty  int
}

func newTold(t *testing.T) *told {
	c := &told{cluster: newCluster(t, 1, 1, Fault{})}
	c.settle()
	c.calm = true
	c.onSend = func(_ *clusterMember, messages []Message) {
		for i := range messages {
			if messages[i].Type == raftpb.MsgApp && len(messages[i].Entries) == 0 {
				c.empty++
			}
		}
	}
	for _, m := range c.members {
		if m.tape[0].lead.Leading {
			c.leader = m
		}
	}
	if c.leader == nil {
		t.Fatal("nobody leads")
	}
	return c
}

// append has the leader take an entry and lets all come to rest.
func (c *told) append(t *testing.T) {
	if _, err := propose(t, c.leader.node, 0, "entry"); err != nil {
		t.Fatal(err)
	}
	c.deliverAll()
}

func (c *told) deliverAll() {
	for {
		for _, m := range c.members {
			rest(m.node)
		}
		if len(c.net) == 0 {
			return
		}
		c.deliver(0)
	}
}

func (c *told) tick() {
	for _, m := range c.members {
		m.node.Tick()
	}
	c.deliverAll()
}

// behind is how many entries the slowest replica does not know to be committed.
func (c *told) behind() int {
	most := 0
	for _, m := range c.members {
		most = max(most, int(c.leader.tape[0].last()-m.tape[0].committed))
	}
	return most
}

// A group with little to do tells of each commit at once.
func TestCommitIsToldAtOnce(t *testing.T) {
	c := newTold(t)
	for range 5 {
		c.append(t)
		if n := c.behind(); n != 0 {
			t.Fatalf("a replica does not know of %d committed entries", n)
		}
		c.tick()
	}
	if c.empty == 0 {
		t.Fatal("commits were told without a message")
	}
}

// A busy group tells of a commit with the next entries, and of the last one with
// a tick; nobody leads another group for it, and it can rest.
func TestBusyGroupTellsWithEntries(t *testing.T) {
	c := newTold(t)
	for range 3 {
		c.append(t)
	}
	c.tick()
	for range 5 {
		c.empty = 0
		for range 4 {
			c.append(t)
			if n := c.behind(); n > 1 {
				t.Fatalf("a replica does not know of %d committed entries, with one put off", n)
			}
		}
		if c.empty > 0 {
			t.Fatalf("%d appends without entries while entries come", c.empty)
		}
		c.tick()
		if n := c.behind(); n != 0 {
			t.Fatalf("a replica does not know of %d committed entries after a tick", n)
		}
	}
	for range 2 * quiesceTicks {
		c.tick()
	}
	if n := c.leader.node.Stats().Resting; n != 1 {
		t.Fatalf("%d groups rest", n)
	}
	c.append(t)
	if n := c.behind(); n != 0 {
		t.Fatalf("a replica does not know of %d committed entries after a rest", n)
	}
}

// A group whose followers are waited for tells of each commit at once, busy or
// not.
func TestPromptGroupTellsAtOnce(t *testing.T) {
	c := newTold(t)
	for _, m := range c.members {
		_ = m.node.Do(groupID(0), func(g *Group) { g.prompt = true })
	}
	for range 3 {
		for range 4 {
			c.append(t)
			if n := c.behind(); n != 0 {
				t.Fatalf("a replica does not know of %d committed entries", n)
			}
		}
		c.tick()
	}
}

package multiraft

import (
	"bytes"
	"errors"
	"testing"
	"testing/cryptotest"

	"tidewater/broker/journal"
	"tidewater/internal/record"
)

// beat lets one tick pass everywhere and delivers everything that follows from
// it: a network and disks that are quick against a tick. Nodes in dark neither
// send nor hear.
func (c *cluster) beat(dark ...int) {
	c.calm = true
	out := map[int32]bool{}
	for _, id := range dark {
		out[int32(id)] = true
	}
	for _, m := range c.members {
		if !m.off {
			m.node.Tick()
			rest(m.node)
		}
	}
	for len(c.net) > 0 {
		msg := c.net[0]
		c.net = c.net[1:]
		m := c.members[msg.Node-1]
		if m.off || out[msg.Node] || out[int32(msg.From)] {
			continue
		}
		m.node.Receive([]Message{msg})
		rest(m.node)
		for len(m.installs) > 0 {
			c.install(m, nil)
			rest(m.node)
		}
	}
}

func (c *cluster) beats(n int, dark ...int) {
	for range n {
		c.beat(dark...)
	}
}

// leaderOf is the member that leads a group and is Ready; nil for none.
func (c *cluster) leaderOf(g int) *clusterMember {
	for _, m := range c.members {
		if !m.off && m.tape[g].lead.Ready {
			return m
		}
	}
	return nil
}

// lose switches a member off; the others hear of it if told.
func (c *cluster) lose(m *clusterMember, told bool) {
	m.off = true
	for _, o := range c.members {
		if told && !o.off {
			o.node.PeerDown(int32(m.id))
		}
	}
}

// lastedSince counts beats until every group has a leader that is Ready, none
// of them on a member that is off.
func (c *cluster) lastedSince(t *testing.T, max int) int {
	t.Helper()
	for n := range max {
		led := 0
		for g := range c.groups {
			if c.leaderOf(g) != nil {
				led++
			}
		}
		if led == c.groups {
			return n
		}
		c.beat()
	}
	t.Fatalf("not all groups are led after %d ticks", max)
	return 0
}

func (c *cluster) verify(t *testing.T) {
	t.Helper()
	for _, m := range c.members {
		for g := range c.groups {
			m.tape[g].check(t)
		}
	}
	for _, f := range c.faults {
		t.Error(f)
	}
}

// New groups are led after a few ticks. Those with nothing to do rest on all
// nodes: no clock, no message, whatever time passes. A proposal wakes its group
// alone, which is committed everywhere and rests again.
func TestGroupsRest(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	c := newCluster(t, 1, 100, Fault{})
	if n := c.lastedSince(t, 8); n > 5 {
		t.Errorf("new groups are led after %d ticks", n)
	}
	c.beats(quiesceTicks + 2*restRetryTicks)
	for _, m := range c.members {
		if s := m.node.Stats(); s.Ticking != 0 || s.Resting != 100 {
			t.Errorf("node %d: %+v", m.id, s)
		}
	}
	before := c.sent
	c.beats(100)
	if c.sent != before {
		t.Errorf("%d messages of groups at rest", c.sent-before)
	}
	m := c.leaderOf(3)
	_ = m.node.Do(groupID(3), func(g *Group) { _, _ = g.Propose([]byte("awake")) })
	c.beats(2 * heartbeatTicks)
	for _, o := range c.members {
		if s := o.node.Stats(); s.Ticking != 1 || s.Resting != 99 {
			t.Errorf("node %d: %+v", o.id, s)
		}
		if a := o.tape[3]; string(a.at(a.committed).Data) != "awake" {
			t.Errorf("node %d committed up to %+v", o.id, a.at(a.committed))
		}
	}
	if m != c.leaderOf(3) {
		t.Error("the leader changed for being woken")
	}
	c.beats(quiesceTicks + 2*restRetryTicks)
	if s := m.node.Stats(); s.Resting != 100 {
		t.Errorf("%+v", s)
	}
	c.verify(t)
}

// A broker is lost. Groups at work that it led have another leader within half
// a second of the default tick once that is known, groups at rest within a
// second more, and those at work within a second and a half although nobody
// says anything.
func TestLostLeaderIsFollowed(t *testing.T) {
	for _, c := range []struct {
		name        string
		rest, told  bool
		ticks, loss int
	}{{"at work", false, true, 10, 0}, {"at rest", true, true, wakeTicks + 10, 0}, {"not told", false, false, 30, 0}} {
		t.Run(c.name, func(t *testing.T) {
			worst := 0
			for seed := range uint64(8) {
				cryptotest.SetGlobalRandom(t, seed)
				w := newCluster(t, seed, 40, Fault{})
				w.lastedSince(t, 40)
				if c.rest {
					w.beats(quiesceTicks + 2*restRetryTicks)
				}
				lost := w.members[seed%3]
				w.lose(lost, c.told)
				worst = max(worst, w.lastedSince(t, 100))
				led := map[int]int{}
				for g := range w.groups {
					led[w.leaderOf(g).id]++
				}
				for _, m := range w.members {
					if m != lost && led[m.id] < 8 {
						t.Errorf("seed %d: leaders are spread %v", seed, led)
					}
				}
				w.verify(t)
			}
			if worst > c.ticks {
				t.Errorf("last group led after %d ticks, want at most %d", worst, c.ticks)
			}
			t.Logf("last group led after %d ticks", worst)
		})
	}
}

// A leader that is cut off, at rest or at work, says that it does not know what
// is committed as soon as its broker misses a majority, and no longer leads some
// ticks later. One that was only thought to be cut off is Ready again. With the
// planted fault it goes on as if nothing were.
func TestCutOffLeaderIsInDoubt(t *testing.T) {
	for _, atRest := range []bool{false, true} {
		for _, fault := range []bool{false, true} {
			cryptotest.SetGlobalRandom(t, 2)
			c := newCluster(t, 2, 1, Fault{StaleReads: fault})
			c.lastedSince(t, 40)
			if atRest {
				c.beats(quiesceTicks + 2*restRetryTicks)
			}
			m := c.leaderOf(0)
			others := func(fn func(o *clusterMember)) {
				for _, o := range c.members {
					if o != m {
						fn(o)
					}
				}
			}
			others(func(o *clusterMember) { m.node.PeerDown(int32(o.id)) })
			if m.tape[0].lead.Ready != fault {
				t.Errorf("rest %v, fault %v: %+v without a majority", atRest, fault, m.tape[0].lead)
			}
			c.beats(heartbeatTicks)
			if !m.tape[0].lead.Ready {
				t.Errorf("rest %v, fault %v: %+v after the members answered", atRest, fault, m.tape[0].lead)
			}
			others(func(o *clusterMember) { m.node.PeerUp(int32(o.id), o.boots) })
			c.beats(4)
			others(func(o *clusterMember) { m.node.PeerDown(int32(o.id)) })
			c.beats(2*electionTicks+wakeGraceTicks, m.id)
			if l := m.tape[0].lead; l.Ready || l.Leading && !atRest {
				t.Errorf("rest %v, fault %v: cut off, and %+v", atRest, fault, l)
			}
			c.verify(t)
		}
	}
}

// A leader under load with a follower that is dead holds no more memory than
// without it; the follower, back with what it had, is brought up to date. A
// follower that is only a little behind is not sent a snapshot.
func TestDeadFollowerHoldsNoMemory(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 3)
	c := newCluster(t, 3, 1, Fault{})
	c.lastedSince(t, 40)
	m := c.leaderOf(0)
	dead := c.members[m.id%3]
	load := func(n int, held *int64) {
		for range n {
			_ = m.node.Do(groupID(0), func(g *Group) {
				if _, err := g.Propose(bytes.Repeat([]byte{'x'}, 64<<10)); err != nil {
					t.Fatal(err)
				}
			})
			c.beat()
			for _, o := range c.members {
				if !o.off {
					o.releaseTo(0, o.tape[0].committed)
				}
			}
			*held = max(*held, m.node.Stats().Held)
		}
	}
	held := int64(0)
	load(20, &held)
	c.lose(dead, false)
	load(300, &held) // 20 MB
	if bound := int64(keepBytesMax + 4<<20); held > bound {
		t.Errorf("the leader held %d bytes, want at most %d", held, bound)
	}
	for _, o := range c.members {
		if o.node.Stats().Installs > 0 {
			t.Errorf("node %d was sent a snapshot", o.id)
		}
	}
	dead.off = false
	c.beats(3 * snapshotTicks)
	if a := dead.tape[0]; dead.node.Stats().Installs == 0 || a.committed != m.tape[0].committed {
		t.Errorf("the follower is at %d, the leader at %d", a.committed, m.tape[0].committed)
	}
	load(5, &held)
	if n := dead.node.Stats().Installs; n != 1 || dead.tape[0].committed != m.tape[0].committed {
		t.Errorf("%d snapshots, committed %d", n, dead.tape[0].committed)
	}
	c.verify(t)
}

// releaseTo marks what a tape has.
func (m *clusterMember) releaseTo(g int, at record.Index) {
	_ = m.node.Do(groupID(g), func(group *Group) {
		if at > m.mark[g] && at > m.tape[g].base {
			m.mark[g] = at
			group.Release(journal.Mark{Index: at, Term: m.tape[g].at(at).Term})
		}
	})
	rest(m.node)
}

// Proposals of a follower go nowhere; with the planted fault they reach the
// leader's log.
func TestFollowersDoNotForward(t *testing.T) {
	for _, fault := range []bool{false, true} {
		cryptotest.SetGlobalRandom(t, 4)
		c := newCluster(t, 4, 1, Fault{Forward: fault})
		c.lastedSince(t, 40)
		m := c.leaderOf(0)
		var got error
		_ = c.members[m.id%3].node.Do(groupID(0), func(g *Group) { _, got = g.Propose([]byte("passed on")) })
		c.beats(2)
		var not *NotLeaderError
		if !fault && (!errors.As(got, &not) || not.Leader != int32(m.id) || !errors.Is(got, ErrNotLeader)) {
			t.Errorf("propose: %v", got)
		}
		if last := m.tape[0].at(m.tape[0].last()); (string(last.Data) == "passed on") != fault {
			t.Errorf("fault %v: the leader's log ends with %+v", fault, last)
		}
	}
}

// other is a member that is neither of two.
func (c *cluster) other(a, b *clusterMember) *clusterMember {
	for _, m := range c.members {
		if m != a && m != b {
			return m
		}
	}
	return nil
}

// follow has the others elect a leader while m hears and says nothing, and
// gives leader and follower.
func (c *cluster) follow(t *testing.T, m *clusterMember) (leader, follower *clusterMember) {
	t.Helper()
	for _, o := range c.members {
		if o != m {
			o.node.PeerDown(int32(m.id))
		}
	}
	for range 40 {
		c.beat(m.id)
		for _, o := range c.members {
			if o != m && o.tape[0].lead.Ready {
				return o, c.other(m, o)
			}
		}
	}
	t.Fatal("the others elect nobody")
	return nil, nil
}

// An append of an old leader that arrives late does not take out what its
// receiver has acknowledged to a newer one; with the planted fault it does.
func TestOldTermsAreRefused(t *testing.T) {
	for _, fault := range []bool{false, true} {
		cryptotest.SetGlobalRandom(t, 5)
		c := newCluster(t, 5, 1, Fault{SkipTermCheck: fault})
		c.lastedSince(t, 40)
		old := c.leaderOf(0)
		c.beats(2 * heartbeatTicks)
		c.net = nil
		_ = old.node.Do(groupID(0), func(g *Group) { _, _ = g.Propose([]byte("of the old leader")) })
		rest(old.node)
		late := c.net
		c.net = nil
		// The others elect a leader, to whom the third acknowledges the first
		// entry of the term; it does not learn that this is committed.
		a, b := c.members[old.id%3], c.members[(old.id+1)%3]
		a.node.PeerDown(int32(old.id))
		b.node.PeerDown(int32(old.id))
		for !a.tape[0].lead.Ready && !b.tape[0].lead.Ready {
			if len(c.net) == 0 {
				a.node.Tick()
				b.node.Tick()
				rest(a.node)
				rest(b.node)
				continue
			}
			msg := c.net[0]
			c.net = c.net[1:]
			if int(msg.Node) != old.id {
				c.members[msg.Node-1].node.Receive([]Message{msg})
				rest(c.members[msg.Node-1].node)
			}
		}
		third := a
		if a.tape[0].lead.Ready {
			third = b
		}
		last := third.tape[0].last()
		acked := third.tape[0].at(last)
		for _, m := range late {
			if m.Node == int32(third.id) {
				third.node.Receive([]Message{m})
			}
		}
		rest(third.node)
		if now := third.tape[0].at(last); (now.Term != acked.Term) != fault {
			t.Errorf("fault %v: acknowledged %+v, now there is %+v", fault, acked, now)
		}
	}
}

// A leader that another has followed without its knowing is not confirmed, and
// who asked is told when it finds out; with the planted fault it is confirmed,
// and knows less than was committed.
func TestStaleLeaderIsNotConfirmed(t *testing.T) {
	for _, fault := range []bool{false, true} {
		cryptotest.SetGlobalRandom(t, 6)
		c := newCluster(t, 6, 1, Fault{StaleReads: fault})
		c.lastedSince(t, 40)
		old := c.leaderOf(0)
		leader, _ := c.follow(t, old)
		_ = leader.node.Do(groupID(0), func(g *Group) { _, _ = g.Propose([]byte("newer")) })
		c.beats(2, old.id)
		var at record.Index
		var got []error
		_ = old.node.Do(groupID(0), func(g *Group) {
			g.ReadIndex(func(i record.Index, err error) { at, got = i, append(got, err) })
		})
		c.beats(4, old.id)
		if (len(got) > 0) != fault || fault && at >= leader.tape[0].committed {
			t.Errorf("fault %v: told %v at %d, committed is %d", fault, got, at, leader.tape[0].committed)
		}
		c.beats(2 * electionTicks)
		if !fault && (len(got) != 1 || !errors.Is(got[0], ErrNotLeader)) {
			t.Errorf("told %v", got)
		}
	}
}

// Groups go to rest at any phase of their election timeout, at whose end raft
// forgets who answered: at rest a member counts as one that answers as long as
// its broker does, or its group could not move and not hand over its lead.
func TestMembersAtRestAnswer(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	const groups = 2 * electionTicks
	c := newCluster(t, 1, groups, Fault{})
	c.beats(quiesceTicks / 3) // each group goes to rest a tick later than the one before
	for n := range groups {
		_ = c.leaderOf(n).node.Do(groupID(n), func(g *Group) { _, _ = g.Propose([]byte("awake")) })
		c.beats(1)
	}
	c.beats(2*quiesceTicks + 2*restRetryTicks)
	for n := range groups {
		node := c.leaderOf(n).node
		g := node.shard(groupID(n)).groups[groupID(n)]
		if !g.resting {
			t.Errorf("group %d does not rest", n)
		}
		for _, m := range g.Members() {
			if !m.Active {
				t.Errorf("group %d: member %d counts as one that does not answer", n, m.Replica)
			}
		}
	}
}

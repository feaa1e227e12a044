package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// rebalance begins a rebalance, or looks whether the one under way is complete.
func (c *core) rebalance(g *group, now time.Time) {
	if g.state == preparingRebalance {
		c.tryJoin(g, now)
		return
	}
	c.prepare(g, now)
}

// prepare enters PreparingRebalance from any other state. The first rebalance
// of an empty group waits for more members to come, as long as they do and up
// to the rebalance timeout.
func (c *core) prepare(g *group, now time.Time) {
	wasEmpty := g.state == empty
	for _, m := range g.members {
		m.assignment = nil
		if m.sync != nil {
			c.refuseSync(m.sync, kerr.RebalanceInProgress.Code)
			m.sync = nil
			c.alive(g, m, now)
		}
	}
	g.enter(preparingRebalance, now)
	timeout := g.rebalanceTimeout()
	if delay := min(c.cfg.InitialDelay, timeout); wasEmpty && delay > 0 {
		g.initial = &initialDelay{remaining: timeout - delay}
		g.rebalanceAt = now.Add(delay)
		c.wake(g, g.rebalanceAt)
		return
	}
	g.rebalanceAt = now.Add(timeout)
	c.wake(g, g.rebalanceAt)
	c.tryJoin(g, now)
}

// tryJoin completes the rebalance when nobody is missing.
func (c *core) tryJoin(g *group, now time.Time) {
	if g.state == preparingRebalance && g.initial == nil && g.allJoined() {
		c.complete(g, now)
	}
}

// rebalanceDue goes on without those who are missing.
func (c *core) rebalanceDue(g *group, now time.Time) {
	if i := g.initial; i != nil && i.joined && i.remaining > 0 {
		delay := min(c.cfg.InitialDelay, i.remaining)
		i.joined = false
		i.remaining -= delay
		g.rebalanceAt = now.Add(delay)
		return
	}
	c.complete(g, now)
}

// complete starts the next generation. Dynamic members that did not join are
// dropped; static ones stay until their session ends.
func (c *core) complete(g *group, now time.Time) {
	g.initial = nil
	for _, m := range append([]*member(nil), g.members...) {
		if m.join == nil && m.instance == nil {
			c.forget(g, m)
		}
	}
	if len(g.members) > 0 && !g.electJoined() {
		g.rebalanceAt = now.Add(g.rebalanceTimeout()) // only static members, none here
		c.wake(g, g.rebalanceAt)
		return
	}
	g.generation++
	if len(g.members) == 0 {
		c.becomeEmpty(g, now)
		return
	}
	g.protocol = g.choose()
	g.enter(completingRebalance, now)
	g.syncAt = now.Add(g.rebalanceTimeout())
	c.wake(g, g.syncAt)
	for _, m := range g.members {
		if w := m.join; w != nil {
			m.join, m.joining = nil, false
			c.alive(g, m, now)
			c.answerJoin(g, m, w, false)
		}
	}
}

// electJoined makes sure that the leader is somebody who joined.
func (g *group) electJoined() bool {
	if m := g.member(g.leader); m != nil && m.join != nil {
		return true
	}
	for _, m := range g.members {
		if m.join != nil {
			g.leader = m.id
			return true
		}
	}
	return false
}

// becomeEmpty writes down that the group has no members; its offsets' time
// runs from now.
func (c *core) becomeEmpty(g *group, now time.Time) {
	g.protocol = ""
	g.enter(empty, now)
	c.write(g, now, []kv{groupRecord(g, now, nil)}, func(time.Time, int16) {
		// If it did not get there, the members are found gone after the next load.
	})
}

// drop removes a member that left or whose session ended, and has the others
// rebalance.
func (c *core) drop(g *group, m *member, now time.Time) {
	c.forget(g, m)
	switch g.state {
	case stable, completingRebalance:
		c.prepare(g, now)
	case preparingRebalance:
		c.tryJoin(g, now)
	}
}

// forget takes a member out and answers what it waits for.
func (c *core) forget(g *group, m *member) {
	if m.join != nil {
		c.refuseJoin(m.join, m.id, kerr.UnknownMemberID.Code)
		m.join = nil
	}
	if m.sync != nil {
		c.refuseSync(m.sync, kerr.UnknownMemberID.Code)
		m.sync = nil
	}
	g.remove(m)
}

package group

import (
	"container/heap"
	"encoding/hex"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// core holds the groups of one partition of __consumer_offsets. It is stepped
// by its caller, with the time as an argument; what is to be done outside
// comes out as effects, in order.
type core struct {
	cfg     *Config
	loading bool
	// dropped: the partition is not led any more; late answers of the log only
	// answer.
	dropped bool
	groups  map[string]*group
	timers  timers
	seq     uint64 // of timers, for a fixed order of equal instants
	effects []effect
	expire  time.Time // when offsets are looked through next
	load    loader
}

// effect is one thing to do outside: answer a client, or write records and
// tell the core how it went. Exactly one of answer and write is set.
type effect struct {
	answer func()
	write  *write
}

// write is a batch of records; then is called once, with 0 when they are
// committed, else with the code for the client.
type write struct {
	records []kv
	at      time.Time
	then    func(now time.Time, code int16)
}

func newCore(cfg *Config, now time.Time) *core {
	return &core{cfg: cfg, groups: map[string]*group{}, loading: true, expire: now.Add(cfg.ExpireEvery)}
}

// take gives the effects since the last take.
func (c *core) take() []effect {
	out := c.effects
	c.effects = nil
	return out
}

func (c *core) answer(reply func(kmsg.Response), r kmsg.Response) {
	c.effects = append(c.effects, effect{answer: func() { reply(r) }})
}

// write queues records of a group. The group is kept until they are through.
func (c *core) write(g *group, now time.Time, records []kv, then func(now time.Time, code int16)) {
	g.writes++
	c.effects = append(c.effects, effect{write: &write{records: records, at: now, then: func(now time.Time, code int16) {
		g.writes--
		then(now, code)
	}}})
}

// blocked is the code with which every request is refused now, 0 for none.
func (c *core) blocked(groupID string) int16 {
	switch {
	case groupID == "":
		return kerr.InvalidGroupID.Code
	case c.dropped:
		return kerr.NotCoordinator.Code
	case c.loading:
		return kerr.CoordinatorLoadInProgress.Code
	}
	return 0
}

// newMemberID is a prefix with a random UUID, as in Kafka.
func (c *core) newMemberID(prefix string) string {
	var u [16]byte
	// A random source that fails is crypto/rand's, which stops the process, or
	// a simulation's that ran out: equal ids would be found as duplicates.
	_, _ = io.ReadFull(c.cfg.Random, u[:])
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	h := hex.EncodeToString(u[:])
	return prefix + "-" + h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// timer wakes a group; it is void unless the group still waits for that
// instant.
type timer struct {
	at  time.Time
	seq uint64
	g   *group
}

type timers []timer

func (t timers) Len() int { return len(t) }
func (t timers) Less(i, j int) bool {
	return t[i].at.Before(t[j].at) || t[i].at.Equal(t[j].at) && t[i].seq < t[j].seq
}
func (t timers) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)   { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	last := (*t)[len(*t)-1]
	(*t)[len(*t)-1] = timer{}
	*t = (*t)[:len(*t)-1]
	return last
}

// wake has the group looked at not later than at. A group has one live timer:
// a heartbeat only moves a deadline on, and the old instant finds nothing due.
func (c *core) wake(g *group, at time.Time) {
	if !g.timerAt.IsZero() && !at.Before(g.timerAt) {
		return
	}
	c.seq++
	g.timerAt = at
	heap.Push(&c.timers, timer{at, c.seq, g})
}

// step does what is due at now.
func (c *core) step(now time.Time) {
	if c.loading || c.dropped {
		return
	}
	for len(c.timers) > 0 && !c.timers[0].at.After(now) {
		t := heap.Pop(&c.timers).(timer)
		if t.g.timerAt.Equal(t.at) && c.groups[t.g.id] == t.g {
			t.g.timerAt = time.Time{}
			c.due(t.g, now)
			c.rearm(t.g)
		}
	}
	if !now.Before(c.expire) {
		c.expire = now.Add(c.cfg.ExpireEvery)
		c.expireOffsets(now)
	}
}

// next is when step has something to do again.
func (c *core) next() time.Time {
	if len(c.timers) > 0 && c.timers[0].at.Before(c.expire) {
		return c.timers[0].at
	}
	return c.expire
}

// rearm sets the timer to the group's earliest deadline.
func (c *core) rearm(g *group) {
	for _, at := range g.pending {
		c.wake(g, at)
	}
	for _, m := range g.members {
		if !m.waiting() || m.joining {
			c.wake(g, m.deadline)
		}
	}
	if g.state == preparingRebalance {
		c.wake(g, g.rebalanceAt)
	}
	if g.state == completingRebalance {
		c.wake(g, g.syncAt)
	}
}

// due carries out every deadline of the group that has passed.
func (c *core) due(g *group, now time.Time) {
	for id, at := range g.pending {
		if !at.After(now) {
			delete(g.pending, id) // the order of removal shows nowhere
		}
	}
	for _, m := range append([]*member(nil), g.members...) {
		if !m.deadline.After(now) && (!m.waiting() || m.joining) && g.member(m.id) == m {
			c.drop(g, m, now)
		}
	}
	switch {
	case g.state == preparingRebalance && !g.rebalanceAt.After(now):
		c.rebalanceDue(g, now)
	case g.state == preparingRebalance:
		c.tryJoin(g, now)
	case g.state == completingRebalance && !g.syncAt.After(now):
		c.syncDue(g, now)
	}
	c.dropUnused(g)
}

// syncDue drops the members that did not ask for their assignment in time.
func (c *core) syncDue(g *group, now time.Time) {
	for _, m := range append([]*member(nil), g.members...) {
		if m.sync == nil {
			c.forget(g, m)
		}
	}
	c.prepare(g, now)
}

// alive moves a member's session on.
func (c *core) alive(g *group, m *member, now time.Time) {
	m.deadline = now.Add(m.session)
	c.wake(g, m.deadline)
}

package cluster

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

// Quorum is the controller's group as its leader sees it. Places in its log are
// Indexes: it has no Offsets.
type Quorum struct {
	Leader int32
	Term   uint64
	// Committed is the last entry that a majority has.
	Committed record.Index
	// Voters count for it, Observers only follow; by node.
	Voters, Observers []QuorumReplica
}

// QuorumReplica is how far a broker's replica of the controller is.
type QuorumReplica struct {
	Node int32
	// Match is the last entry that it is known to have on disk.
	Match record.Index
	// HeardMs is when the leader last heard of the broker, CaughtUpMs the last
	// time at which the replica had all that the leader had; ms since the Unix
	// epoch, -1 when this leader does not know. Both are exact to a DutyEvery.
	HeardMs, CaughtUpMs int64
}

// caughtUp remembers, on the controller's leader, when each replica last had
// the whole log: raft knows only how far it is now.
type caughtUp struct {
	mu   sync.Mutex // held for the fields below only
	term uint64
	at   map[uint64]time.Time
	// end was the leader's log at the last look, which was at seen: a replica
	// that has it now had everything then, though more has come since.
	end  record.Index
	seen time.Time
}

// look notes what the leader of term sees now. self is its own replica; of one
// that does not answer nothing new is known.
func (u *caughtUp) look(term, self uint64, replicas []multiraft.Member, answers func(multiraft.Member) bool, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.at == nil || u.term != term {
		u.term, u.at, u.end = term, map[uint64]time.Time{}, 0
	}
	end := record.Index(0)
	for _, r := range replicas {
		if r.Replica == self {
			end = r.Match
		}
	}
	for _, r := range replicas {
		switch {
		case !answers(r):
		case r.Match >= end:
			u.at[r.Replica] = now
		case u.end > 0 && r.Match >= u.end:
			u.at[r.Replica] = u.seen
		}
	}
	u.end, u.seen = end, now
}

// ms is when a replica was last seen to have everything, -1 for never.
func (u *caughtUp) ms(replica uint64) int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if t, ok := u.at[replica]; ok {
		return t.UnixMilli()
	}
	return -1
}

// Quorum asks the controller's leader, which may be this broker.
func (c *Controller) Quorum(ctx context.Context) (Quorum, error) {
	ctx, stop := withDeadline(ctx)
	defer stop()
	l := c.Leadership()
	if l.Leading || c.cfg.Peers == nil {
		return c.quorumHere(ctx)
	}
	if l.Leader == NoLeader {
		return Quorum{}, c.noLeader()
	}
	b, err := c.callNode(ctx, l.Leader, MethodQuorum, nil)
	if err != nil {
		return Quorum{}, fmt.Errorf("%w: ask the controller, broker %d, for its quorum: %w", ErrNotController, l.Leader, err)
	}
	return decodeQuorum(b)
}

// quorumHere reads it on the leader.
func (c *Controller) quorumHere(ctx context.Context) (Quorum, error) {
	type answer struct {
		members Members
		term    uint64
		ok      bool
	}
	answered := make(chan answer, 1)
	err := c.cfg.Raft.Do(func(p Proposer) {
		term, ok := p.Leading()
		answered <- answer{p.Members(), term, ok}
	})
	if err != nil {
		return Quorum{}, fmt.Errorf("%w: %w", ErrNotController, err)
	}
	var a answer
	select {
	case a = <-answered:
	case <-c.machine.stopped:
		return Quorum{}, fmt.Errorf("%w: %w", ErrNotController, ErrClosed)
	case <-ctx.Done():
		return Quorum{}, fmt.Errorf("%w: %w", ErrNotController, ctx.Err())
	}
	if !a.ok {
		return Quorum{}, fmt.Errorf("%w: %w", ErrNotController, ErrNotReady)
	}
	now := c.cfg.Now()
	self := c.ownReplica()
	c.caught.look(a.term, self, a.members.Replicas, c.answers, now)
	q := Quorum{Leader: c.cfg.Node, Term: a.term, Committed: c.View().applied}
	for _, b := range c.View().Brokers() {
		for _, m := range a.members.Replicas {
			if m.Replica != b.Controller && !(b.ID == c.cfg.Node && m.Replica == self) {
				continue
			}
			r := QuorumReplica{Node: b.ID, Match: m.Match, HeardMs: c.heardMs(b, m, now), CaughtUpMs: c.caught.ms(m.Replica)}
			if slices.Contains(a.members.Voters, m.Replica) || slices.Contains(a.members.Outgoing, m.Replica) {
				q.Voters = append(q.Voters, r)
			} else {
				q.Observers = append(q.Observers, r)
			}
		}
	}
	return q, nil
}

// ownReplica is this broker's id in the controller's group, 1 in a cluster of
// one.
func (c *Controller) ownReplica() uint64 { return max(c.cfg.Membership.Replica, 1) }

// answers reports whether a replica's broker does; its group may rest.
func (c *Controller) answers(m multiraft.Member) bool {
	if m.Active || m.Replica == c.ownReplica() {
		return true
	}
	for _, b := range c.View().Brokers() {
		if b.Controller == m.Replica && c.cfg.Peers != nil {
			_, up := c.cfg.Peers.Up(b.ID)
			return up
		}
	}
	return false
}

// heardMs is when a broker was last heard of: those that answer were heard of
// within a heartbeat.
func (c *Controller) heardMs(b *Broker, m multiraft.Member, now time.Time) int64 {
	switch {
	case c.answers(m):
		return now.UnixMilli()
	case b.OfflineSinceMs > 0:
		return b.OfflineSinceMs
	}
	return -1
}

func (c *Controller) handleQuorum(ctx context.Context, _ int32, _ []byte) ([]byte, error) {
	q, err := c.quorumHere(ctx)
	if err != nil {
		return nil, err
	}
	return encodeQuorum(&q), nil
}

func encodeQuorum(q *Quorum) []byte {
	b := binary.AppendVarint([]byte{helloVersion}, int64(q.Leader))
	b = binary.AppendUvarint(binary.AppendUvarint(b, q.Term), uint64(q.Committed))
	for _, rs := range [][]QuorumReplica{q.Voters, q.Observers} {
		b = appendList(b, rs, func(b []byte, r QuorumReplica) []byte {
			b = binary.AppendUvarint(binary.AppendVarint(b, int64(r.Node)), uint64(r.Match))
			return binary.AppendVarint(binary.AppendVarint(b, r.HeardMs), r.CaughtUpMs)
		})
	}
	return b
}

func decodeQuorum(b []byte) (Quorum, error) {
	c := &cursor{b: b}
	c.hello()
	q := Quorum{Leader: c.int32(), Term: c.uvarint(), Committed: record.Index(c.uvarint())}
	for _, rs := range []*[]QuorumReplica{&q.Voters, &q.Observers} {
		*rs = list(c, func(c *cursor) QuorumReplica {
			return QuorumReplica{Node: c.int32(), Match: record.Index(c.uvarint()), HeardMs: c.varint(), CaughtUpMs: c.varint()}
		})
	}
	return q, c.end()
}

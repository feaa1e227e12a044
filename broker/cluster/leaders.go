package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tidewater/internal/record"
)

// leaderMove asks the node that leads a partition to hand over to a replica.
type leaderMove struct {
	partition record.PartitionID
	from      int32
	to        uint64
}

// eligible reports whether a replica may be asked to lead: it is to stay, its
// broker answers, has its disk and is not in maintenance.
func (v *View) eligible(p *Partition, r Replica) bool {
	b := v.brokers[r.Node]
	joining := p.Move != nil && slices.Contains(p.Move.Adding, r.ID)
	return b != nil && !b.Offline && !b.Maintenance && !b.Draining && r.ID >= b.ReplicaFloor && !joining
}

// preferred is the replica that is to lead: the first that may.
func (v *View) preferred(p *Partition) (Replica, bool) {
	for _, r := range p.Target() {
		if v.eligible(p, r) {
			return r, true
		}
	}
	return Replica{}, false
}

// planLeaders gives the leaders to move now: away from brokers in maintenance,
// and to the preferred replica where another leads, at most max. skip holds
// partitions that refused lately.
func planLeaders(v *View, skip func(record.PartitionID) bool, max int) []leaderMove {
	var out []leaderMove
	for _, t := range v.Topics() {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			if len(out) >= max {
				return out
			}
			id := record.PartitionID{Topic: t.ID, Partition: int32(i)}
			leader := v.brokers[p.Leader]
			if leader == nil || leader.Offline || len(p.Replicas) < 2 || skip(id) {
				continue
			}
			if r, ok := v.preferred(p); ok && r.Node != p.Leader {
				out = append(out, leaderMove{partition: id, from: p.Leader, to: r.ID})
			}
		}
	}
	return out
}

const (
	// leaderMovesMax bounds the hand-overs of one round, each of which stops a
	// partition's producers for some milliseconds.
	leaderMovesMax = 500
	// leaderEvery is the time between rounds, leaderRetry how long a partition
	// is left alone whose leader could not hand over.
	leaderEvery = time.Second
	leaderRetry = 10 * time.Second
)

// leaders keeps leadership where it is preferred.
func (d *duties) leaders(ctx context.Context, now time.Time) error {
	if d.c.cfg.Groups == nil || d.c.cfg.Peers == nil || now.Sub(d.ledAt) < leaderEvery {
		return nil
	}
	d.ledAt = now
	for id, until := range d.refused {
		if now.After(until) {
			delete(d.refused, id)
		}
	}
	plan := planLeaders(d.c.View(), func(id record.PartitionID) bool { _, ok := d.refused[id]; return ok }, leaderMovesMax)
	for i, err := range d.c.handOver(ctx, plan) {
		if err != nil {
			d.refused[plan[i].partition] = now.Add(leaderRetry)
		} else {
			// The view follows when the new leader has reported itself.
			d.refused[plan[i].partition] = now.Add(leaderEvery)
		}
	}
	return nil
}

// handOver carries out leader moves, those of one broker in one call.
func (c *Controller) handOver(ctx context.Context, plan []leaderMove) []error {
	errs := make([]error, len(plan))
	byNode := map[int32][]int{}
	for i, m := range plan {
		byNode[m.from] = append(byNode[m.from], i)
	}
	for _, b := range c.View().Brokers() {
		mine := byNode[b.ID]
		if len(mine) == 0 {
			continue
		}
		got, err := c.handOverAt(ctx, b.ID, plan, mine)
		for k, i := range mine {
			if errs[i] = err; err == nil {
				errs[i] = got[k]
			}
		}
	}
	return errs
}

// handOverAt asks first for the terms, so that a leader that changed meanwhile
// is left alone.
func (c *Controller) handOverAt(ctx context.Context, node int32, plan []leaderMove, mine []int) ([]error, error) {
	ids := make([]record.PartitionID, len(mine))
	for k, i := range mine {
		ids[k] = plan[i].partition
	}
	statuses, err := c.statuses(ctx, node, ids)
	if err != nil {
		return nil, err
	}
	if len(statuses) != len(ids) {
		return nil, fmt.Errorf("%w: %d answers about %d groups", ErrFormat, len(statuses), len(ids))
	}
	ops := make([]GroupOp, len(mine))
	for k, i := range mine {
		ops[k] = GroupOp{Partition: ids[k], Term: statuses[k].Term, Transfer: plan[i].to}
	}
	return c.changeGroups(ctx, node, ops)
}

// ElectLeaders hands the lead of partitions, or of all with nil, to their
// preferred replicas; the errors are in the order of ids. With nil they are of
// the partitions returned, which are those where another led.
func (c *Controller) ElectLeaders(ctx context.Context, ids []record.PartitionID) ([]record.PartitionID, []error) {
	v := c.View()
	all := ids == nil
	if all {
		for _, t := range v.Topics() {
			for i := range t.Partitions {
				if first := t.Partitions[i].Target(); len(first) > 0 && first[0].Node != t.Partitions[i].Leader {
					ids = append(ids, record.PartitionID{Topic: t.ID, Partition: int32(i)})
				}
			}
		}
	}
	errs := make([]error, len(ids))
	var plan []leaderMove
	var at []int
	for i, id := range ids {
		m, err := v.election(id)
		if errs[i] = err; err == nil {
			plan, at = append(plan, m), append(at, i)
		}
	}
	if c.cfg.Groups == nil {
		return ids, errs
	}
	for k, err := range c.handOver(ctx, plan) {
		if err != nil {
			errs[at[k]] = fmt.Errorf("%w: %w", ErrPreferredNotAvailable, err)
		}
	}
	return ids, errs
}

// election says what electing a partition's preferred leader takes.
func (v *View) election(id record.PartitionID) (leaderMove, error) {
	p := v.PartitionOf(id)
	if p == nil {
		return leaderMove{}, fmt.Errorf("%w: partition %s", ErrUnknownTopic, id)
	}
	first := p.Target()[0]
	switch {
	case p.Leader == first.Node:
		return leaderMove{}, ErrElectionNotNeeded
	case !v.eligible(p, first):
		return leaderMove{}, fmt.Errorf("%w: broker %d is offline, in maintenance or still copying", ErrPreferredNotAvailable, first.Node)
	case v.brokers[p.Leader] == nil:
		return leaderMove{}, fmt.Errorf("%w: partition %s has no leader that could hand over", ErrPreferredNotAvailable, id)
	}
	return leaderMove{partition: id, from: p.Leader, to: first.ID}, nil
}

// ErrUncleanElection refuses to make a replica the leader that may lack acked
// records. Answer ELIGIBLE_LEADERS_NOT_AVAILABLE.
var ErrUncleanElection = errors.New("no replica is elected that may lack acked records: when a majority of a partition's replicas is lost " +
	"for good, 'tidewater partition unsafe-recover' makes a new start from what is left and lists what is given up")

package cluster

import (
	"context"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

// GroupStatus is a partition's group as the broker asked sees it.
type GroupStatus struct {
	Partition record.PartitionID
	// Leading: this broker leads it, in Term, is ready, and its members are
	// durable here; without it nothing else is said.
	Leading   bool
	Term      uint64
	Replica   uint64 // the leader's own
	Committed record.Index
	Members   Members
}

// GroupOp asks a partition's leader for a change of members, or to hand over.
type GroupOp struct {
	Partition record.PartitionID
	// Term is the one that the status was given in; a later leader refuses.
	Term    uint64
	Changes []raftpb.ConfChangeSingle // at once: a joint change when several
	// Transfer is the replica that is to lead, 0 for none.
	Transfer uint64
}

// Groups are the partitions' groups on this broker, as the controller's leader
// asks for them: GroupsOn, or simulated ones.
type Groups interface {
	Status(ctx context.Context, ids []record.PartitionID) []GroupStatus
	// Change carries out each op by itself.
	Change(ctx context.Context, ops []GroupOp) []error
}

// GroupsOn are the groups on a host.
func GroupsOn(h Host) Groups { return hostGroups{h} }

type hostGroups struct{ host Host }

func (h hostGroups) Status(ctx context.Context, ids []record.PartitionID) []GroupStatus {
	return onLoops(ctx, len(ids), func(i int, err error) GroupStatus { return GroupStatus{Partition: ids[i]} },
		func(i int, done func(GroupStatus)) error {
			return h.host.Do(ids[i], func(g *multiraft.Group) { done(statusOf(g)) })
		})
}

func statusOf(g *multiraft.Group) GroupStatus {
	s := GroupStatus{Partition: g.ID()}
	if l := g.Leadership(); !l.Leading || !l.Ready || !g.Settled() {
		return s
	} else {
		s.Term = l.Term
	}
	s.Leading, s.Replica, s.Committed, s.Members = true, g.Replica(), g.Committed(), membersOf(g)
	return s
}

func (h hostGroups) Change(ctx context.Context, ops []GroupOp) []error {
	return onLoops(ctx, len(ops), func(_ int, err error) error { return err }, func(i int, done func(error)) error {
		return h.host.Do(ops[i].Partition, func(g *multiraft.Group) { change(g, &ops[i], done) })
	})
}

// change runs on the group's loop.
func change(g *multiraft.Group, o *GroupOp, done func(error)) {
	s := statusOf(g)
	switch {
	case !s.Leading || s.Term != o.Term:
		done(fmt.Errorf("%w: partition %s: this broker does not lead it in term %d", multiraft.ErrNotLeader, o.Partition, o.Term))
	case len(o.Changes) > 0:
		_, err := g.ProposeConfChangeV2(raftpb.ConfChangeV2{Changes: o.Changes})
		done(err)
	case !closeBehind(&s, o.Transfer):
		done(fmt.Errorf("%w: partition %s: replica %d is away or behind", multiraft.ErrTransfer, o.Partition, o.Transfer))
	default:
		g.Transfer(o.Transfer, done)
	}
}

// transferLagMax is how many entries a replica may lack to be handed the
// lead: producers wait until it has them.
const transferLagMax = 256

// closeBehind reports whether a replica has nearly all that is committed.
func closeBehind(s *GroupStatus, replica uint64) bool {
	return slices.ContainsFunc(s.Members.Replicas, func(m multiraft.Member) bool {
		return m.Replica == replica && m.Active && !m.Copying && m.Match > 0 && m.Match+transferLagMax >= s.Committed
	})
}

// onLoops starts n tasks on shard loops and gathers what they answer. Those
// that could not be started, or did not answer in time, get failed's value.
func onLoops[T any](ctx context.Context, n int, failed func(i int, err error) T, start func(i int, done func(T)) error) []T {
	type answer struct {
		i int
		v T
	}
	ctx, stop := context.WithTimeout(ctx, attemptTimeout)
	defer stop()
	answers := make(chan answer, n) // one each, so that nobody blocks on a loop
	out := make([]T, n)
	waiting := 0
	for i := range n {
		out[i] = failed(i, fmt.Errorf("%w: %w", ErrUnknownOutcome, context.DeadlineExceeded))
		if err := start(i, func(v T) { answers <- answer{i, v} }); err != nil {
			out[i] = failed(i, err)
			continue
		}
		waiting++
	}
	for range waiting {
		select {
		case a := <-answers:
			out[a.i] = a.v
		case <-ctx.Done():
			return out
		}
	}
	return out
}

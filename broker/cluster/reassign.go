package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tidewater/internal/record"
)

// Reassignment asks for a partition's replicas to be on the target nodes, the
// most preferred first; nil takes back the move under way.
type Reassignment struct {
	Partition record.PartitionID
	Target    []int32
}

// moveOpsMax keeps a command far below CommandBytesMax.
const moveOpsMax = 2_000

// AlterReassignments begins and takes back moves, each by itself; the errors
// are in the order of rs. It returns when the moves have begun. One that is
// asked for during another takes that one back first, and waits for it as long
// as ctx lasts.
func (c *Controller) AlterReassignments(ctx context.Context, rs []Reassignment) ([]error, error) {
	if err := c.catchUp(ctx); err != nil {
		return nil, err
	}
	errs := make([]error, len(rs))
	open := make([]int, len(rs))
	for i := range rs {
		open[i] = i
	}
	ctx, stop := withDeadline(ctx)
	defer stop()
	for {
		again, err := c.alterOnce(ctx, rs, open, errs)
		if err != nil || len(again) == 0 {
			return errs, err
		}
		if open = again; ctx.Err() != nil {
			return errs, nil // why they wait stands in errs
		}
		select {
		case <-time.After(retryEvery):
		case <-ctx.Done():
			return errs, nil
		}
	}
}

// alterOnce tries the reassignments numbered in open and returns those that
// are to be tried again.
func (c *Controller) alterOnce(ctx context.Context, rs []Reassignment, open []int, errs []error) (again []int, err error) {
	var ops []MoveOp
	var at []int
	for _, i := range open {
		op, later, err := planReassignment(c.View(), rs[i])
		if errs[i] = err; later {
			again = append(again, i)
		}
		if op.Expected != nil {
			ops, at = append(ops, op), append(at, i)
		}
	}
	for chunk := range slices.Chunk(ops, moveOpsMax) {
		result, err := c.do(ctx, &MovePartitions{NowMs: c.cfg.Now().UnixMilli(), Ops: chunk})
		if err != nil {
			return nil, err
		}
		for k, err := range result.([]error) {
			i := at[k]
			switch {
			case errors.Is(err, ErrConflict), errors.Is(err, ErrNotReady), errors.Is(err, ErrMoving) && rs[i].Target != nil:
				errs[i] = err
				again = append(again, i)
			case err != nil || !slices.Contains(again, i):
				errs[i] = err
			}
		}
		at = at[len(chunk):]
	}
	slices.Sort(again)
	return slices.Compact(again), nil
}

// planReassignment gives the op that comes next; later says that after it, or
// after the move under way has ended, there is more to do.
func planReassignment(v *View, r Reassignment) (op MoveOp, later bool, err error) {
	p := v.PartitionOf(r.Partition)
	if p == nil {
		return op, false, fmt.Errorf("%w: partition %s", ErrUnknownTopic, r.Partition)
	}
	op = MoveOp{Partition: r.Partition, Expected: idsOf(p.Replicas), Target: r.Target}
	if r.Target == nil {
		if p.Move == nil {
			return MoveOp{}, false, ErrNotMoving
		}
		return op, false, nil
	}
	if err := checkNodes(v, int(r.Partition.Partition), r.Target); err != nil {
		return MoveOp{}, false, err
	}
	switch {
	case p.Move == nil:
		return op, false, nil
	case slices.Equal(nodesOf(p.Target()), r.Target):
		return MoveOp{}, false, nil // it is on its way there
	case p.Move.Joining:
		return MoveOp{}, true, fmt.Errorf("%w: to nodes %v; the next move can begin when it is done", ErrMoving, nodesOf(p.Target()))
	}
	op.Target = nil
	return op, true, fmt.Errorf("%w: the move to nodes %v is being taken back", ErrMoving, nodesOf(p.Target()))
}

// SetMaintenance takes the lead away from a broker wherever another replica
// can have it, and keeps it away, until it is taken back; it outlasts restarts.
func (c *Controller) SetMaintenance(ctx context.Context, node int32, on bool) error {
	return c.setMode(ctx, node, func(cmd *SetBrokerMode) { cmd.Maintenance = on })
}

// SetDraining moves every replica off a broker, which gets no new ones, until
// it is taken back. A broker with Load.Replicas of 0 can be unregistered. It is
// refused when the other brokers are too few to hold them.
func (c *Controller) SetDraining(ctx context.Context, node int32, on bool) error {
	if on {
		if err := c.catchUp(ctx); err != nil {
			return err
		}
		if err := c.View().drainable(node); err != nil {
			return err
		}
	}
	return c.setMode(ctx, node, func(cmd *SetBrokerMode) { cmd.Draining = on })
}

// drainable says why a broker's replicas cannot all go elsewhere.
func (v *View) drainable(node int32) error {
	left := 0
	for _, b := range v.Brokers() {
		if b.ID != node && !b.Draining {
			left++
		}
	}
	for _, t := range v.Topics() {
		for i := range t.Partitions {
			if nodes := nodesOf(t.Partitions[i].Target()); slices.Contains(nodes, node) && len(nodes) > left {
				return fmt.Errorf("%w: topic %s has %d replicas, and %d brokers would be left to hold them: add a broker first, or give the topic fewer replicas",
					ErrInvalidRequest, t.Name, len(nodes), left)
			}
		}
	}
	return nil
}

func (c *Controller) setMode(ctx context.Context, node int32, set func(*SetBrokerMode)) error {
	_, err := c.change(ctx, false, func(p planner) (Command, error) {
		b := p.v.Broker(node)
		if b == nil {
			return nil, fmt.Errorf("%w: %d", ErrUnknownBroker, node)
		}
		cmd := &SetBrokerMode{Node: node, Maintenance: b.Maintenance, Draining: b.Draining}
		set(cmd)
		return cmd, nil
	})
	return err
}

// UnregisterBroker takes a broker out of the cluster for good. It must have no
// replicas; if it runs, it ends.
func (c *Controller) UnregisterBroker(ctx context.Context, node int32) error {
	if node == c.cfg.Node {
		// A broker that is out is sent nothing more, not even the outcome.
		ended, stop := context.WithCancel(ctx)
		defer stop()
		go func() {
			select {
			case <-c.out:
				stop()
			case <-ended.Done():
			}
		}()
		ctx = ended
	}
	err := c.unregister(ctx, node)
	select {
	case <-c.out:
		if node == c.cfg.Node {
			return nil
		}
	default:
	}
	return err
}

func (c *Controller) unregister(ctx context.Context, node int32) error {
	_, err := c.change(ctx, false, func(p planner) (Command, error) {
		if len(p.v.brokers) == 1 {
			return nil, fmt.Errorf("%w: broker %d is the only one", ErrInvalidRequest, node)
		}
		return &UnregisterBroker{Node: node}, nil
	})
	return err
}

// SetFeatureLevel finalizes a feature level: every broker's build can work at
// it, and no older build is let in from now on. ErrFeatureLevel says what keeps
// it from it.
func (c *Controller) SetFeatureLevel(ctx context.Context, level uint32, validateOnly bool) error {
	_, err := c.change(ctx, validateOnly, func(p planner) (Command, error) {
		if err := p.v.canRaise(level); err != nil {
			return nil, err
		}
		return &SetFeatureLevel{Level: level}, nil
	})
	return err
}

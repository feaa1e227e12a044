package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"tidewater/internal/record"
)

// SetReplicas begins to bring the partitions of a topic to a number of
// replicas: more are placed as those of a new topic are, fewer keep the
// preferred ones. It returns how many partitions are being changed.
func (c *Controller) SetReplicas(ctx context.Context, topic record.TopicID, replicas int) (int, error) {
	if err := c.catchUp(ctx); err != nil {
		return 0, err
	}
	rs, err := planReplicas(c.View(), topic, replicas)
	if err != nil || len(rs) == 0 {
		return 0, err
	}
	errs, err := c.AlterReassignments(ctx, rs)
	return len(rs), errors.Join(append(errs, err)...)
}

// planReplicas gives the reassignments that bring a topic to a number of
// replicas. Those that are there stay where they are.
func planReplicas(v *View, topic record.TopicID, replicas int) ([]Reassignment, error) {
	t := v.Topic(topic)
	if t == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknownTopic, topic)
	}
	pl := newPlacer(v)
	pl.brokers = slices.DeleteFunc(pl.brokers, func(b *Broker) bool { return !b.Placeable() })
	if replicas < 1 || replicas > len(pl.brokers) {
		return nil, fmt.Errorf("%w: %d replicas, and %d brokers can take one now", ErrInvalidReplicationFactor, replicas, len(pl.brokers))
	}
	var out []Reassignment
	for i := range t.Partitions {
		id := record.PartitionID{Topic: topic, Partition: int32(i)}
		nodes := nodesOf(t.Partitions[i].Target())
		target := nodes[:min(len(nodes), replicas)]
		for len(target) < replicas {
			b := pl.pick(id, target, false)
			if b == nil {
				return nil, fmt.Errorf("%w: %d replicas, and too few brokers can take one now", ErrInvalidReplicationFactor, replicas)
			}
			target = append(slices.Clip(target), b.ID)
			pl.add(b.ID, false)
		}
		if !slices.Equal(target, nodes) {
			out = append(out, Reassignment{Partition: id, Target: target})
		}
	}
	return out, nil
}

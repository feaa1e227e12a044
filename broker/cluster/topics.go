package cluster

import (
	"context"

	"tidewater/internal/record"
	"tidewater/internal/topicconfig"
)

// CreateTopic makes a topic; with validateOnly it says whether it could, and
// returns what it would be, with the replica ids still 0.
func (c *Controller) CreateTopic(ctx context.Context, s TopicSpec, validateOnly bool) (*Topic, error) {
	var planned *CreateTopic
	result, err := c.change(ctx, validateOnly, func(p planner) (cmd Command, err error) {
		if err = p.ready(); err != nil {
			return nil, err
		}
		planned, err = p.createTopic(s)
		return planned, err
	})
	if err != nil {
		return nil, err
	}
	if validateOnly {
		return &Topic{ID: planned.ID, Name: planned.Name, Internal: planned.Internal, CreatedMs: planned.CreatedMs,
			Configs: planned.Configs, Partitions: unassigned(planned.Assignment)}, nil
	}
	return result.(*Topic), nil
}

// ready refuses topics in a cluster without identity, or in the middle of a
// restore.
func (p planner) ready() error {
	if p.v.identity.ClusterID == [16]byte{} || p.v.restoring {
		return ErrNotReady
	}
	return nil
}

func unassigned(assignment [][]int32) []Partition {
	out := make([]Partition, len(assignment))
	for i, nodes := range assignment {
		out[i] = Partition{Leader: NoLeader, LeaderEpoch: -1}
		for _, n := range nodes {
			out[i].Replicas = append(out[i].Replicas, Replica{Node: n})
		}
	}
	return out
}

// DeleteTopic removes a topic. Its files go as brokers see the view, its
// objects and table as its Deletion in the view says; ForgetDeletions ends it.
func (c *Controller) DeleteTopic(ctx context.Context, id record.TopicID) error {
	_, err := c.change(ctx, false, func(p planner) (Command, error) { return asCommand(p.deleteTopic(id)) })
	return err
}

// CreatePartitions grows a topic to count partitions; assignment is for the
// new ones only, or nil. With validateOnly the topic is as it was.
func (c *Controller) CreatePartitions(ctx context.Context, id record.TopicID, count int32, assignment [][]int32, validateOnly bool) (*Topic, error) {
	result, err := c.change(ctx, validateOnly, func(p planner) (Command, error) {
		return asCommand(p.createPartitions(id, count, assignment))
	})
	if err != nil {
		return nil, err
	}
	if validateOnly {
		return c.View().Topic(id), nil
	}
	return result.(*Topic), nil
}

// AlterTopicConfigs applies ops to a topic's own properties, all or none.
func (c *Controller) AlterTopicConfigs(ctx context.Context, id record.TopicID, ops []ConfigOp, validateOnly bool) error {
	_, err := c.change(ctx, validateOnly, func(p planner) (Command, error) {
		return asCommand(p.setTopicConfigs(id, func(own map[string]string) (map[string]string, error) { return p.topicOps(own, ops) }))
	})
	return err
}

// ReplaceTopicConfigs makes props the whole of a topic's own properties.
func (c *Controller) ReplaceTopicConfigs(ctx context.Context, id record.TopicID, props map[string]string, validateOnly bool) error {
	_, err := c.change(ctx, validateOnly, func(p planner) (Command, error) {
		return asCommand(p.setTopicConfigs(id, func(map[string]string) (map[string]string, error) { return props, nil }))
	})
	return err
}

// AlterBrokerConfigs applies ops to a broker's dynamic properties, or to those
// of all with ClusterDefault.
func (c *Controller) AlterBrokerConfigs(ctx context.Context, node int32, ops []ConfigOp, validateOnly bool) error {
	_, err := c.change(ctx, validateOnly, func(p planner) (Command, error) {
		return asCommand(p.setBrokerConfigs(node, func(own map[string]string) (map[string]string, error) { return brokerOps(own, ops) }))
	})
	return err
}

// ReplaceBrokerConfigs makes props the whole of a broker's dynamic properties.
func (c *Controller) ReplaceBrokerConfigs(ctx context.Context, node int32, props map[string]string, validateOnly bool) error {
	_, err := c.change(ctx, validateOnly, func(p planner) (Command, error) {
		return asCommand(p.setBrokerConfigs(node, func(map[string]string) (map[string]string, error) {
			return topicconfig.Merge(nil, props), nil
		}))
	})
	return err
}

// asCommand keeps a nil pointer from becoming a Command that is not nil.
func asCommand[T Command](cmd T, err error) (Command, error) {
	if err != nil {
		return nil, err
	}
	return cmd, nil
}

// ForgetDeletions ends deletions whose files and objects are collected.
func (c *Controller) ForgetDeletions(ctx context.Context, topics []record.TopicID) error {
	_, err := c.do(ctx, &ForgetDeletions{Topics: topics})
	return err
}

// ForgetKeptTable drops the note of a table that outlived its topic.
func (c *Controller) ForgetKeptTable(ctx context.Context, topic record.TopicID) error {
	_, err := c.do(ctx, &ForgetKeptTable{Topic: topic})
	return err
}

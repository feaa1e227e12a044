package kafka

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"tidewater/broker/cluster"
	"tidewater/internal/logio"
	"tidewater/internal/record"
	"tidewater/internal/topicconfig"
)

// fakeCluster is a controller, its view, and the logs of one broker, node 1.
type fakeCluster struct {
	mu        sync.Mutex
	listener  cluster.Listener
	topics    map[record.TopicID]*cluster.Topic
	logs      map[record.PartitionID]*fakeLog
	configs   map[int32]map[string]string
	nextTopic uint64
	nextPID   int64
	lookupErr error
	createErr error
	others    []*cluster.Broker // beside node 1
	led       leading           // what this broker's replicas know of their leader
	elected   leading           // whom they hear of when asked the fourth time
	lookups   int
}

func newFakeCluster() *fakeCluster {
	return &fakeCluster{topics: map[record.TopicID]*cluster.Topic{}, logs: map[record.PartitionID]*fakeLog{},
		configs: map[int32]map[string]string{}, nextPID: 4000, led: leading{-1, -1}}
}

func (c *fakeCluster) Identity() cluster.Identity {
	return cluster.Identity{ClusterID: [16]byte{1, 2, 3}, Incarnation: 1}
}

func (c *fakeCluster) Topic(id record.TopicID) *cluster.Topic {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.topics[id]
}

func (c *fakeCluster) TopicByName(name string) *cluster.Topic {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.named(name)
}

func (c *fakeCluster) named(name string) *cluster.Topic {
	for _, t := range c.topics {
		if t.Name == name {
			return t
		}
	}
	return nil
}

func (c *fakeCluster) Topics() []*cluster.Topic {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Values(c.topics), func(a, b *cluster.Topic) int { return strings.Compare(a.Name, b.Name) })
}

func (c *fakeCluster) Brokers() []*cluster.Broker {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*cluster.Broker{{ID: 1, Rack: "a", Listeners: []cluster.Listener{c.listener}}}, c.others...)
}

func (c *fakeCluster) BrokerConfigs(node int32) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.configs[node]
}

func (c *fakeCluster) CreateTopic(_ context.Context, s cluster.TopicSpec, validateOnly bool) (*cluster.Topic, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.createErr != nil {
		return nil, c.createErr
	}
	if c.named(s.Name) != nil {
		return nil, fmt.Errorf("%w: %s", cluster.ErrTopicExists, s.Name)
	}
	if s.ReplicationFactor > 1 {
		return nil, fmt.Errorf("%w: %d replicas, 1 broker", cluster.ErrInvalidReplicationFactor, s.ReplicationFactor)
	}
	if s.Partitions == 0 && s.Assignment == nil || s.Partitions < -1 || s.Partitions > 1000 {
		return nil, fmt.Errorf("%w: %d", cluster.ErrInvalidPartitions, s.Partitions)
	}
	props, faults := topicconfig.Normalize(s.Configs)
	if _, more := topicconfig.Parse(s.Configs); len(faults)+len(more) > 0 {
		return nil, &cluster.ConfigError{Faults: append(faults, more...)}
	}
	n := max(int(s.Partitions), len(s.Assignment), 1)
	c.nextTopic++
	t := &cluster.Topic{Name: s.Name, Configs: props, Internal: cluster.InternalTopic(s.Name)}
	binary.BigEndian.PutUint64(t.ID[:], c.nextTopic)
	c.grow(t, n, validateOnly)
	if !validateOnly {
		c.topics[t.ID] = t
	}
	return t, nil
}

func (c *fakeCluster) grow(t *cluster.Topic, n int, validateOnly bool) {
	for i := len(t.Partitions); i < n; i++ {
		t.Partitions = append(t.Partitions, cluster.Partition{Replicas: []cluster.Replica{{Node: 1, ID: 1}}, Leader: 1, LeaderEpoch: 7})
		if !validateOnly {
			c.logs[record.PartitionID{Topic: t.ID, Partition: int32(i)}] = newFakeLog()
		}
	}
}

func (c *fakeCluster) DeleteTopic(_ context.Context, id record.TopicID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.topics[id] == nil {
		return cluster.ErrUnknownTopic
	}
	delete(c.topics, id)
	return nil
}

func (c *fakeCluster) CreatePartitions(_ context.Context, id record.TopicID, count int32, _ [][]int32, validateOnly bool) (*cluster.Topic, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.topics[id]
	if int(count) <= len(old.Partitions) || count > 1000 {
		return nil, fmt.Errorf("%w: topic has %d partitions, %d are not more", cluster.ErrInvalidPartitions, len(old.Partitions), count)
	}
	t := *old
	t.Partitions = slices.Clone(old.Partitions)
	c.grow(&t, int(count), validateOnly)
	if !validateOnly {
		c.topics[id] = &t
	}
	return &t, nil
}

func (c *fakeCluster) AllocateProducerIDs(_ context.Context, n int64) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.nextPID
	c.nextPID += n
	return first, nil
}

func (c *fakeCluster) AlterTopicConfigs(ctx context.Context, id record.TopicID, ops []cluster.ConfigOp, validateOnly bool) error {
	return c.ReplaceTopicConfigs(ctx, id, applied(c.Topic(id).Configs, ops), validateOnly)
}

func applied(old map[string]string, ops []cluster.ConfigOp) map[string]string {
	props := map[string]string{}
	maps.Copy(props, old)
	for _, op := range ops {
		if op.Kind == cluster.ConfigDelete {
			delete(props, op.Name)
		} else {
			props[op.Name] = op.Value
		}
	}
	return props
}

func (c *fakeCluster) ReplaceTopicConfigs(_ context.Context, id record.TopicID, props map[string]string, validateOnly bool) error {
	if _, faults := topicconfig.Parse(props); len(faults) > 0 {
		return &cluster.ConfigError{Faults: faults}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !validateOnly {
		t := *c.topics[id]
		t.Configs = props
		c.topics[id] = &t
	}
	return nil
}

func (c *fakeCluster) AlterBrokerConfigs(ctx context.Context, node int32, ops []cluster.ConfigOp, validateOnly bool) error {
	return c.ReplaceBrokerConfigs(ctx, node, applied(c.BrokerConfigs(node), ops), validateOnly)
}

func (c *fakeCluster) ReplaceBrokerConfigs(_ context.Context, node int32, props map[string]string, validateOnly bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !validateOnly {
		c.configs[node] = props
	}
	return nil
}

// Partition is the broker's look-up.
func (c *fakeCluster) Partition(id record.PartitionID) (Partition, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lookupErr != nil {
		return nil, c.lookupErr
	}
	l := c.logs[id]
	if l == nil {
		return nil, logio.ErrUnknownPartition
	}
	return l, nil
}

// AlterReassignments notes where a partition goes.
func (c *fakeCluster) AlterReassignments(_ context.Context, rs []cluster.Reassignment) ([]error, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	errs := make([]error, len(rs))
	for i, r := range rs {
		p := &c.topics[r.Partition.Topic].Partitions[r.Partition.Partition]
		if r.Target == nil {
			errs[i] = cluster.ErrNotMoving
			continue
		}
		p.Move = &cluster.Move{Adding: []uint64{99}}
		p.Replicas = append(p.Replicas, cluster.Replica{Node: r.Target[0], ID: 99})
	}
	return errs, nil
}

// ElectLeaders finds the preferred leaders leading.
func (c *fakeCluster) ElectLeaders(_ context.Context, ids []record.PartitionID) ([]record.PartitionID, []error) {
	errs := make([]error, len(ids))
	for i := range errs {
		errs[i] = cluster.ErrElectionNotNeeded
	}
	return ids, errs
}

// UnregisterBroker knows one broker.
func (c *fakeCluster) UnregisterBroker(_ context.Context, node int32) error {
	if node != 1 {
		return cluster.ErrUnknownBroker
	}
	return nil
}

// FeatureLevel is 1, Applied 7.
func (c *fakeCluster) FeatureLevel() uint32 { return 1 }

func (c *fakeCluster) Applied() record.Index { return 7 }

// SetFeatureLevel finds every broker up to level 2.
func (c *fakeCluster) SetFeatureLevel(_ context.Context, level uint32, _ bool) error {
	if level < 1 || level > 2 {
		return cluster.ErrFeatureLevel
	}
	return nil
}

// InStep takes every replica as keeping up.
func (c *fakeCluster) InStep(record.PartitionID, int32) bool { return true }

// Leader is what a broker's replica knows.
func (c *fakeCluster) Leader(record.PartitionID) (int32, record.LeaderEpoch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lookups++; c.elected.epoch > 0 && c.lookups > 3 {
		c.led = c.elected
	}
	return c.led.node, c.led.epoch
}

// log finds the fake log of a topic's partition.
func (c *fakeCluster) log(topic string, partition int32) *fakeLog {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.logs[record.PartitionID{Topic: c.named(topic).ID, Partition: partition}]
}

// Quorum has broker 2 behind and broker 3 without a vote.
func (c *fakeCluster) Quorum(context.Context) (cluster.Quorum, error) {
	return cluster.Quorum{Leader: 1, Term: 4, Committed: 20,
		Voters:    []cluster.QuorumReplica{{Node: 1, Match: 21, HeardMs: 50, CaughtUpMs: 50}, {Node: 2, Match: 9, HeardMs: 40, CaughtUpMs: -1}},
		Observers: []cluster.QuorumReplica{{Node: 3, Match: 20, HeardMs: 50, CaughtUpMs: 49}}}, nil
}

package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
	"tidewater/broker/group"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// View is the cluster at one instant: *cluster.View. What it hands out is
// shared and only read.
type View interface {
	Identity() cluster.Identity
	TopicByName(name string) *cluster.Topic // nil if there is none
	Topic(id record.TopicID) *cluster.Topic // nil if there is none
	Topics() []*cluster.Topic               // by name
	Brokers() []*cluster.Broker             // by id
	BrokerConfigs(node int32) map[string]string
	FeatureLevel() uint32  // 0 while the cluster is being founded
	Applied() record.Index // it rises with each change
}

// TopicAdmin changes topics: *cluster.Controller. A method returns when its
// change is committed and applied here.
type TopicAdmin interface {
	CreateTopic(ctx context.Context, s cluster.TopicSpec, validateOnly bool) (*cluster.Topic, error)
	DeleteTopic(ctx context.Context, id record.TopicID) error
	CreatePartitions(ctx context.Context, id record.TopicID, count int32, assignment [][]int32, validateOnly bool) (*cluster.Topic, error)
	AllocateProducerIDs(ctx context.Context, n int64) (first int64, err error)
}

// ConfigAdmin changes the properties of topics and brokers: *cluster.Controller.
type ConfigAdmin interface {
	AlterTopicConfigs(ctx context.Context, id record.TopicID, ops []cluster.ConfigOp, validateOnly bool) error
	ReplaceTopicConfigs(ctx context.Context, id record.TopicID, props map[string]string, validateOnly bool) error
	AlterBrokerConfigs(ctx context.Context, node int32, ops []cluster.ConfigOp, validateOnly bool) error
	ReplaceBrokerConfigs(ctx context.Context, node int32, props map[string]string, validateOnly bool) error
}

// Mover changes where replicas and leaders are: *cluster.Controller.
type Mover interface {
	// AlterReassignments begins and takes back moves, each by itself.
	AlterReassignments(ctx context.Context, rs []cluster.Reassignment) ([]error, error)
	// ElectLeaders hands the lead to the preferred replicas, of all partitions
	// with nil; the errors are those of the partitions returned.
	ElectLeaders(ctx context.Context, ids []record.PartitionID) ([]record.PartitionID, []error)
	UnregisterBroker(ctx context.Context, node int32) error
	// Quorum is the controller's own group, as its leader sees it.
	Quorum(ctx context.Context) (cluster.Quorum, error)
	// SetFeatureLevel raises what the cluster's brokers rely on of each other.
	SetFeatureLevel(ctx context.Context, level uint32, validateOnly bool) error
}

// Cluster is the controller's client side.
type Cluster interface {
	TopicAdmin
	ConfigAdmin
	Mover
}

// Groups answers the group requests (kmsg types, version set): *group.Coordinator.
type Groups interface {
	Do(ctx context.Context, cl group.Client, req kmsg.Request) (kmsg.Response, error)
}

// Partitions finds the logs of this broker.
type Partitions interface {
	// Partition gives logio.ErrUnknownPartition or logio.ErrNotLeader if the
	// log cannot be used here.
	Partition(id record.PartitionID) (Partition, error)
	// Leader is who leads, as the replica on this broker knows it; node -1
	// when there is none or it does not know.
	Leader(id record.PartitionID) (node int32, epoch record.LeaderEpoch)
	// InStep says whether the replica on another broker keeps up with this
	// one, which leads, as far as it knows.
	InStep(id record.PartitionID, node int32) bool
}

var (
	_ View    = (*cluster.View)(nil)
	_ Cluster = (*cluster.Controller)(nil)
	_ Groups  = (*group.Coordinator)(nil)
)

// clusterCode is the one table from the controller's errors to Kafka's.
func clusterCode(err error) *kerr.Error {
	for _, line := range [...]struct {
		err  error
		code *kerr.Error
	}{
		{cluster.ErrTopicExists, kerr.TopicAlreadyExists},
		{cluster.ErrUnknownTopic, kerr.UnknownTopicOrPartition},
		{cluster.ErrInvalidTopicName, kerr.InvalidTopicException},
		{cluster.ErrInvalidPartitions, kerr.InvalidPartitions},
		{cluster.ErrInvalidReplicationFactor, kerr.InvalidReplicationFactor},
		{cluster.ErrInvalidAssignment, kerr.InvalidReplicaAssignment},
		{cluster.ErrInvalidRequest, kerr.InvalidRequest},
		{cluster.ErrInvalidConfig, kerr.InvalidConfig},
		{cluster.ErrPolicy, kerr.PolicyViolation},
		{cluster.ErrUnknownBroker, kerr.InvalidRequest},
		{cluster.ErrMoving, kerr.ReassignmentInProgress},
		{cluster.ErrNotMoving, kerr.NoReassignmentInProgress},
		{cluster.ErrElectionNotNeeded, kerr.ElectionNotNeeded},
		{cluster.ErrPreferredNotAvailable, kerr.PreferredLeaderNotAvailable},
		{cluster.ErrFeatureLevel, kerr.InvalidUpdateVersion},
		{cluster.ErrNotController, kerr.NotController},
		// The client looks again; a repeated create then finds the topic.
		{cluster.ErrUnknownOutcome, kerr.RequestTimedOut},
		{cluster.ErrNotReady, kerr.NotController},
		{cluster.ErrClosed, kerr.NotController},
		{cluster.ErrConflict, kerr.RequestTimedOut},
	} {
		if errors.Is(err, line.err) {
			return line.code
		}
	}
	return nil
}

// topicRef is what a data request needs to know of a topic.
type topicRef struct {
	id         record.TopicID
	name       string
	partitions []cluster.Partition
	internal   bool
}

// resolve finds a topic by name, or by id for versions that carry ids.
func (s *Server) resolve(name []byte, id record.TopicID, byID bool) (topicRef, error) {
	view := s.cfg.View()
	var t *cluster.Topic
	if byID {
		t = view.Topic(id)
	} else {
		t = view.TopicByName(string(name))
	}
	switch {
	case t == nil && byID:
		return topicRef{}, refuse(kerr.UnknownTopicID, fmt.Sprintf("no topic has the id %s", id))
	case t == nil:
		return topicRef{}, refuse(kerr.UnknownTopicOrPartition, fmt.Sprintf("unknown topic %q", name))
	}
	return topicRef{t.ID, t.Name, t.Partitions, t.Internal}, nil
}

// partition finds the log of one of a topic's partitions.
func (s *Server) partition(t topicRef, partition int32) (Partition, error) {
	if partition < 0 || int(partition) >= len(t.partitions) {
		return nil, fmt.Errorf("%w: topic %s has %d partitions, there is no %d", logio.ErrUnknownPartition, t.name, len(t.partitions), partition)
	}
	return s.cfg.Partitions.Partition(record.PartitionID{Topic: t.id, Partition: partition})
}

// find is resolve and partition for requests that name topics.
func (s *Server) find(topic string, partition int32) (Partition, error) {
	t, err := s.resolve([]byte(topic), record.TopicID{}, false)
	if err != nil {
		return nil, err
	}
	return s.partition(t, partition)
}

// clientListener is where clients reach a broker.
func (s *Server) clientListener(b *cluster.Broker) cluster.Listener {
	l, _ := b.Listener(s.cfg.ListenerName)
	return l
}

// clusterID is in Kafka's form: 22 characters of base64.
func (s *Server) clusterID() string {
	return record.TopicID(s.cfg.View().Identity().ClusterID).String()
}

// controllerID is the node to send administration to. When the leader is not
// known the answering broker names itself: its NOT_CONTROLLER makes the client
// ask again.
func (s *Server) controllerID() int32 {
	if s.cfg.ControllerID != nil {
		if id := s.cfg.ControllerID(); id >= 0 {
			return id
		}
	}
	return s.cfg.NodeID
}

package cluster

import (
	"context"

	"tidewater/internal/record"
)

// TopicSpec is a topic to create.
type TopicSpec struct {
	Name string
	// ID is given by a restore; zero lets the controller choose.
	ID record.TopicID
	// Partitions and ReplicationFactor may be -1 for the cluster's default;
	// they are -1 or left 0 when Assignment is given.
	Partitions        int32
	ReplicationFactor int16
	// Assignment lists each partition's nodes, most preferred first.
	Assignment [][]int32
	Configs    map[string]string
}

// ConfigOpKind is what a ConfigOp does, numbered as in IncrementalAlterConfigs.
type ConfigOpKind int8

// The operations of IncrementalAlterConfigs.
const (
	ConfigSet      ConfigOpKind = 0
	ConfigDelete   ConfigOpKind = 1
	ConfigAppend   ConfigOpKind = 2
	ConfigSubtract ConfigOpKind = 3
)

// ConfigOp changes one property.
type ConfigOp struct {
	Kind  ConfigOpKind
	Name  string
	Value string
}

// LeaderReport says that a node leads a partition in an epoch.
type LeaderReport struct {
	Partition record.PartitionID
	Leader    int32
	Epoch     record.LeaderEpoch
}

// Registration is how a broker announces itself.
type Registration struct {
	ID        int32
	Boot      [16]byte
	Rack      string
	Listeners []Listener
}

// Controller is one broker's replica of the controller.
type Controller struct{}

// View is the newest applied state; never nil.
func (c *Controller) View() *View { panic("not built") }

// Subscribe calls fn after each change.
func (c *Controller) Subscribe(fn func(old, now *View)) (cancel func()) { panic("not built") }

// WaitView returns the first view that satisfies ok.
func (c *Controller) WaitView(ctx context.Context, ok func(*View) bool) (*View, error) {
	panic("not built")
}

// CreateTopic makes a topic; with validateOnly it only says whether it could.
func (c *Controller) CreateTopic(ctx context.Context, s TopicSpec, validateOnly bool) (*Topic, error) {
	panic("not built")
}

// DeleteTopic removes a topic.
func (c *Controller) DeleteTopic(ctx context.Context, id record.TopicID) error { panic("not built") }

// CreatePartitions grows a topic to count partitions.
func (c *Controller) CreatePartitions(ctx context.Context, id record.TopicID, count int32, assignment [][]int32, validateOnly bool) (*Topic, error) {
	panic("not built")
}

// AlterTopicConfigs applies ops in order.
func (c *Controller) AlterTopicConfigs(ctx context.Context, id record.TopicID, ops []ConfigOp, validateOnly bool) error {
	panic("not built")
}

// ReplaceTopicConfigs makes props the whole of a topic's properties.
func (c *Controller) ReplaceTopicConfigs(ctx context.Context, id record.TopicID, props map[string]string, validateOnly bool) error {
	panic("not built")
}

// AlterBrokerConfigs applies ops to a broker's dynamic properties, or to all with ClusterDefault.
func (c *Controller) AlterBrokerConfigs(ctx context.Context, node int32, ops []ConfigOp, validateOnly bool) error {
	panic("not built")
}

// ReplaceBrokerConfigs makes props the whole of a broker's dynamic properties.
func (c *Controller) ReplaceBrokerConfigs(ctx context.Context, node int32, props map[string]string, validateOnly bool) error {
	panic("not built")
}

// AllocateProducerIDs hands out n producer ids, from first on, never seen before.
func (c *Controller) AllocateProducerIDs(ctx context.Context, n int64) (first int64, err error) {
	panic("not built")
}

// RegisterBroker announces a broker or changes what is known of it.
func (c *Controller) RegisterBroker(ctx context.Context, r Registration) (*Broker, error) {
	panic("not built")
}

// ReportLeaders records who leads; older epochs are left out.
func (c *Controller) ReportLeaders(ctx context.Context, reports []LeaderReport) error {
	panic("not built")
}

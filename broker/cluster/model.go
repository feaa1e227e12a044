package cluster

import (
	"tidewater/internal/record"
)

// GroupID is the controller's Raft group: no topic, partition 0.
func GroupID() record.PartitionID { return record.PartitionID{} }

// Names of the internal topics. They are in Kafka's own formats.
const (
	ConsumerOffsetsTopic  = "__consumer_offsets"
	TransactionStateTopic = "__transaction_state"
)

// InternalTopic reports whether a topic of this name belongs to the broker
// itself: clients cannot create it or produce to it.
func InternalTopic(name string) bool {
	return name == ConsumerOffsetsTopic || name == TransactionStateTopic
}

// NoLeader is the leader of a partition that has none.
const NoLeader int32 = -1

// Broker is one member of the cluster. Values in a View are shared: read only.
type Broker struct {
	ID int32
	// Boot is chosen by the broker at each start; it tells a restart from a
	// repeated registration.
	Boot      [16]byte
	Rack      string // empty for none
	Listeners []Listener
	// BootCount is the number of different boots seen; tail series are named
	// node-bootcount.
	BootCount uint64

	// Disk is the id of the broker's data directory, zero if it never said.
	Disk [16]byte
	// RPCAddr is where other brokers reach it, empty in a cluster of one.
	RPCAddr string
	// Session counts the starts of the data directory; the broker's
	// connections carry it.
	Session uint64
	// Controller is its replica id in the controller's group.
	Controller uint64
	// ReplicaFloor: replicas of partitions with lower ids were on a disk that
	// this broker has no more. They are to be replaced and never opened.
	ReplicaFloor uint64
	// FeatureMin and FeatureMax are the feature levels its build can work at.
	FeatureMin, FeatureMax uint32
	// Build is the version it calls itself, empty below feature level 2.
	Build string

	// Offline: the controller's leader has not heard of it for a while, since
	// OfflineSinceMs (Unix milliseconds). It gets no new replicas.
	Offline        bool
	OfflineSinceMs int64
	// Maintenance: it leads nothing while another can, until that is taken
	// back. Draining: its replicas move away, so that it can be unregistered.
	Maintenance bool
	Draining    bool
}

// Placeable reports whether new replicas may be put on the broker.
func (b *Broker) Placeable() bool { return !b.Offline && !b.Draining }

// Listener returns the broker's listener of the given name.
func (b *Broker) Listener(name string) (Listener, bool) {
	for _, l := range b.Listeners {
		if l.Name == name {
			return l, true
		}
	}
	return Listener{}, false
}

// Listener is where clients or brokers reach a broker.
type Listener struct {
	Name string // as in the broker's configuration: kafka, internal …
	Host string
	Port int32
}

// Topic is one topic. Values in a View are shared: read only.
type Topic struct {
	ID         record.TopicID
	Name       string
	Internal   bool
	CreatedMs  int64 // milliseconds since the Unix epoch
	Partitions []Partition
	// Configs are the topic's own properties under canonical names; what is
	// not here has the broker's default.
	Configs map[string]string
	// ConfigVersion rises by one with each change of Configs.
	ConfigVersion uint64
}

// ReplicationFactor is the number of replicas of the topic's first partition,
// or that it will have when its move is done.
func (t *Topic) ReplicationFactor() int {
	if len(t.Partitions) == 0 {
		return 0
	}
	return len(t.Partitions[0].Target())
}

// Partition is one partition of a Topic; its number is its place.
type Partition struct {
	// Replicas are all there are, most preferred first. During a move they are
	// the target's, then those that leave.
	Replicas []Replica
	// Move is the move under way, nil for none.
	Move *Move
	// Moved: a move began once, so the group has begun, and replicas may have
	// left it. See Joining.
	Moved bool
	// Leader is the node that last reported to lead, NoLeader before the first
	// report; LeaderEpoch is its epoch, -1 before. The epoch never goes back.
	Leader      int32
	LeaderEpoch record.LeaderEpoch
}

// Replica is one replica of a partition: the Raft id on a node. The id is
// never used again, for no partition.
type Replica struct {
	Node int32
	ID   uint64
}

// Deletion is a deleted topic whose files and objects are still to be
// collected.
type Deletion struct {
	Topic     record.TopicID
	Name      string
	DeletedMs int64
	// Partitions is how many the topic had.
	Partitions int32
	// KeepObjects: the bucket's objects stay (tidewater.remote.delete=false).
	KeepObjects bool
	// KeepTable: the table stays, and is listed among the KeptTables.
	KeepTable bool
	// Tiered and Namespace say what there is to collect; Namespace is empty
	// for a topic without a table.
	Tiered    bool
	Namespace string
}

// KeptTable is a table whose topic was deleted. It is listed so that a new
// topic of the same name does not write into it unknowingly.
type KeptTable struct {
	Topic     record.TopicID
	Name      string // the topic's name
	Namespace string
	DeletedMs int64
}

// Identity is which cluster this is and which of its lives.
type Identity struct {
	ClusterID   [16]byte
	Incarnation uint64
}

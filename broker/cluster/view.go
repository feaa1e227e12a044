package cluster

import (
	"maps"
	"slices"
	"strings"

	"tidewater/internal/record"
)

// View is what the cluster is after one applied command. It never changes;
// everything it hands out is shared and must not be written.
type View struct {
	identity     Identity
	applied      record.Index
	term         uint64 // of the entry at applied
	featureLevel uint32
	restoring    bool

	brokers       map[int32]*Broker
	topics        map[record.TopicID]*Topic
	names         map[string]*Topic
	deletions     map[record.TopicID]*Deletion
	keptTables    map[record.TopicID]*KeptTable
	brokerConfigs map[int32]*brokerConfig
	sessions      map[int32]*session

	nextProducerID int64
	nextReplicaID  uint64
	// loads, partitions and moves are counted from topics, not stored.
	loads      map[int32]Load
	partitions int
	moves      int
	// nextControllerID is the next replica id of the controller's own group.
	nextControllerID uint64
}

// Identity is the cluster's; its ClusterID is zero before Bootstrap.
func (v *View) Identity() Identity { return v.identity }

// Applied is the Index of the last command in the view.
func (v *View) Applied() record.Index { return v.applied }

// FeatureLevel is the level every broker may rely on.
func (v *View) FeatureLevel() uint32 { return v.featureLevel }

// Restoring reports that a restore began and did not end: it is to be run
// again, and no client is to be served before.
func (v *View) Restoring() bool { return v.restoring }

// NextProducerID is the first producer id not handed out yet.
func (v *View) NextProducerID() int64 { return v.nextProducerID }

// Topic finds a topic by id, nil if there is none.
func (v *View) Topic(id record.TopicID) *Topic { return v.topics[id] }

// TopicByName finds a topic by name, nil if there is none.
func (v *View) TopicByName(name string) *Topic { return v.names[name] }

// Topics lists all topics, sorted by name.
func (v *View) Topics() []*Topic {
	return slices.SortedFunc(maps.Values(v.topics), func(a, b *Topic) int { return strings.Compare(a.Name, b.Name) })
}

// TopicCount is the number of topics.
func (v *View) TopicCount() int { return len(v.topics) }

// Broker finds a broker, nil if there is none.
func (v *View) Broker(id int32) *Broker { return v.brokers[id] }

// Brokers lists all brokers by id.
func (v *View) Brokers() []*Broker {
	return slices.SortedFunc(maps.Values(v.brokers), func(a, b *Broker) int { return int(a.ID) - int(b.ID) })
}

// Deletions lists the topics still to be collected, oldest first.
func (v *View) Deletions() []*Deletion {
	return slices.SortedFunc(maps.Values(v.deletions), func(a, b *Deletion) int {
		if a.DeletedMs != b.DeletedMs {
			return int(min(max(a.DeletedMs-b.DeletedMs, -1), 1))
		}
		return record.PartitionID{Topic: a.Topic}.Compare(record.PartitionID{Topic: b.Topic})
	})
}

// KeptTables lists the tables whose topic was deleted, by topic id.
func (v *View) KeptTables() []*KeptTable {
	return slices.SortedFunc(maps.Values(v.keptTables), func(a, b *KeptTable) int {
		return record.PartitionID{Topic: a.Topic}.Compare(record.PartitionID{Topic: b.Topic})
	})
}

// ClusterDefault names the broker configs that hold for every broker.
const ClusterDefault int32 = -1

// BrokerConfigs are the dynamic properties set for a broker, or for all with
// ClusterDefault; nil if none are.
func (v *View) BrokerConfigs(node int32) map[string]string {
	if c := v.brokerConfigs[node]; c != nil {
		return c.props
	}
	return nil
}

// PartitionOf finds a partition by its id, nil if there is none.
func (v *View) PartitionOf(id record.PartitionID) *Partition {
	t := v.topics[id.Topic]
	if t == nil || id.Partition < 0 || int(id.Partition) >= len(t.Partitions) {
		return nil
	}
	return &t.Partitions[id.Partition]
}

// Moving lists the partitions that are being moved, by topic name and number.
func (v *View) Moving() []record.PartitionID {
	if v.moves == 0 {
		return nil
	}
	var out []record.PartitionID
	for _, t := range v.Topics() {
		for i := range t.Partitions {
			if t.Partitions[i].Move != nil {
				out = append(out, record.PartitionID{Topic: t.ID, Partition: int32(i)})
			}
		}
	}
	return out
}

type brokerConfig struct {
	props   map[string]string
	version uint64
}

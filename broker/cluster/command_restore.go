package cluster

import (
	"encoding/binary"
	"fmt"
)

// Restore brings a piece of an older metadata snapshot into a cluster that was
// bootstrapped with Restoring. What is there already is left as it is, so a
// restore that was cut off is simply run again.
type Restore struct {
	// Topics keep id, name, properties, time of creation and leader epochs;
	// their replicas name the new nodes, with ids still 0.
	Topics         []*Topic
	Deletions      []*Deletion
	KeptTables     []*KeptTable
	ClusterConfigs map[string]string // for ClusterDefault; empty leaves them
	// The counters are raised to at least these.
	ProducerIDFloor int64
	ReplicaIDFloor  uint64
	// Final: the restore is complete.
	Final bool
}

func (r *Restore) kind() uint64 { return kindRestore }

func (r *Restore) appendTo(p []byte) []byte {
	p = appendList(p, r.Topics, appendTopic)
	p = appendList(p, r.Deletions, appendDeletion)
	p = appendList(p, r.KeptTables, appendKeptTable)
	p = appendProps(p, r.ClusterConfigs)
	p = binary.AppendVarint(p, r.ProducerIDFloor)
	p = binary.AppendUvarint(p, r.ReplicaIDFloor)
	return appendBool(p, r.Final)
}

func (r *Restore) decode(c *cursor) {
	r.Topics = list(c, versioned(decodeTopic))
	r.Deletions = list(c, versioned(decodeDeletion))
	r.KeptTables = list(c, versioned(decodeKeptTable))
	r.ClusterConfigs = c.props()
	r.ProducerIDFloor, r.ReplicaIDFloor, r.Final = c.varint(), c.uvarint(), c.bool()
}

func versioned[T any](decode func(*cursor) T) func(*cursor) T {
	return func(c *cursor) T {
		outer := c.version
		defer func() { c.version = outer }()
		c.entity()
		return decode(c)
	}
}

func (r *Restore) apply(s *State) (any, error) {
	if !s.v.restoring {
		return nil, fmt.Errorf("%w: the cluster is not being restored", ErrInvalidRequest)
	}
	s.v.nextProducerID = max(s.v.nextProducerID, r.ProducerIDFloor)
	s.v.nextReplicaID = max(s.v.nextReplicaID, r.ReplicaIDFloor)
	for _, t := range r.Topics {
		if s.nameFree(t.Name, t.ID) == nil {
			s.putTopic(t.ID, s.adopted(t))
		}
	}
	for _, d := range r.Deletions {
		if s.v.deletions[d.Topic] == nil && s.v.topics[d.Topic] == nil {
			s.putDeletion(d.Topic, d)
		}
	}
	for _, k := range r.KeptTables {
		if s.v.keptTables[k.Topic] == nil {
			s.putKeptTable(k.Topic, k)
		}
	}
	if len(r.ClusterConfigs) > 0 && s.v.brokerConfigs[ClusterDefault] == nil {
		s.putBrokerConfig(ClusterDefault, &brokerConfig{props: r.ClusterConfigs, version: 1})
	}
	if r.Final {
		s.v.restoring = false
	}
	return nil, nil
}

// adopted gives a topic of another life new replicas. Its leader epochs stay,
// so that clients never see one go back.
func (s *State) adopted(t *Topic) *Topic {
	n := *t
	n.Partitions = make([]Partition, len(t.Partitions))
	for i, p := range t.Partitions {
		n.Partitions[i] = s.assign([][]int32{p.Nodes()})[0]
		n.Partitions[i].LeaderEpoch = p.LeaderEpoch
	}
	return &n
}

package cluster

import (
	"encoding/binary"
	"fmt"

	"tidewater/internal/record"
)

// CreateTopic makes a topic; the result is the *Topic. The replicas get their
// Raft ids when it is applied.
type CreateTopic struct {
	ID         record.TopicID
	Name       string
	Internal   bool
	CreatedMs  int64
	Assignment [][]int32
	Configs    map[string]string
}

func (t *CreateTopic) kind() uint64 { return kindCreateTopic }

func (t *CreateTopic) appendTo(p []byte) []byte {
	p = append(p, t.ID[:]...)
	p = appendString(p, t.Name)
	p = appendBool(p, t.Internal)
	p = binary.AppendVarint(p, t.CreatedMs)
	p = appendList(p, t.Assignment, appendNodes)
	return appendProps(p, t.Configs)
}

func (t *CreateTopic) decode(c *cursor) {
	t.ID, t.Name, t.Internal, t.CreatedMs = c.id(), c.string(), c.bool(), c.varint()
	t.Assignment, t.Configs = list(c, decodeNodes), c.props()
}

func appendNodes(p []byte, nodes []int32) []byte {
	return appendList(p, nodes, func(p []byte, n int32) []byte { return binary.AppendVarint(p, int64(n)) })
}

func decodeNodes(c *cursor) []int32 { return list(c, (*cursor).int32) }

func (t *CreateTopic) apply(s *State) (any, error) {
	if err := s.nameFree(t.Name, t.ID); err != nil {
		return nil, err
	}
	if err := s.assignable(t.Assignment); err != nil {
		return nil, err
	}
	n := &Topic{ID: t.ID, Name: t.Name, Internal: t.Internal, CreatedMs: t.CreatedMs, Configs: t.Configs,
		Partitions: s.assign(t.Assignment)}
	s.putTopic(t.ID, n)
	return n, nil
}

// nameFree checks that a topic of this name and id can be made.
func (s *State) nameFree(name string, id record.TopicID) error {
	if s.v.names[name] != nil {
		return fmt.Errorf("%w: %s", ErrTopicExists, name)
	}
	if other, taken := s.plain[plainName(name)]; taken {
		return fmt.Errorf("%w: %s and the topic %s differ only in '.' and '_'", ErrInvalidTopicName, name, s.v.topics[other].Name)
	}
	if s.v.topics[id] != nil || s.v.deletions[id] != nil || id.IsZero() {
		return fmt.Errorf("%w: topic id %s is taken", ErrInvalidRequest, id)
	}
	return nil
}

func (s *State) assignable(assignment [][]int32) error {
	for i, nodes := range assignment {
		if len(nodes) == 0 {
			return fmt.Errorf("%w: partition %d has no replica", ErrInvalidAssignment, i)
		}
		for _, n := range nodes {
			if s.v.brokers[n] == nil {
				return fmt.Errorf("%w: partition %d: %w %d", ErrInvalidAssignment, i, ErrUnknownBroker, n)
			}
		}
	}
	return nil
}

// assign gives each replica its Raft id.
func (s *State) assign(assignment [][]int32) []Partition {
	out := make([]Partition, len(assignment))
	for i, nodes := range assignment {
		out[i] = Partition{Leader: NoLeader, LeaderEpoch: -1}
		for _, n := range nodes {
			out[i].Replicas = append(out[i].Replicas, Replica{Node: n, ID: s.v.nextReplicaID})
			s.v.nextReplicaID++
		}
	}
	return out
}

// DeleteTopic turns a topic into a Deletion, the result. The facts that a
// collector needs come with the command, from the topic's properties.
type DeleteTopic struct{ Deletion Deletion }

func (d *DeleteTopic) kind() uint64             { return kindDeleteTopic }
func (d *DeleteTopic) appendTo(p []byte) []byte { return appendDeletion(p, &d.Deletion) }

func (d *DeleteTopic) decode(c *cursor) {
	c.entity()
	d.Deletion = *decodeDeletion(c)
}

func (d *DeleteTopic) apply(s *State) (any, error) {
	t := s.v.topics[d.Deletion.Topic]
	if t == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknownTopic, d.Deletion.Topic)
	}
	gone := d.Deletion
	gone.Name, gone.Partitions = t.Name, int32(len(t.Partitions))
	s.putTopic(t.ID, nil)
	s.putDeletion(t.ID, &gone)
	if gone.KeepTable && gone.Namespace != "" {
		s.putKeptTable(t.ID, &KeptTable{Topic: t.ID, Name: t.Name, Namespace: gone.Namespace, DeletedMs: gone.DeletedMs})
	}
	return &gone, nil
}

// CreatePartitions adds partitions behind the From that there are; the result
// is the *Topic.
type CreatePartitions struct {
	Topic      record.TopicID
	From       int32
	Assignment [][]int32
}

func (n *CreatePartitions) kind() uint64 { return kindCreatePartitions }

func (n *CreatePartitions) appendTo(p []byte) []byte {
	p = append(p, n.Topic[:]...)
	p = binary.AppendVarint(p, int64(n.From))
	return appendList(p, n.Assignment, appendNodes)
}

func (n *CreatePartitions) decode(c *cursor) {
	n.Topic, n.From, n.Assignment = c.id(), c.int32(), list(c, decodeNodes)
}

func (n *CreatePartitions) apply(s *State) (any, error) {
	t := s.v.topics[n.Topic]
	if t == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknownTopic, n.Topic)
	}
	if int(n.From) != len(t.Partitions) {
		return nil, fmt.Errorf("%w: topic %s has %d partitions", ErrConflict, t.Name, len(t.Partitions))
	}
	if err := s.assignable(n.Assignment); err != nil {
		return nil, err
	}
	t = t.copied()
	t.Partitions = append(t.Partitions, s.assign(n.Assignment)...)
	s.putTopic(t.ID, t)
	return t, nil
}

// SetTopicConfigs replaces a topic's properties if they still have version
// Expected; the result is the *Topic.
type SetTopicConfigs struct {
	Topic    record.TopicID
	Expected uint64
	Props    map[string]string
}

func (k *SetTopicConfigs) kind() uint64 { return kindSetTopicConfigs }

func (k *SetTopicConfigs) appendTo(p []byte) []byte {
	p = append(p, k.Topic[:]...)
	p = binary.AppendUvarint(p, k.Expected)
	return appendProps(p, k.Props)
}

func (k *SetTopicConfigs) decode(c *cursor) {
	k.Topic, k.Expected, k.Props = c.id(), c.uvarint(), c.props()
}

func (k *SetTopicConfigs) apply(s *State) (any, error) {
	t := s.v.topics[k.Topic]
	if t == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknownTopic, k.Topic)
	}
	if t.ConfigVersion != k.Expected {
		return nil, fmt.Errorf("%w: properties of topic %s", ErrConflict, t.Name)
	}
	n := *t
	n.Configs, n.ConfigVersion = k.Props, t.ConfigVersion+1
	s.putTopic(n.ID, &n)
	return &n, nil
}

// ForgetDeletions removes deletions whose files and objects are collected.
type ForgetDeletions struct{ Topics []record.TopicID }

func (f *ForgetDeletions) kind() uint64 { return kindForgetDeletions }

func (f *ForgetDeletions) appendTo(p []byte) []byte {
	return appendList(p, f.Topics, func(p []byte, id record.TopicID) []byte { return append(p, id[:]...) })
}

func (f *ForgetDeletions) decode(c *cursor) {
	f.Topics = list(c, func(c *cursor) record.TopicID { return c.id() })
}

func (f *ForgetDeletions) apply(s *State) (any, error) {
	for _, id := range f.Topics {
		if s.v.deletions[id] != nil {
			s.putDeletion(id, nil)
		}
	}
	return nil, nil
}

// ForgetKeptTable removes the fact that a deleted topic's table was kept.
type ForgetKeptTable struct{ Topic record.TopicID }

func (f *ForgetKeptTable) kind() uint64             { return kindForgetKeptTable }
func (f *ForgetKeptTable) appendTo(p []byte) []byte { return append(p, f.Topic[:]...) }
func (f *ForgetKeptTable) decode(c *cursor)         { f.Topic = c.id() }

func (f *ForgetKeptTable) apply(s *State) (any, error) {
	if s.v.keptTables[f.Topic] == nil {
		return nil, fmt.Errorf("%w: no kept table of topic id %s", ErrUnknownTopic, f.Topic)
	}
	s.putKeptTable(f.Topic, nil)
	return nil, nil
}

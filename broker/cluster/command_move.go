package cluster

import (
	"encoding/binary"
	"fmt"
	"slices"

	"tidewater/internal/record"
)

// MoveOp begins or takes back the move of one partition.
type MoveOp struct {
	Partition record.PartitionID
	// Expected are the ids of the replicas that the move was planned for, in
	// their order.
	Expected []uint64
	// Target are the nodes that shall hold the partition, most preferred first;
	// nil takes back the move under way.
	Target []int32
}

// MovePartitions begins or takes back moves, each by itself; the result is an
// []error in the order of Ops.
type MovePartitions struct {
	NowMs int64 // milliseconds since the Unix epoch
	Ops   []MoveOp
}

func (r *MovePartitions) kind() uint64 { return kindMovePartitions }

func (r *MovePartitions) appendTo(p []byte) []byte {
	return appendList(binary.AppendVarint(p, r.NowMs), r.Ops, func(p []byte, o MoveOp) []byte {
		p = appendPartitionID(p, o.Partition)
		p = appendList(p, o.Expected, binary.AppendUvarint)
		return appendNodes(p, o.Target)
	})
}

func (r *MovePartitions) decode(c *cursor) {
	r.NowMs = c.varint()
	r.Ops = list(c, func(c *cursor) MoveOp {
		return MoveOp{Partition: decodePartitionID(c), Expected: list(c, (*cursor).uvarint), Target: decodeNodes(c)}
	})
}

func appendPartitionID(p []byte, id record.PartitionID) []byte {
	return binary.AppendVarint(append(p, id.Topic[:]...), int64(id.Partition))
}

func decodePartitionID(c *cursor) record.PartitionID {
	return record.PartitionID{Topic: c.id(), Partition: c.int32()}
}

func (r *MovePartitions) apply(s *State) (any, error) {
	errs := make([]error, len(r.Ops))
	for i := range r.Ops {
		o := &r.Ops[i]
		errs[i] = s.changePartition(o.Partition, func(p Partition) (Partition, error) {
			if !slices.Equal(idsOf(p.Replicas), o.Expected) {
				return p, fmt.Errorf("%w: replicas of partition %s", ErrConflict, o.Partition)
			}
			if o.Target == nil {
				return p.takenBack()
			}
			return s.moved(p, o.Target, r.NowMs)
		})
	}
	return errs, nil
}

// changePartition replaces one partition of a topic.
func (s *State) changePartition(id record.PartitionID, change func(Partition) (Partition, error)) error {
	p := s.v.PartitionOf(id)
	if p == nil {
		return fmt.Errorf("%w: partition %s", ErrUnknownTopic, id)
	}
	now, err := change(*p)
	if err != nil {
		return err
	}
	t := s.v.topics[id.Topic].copied()
	t.Partitions[id.Partition] = now
	s.putTopic(t.ID, t)
	return nil
}

// moved begins a move of p to the target nodes. A replica that is on one of
// them stays, unless its disk is gone; then the node gets another with a new
// id, since the old one may have promised what nobody remembers.
func (s *State) moved(p Partition, target []int32, nowMs int64) (Partition, error) {
	if p.Move != nil {
		return p, fmt.Errorf("%w: to nodes %v", ErrMoving, nodesOf(p.Target()))
	}
	if p.Leader == NoLeader {
		// A majority has to have begun the group: from now on replicas join it.
		return p, fmt.Errorf("%w: the partition has not had a leader yet", ErrNotReady)
	}
	if err := s.assignable([][]int32{target}); err != nil {
		return p, err
	}
	before := idsOf(p.Replicas)
	m := &Move{Before: before, StartedMs: nowMs}
	var replicas []Replica
	for i, n := range target {
		if slices.Contains(target[:i], n) {
			return p, fmt.Errorf("%w: broker %d is named twice", ErrInvalidAssignment, n)
		}
		r, ok := s.v.ReplicaOn(&p, n)
		if !ok {
			r = Replica{Node: n, ID: s.v.nextReplicaID}
			s.v.nextReplicaID++
			m.Adding = append(m.Adding, r.ID)
		}
		replicas = append(replicas, r)
	}
	for _, r := range p.Replicas {
		if !slices.Contains(replicas, r) {
			replicas = append(replicas, r)
			m.Removing = append(m.Removing, r.ID)
		}
	}
	p.Replicas = replicas
	if len(m.Adding)+len(m.Removing) == 0 {
		return p, nil // another order of preference
	}
	p.Move, p.Moved = m, true
	return p, nil
}

// takenBack turns a move round: what was added is removed.
func (p Partition) takenBack() (Partition, error) {
	switch {
	case p.Move == nil:
		return p, ErrNotMoving
	case p.Move.Joining:
		return p, fmt.Errorf("%w: it is past the point where it can be taken back, and ends soon", ErrMoving)
	}
	p.Replicas = slices.Concat(ordered(p.Replicas, p.Move.Before), with(p.Replicas, p.Move.Adding))
	if len(p.Move.Adding) == 0 {
		p.Move = nil
		return p, nil
	}
	// No way back from here: a replica that has left its group never returns.
	p.Move = &Move{Removing: p.Move.Adding, Before: p.Move.Before, Joining: true, StartedMs: p.Move.StartedMs}
	return p, nil
}

// ordered gives the replicas with the ids, in the order of ids.
func ordered(rs []Replica, ids []uint64) []Replica {
	out := make([]Replica, 0, len(ids))
	for _, id := range ids {
		out = append(out, with(rs, []uint64{id})...)
	}
	return out
}

// StepMove records how far a move is: the joint change is about to be asked
// for, or the group has its new members.
type StepMove struct {
	Partition record.PartitionID
	// Adding and Removing are the move's, so that no other is meant.
	Adding, Removing []uint64
	Done             bool
}

func (r *StepMove) kind() uint64 { return kindStepMove }

func (r *StepMove) appendTo(p []byte) []byte {
	p = appendPartitionID(p, r.Partition)
	p = appendList(p, r.Adding, binary.AppendUvarint)
	p = appendList(p, r.Removing, binary.AppendUvarint)
	return appendBool(p, r.Done)
}

func (r *StepMove) decode(c *cursor) {
	r.Partition = decodePartitionID(c)
	r.Adding, r.Removing, r.Done = list(c, (*cursor).uvarint), list(c, (*cursor).uvarint), c.bool()
}

func (r *StepMove) apply(s *State) (any, error) {
	return nil, s.changePartition(r.Partition, func(p Partition) (Partition, error) {
		if p.Move == nil || !slices.Equal(p.Move.Adding, r.Adding) || !slices.Equal(p.Move.Removing, r.Removing) {
			return p, fmt.Errorf("%w: the move of partition %s", ErrConflict, r.Partition)
		}
		if !r.Done {
			m := *p.Move
			m.Joining = true
			p.Move = &m
			return p, nil
		}
		if !p.Move.Joining {
			return p, fmt.Errorf("%w: the move of partition %s has not come to its joint change", ErrInvalidRequest, r.Partition)
		}
		p.Replicas, p.Move = p.Target(), nil
		return p, nil
	})
}

// SetBrokerMode says what is to become of a broker.
type SetBrokerMode struct {
	Node                  int32
	Maintenance, Draining bool
}

func (r *SetBrokerMode) kind() uint64 { return kindSetBrokerMode }

func (r *SetBrokerMode) appendTo(p []byte) []byte {
	return appendBool(appendBool(binary.AppendVarint(p, int64(r.Node)), r.Maintenance), r.Draining)
}

func (r *SetBrokerMode) decode(c *cursor) {
	r.Node, r.Maintenance, r.Draining = c.int32(), c.bool(), c.bool()
}

func (r *SetBrokerMode) apply(s *State) (any, error) {
	old := s.v.brokers[r.Node]
	if old == nil {
		return nil, fmt.Errorf("%w: %d", ErrUnknownBroker, r.Node)
	}
	b := *old
	b.Maintenance, b.Draining = r.Maintenance, r.Draining
	s.putBroker(r.Node, &b)
	return nil, nil
}

// UnregisterBroker takes a broker without replicas out of the cluster.
type UnregisterBroker struct{ Node int32 }

func (r *UnregisterBroker) kind() uint64             { return kindUnregisterBroker }
func (r *UnregisterBroker) appendTo(p []byte) []byte { return binary.AppendVarint(p, int64(r.Node)) }
func (r *UnregisterBroker) decode(c *cursor)         { r.Node = c.int32() }

func (r *UnregisterBroker) apply(s *State) (any, error) {
	if s.v.brokers[r.Node] == nil {
		return nil, fmt.Errorf("%w: %d", ErrUnknownBroker, r.Node)
	}
	if n := s.v.loads[r.Node].Replicas; n > 0 {
		return nil, fmt.Errorf("%w: broker %d still has %d replicas: drain it first", ErrInvalidRequest, r.Node, n)
	}
	s.putBroker(r.Node, nil)
	s.putSession(r.Node, nil)
	if k := s.v.brokerConfigs[r.Node]; k != nil {
		s.putBrokerConfig(r.Node, &brokerConfig{})
	}
	return nil, nil
}

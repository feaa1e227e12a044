package cluster

import (
	"encoding/binary"
	"fmt"
	"slices"

	"tidewater/internal/record"
)

// LostBroker is a broker that is given up, with the disk that it had. Should it
// come back with that disk, it is refused; with an empty one it joins anew.
type LostBroker struct {
	Node int32
	Disk [16]byte
}

// RecoveredReplica is the replica that a partition goes on with alone: From on
// the recovering node, from now on under the id To.
type RecoveredReplica struct {
	Partition record.PartitionID
	From, To  uint64
}

// Recover goes on with what one node has of groups that lost their majority for
// good. It is applied once; again it changes nothing.
type Recover struct {
	Node int32
	// Controller is the node's new replica id in the controller's group, 0 if
	// that group has not lost its majority.
	Controller uint64
	Lost       []LostBroker
	Partitions []RecoveredReplica
	// The counters are raised to at least these: the lost brokers may have
	// been given ids that this log does not tell of.
	ReplicaIDFloor, ControllerIDFloor uint64
	ProducerIDFloor                   int64
}

func (r *Recover) kind() uint64 { return kindRecover }

func (r *Recover) appendTo(p []byte) []byte {
	p = binary.AppendUvarint(binary.AppendVarint(p, int64(r.Node)), r.Controller)
	p = appendList(p, r.Lost, func(p []byte, l LostBroker) []byte {
		return append(binary.AppendVarint(p, int64(l.Node)), l.Disk[:]...)
	})
	p = appendList(p, r.Partitions, func(p []byte, l RecoveredReplica) []byte {
		return binary.AppendUvarint(binary.AppendUvarint(appendPartitionID(p, l.Partition), l.From), l.To)
	})
	p = binary.AppendUvarint(binary.AppendUvarint(p, r.ReplicaIDFloor), r.ControllerIDFloor)
	return binary.AppendVarint(p, r.ProducerIDFloor)
}

func (r *Recover) decode(c *cursor) {
	r.Node, r.Controller = c.int32(), c.uvarint()
	r.Lost = list(c, func(c *cursor) LostBroker { return LostBroker{Node: c.int32(), Disk: c.id()} })
	r.Partitions = list(c, func(c *cursor) RecoveredReplica {
		return RecoveredReplica{Partition: decodePartitionID(c), From: c.uvarint(), To: c.uvarint()}
	})
	r.ReplicaIDFloor, r.ControllerIDFloor, r.ProducerIDFloor = c.uvarint(), c.uvarint(), c.varint()
}

func (r *Recover) apply(s *State) (any, error) {
	self := s.v.brokers[r.Node]
	if self == nil {
		return nil, fmt.Errorf("%w: %d", ErrUnknownBroker, r.Node)
	}
	s.v.nextReplicaID = max(s.v.nextReplicaID, r.ReplicaIDFloor)
	s.v.nextControllerID = max(s.v.nextControllerID, r.ControllerIDFloor)
	s.v.nextProducerID = max(s.v.nextProducerID, r.ProducerIDFloor)
	if r.Controller != 0 && self.Controller != r.Controller {
		b := *self
		b.Controller = r.Controller
		s.putBroker(r.Node, &b)
	}
	for _, l := range r.Lost {
		if b := s.v.brokers[l.Node]; b == nil || b.Disk != l.Disk || l.Node == r.Node {
			continue // it has joined anew, or was taken out before
		}
		s.putBroker(l.Node, nil)
		s.putSession(l.Node, nil)
		if s.v.brokerConfigs[l.Node] != nil {
			s.putBrokerConfig(l.Node, &brokerConfig{})
		}
	}
	for _, p := range r.Partitions {
		// One that is gone, or has been recovered, is left as it is.
		_ = s.changePartition(p.Partition, func(old Partition) (Partition, error) {
			if !slices.Contains(old.Replicas, Replica{r.Node, p.From}) {
				return old, ErrConflict
			}
			old.Replicas, old.Move, old.Moved = []Replica{{r.Node, p.To}}, nil, true
			old.Leader = NoLeader // until the replica reports itself, in a higher epoch
			return old, nil
		})
	}
	return nil, nil
}

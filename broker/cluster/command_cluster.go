package cluster

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Bootstrap gives the cluster its identity. It is the first command of a
// cluster's life.
type Bootstrap struct {
	Identity     Identity
	FeatureLevel uint32
	// Restoring: Restore commands follow, the last of them with Final.
	Restoring bool
	// Founders are the first voters of the controller's group. They stand
	// among the brokers from now on, offline until they register.
	Founders []Member
}

func (b *Bootstrap) kind() uint64 { return kindBootstrap }

func (b *Bootstrap) appendTo(p []byte) []byte {
	p = append(p, b.Identity.ClusterID[:]...)
	p = binary.AppendUvarint(p, b.Identity.Incarnation)
	p = binary.AppendUvarint(p, uint64(b.FeatureLevel))
	p = appendBool(p, b.Restoring)
	return appendList(p, b.Founders, appendMember)
}

func appendMember(p []byte, m Member) []byte {
	p = binary.AppendVarint(p, int64(m.Node))
	p = binary.AppendUvarint(p, m.Replica)
	p = append(p, m.Disk[:]...)
	return appendString(p, m.Addr)
}

func decodeMember(c *cursor) Member {
	return Member{Node: c.int32(), Replica: c.uvarint(), Disk: c.id(), Addr: c.string()}
}

func (b *Bootstrap) decode(c *cursor) {
	b.Identity = Identity{ClusterID: c.id(), Incarnation: c.uvarint()}
	b.FeatureLevel = c.featureLevel()
	if b.Restoring = c.bool(); c.version >= 2 {
		b.Founders = list(c, decodeMember)
	}
}

func (c *cursor) featureLevel() uint32 {
	n := c.uvarint()
	if n > math.MaxUint32 {
		c.fail("feature level is over 32 bits")
	}
	return uint32(n)
}

func (b *Bootstrap) apply(s *State) (any, error) {
	if s.v.identity == b.Identity {
		return nil, nil // said twice
	}
	if s.v.identity != (Identity{}) {
		return nil, fmt.Errorf("%w: the cluster is %x incarnation %d already", ErrInvalidRequest,
			s.v.identity.ClusterID, s.v.identity.Incarnation)
	}
	s.v.identity, s.v.featureLevel, s.v.restoring = b.Identity, b.FeatureLevel, b.Restoring
	s.v.nextControllerID = max(s.v.nextControllerID, 2)
	for _, m := range b.Founders {
		s.putBroker(m.Node, &Broker{ID: m.Node, Disk: m.Disk, RPCAddr: m.Addr, Controller: m.Replica, Offline: true})
		s.v.nextControllerID = max(s.v.nextControllerID, m.Replica+1)
	}
	return nil, nil
}

// AllocateProducerIDs hands out Count producer ids; the result is the first,
// an int64.
type AllocateProducerIDs struct{ Count int64 }

func (a *AllocateProducerIDs) kind() uint64             { return kindAllocateProducerIDs }
func (a *AllocateProducerIDs) appendTo(p []byte) []byte { return binary.AppendVarint(p, a.Count) }
func (a *AllocateProducerIDs) decode(c *cursor)         { a.Count = c.varint() }

func (a *AllocateProducerIDs) apply(s *State) (any, error) {
	if a.Count < 1 || a.Count > math.MaxInt64-s.v.nextProducerID {
		return nil, fmt.Errorf("%w: %d producer ids", ErrInvalidRequest, a.Count)
	}
	first := s.v.nextProducerID
	s.v.nextProducerID += a.Count
	return first, nil
}

// SetFeatureLevel raises what every broker may rely on.
type SetFeatureLevel struct{ Level uint32 }

func (f *SetFeatureLevel) kind() uint64 { return kindSetFeatureLevel }
func (f *SetFeatureLevel) appendTo(p []byte) []byte {
	return binary.AppendUvarint(p, uint64(f.Level))
}
func (f *SetFeatureLevel) decode(c *cursor) { f.Level = c.featureLevel() }

func (f *SetFeatureLevel) apply(s *State) (any, error) {
	// A broker may have registered between plan and now.
	if err := s.v.canRaise(f.Level); err != nil {
		return nil, err
	}
	s.v.featureLevel = f.Level
	return nil, nil
}

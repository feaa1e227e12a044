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
}

func (b *Bootstrap) kind() uint64 { return kindBootstrap }

func (b *Bootstrap) appendTo(p []byte) []byte {
	p = append(p, b.Identity.ClusterID[:]...)
	p = binary.AppendUvarint(p, b.Identity.Incarnation)
	p = binary.AppendUvarint(p, uint64(b.FeatureLevel))
	return appendBool(p, b.Restoring)
}

func (b *Bootstrap) decode(c *cursor) {
	b.Identity = Identity{ClusterID: c.id(), Incarnation: c.uvarint()}
	b.FeatureLevel = c.featureLevel()
	b.Restoring = c.bool()
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
	if f.Level < s.v.featureLevel {
		return nil, fmt.Errorf("%w: feature level %d is below %d", ErrInvalidRequest, f.Level, s.v.featureLevel)
	}
	s.v.featureLevel = f.Level
	return nil, nil
}

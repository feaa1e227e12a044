package cluster

import (
	"encoding/binary"
	"fmt"

	"tidewater/internal/record"
)

// RegisterBroker adds a broker or changes what is known of it; the result is
// the *Broker.
type RegisterBroker struct{ Registration Registration }

func (r *RegisterBroker) kind() uint64 { return kindRegisterBroker }

func (r *RegisterBroker) appendTo(p []byte) []byte {
	g := &r.Registration
	p = binary.AppendVarint(p, int64(g.ID))
	p = append(p, g.Boot[:]...)
	p = appendString(p, g.Rack)
	return appendList(p, g.Listeners, appendListener)
}

func (r *RegisterBroker) decode(c *cursor) {
	r.Registration = Registration{ID: c.int32(), Boot: c.id(), Rack: c.string(), Listeners: list(c, decodeListener)}
}

func (r *RegisterBroker) apply(s *State) (any, error) {
	g := &r.Registration
	b := &Broker{ID: g.ID, Boot: g.Boot, Rack: g.Rack, Listeners: g.Listeners, BootCount: 1}
	if old := s.v.brokers[g.ID]; old != nil {
		b.BootCount = old.BootCount
		if old.Boot != g.Boot {
			b.BootCount++
		}
	}
	s.putBroker(g.ID, b)
	return b, nil
}

// SetBrokerConfigs replaces a broker's dynamic properties if they still have
// version Expected.
type SetBrokerConfigs struct {
	Node     int32 // or ClusterDefault
	Expected uint64
	Props    map[string]string
}

func (r *SetBrokerConfigs) kind() uint64 { return kindSetBrokerConfigs }

func (r *SetBrokerConfigs) appendTo(p []byte) []byte {
	p = binary.AppendVarint(p, int64(r.Node))
	p = binary.AppendUvarint(p, r.Expected)
	return appendProps(p, r.Props)
}

func (r *SetBrokerConfigs) decode(c *cursor) {
	r.Node, r.Expected, r.Props = c.int32(), c.uvarint(), c.props()
}

func (r *SetBrokerConfigs) apply(s *State) (any, error) {
	if r.Node != ClusterDefault && s.v.brokers[r.Node] == nil {
		return nil, fmt.Errorf("%w: %d", ErrUnknownBroker, r.Node)
	}
	version := uint64(0)
	if old := s.v.brokerConfigs[r.Node]; old != nil {
		version = old.version
	}
	if version != r.Expected {
		return nil, fmt.Errorf("%w: properties of broker %d", ErrConflict, r.Node)
	}
	s.putBrokerConfig(r.Node, &brokerConfig{props: r.Props, version: version + 1})
	return nil, nil
}

// ReportLeaders records leaders; what is older than known, or about a
// partition that is gone, is left out.
type ReportLeaders struct{ Reports []LeaderReport }

func (r *ReportLeaders) kind() uint64 { return kindReportLeaders }

func (r *ReportLeaders) appendTo(p []byte) []byte {
	return appendList(p, r.Reports, func(p []byte, l LeaderReport) []byte {
		p = append(p, l.Partition.Topic[:]...)
		p = binary.AppendVarint(p, int64(l.Partition.Partition))
		p = binary.AppendVarint(p, int64(l.Leader))
		return binary.AppendVarint(p, int64(l.Epoch))
	})
}

func (r *ReportLeaders) decode(c *cursor) {
	r.Reports = list(c, func(c *cursor) LeaderReport {
		return LeaderReport{Partition: record.PartitionID{Topic: c.id(), Partition: c.int32()},
			Leader: c.int32(), Epoch: record.LeaderEpoch(c.int32())}
	})
}

func (r *ReportLeaders) apply(s *State) (any, error) {
	for _, l := range r.Reports {
		p := s.v.PartitionOf(l.Partition)
		if p == nil || l.Epoch < p.LeaderEpoch || l.Epoch == p.LeaderEpoch && p.Leader != NoLeader {
			continue
		}
		t := s.v.topics[l.Partition.Topic].copied()
		t.Partitions[l.Partition.Partition].Leader = l.Leader
		t.Partitions[l.Partition.Partition].LeaderEpoch = l.Epoch
		s.putTopic(t.ID, t)
	}
	return nil, nil
}

// copied gives a topic whose partitions may be written; replicas are shared.
func (t *Topic) copied() *Topic {
	n := *t
	n.Partitions = append([]Partition(nil), t.Partitions...)
	return &n
}

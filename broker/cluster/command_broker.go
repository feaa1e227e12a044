package cluster

import (
	"encoding/binary"
	"fmt"

	"tidewater/internal/record"
)

// RegisterBroker adds a broker or changes what is known of it; the result is
// the *Broker.
type RegisterBroker struct {
	Registration Registration
	// ReplaceDisk: the node has another data directory than before, and the
	// old one is not coming back.
	ReplaceDisk bool
}

func (r *RegisterBroker) kind() uint64 { return kindRegisterBroker }

func (r *RegisterBroker) version() byte {
	if r.Registration.Build != "" {
		return 3
	}
	return commandVersionLeast
}

func (r *RegisterBroker) appendTo(p []byte) []byte {
	g := &r.Registration
	p = binary.AppendVarint(p, int64(g.ID))
	p = append(p, g.Boot[:]...)
	p = appendString(p, g.Rack)
	p = appendList(p, g.Listeners, appendListener)
	p = append(p, g.Disk[:]...)
	p = appendString(p, g.RPCAddr)
	p = binary.AppendUvarint(p, g.Session)
	p = binary.AppendUvarint(p, uint64(g.FeatureMin))
	p = binary.AppendUvarint(p, uint64(g.FeatureMax))
	if p = appendBool(p, r.ReplaceDisk); r.version() >= 3 {
		p = appendString(p, g.Build)
	}
	return p
}

func (r *RegisterBroker) decode(c *cursor) {
	r.Registration = Registration{ID: c.int32(), Boot: c.id(), Rack: c.string(), Listeners: list(c, decodeListener)}
	g := &r.Registration
	if c.version < 2 {
		g.FeatureMin, g.FeatureMax = 1, 1
		return
	}
	g.Disk, g.RPCAddr, g.Session = c.id(), c.string(), c.uvarint()
	g.FeatureMin, g.FeatureMax = c.featureLevel(), c.featureLevel()
	if r.ReplaceDisk = c.bool(); c.version >= 3 {
		g.Build = c.string()
	}
}

func (r *RegisterBroker) apply(s *State) (any, error) {
	g := &r.Registration
	b := &Broker{}
	old := s.v.brokers[g.ID]
	if old != nil {
		*b = *old
	}
	if err := r.refused(s, old); err != nil {
		return nil, err
	}
	if old == nil || old.Disk != g.Disk && old.Disk != [16]byte{} {
		// A new replica id for a new disk: the old one may have voted.
		b.Controller, b.ReplicaFloor = s.v.nextControllerID, s.v.nextReplicaID
		s.v.nextControllerID++
		s.putSession(g.ID, nil)
	}
	if old == nil || old.Boot != g.Boot || old.BootCount == 0 {
		b.BootCount++
	}
	b.ID, b.Boot, b.Rack, b.Listeners = g.ID, g.Boot, g.Rack, g.Listeners
	b.Disk, b.RPCAddr, b.Session = g.Disk, g.RPCAddr, g.Session
	b.FeatureMin, b.FeatureMax, b.Build = g.FeatureMin, g.FeatureMax, g.Build
	// Without a listener it has been let in and does not serve yet.
	b.Offline, b.OfflineSinceMs = len(g.Listeners) == 0, 0
	s.putBroker(g.ID, b)
	return b, nil
}

// refused fences a broker that is not the one known under its node id, or a
// build that is too old or too new for the cluster.
func (r *RegisterBroker) refused(s *State, old *Broker) error {
	g := &r.Registration
	if err := canWork(s.v.featureLevel, g.FeatureMin, g.FeatureMax); err != nil {
		return err
	}
	if old == nil || old.Disk == [16]byte{} {
		return nil
	}
	if old.Disk != g.Disk && !r.ReplaceDisk {
		return fmt.Errorf("%w: node id %d belongs to the data directory with disk id %x, this one has %x: give this broker another "+
			"--node-id, or, if it took that directory's place, empty this one and start again", ErrFenced, g.ID, old.Disk, g.Disk)
	}
	if old.Disk == g.Disk && g.Session < old.Session {
		return fmt.Errorf("%w: this data directory of node %d was started %d times, the cluster has seen %d: it is an older copy, "+
			"and what was promised since is missing; empty it and start again", ErrFenced, g.ID, g.Session, old.Session)
	}
	return nil
}

// SetLiveness marks brokers as offline since NowMs, or as online.
type SetLiveness struct {
	NowMs           int64 // milliseconds since the Unix epoch, by the leader's clock
	Offline, Online []int32
}

func (r *SetLiveness) kind() uint64 { return kindSetLiveness }

func (r *SetLiveness) appendTo(p []byte) []byte {
	return appendNodes(appendNodes(binary.AppendVarint(p, r.NowMs), r.Offline), r.Online)
}

func (r *SetLiveness) decode(c *cursor) {
	r.NowMs, r.Offline, r.Online = c.varint(), decodeNodes(c), decodeNodes(c)
}

func (r *SetLiveness) apply(s *State) (any, error) {
	set := func(id int32, offline bool, sinceMs int64) {
		if old := s.v.brokers[id]; old != nil {
			b := *old
			b.Offline, b.OfflineSinceMs = offline, sinceMs
			s.putBroker(id, &b)
		}
	}
	for _, id := range r.Offline {
		set(id, true, r.NowMs)
	}
	for _, id := range r.Online {
		set(id, false, 0)
	}
	return nil, nil
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

// apply copies and counts a topic once, however many of its partitions are
// reported: all ten thousand of one may be.
func (r *ReportLeaders) apply(s *State) (any, error) {
	changed := map[record.TopicID]*Topic{}
	var order []*Topic
	for _, l := range r.Reports {
		t, copied := changed[l.Partition.Topic]
		if !copied {
			t = s.v.topics[l.Partition.Topic]
		}
		n := l.Partition.Partition
		if t == nil || n < 0 || int(n) >= len(t.Partitions) {
			continue
		}
		if p := &t.Partitions[n]; l.Epoch < p.LeaderEpoch || l.Epoch == p.LeaderEpoch && p.Leader != NoLeader {
			continue
		}
		if !copied {
			t = t.copied()
			changed[t.ID] = t
			order = append(order, t)
		}
		t.Partitions[n].Leader, t.Partitions[n].LeaderEpoch = l.Leader, l.Epoch
	}
	for _, t := range order {
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

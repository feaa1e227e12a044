package kafka

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"tidewater/broker/cluster"
	"tidewater/internal/record"
)

// leading is who leads a partition and in which epoch; node -1 is unknown.
type leading struct {
	node  int32
	epoch record.LeaderEpoch
}

// leader is the newest that this broker knows of a partition's leader: what its
// own replica heard in the last election, or what the controller was told. Only
// the replica knows whether this broker leads still.
func (s *Server) leader(id record.PartitionID, p *cluster.Partition) leading {
	node, epoch := s.cfg.Partitions.Leader(id)
	switch hosted := epoch >= 0; {
	case node >= 0 && epoch > p.LeaderEpoch:
		return leading{node, epoch}
	case hosted && node != s.cfg.NodeID && p.Leader == s.cfg.NodeID:
		return leading{cluster.NoLeader, p.LeaderEpoch}
	}
	return leading{p.Leader, p.LeaderEpoch}
}

// hints finds leaders for one answer.
type hints struct {
	ctx   context.Context
	until time.Time // what is not known by then is not told
	named []int32   // the leaders that were found
	there []int32   // the brokers that answered since the request came
}

const (
	// hintWait is how long an answer that sends a client away waits until it
	// can say where to: an election after a leader was lost or hands over takes
	// less, and a client that has to ask for metadata first may do so only
	// every few seconds.
	hintWait  = 700 * time.Millisecond
	hintEvery = 5 * time.Millisecond
	// metadataWait is how long an answer to Metadata waits for elections: longer
	// than one takes on a busy machine, since who is answered without a leader
	// may ask again only after five seconds (franz-go's MetadataMinAge).
	metadataWait = 2 * time.Second
)

func newHints(ctx context.Context, wait time.Duration) *hints {
	return &hints{ctx: ctx, until: time.Now().Add(wait)}
}

// hint is the leader to tell a client beside an error that says that it asked
// the wrong broker or with an old epoch (KIP-951). A broker never points at
// itself.
func (s *Server) hint(h *hints, code int16, name []byte, id record.TopicID, byID bool, partition int32) leading {
	none := leading{-1, -1}
	if code != kerr.NotLeaderForPartition.Code && code != kerr.FencedLeaderEpoch.Code {
		return none
	}
	t, err := s.resolve(name, id, byID)
	if err != nil || partition < 0 || int(partition) >= len(t.partitions) {
		return none
	}
	p := record.PartitionID{Topic: t.id, Partition: partition}
	s.awaitLeader(h, p)
	l := s.leader(p, &t.partitions[partition])
	if l.node == s.cfg.NodeID || l.node < 0 || !s.alive(l.node) {
		return none
	}
	h.named = append(h.named, l.node)
	return l
}

// awaitLeader waits, within bounds, while this broker's replica of a partition
// hears no leader, or is about to hand over.
func (s *Server) awaitLeader(h *hints, id record.PartitionID) {
	for {
		node, epoch := s.cfg.Partitions.Leader(id)
		hosted := epoch >= 0
		if !hosted || node >= 0 && node != s.cfg.NodeID || time.Now().After(h.until) {
			return
		}
		select {
		case <-time.After(hintEvery):
		case <-h.ctx.Done():
			return
		}
	}
}

// livingLeader is a partition's leader on a broker that is there. It waits,
// within bounds, while there is none and enough replicas are up to elect one;
// then node is -1.
func (s *Server) livingLeader(h *hints, id record.PartitionID, p *cluster.Partition) leading {
	for {
		l := s.leader(id, p)
		if l.node >= 0 && s.there(h, l.node) {
			return l
		}
		l.node = cluster.NoLeader
		up := 0
		for _, r := range p.Replicas {
			if s.alive(r.Node) {
				up++
			}
		}
		if up <= len(p.Replicas)/2 || time.Now().After(h.until) {
			return l
		}
		select {
		case <-time.After(hintEvery):
		case <-h.ctx.Done():
			return l
		}
		if t := s.cfg.View().Topic(id.Topic); t != nil && int(id.Partition) < len(t.Partitions) {
			p = &t.Partitions[id.Partition]
		}
	}
}

// there says whether a broker is there now. Clients whose broker was killed
// ask another within a millisecond, which may not have noticed yet.
func (s *Server) there(h *hints, node int32) bool {
	if node == s.cfg.NodeID || slices.Contains(h.there, node) {
		return true
	}
	if !s.alive(node) || s.cfg.Answers != nil && !s.cfg.Answers(h.ctx, node) {
		return false
	}
	h.there = append(h.there, node)
	return true
}

// appendCurrentLeader writes a hint as a tagged field.
func appendCurrentLeader(b []byte, tag uint64, l leading) []byte {
	b = binary.AppendUvarint(b, tag)
	b = append(b, 4+4+1)
	b = binary.BigEndian.AppendUint32(b, uint32(l.node))
	b = binary.BigEndian.AppendUint32(b, uint32(l.epoch))
	return append(b, 0)
}

// appendEndpoints writes an answer's tags: where the brokers named in hints are
// found, as tag 0, or nothing.
func (s *Server) appendEndpoints(b []byte, nodes []int32) []byte {
	var list []byte
	n := 0
	for _, k := range s.cfg.View().Brokers() {
		if !slices.Contains(nodes, k.ID) {
			continue
		}
		l := s.clientListener(k)
		list = binary.BigEndian.AppendUint32(list, uint32(k.ID))
		list = appendString(list, l.Host, true)
		list = binary.BigEndian.AppendUint32(list, uint32(l.Port))
		list = appendMessage(list, k.Rack, true)
		list = append(list, 0)
		n++
	}
	if n == 0 {
		return append(b, 0)
	}
	length := binary.AppendUvarint(nil, uint64(n)+1)
	b = append(b, 1, 0)
	b = binary.AppendUvarint(b, uint64(len(length)+len(list)))
	return append(append(b, length...), list...)
}

// alive says whether a broker is up, as far as this one knows.
func (s *Server) alive(node int32) bool {
	return node == s.cfg.NodeID || s.cfg.Alive == nil || s.cfg.Alive(node)
}

// preferred is the replica that a consumer in rack should read from (KIP-392):
// one that keeps up and is in its rack, when the leader, which is asked, is in
// another. -1 is the leader itself.
func (s *Server) preferred(rack string, id record.PartitionID, p *cluster.Partition) int32 {
	if rack == "" || len(p.Replicas) < 2 {
		return -1
	}
	found := int32(-1)
	for _, b := range s.cfg.View().Brokers() {
		if b.Rack != rack || !slices.ContainsFunc(p.Replicas, func(r cluster.Replica) bool { return r.Node == b.ID }) {
			continue
		}
		if b.ID == s.cfg.NodeID {
			return -1
		}
		if found < 0 && s.alive(b.ID) && s.cfg.Partitions.InStep(id, b.ID) {
			found = b.ID
		}
	}
	return found
}

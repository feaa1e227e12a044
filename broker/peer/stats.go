package peer

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// counters are one direction of one lane of one broker.
type counters struct {
	bytes, messages   atomic.Int64
	dropped, connects atomic.Int64 // of what is sent
	skipped           atomic.Int64 // frames of unknown kind, of what is received
}

// flow is both directions of a lane.
type flow struct{ sent, got counters }

type countKey struct {
	node int32
	lane laneKind
}

// countersMax bounds how many brokers are counted on their own: node ids of
// those who connect are only their word. The rest share one.
const countersMax = 1 << 10

// countersOf gives the counters of a broker's lane; they outlive connections.
func (n *Network) countersOf(node int32, lane laneKind) (sent, got *counters) {
	n.countsMu.Lock()
	defer n.countsMu.Unlock()
	key := countKey{node, lane}
	f := n.counts[key]
	if f == nil && len(n.counts) >= countersMax {
		key.node = -1
		f = n.counts[key]
	}
	if f == nil {
		f = &flow{}
		n.counts[key] = f
	}
	return &f.sent, &f.got
}

// LaneStats are counters of one lane to one broker, since Open.
type LaneStats struct {
	Lane                           string // control, append, request or ask
	BytesSent, BytesReceived       int64
	MessagesSent, MessagesReceived int64 // of raft
	// MessagesDropped had no connection, no room, or were waiting when the
	// connection ended; raft sends again.
	MessagesDropped int64
	Connects        int64 // connections dialed
	FramesSkipped   int64 // received, of a kind that is not known here
}

// PeerStats are a broker's.
type PeerStats struct {
	Node      int32 // -1: those beyond the first thousand
	Up        bool
	RoundTrip time.Duration // smoothed, 0 before the first
	Lanes     []LaneStats   // those that were used
}

// Stats are counters since Open, and the present state where noted.
type Stats struct {
	Peers    []PeerStats // by node id
	Accepted int         // connections from others, now
	// Refused are connections from others that were not taken; MessagesStray
	// raft messages to brokers that are no peers, or that never travel.
	Refused, MessagesStray int64
}

// Stats gives the counters.
func (n *Network) Stats() Stats {
	s := Stats{Refused: n.refused.Load(), MessagesStray: n.stray.Load()}
	n.mu.Lock()
	s.Accepted = n.admitted
	n.mu.Unlock()
	byNode := map[int32]*PeerStats{}
	n.countsMu.Lock()
	for key, f := range n.counts {
		p := byNode[key.node]
		if p == nil {
			p = &PeerStats{Node: key.node}
			byNode[key.node] = p
		}
		p.Lanes = append(p.Lanes, LaneStats{Lane: key.lane.String(),
			BytesSent: f.sent.bytes.Load(), BytesReceived: f.got.bytes.Load(),
			MessagesSent: f.sent.messages.Load(), MessagesReceived: f.got.messages.Load(),
			MessagesDropped: f.sent.dropped.Load(), Connects: f.sent.connects.Load(),
			FramesSkipped: f.got.skipped.Load()})
	}
	n.countsMu.Unlock()
	for node, ps := range byNode {
		slices.SortFunc(ps.Lanes, func(a, b LaneStats) int { return cmp.Compare(a.Lane, b.Lane) })
		if p := n.peer(node); p != nil {
			_, ps.Up = p.isUp()
			ps.RoundTrip = time.Duration(p.rtt.Load())
		}
		s.Peers = append(s.Peers, *ps)
	}
	slices.SortFunc(s.Peers, func(a, b PeerStats) int { return cmp.Compare(a.Node, b.Node) })
	return s
}

// blamedMax bounds the refusals that are remembered as logged.
const blamedMax = 64

// blame logs why a connection was refused, each reason once.
func (n *Network) blame(addr string, err error) {
	text := err.Error()
	n.mu.Lock()
	_, known := n.blamed[text]
	full := len(n.blamed) >= blamedMax
	if !known && !full {
		n.blamed[text] = struct{}{}
	}
	n.mu.Unlock()
	if !known && !full {
		n.cfg.Log.Warn("refused connection of a broker", "addr", addr, "error", err)
	}
}

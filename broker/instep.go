package broker

import (
	"sync"
	"time"

	"tidewater/broker/cluster"
	"tidewater/broker/multiraft"
)

const (
	// stepEvery is how long what is known of a partition's replicas is used.
	stepEvery = time.Second
	// stepEntries is how many entries behind the leader a replica may be to
	// serve consumers: some hundred milliseconds of a busy partition.
	stepEntries = 1000
)

// steps is which replicas of a partition keep up with its leader, as it was
// when a consumer last asked.
type steps struct {
	mu    sync.Mutex // guards what follows
	asked time.Time
	nodes map[int32]bool
}

// inStep says whether the replica on node keeps up, by what was last asked of
// the group, and asks again when that is old. It does not wait.
func (h *hosted) inStep(node int32, p *cluster.Partition) bool {
	s := &h.steps
	s.mu.Lock()
	defer s.mu.Unlock()
	if p == nil {
		return false
	}
	if time.Since(s.asked) > stepEvery {
		s.asked = time.Now()
		// A busy queue only leaves the answer old.
		_ = h.on.host.Do(h.ID(), func(g *multiraft.Group) { s.take(g, p) })
	}
	return s.nodes[node]
}

// keepsUp says whether a member could serve consumers, and could make up a
// majority with the leader at once.
func keepsUp(g *multiraft.Group, m *multiraft.Member) bool {
	return m.Voter && m.Active && !m.Copying && m.Match+stepEntries >= g.Committed()
}

// take runs on the group's loop.
func (s *steps) take(g *multiraft.Group, p *cluster.Partition) {
	nodes := map[int32]bool{}
	for _, m := range g.Members() {
		if node, ok := p.NodeOf(m.Replica); ok && keepsUp(g, &m) {
			nodes[node] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = nodes
}

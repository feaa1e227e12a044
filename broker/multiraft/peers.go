package multiraft

// peer is another broker as the heartbeat between brokers shows it. A broker
// that nobody has spoken of is neither up nor down: groups do not rest on it
// and do not give it up.
type peer struct {
	boot uint64
	up   bool
}

// wakeTicks is over how many ticks resting groups are woken when a broker is
// lost or back: a second of the default tick.
const wakeTicks = 20

func (s *Shard) isUp(node int32) bool { return node == s.cfg.Node || s.peers[node].up }

// notDown is true of brokers that nobody has spoken of, too.
func (s *Shard) notDown(node int32) bool {
	p, known := s.peers[node]
	return !known || p.up
}

// peerUp notes that a broker answers. One that has a new boot id was down,
// whether that was noticed or not.
func (s *Shard) peerUp(node int32, boot uint64) {
	was, known := s.peers[node]
	if known && was.up && was.boot == boot {
		return
	}
	if known && was.up {
		s.peerDown(node)
	}
	s.peers[node] = peer{boot: boot, up: true}
	for _, g := range s.order {
		if g.stopped == nil && g.resting && g.lead.Leading && g.holds(node) {
			s.wakeLater(g)
		}
	}
	s.spreadWakes()
}

// peerDown notes that a broker does not answer: groups that it led look for
// another leader, those at work at once and resting ones spread over a second.
func (s *Shard) peerDown(node int32) {
	if p, known := s.peers[node]; known && !p.up {
		return
	}
	s.peers[node] = peer{boot: s.peers[node].boot}
	for _, g := range s.order {
		switch {
		case g.stopped != nil:
		case g.resting && !g.lead.Leading && g.lead.Leader == node:
			s.wakeLater(g)
		default:
			g.losePeer(node)
		}
	}
	s.spreadWakes()
}

// holds reports whether a broker holds a replica of the group.
func (g *Group) holds(node int32) bool {
	for _, id := range members(&g.conf) {
		if g.brokerOf(id) == node {
			return true
		}
	}
	return false
}

func (s *Shard) wakeLater(g *Group) { s.waking = append(s.waking, g) }

func (s *Shard) spreadWakes() {
	s.wakesPerTick = max((len(s.waking)+wakeTicks-1)/wakeTicks, 1)
	s.tellTicking()
}

// wakeSome wakes this tick's part of the groups that are to be woken.
func (s *Shard) wakeSome() {
	n := min(s.wakesPerTick, len(s.waking))
	for _, g := range s.waking[:n] {
		if g.stopped != nil || !g.resting {
			continue
		}
		if !g.lead.Leading && !s.notDown(g.lead.Leader) {
			g.loseLeader()
			continue
		}
		g.wake()
	}
	clear(s.waking[:n])
	s.waking = s.waking[n:]
}

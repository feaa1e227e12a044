package broker

import (
	"strconv"

	"tidewater/broker/cluster"
	"tidewater/broker/peer"
)

// clusterMetrics say how this broker stands to the others.
func (b *Broker) clusterMetrics() collector {
	c := collector{
		gauge("controller_leading", "1 while this broker leads the controller's group.", func() float64 { return flag(b.controller.Leadership().Leading) }),
		gauge("partitions_hosted", "Partitions that this broker has a replica of.", func() float64 { return float64(len(b.parts.all())) }),
		gauge("partitions_led", "Partitions that this broker leads.", b.led),
		gauge("partitions_leaderless", "Partitions of the cluster whose leader is not known or does not answer, as this broker sees it.", b.leaderless),
	}
	if b.network == nil {
		return c
	}
	peers := func(value func(*peer.PeerStats) float64) func() []sample {
		return func() []sample {
			var out []sample
			stats := b.network.Stats()
			for i := range stats.Peers {
				p := &stats.Peers[i]
				out = append(out, sample{value(p), []string{strconv.Itoa(int(p.Node))}})
			}
			return out
		}
	}
	lanes := func(value func(*peer.LaneStats) int64) func() []sample {
		return peers(func(p *peer.PeerStats) float64 {
			n := int64(0)
			for i := range p.Lanes {
				n += value(&p.Lanes[i])
			}
			return float64(n)
		})
	}
	return append(c,
		gauges("peer_up", "1 while the broker answers.", []string{"peer"}, peers(func(p *peer.PeerStats) float64 { return flag(p.Up) })),
		gauges("peer_round_trip_seconds", "Time of a heartbeat to the broker and back, smoothed.", []string{"peer"}, peers(func(p *peer.PeerStats) float64 { return p.RoundTrip.Seconds() })),
		counters("peer_sent_bytes_total", "Bytes sent to the broker.", "peer", lanes(func(l *peer.LaneStats) int64 { return l.BytesSent })),
		counters("peer_received_bytes_total", "Bytes received from the broker.", "peer", lanes(func(l *peer.LaneStats) int64 { return l.BytesReceived })),
		counters("peer_dropped_total", "Raft messages that found no room or no connection; Raft sends again.", "peer", lanes(func(l *peer.LaneStats) int64 { return l.MessagesDropped })),
		counters("peer_connects_total", "Connections made to the broker.", "peer", lanes(func(l *peer.LaneStats) int64 { return l.Connects })),
	)
}

func (b *Broker) led() float64 {
	n := 0
	for _, h := range b.parts.all() {
		if h.Leadership().Ready {
			n++
		}
	}
	return float64(n)
}

func (b *Broker) leaderless() float64 {
	n := 0
	for _, t := range b.controller.View().Topics() {
		for i := range t.Partitions {
			if l := t.Partitions[i].Leader; l == cluster.NoLeader || !b.alive(l) {
				n++
			}
		}
	}
	return float64(n)
}

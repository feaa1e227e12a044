package sim

import (
	"time"

	"tidewater/broker/multiraft"
)

// network carries messages between the brokers of one cluster. It loses,
// delays, reorders and doubles them, and is cut one way or both.
type network struct {
	c    *cluster
	cuts [nodesMax][nodesMax]bool // from, to
	bad  bool                     // messages are lost, late and doubled often
}

// nodesMax bounds the brokers of a cluster.
const nodesMax = 8

func (n *network) cut(from, to *node) bool { return n.cuts[from.id][to.id] }

// heal ends every fault of the network.
func (n *network) heal() { n.cuts, n.bad = [nodesMax][nodesMax]bool{}, false }

// wire is one process's end of the network.
type wire struct{ life *life }

// Send implements multiraft.Transport. Messages of one call to one broker
// mostly travel together.
func (s *wire) Send(messages []multiraft.Message) {
	n := &s.life.node.c.net
	w := n.c.w
	together := map[int32][]multiraft.Message{}
	var order []int32
	for _, m := range messages {
		if n.bad && w.rng.IntN(10) == 0 {
			n.carry(s.life.node, m.Node, []multiraft.Message{m})
			continue
		}
		if together[m.Node] == nil {
			order = append(order, m.Node)
		}
		together[m.Node] = append(together[m.Node], m)
	}
	for _, to := range order {
		n.carry(s.life.node, to, together[to])
		if n.bad && w.rng.IntN(10) == 0 {
			w.stats.Doubled++
			n.carry(s.life.node, to, together[to])
		}
	}
}

// carry brings messages to whoever runs on the other broker when they arrive.
func (n *network) carry(from *node, to int32, messages []multiraft.Message) {
	w := n.c.w
	target := n.c.nodes[to-1]
	if n.cut(from, target) || n.bad && w.rng.IntN(8) == 0 {
		w.stats.LostMessages += len(messages)
		return
	}
	delay := time.Duration(300+w.rng.IntN(1500)) * time.Microsecond
	if n.bad && w.rng.IntN(5) == 0 {
		delay = w.millis(1, 400)
	}
	l := target.life // a connection ends with the process at its other end
	if l == nil || l.dead {
		return
	}
	w.add(delay, event{life: l, front: true, run: func() {
		if n.cut(from, target) || !l.up {
			return
		}
		l.raft.Receive(messages)
		l.stepSoon()
	}})
}

// partition cuts the network in one of the ways in which networks are cut.
func (w *world) partition() {
	c := w.active
	net, k := &c.net, len(c.nodes)
	if k == 1 {
		return
	}
	net.heal()
	a, b := w.rng.IntN(k), w.rng.IntN(k-1)
	if p := c.leader(int32(w.rng.IntN(len(w.parts)))); p != nil && w.rng.IntN(2) == 0 {
		a = int(p.life.node.id) - 1 // clients go on writing to it
	}
	if b >= a {
		b++
	}
	one, other := c.nodes[a].id, c.nodes[b].id
	cut := func(from, to int32) { net.cuts[from][to] = true }
	kind := w.rng.IntN(6)
	switch kind {
	case 0: // one alone
		for _, n := range c.nodes {
			cut(one, n.id)
			cut(n.id, one)
		}
	case 1: // one is not heard
		for _, n := range c.nodes {
			cut(one, n.id)
		}
	case 2: // one hears nothing
		for _, n := range c.nodes {
			cut(n.id, one)
		}
	case 3: // two do not reach each other, both reach the rest
		cut(one, other)
		cut(other, one)
	case 4: // a ring: each hears one neighbour only
		for i := range c.nodes {
			cut(c.nodes[(i+1)%k].id, c.nodes[i].id)
		}
	case 5:
		net.bad = true
	}
	w.stats.Partitions++
	w.say("the network breaks: kind %d, broker %d, %d", kind, one, other)
	w.add(w.millis(200, 3000), event{front: true, run: func() {
		net.heal()
		w.say("the network is whole")
	}})
}

package peer

import (
	"context"
	"sync"
	"sync/atomic"
)

// peer is another broker as this one reaches it: a dialed connection for each
// lane, and what heartbeats say of it.
type peer struct {
	n      *Network
	node   int32
	ctx    context.Context // ends when the peer is removed
	cancel context.CancelFunc
	lanes  [lanes]*lane
	rtt    atomic.Int64 // nanoseconds, smoothed; 0 before the first

	mu      sync.Mutex // guards what follows
	addr    string
	pulse   pulse
	up      bool
	removed bool
	lanesAt int64 // when the lanes beside control had their last ping
}

func newPeer(n *Network, node int32, addr string) *peer {
	p := &peer{n: n, node: node, addr: addr, pulse: newPulse(int64(n.cfg.down())), lanesAt: n.now()}
	p.ctx, p.cancel = context.WithCancel(n.ctx)
	for k := range p.lanes {
		p.lanes[k] = newLane(p, laneKind(k))
	}
	return p
}

// start starts the loops of the lanes.
func (p *peer) start() {
	for _, l := range p.lanes {
		p.n.loops.Go(l.run)
	}
}

// remove ends the lanes. Their loops end on their own.
func (p *peer) remove() {
	p.mu.Lock()
	p.removed = true
	if p.up {
		p.up = false
		p.n.watch.push(event{node: p.node, boot: p.pulse.boot})
	}
	p.mu.Unlock()
	p.cancel()
	p.reset()
}

// reset ends the connections that are dialed or being dialed.
func (p *peer) reset() {
	for _, l := range p.lanes {
		l.reset()
	}
}

func (p *peer) setAddr(addr string) {
	p.mu.Lock()
	changed := p.addr != addr
	p.addr = addr
	p.mu.Unlock()
	if changed {
		p.reset()
	}
}

func (p *peer) address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// connected notes a new control connection.
func (p *peer) connected(c *conn) {
	p.mu.Lock()
	if p.up && p.pulse.boot != c.theirs.boot {
		p.up = false
		p.n.watch.push(event{node: p.node, boot: p.pulse.boot})
	}
	p.pulse.connect(c.theirs.boot)
	p.mu.Unlock()
	p.ping(c)
}

// unreachable notes that there is no control connection, and none was to be
// had at once.
func (p *peer) unreachable() {
	p.mu.Lock()
	p.pulse.fail()
	down := p.judge()
	p.mu.Unlock()
	if down {
		p.reset()
	}
}

// seen notes that the peer's process dialed us: if it is another one than
// before, what we have of the old one is dead; and it can be dialed now.
func (p *peer) seen(boot uint64) {
	p.mu.Lock()
	restarted := p.pulse.boot != 0 && p.pulse.boot != boot
	p.mu.Unlock()
	for _, l := range p.lanes {
		if restarted {
			l.resetOther(boot)
		}
		l.kick()
	}
}

// beat notes a heartbeat on a control connection.
func (p *peer) beat(c *conn, k kind, b beat) {
	now := p.n.now()
	p.mu.Lock()
	before := p.pulse.roundTrip(now)
	if k == kindPong && c.dialed && c.theirs.boot == p.pulse.boot && int64(b.at) <= now {
		p.pulse.echo(int64(b.at))
		p.measure(now - int64(b.at))
	}
	p.pulse.say(c.theirs.boot, b.now, b.hears, now)
	tell := !before && p.pulse.roundTrip(now)
	down := p.judge()
	p.mu.Unlock()
	if tell {
		// The peer waits for this word to call us up.
		p.ping(c)
	}
	if down {
		p.reset()
	}
}

// measure moves the smoothed round trip by an eighth.
func (p *peer) measure(rtt int64) {
	if old := p.rtt.Load(); old > 0 {
		rtt = old + (rtt-old)/8
	}
	p.rtt.Store(max(rtt, 1))
}

// judge compares what is known with what was told, and reports whether the
// peer just went down. The caller holds mu.
func (p *peer) judge() (down bool) {
	up := p.pulse.up(p.n.now()) && !p.removed
	if up == p.up {
		return false
	}
	p.up = up
	p.n.watch.push(event{node: p.node, boot: p.pulse.boot, up: up})
	return !up
}

// hears reports whether that process answers our pings.
func (p *peer) hears(boot uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pulse.boot == boot && p.pulse.roundTrip(p.n.now())
}

func (p *peer) isUp() (uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pulse.boot, p.up && p.pulse.up(p.n.now())
}

func (p *peer) ping(c *conn) {
	now := uint64(p.n.now())
	c.out.ping(beat{at: now, now: now, hears: p.hears(c.theirs.boot), cluster: p.n.cfg.ClusterID()})
}

// tick sends heartbeats and judges; the clock calls it.
func (p *peer) tick() {
	now := p.n.now()
	p.mu.Lock()
	all := now-p.lanesAt >= int64(p.n.cfg.laneBeatEvery)
	if all {
		p.lanesAt = now
	}
	down := p.judge()
	p.mu.Unlock()
	if down {
		p.reset()
		return
	}
	for k, l := range p.lanes {
		c := l.conn.Load()
		if c == nil || k != int(laneControl) && !all {
			continue
		}
		if k != int(laneControl) && now-c.echoedAt.Load() > int64(p.n.cfg.laneStallMax) {
			c.close(errStalled)
			continue
		}
		p.ping(c)
	}
}

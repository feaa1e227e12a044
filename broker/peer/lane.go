package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dialTimeout = time.Second
	// helloTimeout bounds TLS handshake and hellos: some round trips around
	// the world.
	helloTimeout = 2 * time.Second
	// attemptStale: when the peer was seen alive, an attempt that began so
	// long before is given up for a new one: it may wait for what was lost.
	attemptStale = 250 * time.Millisecond
	// backoffMin doubles up to backoffMax, each time give or take a half.
	backoffMin = 20 * time.Millisecond
	backoffMax = time.Second
	// shortLife: a connection that ended sooner counts as a failed attempt.
	shortLife = time.Second
)

// errStalled ends a lane whose heartbeats are not answered.
var errStalled = errors.New("heartbeats of a connection are not answered")

// lane keeps one dialed connection to a peer.
type lane struct {
	p    *peer
	kind laneKind
	// conn is the connection, nil while there is none.
	conn   atomic.Pointer[conn]
	sent   *counters
	kicked chan struct{} // ends a backoff early

	mu      sync.Mutex // guards what follows
	dialing bool
	cancel  context.CancelFunc // of the attempt
	began   time.Time          // of the attempt
	err     error              // why there is no connection
	logged  string             // the last failure that was logged
	changed chan struct{}      // closed at each change; nil when nobody waits
}

func newLane(p *peer, k laneKind) *lane {
	l := &lane{p: p, kind: k, dialing: true, kicked: make(chan struct{}, 1)}
	l.sent, _ = p.n.countersOf(p.node, k)
	return l
}

// run dials, serves the connection until it ends, and dials again.
func (l *lane) run() {
	fails := 0
	for l.p.ctx.Err() == nil {
		c, err := l.dial()
		if err != nil {
			if l.kind == laneControl {
				l.p.unreachable()
			}
			fails++
			l.failed(err)
			l.wait(fails)
			continue
		}
		began := time.Now()
		stop := context.AfterFunc(l.p.ctx, func() { c.close(ErrClosed) })
		err = c.run()
		stop()
		l.lost(err)
		if fails++; time.Since(began) >= shortLife {
			fails = 0
		}
		l.wait(fails)
	}
	l.failed(fmt.Errorf("node %d: %w", l.p.node, ErrClosed))
}

// wait lets a backoff pass: none after a connection that worked, so that a
// peer's end is known at once.
func (l *lane) wait(fails int) {
	if fails == 0 {
		return
	}
	d := min(backoffMin<<min(fails, 10), backoffMax)
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.kicked:
	case <-l.p.ctx.Done():
	}
}

// kick ends a backoff or an attempt that hangs: the peer was seen alive.
func (l *lane) kick() {
	l.mu.Lock()
	if l.cancel != nil && time.Since(l.began) > attemptStale {
		l.cancel()
	}
	l.mu.Unlock()
	select {
	case l.kicked <- struct{}{}:
	default:
	}
}

// reset ends the connection or the attempt.
func (l *lane) reset() {
	l.mu.Lock()
	cancel, c := l.cancel, l.conn.Load()
	l.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	if c != nil {
		// Not ErrDown: what was sent may have been done.
		c.close(fmt.Errorf("node %d does not answer, or is not known any more", l.p.node))
	}
	l.kick()
}

// resetOther ends a connection to another process than boot.
func (l *lane) resetOther(boot uint64) {
	if c := l.conn.Load(); c != nil && c.theirs.boot != boot {
		c.close(fmt.Errorf("node %d was started again", l.p.node))
	}
}

func (l *lane) notify() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

func (l *lane) dial() (*conn, error) {
	ctx, cancel := context.WithCancel(l.p.ctx)
	defer cancel()
	l.mu.Lock()
	l.dialing, l.cancel, l.began = true, cancel, time.Now()
	l.mu.Unlock()
	addr := l.p.address()
	c, err := l.p.n.dial(ctx, addr, l.kind, l.p.node)
	if err == nil && l.kind == laneControl {
		l.p.connected(c)
		l.p.n.cfg.Log.Info("peer connected", "node", l.p.node, "addr", addr, "version", c.version)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel = nil
	if err == nil && ctx.Err() != nil {
		// The address changed meanwhile.
		c.close(ctx.Err())
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("connect to node %d at %s: %w", l.p.node, addr, err)
	}
	l.logged = ""
	l.sent.connects.Add(1)
	l.conn.Store(c)
	l.dialing, l.err = false, nil
	l.notify()
	return c, nil
}

// failed notes that an attempt failed; a failure is logged once.
func (l *lane) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dialing, l.err = false, err
	l.notify()
	text := err.Error()
	if l.kind == laneControl && text != l.logged && l.p.ctx.Err() == nil {
		l.logged = text
		l.p.n.cfg.Log.Warn("peer cannot be reached", "node", l.p.node, "error", err)
	}
}

// lost notes that the connection ended; the next attempt comes at once.
func (l *lane) lost(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn.Store(nil)
	l.dialing, l.err = true, err
	l.notify()
	if l.kind == laneControl && l.p.ctx.Err() == nil {
		l.p.n.cfg.Log.Info("peer connection ended", "node", l.p.node, "error", err)
	}
}

// get gives the connection, waiting for the attempt that is under way.
func (l *lane) get(ctx context.Context) (*conn, error) {
	for {
		l.mu.Lock()
		c := l.conn.Load()
		if c == nil && !l.dialing {
			err := l.err
			l.mu.Unlock()
			return nil, fmt.Errorf("%w: %w", ErrDown, err)
		}
		if c == nil && l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if c != nil {
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrDown, ctx.Err())
		}
	}
}

// dial connects to addr and exchanges hellos. want is the node that must be
// there, -1 for any.
func (n *Network) dial(ctx context.Context, addr string, lane laneKind, want int32) (*conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	c, err := n.greet(nc, addr, lane, want)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return c, nil
}

// greet is the dialer's side of TLS and hellos.
func (n *Network) greet(nc net.Conn, addr string, lane laneKind, want int32) (*conn, error) {
	if err := nc.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return nil, err
	}
	if n.cfg.TLS != nil {
		cfg := n.cfg.TLS.Client
		if cfg.ServerName == "" {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			cfg = cfg.Clone()
			cfg.ServerName = host
		}
		tc := tls.Client(nc, cfg)
		if err := tc.Handshake(); err != nil {
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		nc = tc
	}
	ours := n.hello(lane, want)
	if _, err := nc.Write(ours.appendTo(nil)); err != nil {
		return nil, fmt.Errorf("write hello: %w", err)
	}
	theirs, err := readHello(nc)
	if err != nil {
		return nil, err
	}
	if theirs.refusal != 0 {
		return nil, &Error{theirs.refusal, theirs.text}
	}
	version, refusal := agree(&ours, &theirs)
	if refusal == nil && want >= 0 && theirs.node != want {
		refusal = &Error{CodeWrongNode, fmt.Sprintf("node %d is at %s, not node %d", theirs.node, addr, want)}
	}
	if refusal != nil {
		return nil, refusal
	}
	return newConn(n, nc, theirs, version, lane, true), nc.SetDeadline(time.Time{})
}

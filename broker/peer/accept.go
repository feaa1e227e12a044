package peer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// acceptLoop takes connections until Close. An accept that fails (out of
// descriptors) is tried again with a growing pause.
func (n *Network) acceptLoop() {
	pause := time.Duration(0)
	for {
		nc, err := n.listener.Accept()
		if err == nil {
			pause = 0
			n.admit(nc)
			continue
		}
		if n.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		n.cfg.Log.Warn("accept connection of a broker", "error", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-n.ctx.Done():
			return
		}
	}
}

// admit starts the loops of a connection, or closes it when there are too many.
func (n *Network) admit(nc net.Conn) {
	n.mu.Lock()
	full := n.admitted >= n.cfg.ConnectionsMax
	if !full {
		n.admitted++
	}
	n.mu.Unlock()
	if full {
		n.refused.Add(1)
		n.blame(nc.RemoteAddr().String(), fmt.Errorf("there are %d connections, no more are taken", n.cfg.ConnectionsMax))
		_ = nc.Close()
		return
	}
	n.loops.Go(func() {
		defer func() {
			n.mu.Lock()
			n.admitted--
			n.mu.Unlock()
		}()
		n.serve(nc)
	})
}

// serve runs an accepted connection until it ends.
func (n *Network) serve(nc net.Conn) {
	n.track(nc, nil)
	defer n.untrack(nc)
	c, err := n.welcome(nc)
	if err != nil {
		if n.ctx.Err() == nil {
			n.refused.Add(1)
			n.blame(nc.RemoteAddr().String(), err)
		}
		_ = nc.Close()
		return
	}
	n.track(nc, c)
	if p := n.peer(c.theirs.node); p != nil && c.lane != laneAsk {
		p.seen(c.theirs.boot)
	}
	_ = c.run() // the dialer logs how its connection ended
}

// welcome is the acceptor's side of TLS and hellos.
func (n *Network) welcome(raw net.Conn) (*conn, error) {
	nc := raw
	if err := nc.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return nil, err
	}
	if n.cfg.TLS != nil {
		tc := tls.Server(nc, n.cfg.TLS.Server)
		if err := tc.Handshake(); err != nil {
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		nc = tc
	}
	theirs, err := readHello(nc)
	if err != nil {
		return nil, err
	}
	ours := n.hello(theirs.lane, -1)
	version, refusal := agree(&ours, &theirs)
	switch {
	case refusal != nil:
	case theirs.want >= 0 && theirs.want != n.cfg.Node:
		refusal = &Error{CodeWrongNode, fmt.Sprintf("this is node %d, not node %d", n.cfg.Node, theirs.want)}
	case theirs.node == n.cfg.Node && theirs.lane != laneAsk:
		refusal = &Error{CodeWrongNode, fmt.Sprintf("two brokers call themselves node %d", n.cfg.Node)}
	case theirs.node < 0 || theirs.boot == 0:
		refusal = &Error{CodeWrongNode, fmt.Sprintf("node id %d with boot id %d", theirs.node, theirs.boot)}
	case theirs.lane > laneAsk:
		refusal = &Error{CodeVersion, fmt.Sprintf("connection is for lane %d, which is not known", theirs.lane)}
	}
	if refusal != nil {
		ours.refusal, ours.text = refusal.Code, refusal.Text
	}
	if _, err := nc.Write(ours.appendTo(nil)); err != nil {
		return nil, fmt.Errorf("write hello: %w", err)
	}
	if refusal != nil {
		return nil, fmt.Errorf("node %d: %w", theirs.node, refusal)
	}
	return newConn(n, nc, theirs, version, theirs.lane, false), nc.SetDeadline(time.Time{})
}

// track notes an accepted connection, c once hellos are exchanged. A newer one
// of the same broker and lane replaces the older: a broker keeps one.
func (n *Network) track(nc net.Conn, c *conn) {
	n.mu.Lock()
	var old []*conn
	for _, o := range n.accepted {
		if c != nil && o != nil && o.theirs.node == c.theirs.node && o.lane == c.lane && c.lane != laneAsk {
			old = append(old, o)
		}
	}
	n.accepted[nc] = c
	closing := n.ctx.Err() != nil
	n.mu.Unlock()
	for _, o := range old {
		o.close(errors.New("replaced by a newer connection"))
	}
	if closing {
		_ = nc.Close()
	}
}

func (n *Network) untrack(nc net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.accepted, nc)
}

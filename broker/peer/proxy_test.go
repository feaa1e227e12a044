package peer

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy stands before a network and breaks connections by lane.
type proxy struct {
	t        testing.TB
	listener net.Listener
	target   string
	loops    sync.WaitGroup

	mu     sync.Mutex // guards what follows
	change *sync.Cond // faults changed, or closed
	conns  map[net.Conn]laneKind
	faults map[laneKind]fault
	closed bool
}

// fault is what happens to a lane's connections, old and new.
type fault struct {
	cut       bool // they end
	holeOut   bool // what the dialer sends vanishes
	holeBack  bool // what it would be answered vanishes
	stallOut  bool // what it sends is not taken
	bytesEach int  // what it sends passes in pieces of so many bytes, each after a millisecond
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, listener: l, target: target, conns: map[net.Conn]laneKind{}, faults: map[laneKind]fault{}}
	p.change = sync.NewCond(&p.mu)
	p.loops.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close()
	}
	p.change.Broadcast()
	p.mu.Unlock()
	p.loops.Wait()
}

func (p *proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.loops.Go(func() { p.serve(c) })
	}
}

// serve learns the lane from the hello and passes bytes on.
func (p *proxy) serve(in net.Conn) {
	defer in.Close()
	head := make([]byte, 11)
	if _, err := io.ReadFull(in, head); err != nil {
		return
	}
	lane := laneKind(head[10])
	if p.fault(lane).cut {
		return
	}
	out, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer out.Close()
	if !p.add(in, lane) || !p.add(out, lane) {
		return
	}
	defer p.remove(in, out)
	if _, err := out.Write(head); err != nil {
		return
	}
	p.loops.Go(func() {
		p.copy(in, out, func() (bool, bool, int) { f := p.fault(lane); return f.holeBack, false, 0 })
		_ = in.Close()
		_ = out.Close()
	})
	p.copy(out, in, func() (bool, bool, int) { f := p.fault(lane); return f.holeOut, f.stallOut, f.bytesEach })
}

func (p *proxy) copy(to, from net.Conn, how func() (hole, stall bool, each int)) {
	b := make([]byte, 64<<10)
	for {
		p.mu.Lock()
		for {
			p.mu.Unlock()
			_, stall, _ := how()
			p.mu.Lock()
			if !stall || p.closed {
				break
			}
			p.change.Wait()
		}
		p.mu.Unlock()
		_, _, each := how()
		piece := b
		if each > 0 {
			piece = b[:each]
			time.Sleep(time.Millisecond)
		}
		n, err := from.Read(piece)
		if err != nil {
			return
		}
		if hole, _, _ := how(); hole {
			continue
		}
		if _, err := to.Write(piece[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) add(c net.Conn, lane laneKind) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = lane
	if p.closed || p.faults[lane].cut {
		delete(p.conns, c)
		return false
	}
	return true
}

func (p *proxy) remove(cs ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range cs {
		delete(p.conns, c)
	}
}

func (p *proxy) fault(lane laneKind) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults[lane]
}

// set changes what happens to some lanes, all if none is named.
func (p *proxy) set(f fault, only ...laneKind) {
	if len(only) == 0 {
		only = []laneKind{laneControl, laneAppend, laneRequest, laneAsk}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, lane := range only {
		p.faults[lane] = f
		for c, l := range p.conns {
			if f.cut && l == lane {
				_ = c.Close()
			}
		}
	}
	p.change.Broadcast()
}

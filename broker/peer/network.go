package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/multiraft"
)

// Network is a broker's end of all connections to other brokers. Its methods
// are safe for concurrent use.
type Network struct {
	cfg      Config
	listener net.Listener
	began    time.Time
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	loops    sync.WaitGroup
	watch    *watch
	// peers is replaced as a whole: Send reads it for every message.
	peers atomic.Pointer[map[int32]*peer]
	asks  chan struct{} // bounds Ask

	refused atomic.Int64 // connections that were not taken
	stray   atomic.Int64 // raft messages to brokers that are not peers

	handlersMu sync.RWMutex // guards what follows
	calls      map[Method]CallHandler
	streams    map[Method]StreamHandler

	mu       sync.Mutex // guards what follows
	admitted int
	accepted map[net.Conn]*conn // nil before the hellos
	blamed   map[string]struct{}
	closed   bool

	countsMu sync.Mutex // guards what follows
	counts   map[countKey]*flow
}

// CallHandler answers a call of broker from, which is only its word without
// TLS, and before a cluster knows it anyhow. The request is the handler's to keep. It runs on a goroutine of its own,
// with the caller's deadline, and ends soon after ctx does.
type CallHandler func(ctx context.Context, from int32, request []byte) ([]byte, error)

// StreamHandler writes a stream that broker from asked for. A write waits for
// the reader; the stream ends when the handler returns.
type StreamHandler func(ctx context.Context, from int32, request []byte, w io.Writer) error

// Network is how multiraft's messages travel.
var _ multiraft.Transport = (*Network)(nil)

// Open listens and starts the loops. There are no peers until SetPeers.
func Open(cfg Config) (*Network, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for brokers: %w", err)
	}
	n := &Network{cfg: cfg, listener: listener, began: time.Now(), watch: newWatch(),
		calls: map[Method]CallHandler{}, streams: map[Method]StreamHandler{},
		asks:     make(chan struct{}, cfg.CallsMax),
		accepted: map[net.Conn]*conn{}, counts: map[countKey]*flow{}, blamed: map[string]struct{}{}}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.peers.Store(&map[int32]*peer{})
	if addr, ok := listener.Addr().(*net.TCPAddr); cfg.TLS == nil && ok && !addr.IP.IsLoopback() {
		cfg.Log.Warn("connections between brokers are neither encrypted nor authenticated", "addr", addr.String())
	}
	n.loops.Go(n.acceptLoop)
	n.loops.Go(n.clockLoop)
	n.loops.Go(func() { n.watch.run(n.ctx) })
	return n, nil
}

// Addr is the address listened on, with the real port.
func (n *Network) Addr() net.Addr { return n.listener.Addr() }

// Close ends all connections and handlers' contexts, and waits for every loop
// and handler. Watchers are not told.
func (n *Network) Close() error {
	n.mu.Lock()
	already := n.closed
	n.closed = true
	n.mu.Unlock()
	if already {
		return nil
	}
	n.cancel()
	err := n.listener.Close()
	n.mu.Lock()
	for nc := range n.accepted {
		_ = nc.Close()
	}
	n.mu.Unlock()
	n.loops.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// now is the time since Open in nanoseconds, from 1 on.
func (n *Network) now() int64 { return int64(time.Since(n.began)) + 1 }

func (n *Network) peer(node int32) *peer { return (*n.peers.Load())[node] }

func (n *Network) hello(lane laneKind, want int32) hello {
	return hello{newest: versionNewest, oldest: versionOldest, lane: lane, cluster: n.cfg.ClusterID(),
		node: n.cfg.Node, want: want, boot: n.cfg.Boot, features: n.cfg.Features, level: n.cfg.Level}
}

// SetPeers says which brokers there are and where, host:port by node id. This
// broker itself may be among them. Who is no longer there is disconnected and
// down; at a new address a peer is connected anew.
func (n *Network) SetPeers(addrs map[int32]string) {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return
	}
	old := *n.peers.Load()
	next := make(map[int32]*peer, len(addrs))
	var removed, added []*peer
	for node, addr := range addrs {
		if node == n.cfg.Node {
			continue
		}
		p := old[node]
		if p == nil {
			p = newPeer(n, node, addr)
			added = append(added, p)
		}
		next[node] = p
	}
	for node, p := range old {
		if next[node] == nil {
			removed = append(removed, p)
		}
	}
	n.peers.Store(&next)
	// Under the lock, so that Close either sees the loops or prevents them.
	for _, p := range added {
		p.start()
	}
	n.mu.Unlock()
	for _, p := range removed {
		p.remove()
	}
	for node, p := range next {
		p.setAddr(addrs[node])
	}
}

// Send implements multiraft.Transport. It encodes what it can and keeps only
// references to entries' bytes, which must not change. Messages to brokers
// that are not connected, or whose queue is full, are dropped and counted.
func (n *Network) Send(messages []multiraft.Message) {
	peers := *n.peers.Load()
	for i := range messages {
		m := &messages[i]
		p := peers[m.Node]
		if p == nil || !travels(m.Type) {
			n.stray.Add(1)
			continue
		}
		l := p.lanes[laneOf(m.Type)]
		c := l.conn.Load()
		if c == nil || !fits(m, n.cfg.FrameBytesMax) || !c.out.message(m) {
			l.sent.dropped.Add(1)
		}
	}
	// Writers are woken once all is there, so that it goes in few writes.
	for _, p := range peers {
		for _, l := range p.lanes[:laneRequest] {
			if c := l.conn.Load(); c != nil {
				c.out.flush()
			}
		}
	}
}

// laneOf keeps all MsgApp of a group in order: an empty one that overtakes
// another would be refused as a gap, and raft would stop to probe.
func laneOf(t raftpb.MessageType) laneKind {
	if t == raftpb.MsgApp || t == raftpb.MsgSnap {
		return laneAppend
	}
	return laneControl
}

// Handle says who answers calls of a method. A method has one handler.
func (n *Network) Handle(m Method, h CallHandler) {
	n.handlersMu.Lock()
	defer n.handlersMu.Unlock()
	n.calls[m] = h
}

// HandleStream says who writes streams of a method.
func (n *Network) HandleStream(m Method, h StreamHandler) {
	n.handlersMu.Lock()
	defer n.handlersMu.Unlock()
	n.streams[m] = h
}

func (n *Network) handlerOf(m Method) (CallHandler, StreamHandler) {
	n.handlersMu.RLock()
	defer n.handlersMu.RUnlock()
	return n.calls[m], n.streams[m]
}

// Call asks a peer and waits for its answer until ctx ends. Errors: ErrDown
// (nothing was sent), ErrLost (it may have been done), *Error (the handler's,
// or ErrBusy, ErrUnknownMethod, ErrTooLarge), ctx's. It retries nothing. The
// request must not change until Call returns.
func (n *Network) Call(ctx context.Context, node int32, m Method, request []byte) ([]byte, error) {
	c, err := n.requestConn(ctx, node)
	if err != nil {
		return nil, err
	}
	answer, err := c.call(ctx, m, request)
	if err != nil {
		return nil, fmt.Errorf("call method %d of node %d: %w", m, node, err)
	}
	return answer, nil
}

// Stream asks a peer for a stream. The reader must be closed; it ends with
// io.EOF when the handler is done, or with an error as Call's. When ctx ends,
// so does the stream.
func (n *Network) Stream(ctx context.Context, node int32, m Method, request []byte) (io.ReadCloser, error) {
	c, err := n.requestConn(ctx, node)
	if err != nil {
		return nil, err
	}
	s, err := c.stream(ctx, m, request)
	if err != nil {
		return nil, fmt.Errorf("open stream of method %d of node %d: %w", m, node, err)
	}
	return s, nil
}

func (n *Network) requestConn(ctx context.Context, node int32) (*conn, error) {
	if n.ctx.Err() != nil {
		return nil, ErrClosed
	}
	p := n.peer(node)
	if p == nil {
		return nil, fmt.Errorf("%w: node %d is not known", ErrDown, node)
	}
	return p.lanes[laneRequest].get(ctx)
}

// Ask is Call to whoever listens at addr, over a connection of its own: for
// before ids are known. ErrWrongCluster and ErrVersion say who is there.
func (n *Network) Ask(ctx context.Context, addr string, m Method, request []byte) ([]byte, error) {
	select {
	case n.asks <- struct{}{}:
		defer func() { <-n.asks }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := n.askConn(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer c.close(ErrClosed)
	answer, err := c.call(ctx, m, request)
	if err != nil {
		return nil, fmt.Errorf("ask method %d at %s: %w", m, addr, err)
	}
	return answer, nil
}

// askConn dials addr and starts the connection's loops.
func (n *Network) askConn(ctx context.Context, addr string) (*conn, error) {
	type dialed struct {
		c   *conn
		err error
	}
	got := make(chan dialed, 1)
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil, ErrClosed
	}
	// Under the lock, so that Close either waits for the loop or prevents it.
	n.loops.Go(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(n.ctx, cancel)()
		c, err := n.dial(ctx, addr, laneAsk, -1)
		got <- dialed{c, err}
		if err == nil {
			_ = c.run() // who asked sees how it ended
		}
	})
	n.mu.Unlock()
	d := <-got
	if d.err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, d.err)
	}
	return d.c, nil
}

// Up gives the boot id of a peer and whether both ways to it work.
func (n *Network) Up(node int32) (boot uint64, ok bool) {
	if p := n.peer(node); p != nil {
		return p.isUp()
	}
	return 0, false
}

// Watch has fn called when a peer goes up or down, first for those that are
// up, one call at a time and in order; a process that was started again is
// down with its old boot id and then up with its new one. Fn must not block.
func (n *Network) Watch(fn func(node int32, boot uint64, up bool)) { n.watch.add(fn) }

// Remote is what a peer said of itself.
type Remote struct {
	Boot     uint64
	Version  int // of the connection
	Features uint64
	Level    uint32
}

// Remote gives what a connected peer said of itself.
func (n *Network) Remote(node int32) (Remote, bool) {
	p := n.peer(node)
	if p == nil {
		return Remote{}, false
	}
	c := p.lanes[laneControl].conn.Load()
	if c == nil {
		return Remote{}, false
	}
	return Remote{Boot: c.theirs.boot, Version: int(c.version), Features: c.theirs.features, Level: c.theirs.level}, true
}

// clockLoop sends heartbeats.
func (n *Network) clockLoop() {
	ticker := time.NewTicker(n.cfg.HeartbeatEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			for _, p := range *n.peers.Load() {
				p.tick()
			}
		case <-n.ctx.Done():
			return
		}
	}
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Server is the listener. Open starts it, Close ends it.
type Server struct {
	cfg         Config
	log         *slog.Logger
	listener    net.Listener
	apis        map[int16]*api // fixed after Open
	memory      memory         // of requests
	answers     memory         // of Fetch answers
	sessions    *fetchSessions
	producerIDs *producerIDs
	counters    counters
	blame       blame

	// decodeLarge lets one large message be decoded at a time, because decoded
	// structs are many times the size of their bytes.
	decodeLarge sync.Mutex

	draining context.Context // ended by Close: no new request is read
	drain    context.CancelFunc
	cutting  context.Context // ended by a Close whose time is up: nothing is waited for
	cut      context.CancelFunc
	loops    sync.WaitGroup // the accept loop and two per connection

	mu    sync.Mutex
	conns map[*conn]struct{}
	perIP map[netip.Addr]int
}

// Open listens and serves until Close. A taken port is an error that wraps
// syscall.EADDRINUSE and names the address.
func Open(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	l, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for Kafka clients: %w", err)
	}
	if cfg.Listening != nil {
		if err := cfg.Listening(l.Addr()); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	s := newServer(cfg)
	s.listener = l
	s.loops.Go(s.acceptLoop)
	return s, nil
}

// newServer makes a server without a listener.
func newServer(cfg Config) *Server {
	s := &Server{
		cfg: cfg, log: cfg.Log,
		memory:      memory{max: cfg.MemoryBytesMax},
		answers:     memory{max: cfg.FetchMemoryBytesMax},
		sessions:    newFetchSessions(cfg.FetchSessionsMax, cfg.FetchSessionPartitionsMax),
		producerIDs: newProducerIDs(),
		conns:       map[*conn]struct{}{},
		perIP:       map[netip.Addr]int{},
		blame:       blame{log: cfg.Log},
	}
	s.apis = s.apiTable()
	s.draining, s.drain = context.WithCancel(context.Background())
	s.cutting, s.cut = context.WithCancel(context.Background())
	return s
}

// Addr is the address listened on, with the real port.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close stops reading requests, lets those in flight be answered until ctx
// ends, then cuts what is left. It returns when no loop runs any more.
func (s *Server) Close(ctx context.Context) error {
	s.drain()
	err := s.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	done := make(chan struct{})
	go func() { s.loops.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		s.cutAll()
		<-done
	}
	return err
}

// cutAll ends every connection and what it waits for.
func (s *Server) cutAll() {
	s.cut()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.cut()
	}
}

// acceptLoop admits connections. An accept that fails (out of descriptors) is
// tried again with a growing pause, so that the broker outlives the shortage.
func (s *Server) acceptLoop() {
	pause := time.Duration(0)
	for {
		nc, err := s.listener.Accept()
		if err == nil {
			pause = 0
			s.admit(nc)
			continue
		}
		if s.draining.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.log.Warn("accept connection", "error", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-s.draining.Done():
			return
		}
	}
}

// admit starts the loops of a connection, or closes it when a limit is reached.
func (s *Server) admit(nc net.Conn) {
	s.counters.accepted.Add(1)
	ip := clientIP(nc)
	c := newConn(s, nc, ip)
	s.mu.Lock()
	full := len(s.conns) >= s.cfg.ConnectionsMax || s.perIP[ip] >= s.cfg.ConnectionsPerIPMax
	admitted := !full && s.draining.Err() == nil
	if admitted {
		s.conns[c] = struct{}{}
		s.perIP[ip]++
		s.counters.connections.Add(1)
		s.loops.Go(c.serve)
	}
	s.mu.Unlock()
	if full {
		s.counters.refused.Add(1)
		s.blame.once(ip, "connection limit reached, closing new connections of this client", "limit", s.cfg.ConnectionsMax, "limit_per_ip", s.cfg.ConnectionsPerIPMax)
	}
	switch {
	case full:
		c.cut()
	case !admitted:
		c.leave()
	}
}

// forget is called when a connection's loops have ended.
func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.perIP[c.ip]--; s.perIP[c.ip] == 0 {
		delete(s.perIP, c.ip)
	}
	s.counters.connections.Add(-1)
}

func clientIP(nc net.Conn) netip.Addr {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// blame writes a log line about a misbehaving client once per client address,
// so that a scanner cannot fill the log. What is not logged is still counted.
type blame struct {
	log  *slog.Logger
	mu   sync.Mutex
	seen map[netip.Addr]struct{}
}

// blamedMax bounds the remembered addresses; beyond it nothing more is logged.
const blamedMax = 4096

func (b *blame) once(ip netip.Addr, message string, attrs ...any) {
	b.mu.Lock()
	_, known := b.seen[ip]
	known = known || len(b.seen) >= blamedMax
	if !known {
		if b.seen == nil {
			b.seen = map[netip.Addr]struct{}{}
		}
		b.seen[ip] = struct{}{}
	}
	b.mu.Unlock()
	if !known {
		b.log.Warn(message, append([]any{"client", ip.String()}, attrs...)...)
	}
}

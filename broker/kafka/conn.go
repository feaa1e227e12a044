package kafka

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// conn is one client connection: a reader loop, which reads requests and makes
// appends in the order they came, and a writer loop, which does everything
// else in that order and writes the answers.
type conn struct {
	s  *Server
	nc net.Conn
	ip netip.Addr
	// host is ip as Kafka shows clients: "/10.0.0.1".
	host string
	// queue holds requests read and not yet answered; the reader closes it.
	queue chan *exchange
	// inFlight counts requests read and not yet answered: a connection with one
	// is not idle.
	inFlight atomic.Int32

	mu       sync.Mutex // orders deadlines against draining
	draining bool

	// Only the reader's:
	br *bufio.Reader
	// trustBytes is how much is allocated on a length's word alone: the size
	// of the largest request this client has sent whole, within bounds.
	trustBytes int
	// scratch is reused for requests whose decoded form keeps no view of it.
	scratch []byte
	// clientID is the newest request's, kept because the next one has the same.
	clientID string

	// Only the writer's:
	out []byte // answers not yet written
	// told: something else than ApiVersions was answered.
	told  bool
	fetch fetch
}

// errMalformed: the bytes are no request that can be answered. The connection
// is closed and the client named in the log once.
var errMalformed = errors.New("not a Kafka request")

// errVersion: a known API in a version that is not served. ApiVersions is
// answered, for others the connection is closed, since neither side could read
// what the other says.
var errVersion = errors.New("unsupported version")

const readBufferBytes = 16 << 10

func newConn(s *Server, nc net.Conn, ip netip.Addr) *conn {
	return &conn{
		s: s, nc: nc, ip: ip, host: "/" + ip.String(),
		queue:      make(chan *exchange, s.cfg.PipelineMax),
		br:         bufio.NewReaderSize(nc, readBufferBytes),
		trustBytes: trustBytesMin,
	}
}

// cut closes the socket: both loops end soon.
func (c *conn) cut() { c.nc.Close() }

// leave is cut when the server drains. A client that was told nothing yet takes
// an orderly end for a refusal (TLS or SASL is missing) and may give up; a reset
// is a connection that broke, after which it tries again.
func (c *conn) leave() {
	if tcp, ok := c.nc.(*net.TCPConn); ok && !c.told {
		tcp.SetLinger(0) // an error here means that the socket is closed already
	}
	c.cut()
}

// serve runs both loops and returns when they have ended. live ends when the
// socket is no use any more, patience already when no further request will
// come (the client closed its side, or the server drains): long polls are then
// answered with what there is.
func (c *conn) serve() {
	defer c.s.forget(c)
	live, end := context.WithCancel(c.s.cutting)
	defer end()
	patience, hurry := context.WithCancel(live)
	defer hurry()
	stop := context.AfterFunc(c.s.draining, func() { c.stopReading(); hurry() })
	defer stop()
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(c.queue)
		defer hurry()
		c.readLoop(live)
	})
	c.writeLoop(live, patience)
	end()
	if c.s.draining.Err() != nil {
		c.leave()
	} else {
		c.cut()
	}
	for x := range c.queue { // unblocks the reader, gives memory back
		x.release(c)
	}
	reader.Wait()
}

// stopReading makes the reader's current and next read fail.
func (c *conn) stopReading() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	c.nc.SetReadDeadline(time.Unix(1, 0)) // an error here means that the socket is closed already
}

func (c *conn) setReadDeadline(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.draining {
		c.nc.SetReadDeadline(time.Now().Add(d)) // as above
	}
}

// readLoop reads requests until the client is done, misbehaves, or the server
// drains.
func (c *conn) readLoop(ctx context.Context) {
	for c.s.draining.Err() == nil {
		f, err := c.readFrame(ctx)
		if err != nil {
			c.logReadError(err)
			return
		}
		x, err := c.receive(f)
		if err != nil {
			c.s.memory.hold(-f.bytes)
			c.logReadError(err)
			return
		}
		c.inFlight.Add(1)
		select {
		case c.queue <- x:
		case <-ctx.Done():
			x.release(c)
			return
		}
	}
}

func (c *conn) logReadError(err error) {
	switch {
	case errors.Is(err, errIdle):
		c.s.counters.idleClosed.Add(1)
	case errors.Is(err, errMalformed), errors.Is(err, errVersion):
		c.s.counters.malformed.Add(1)
		c.s.blame.once(c.ip, "closed connection", "error", err)
	case errors.Is(err, os.ErrDeadlineExceeded) && c.s.draining.Err() == nil:
		c.s.counters.malformed.Add(1)
		c.s.blame.once(c.ip, "closed connection", "error", "request stopped in the middle")
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		// The ordinary end.
	default:
		c.s.log.Debug("read from client", "client", c.ip.String(), "error", err)
	}
}

// writeLoop answers requests in order. Answers that are ready are written
// together; before anything that waits, what is there is written first.
func (c *conn) writeLoop(live, patience context.Context) {
	for x := range c.queue {
		ok := c.answer(live, patience, x)
		c.told = c.told || x.key != int16(kmsg.ApiVersions) && ok
		x.release(c)
		if !ok {
			return
		}
		if len(c.queue) == 0 && !c.flush() {
			return
		}
	}
}

// answer finishes one exchange; false ends the connection.
func (c *conn) answer(live, patience context.Context, x *exchange) bool {
	if !x.ready() && !c.flush() {
		return false
	}
	a := x.finish(c, live, patience)
	switch {
	case a.cut:
		c.flush()
		return false
	case a.silent:
		return true
	case a.parts != nil:
		ok := c.flush() && c.write(a.parts)
		c.clearFetch()
		return ok
	}
	return len(c.out) < flushBytes || c.flush()
}

const (
	// flushBytes is how many bytes of ready answers are kept for one write.
	flushBytes = 64 << 10
	// writeStepBytes is what a client must take within WriteTimeout.
	writeStepBytes = 1 << 20
)

func (c *conn) flush() bool {
	if len(c.out) == 0 {
		return true
	}
	ok := c.write(net.Buffers{c.out})
	c.out = c.out[:0]
	if cap(c.out) > 4*flushBytes {
		c.out = nil
	}
	return ok
}

// write sends parts by vectored writes of at most writeStepBytes, each with its
// own deadline, so that a slow client is told from a dead one.
func (c *conn) write(parts net.Buffers) bool {
	for len(parts) > 0 {
		step, n := takeParts(&parts, writeStepBytes)
		c.nc.SetWriteDeadline(time.Now().Add(c.s.cfg.WriteTimeout)) // an error here shows in the write
		if _, err := step.WriteTo(c.nc); err != nil {
			c.s.log.Debug("write to client", "client", c.ip.String(), "error", err)
			return false
		}
		c.s.counters.bytesOut.Add(int64(n))
	}
	return true
}

// takeParts moves up to bytesMax from the front of parts. A part is cut rather
// than copied.
func takeParts(parts *net.Buffers, bytesMax int) (step net.Buffers, n int) {
	i := 0
	for ; i < len(*parts) && n+len((*parts)[i]) <= bytesMax; i++ {
		n += len((*parts)[i])
	}
	if i == len(*parts) {
		step, *parts = *parts, nil
		return step, n
	}
	room := bytesMax - n
	if i == 0 {
		step = net.Buffers{(*parts)[0][:room]}
		(*parts)[0] = (*parts)[0][room:]
		return step, room
	}
	step = (*parts)[:i:i]
	*parts = (*parts)[i:]
	return step, n
}

package peer

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// laneKind tells what a connection is for. Lanes keep what must be quick from
// waiting behind what is large.
type laneKind uint8

const (
	laneControl laneKind = 0 // heartbeats, votes, acknowledgements
	laneAppend  laneKind = 1 // MsgApp and MsgSnap
	laneRequest laneKind = 2 // calls and streams
	laneAsk     laneKind = 3 // one Ask
	lanes                = 3 // that a broker keeps to each peer
)

func (k laneKind) String() string {
	return [...]string{"control", "append", "request", "ask"}[k&3]
}

const (
	readBufferBytes = 64 << 10
	// growBytes is what is allocated on a frame's word alone; more only as
	// bytes come in.
	growBytes = 1 << 20
	// writeTimeout is for one piece of a batch. Peers that do not read are
	// found by heartbeats long before.
	writeTimeout = 10 * time.Second
	// idleTimeout ends an accepted connection on which nothing comes: its
	// dialer sends a heartbeat every second at least.
	idleTimeout = 15 * time.Second
	// askTimeout is for a connection of one Ask, which has no heartbeat.
	askTimeout = 2 * time.Minute
	// laneBeatEveryDefault is the heartbeat of lanes that do not decide who is
	// up; without an echo for laneStallMaxDefault the lane is dialed again: a
	// way may be dead for one connection alone.
	laneBeatEveryDefault = time.Second
	laneStallMaxDefault  = 5 * time.Second
)

// conn is one connection after the hellos, dialed or accepted: a reader and a
// writer.
type conn struct {
	n       *Network
	nc      net.Conn
	theirs  hello
	version uint16
	lane    laneKind
	dialed  bool
	out     *outbox
	sent    *counters
	got     *counters
	asked   asked  // calls and streams that wait for the other end
	serving served // those of the other end

	ctx    context.Context // ends with the connection
	cancel context.CancelFunc

	// echoedAt is when the newest ping that came back was sent, by Network.now.
	echoedAt atomic.Int64

	// Of the reader alone.
	r       *bufio.Reader
	scratch []byte
	metas   metas

	once sync.Once
	err  error // why it ended, set once
}

func newConn(n *Network, nc net.Conn, theirs hello, version uint16, lane laneKind, dialed bool) *conn {
	c := &conn{n: n, nc: nc, theirs: theirs, version: version, lane: lane, dialed: dialed}
	c.ctx, c.cancel = context.WithCancel(n.ctx)
	bytesMax, messagesMax := n.cfg.RequestBytesMax, n.cfg.ControlMessagesMax
	switch lane {
	case laneControl:
		bytesMax = n.cfg.ControlBytesMax
	case laneAppend:
		bytesMax, messagesMax = n.cfg.AppendBytesMax, n.cfg.AppendMessagesMax
	}
	c.out = newOutbox(bytesMax, messagesMax)
	c.sent, c.got = n.countersOf(theirs.node, lane)
	c.asked.init(n.cfg.CallsMax)
	c.serving.init()
	c.echoedAt.Store(n.now())
	idle := idleTimeout
	if dialed {
		idle = 0 // heartbeats tell
	} else if lane == laneAsk {
		idle = askTimeout
	}
	c.r = bufio.NewReaderSize(&idleReader{nc: nc, idle: idle}, readBufferBytes)
	return c
}

// idleReader ends a read when nothing came for idle, 0 for never.
type idleReader struct {
	nc   net.Conn
	idle time.Duration
	set  time.Time
}

func (r *idleReader) Read(b []byte) (int, error) {
	if r.idle > 0 {
		// A deadline is moved once a second, not for each read.
		if now := time.Now(); now.Sub(r.set) > time.Second {
			r.set = now
			if err := r.nc.SetReadDeadline(now.Add(r.idle)); err != nil {
				return 0, err
			}
		}
	}
	return r.nc.Read(b)
}

// run serves the connection until it ends and says why. The writer has
// stopped then; handlers of calls may still be returning.
func (c *conn) run() error {
	stop := context.AfterFunc(c.n.ctx, func() { c.close(ErrClosed) })
	defer stop()
	writer := make(chan struct{})
	c.n.loops.Go(func() {
		defer close(writer)
		c.close(c.write())
	})
	c.close(c.read())
	<-writer
	if dropped := c.out.close(); dropped > 0 {
		c.sent.dropped.Add(int64(dropped))
	}
	c.asked.fail(c.err)
	c.serving.fail()
	return c.err
}

// close ends the connection; the first reason counts.
func (c *conn) close(err error) {
	c.once.Do(func() {
		c.err = err
		c.cancel()
		_ = c.nc.Close() // what it held is lost with it
	})
}

// write writes what waits until the connection ends.
func (c *conn) write() error {
	w := connWriter{c: c}
	_, w.tls = c.nc.(*tls.Conn)
	for {
		b := c.out.take()
		if b == nil {
			if err := w.beats(); err != nil {
				return err
			}
			select {
			case <-c.out.wake:
				continue
			case <-c.ctx.Done():
				return ErrClosed
			}
		}
		messages := b.messages
		if err := w.batch(b); err != nil {
			return err
		}
		c.sent.messages.Add(int64(messages))
		c.out.written(b)
	}
}

// connWriter writes batches in pieces, heartbeats between them.
type connWriter struct {
	c       *conn
	tls     bool
	buffers net.Buffers // kept to be used again
	flying  net.Buffers // what WriteTo consumes
	scratch []byte
}

func (w *connWriter) batch(b *batch) error {
	for next := 0; next < len(b.frames); {
		if err := w.beats(); err != nil {
			return err
		}
		size := 0
		w.buffers, next, size = b.piece(next, w.buffers[:0])
		if err := w.piece(size); err != nil {
			return err
		}
	}
	return nil
}

func (w *connWriter) piece(size int) error {
	if err := w.c.nc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("write to peer: %w", err)
	}
	var err error
	switch {
	case w.tls:
		// Each write is a record at least: small pieces go together.
		w.scratch = w.scratch[:0]
		for _, b := range w.buffers {
			w.scratch = append(w.scratch, b...)
		}
		_, err = w.c.nc.Write(w.scratch)
		if cap(w.scratch) > keepBytesMax {
			w.scratch = nil
		}
	case len(w.buffers) == 1:
		_, err = w.c.nc.Write(w.buffers[0])
	default:
		w.flying = w.buffers
		_, err = w.flying.WriteTo(w.c.nc)
	}
	clear(w.buffers)
	if err != nil {
		return fmt.Errorf("write to peer: %w", err)
	}
	w.c.sent.bytes.Add(int64(size))
	return nil
}

func (w *connWriter) beats() error {
	w.scratch = w.c.out.beats(w.scratch[:0])
	if len(w.scratch) == 0 {
		return nil
	}
	if err := w.c.nc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("write to peer: %w", err)
	}
	if _, err := w.c.nc.Write(w.scratch); err != nil {
		return fmt.Errorf("write to peer: %w", err)
	}
	w.c.sent.bytes.Add(int64(len(w.scratch)))
	return nil
}

// read takes frames until the connection ends.
func (c *conn) read() error {
	var head [frameHeader]byte
	for {
		if _, err := io.ReadFull(c.r, head[:]); err != nil {
			return fmt.Errorf("read from peer: %w", err)
		}
		h := decodeHeader(&head)
		if h.length > c.n.cfg.FrameBytesMax {
			return fmt.Errorf("%w: frame of %d bytes, at most %d", errFormat, h.length, c.n.cfg.FrameBytesMax)
		}
		c.got.bytes.Add(int64(frameHeader + h.length))
		sum := crc32.Checksum(head[:8], castagnoli)
		var err error
		if h.kind == kindMessages {
			err = c.readMessages(h, sum)
		} else {
			err = c.readFrame(h, sum)
		}
		if err != nil {
			return err
		}
	}
}

// readFrame reads the payload of any kind but messages and acts on it.
func (c *conn) readFrame(h header, sum uint32) error {
	var body []byte
	var err error
	if h.kind.kept() {
		body, err = c.readBytes(nil, h.length)
	} else {
		c.scratch, err = c.readBytes(c.scratch[:0], h.length)
		body = c.scratch
		if cap(c.scratch) > growBytes {
			c.scratch = nil
		}
	}
	if err != nil {
		return err
	}
	if crc32.Update(sum, castagnoli, body) != h.sum {
		return fmt.Errorf("%w: checksum of a frame of kind %d", errFormat, h.kind)
	}
	return c.dispatch(h, body)
}

// kept reports whether the payload outlives the dispatch.
func (k kind) kept() bool { return k == kindCall || k == kindOpen || k == kindAnswer || k == kindData }

// readBytes appends n bytes to b, which is empty. Large claims are believed
// only as bytes come in.
func (c *conn) readBytes(b []byte, n int) ([]byte, error) {
	for len(b) < n {
		if len(b) == cap(b) || len(b) == 0 && cap(b) < min(n, growBytes) {
			grown := make([]byte, len(b), min(n, max(2*len(b), growBytes)))
			copy(grown, b)
			b = grown
		}
		from := len(b)
		b = b[:min(n, cap(b))]
		if _, err := io.ReadFull(c.r, b[from:]); err != nil {
			return nil, fmt.Errorf("read from peer: %w", err)
		}
	}
	return b, nil
}

// readMessages reads raft messages, each one's bytes into a buffer of its own,
// and hands them over once the frame is whole and right.
func (c *conn) readMessages(h header, sum uint32) error {
	var size [4]byte
	if h.length < len(size) {
		return fmt.Errorf("%w: frame of raft messages has %d bytes", errFormat, h.length)
	}
	if _, err := io.ReadFull(c.r, size[:]); err != nil {
		return fmt.Errorf("read from peer: %w", err)
	}
	meta := int(uint32(size[0])<<24 | uint32(size[1])<<16 | uint32(size[2])<<8 | uint32(size[3]))
	data := h.length - len(size) - meta
	if meta > metaBytesMax || data < 0 {
		return fmt.Errorf("%w: %d bytes before the data of %d", errFormat, meta, h.length)
	}
	var err error
	if c.scratch, err = c.readBytes(c.scratch[:0], meta); err != nil {
		return err
	}
	sum = crc32.Update(crc32.Update(sum, castagnoli, size[:]), castagnoli, c.scratch)
	if err := decodeMetas(c.scratch, &c.metas, data); err != nil {
		return err
	}
	if c.metas.total != data {
		return fmt.Errorf("%w: raft messages of %d bytes in a frame with %d", errFormat, c.metas.total, data)
	}
	err = c.metas.fill(func(n int) ([]byte, error) {
		b, err := c.readBytes(nil, n)
		sum = crc32.Update(sum, castagnoli, b)
		return b, err
	})
	if err != nil {
		return err
	}
	if sum != h.sum {
		return fmt.Errorf("%w: checksum of a frame of raft messages", errFormat)
	}
	for i := range c.metas.messages {
		c.metas.messages[i].Node = c.n.cfg.Node
	}
	c.got.messages.Add(int64(len(c.metas.messages)))
	c.n.cfg.Receive(c.metas.messages)
	clear(c.metas.messages)
	return nil
}

// dispatch acts on a whole frame.
func (c *conn) dispatch(h header, b []byte) error {
	switch h.kind {
	case kindPing, kindPong:
		return c.beat(h.kind, b)
	case kindCall, kindOpen:
		r, err := decodeRequest(b)
		if err == nil {
			c.serve(h.kind, r)
		}
		return err
	case kindAnswer:
		r, err := decodeReply(b)
		if err == nil {
			c.asked.answer(r)
		}
		return err
	case kindEnd:
		r, err := decodeReply(b)
		if err == nil {
			c.asked.end(r)
		}
		return err
	case kindData:
		p, err := decodePart(b, h.kind)
		if err == nil {
			err = c.asked.data(p)
		}
		return err
	case kindCancel, kindCredit:
		p, err := decodePart(b, h.kind)
		if err == nil {
			c.serving.part(h.kind, p)
		}
		return err
	}
	if h.flags&flagMust != 0 {
		return fmt.Errorf("%w: frame of kind %d must be understood", errFormat, h.kind)
	}
	c.got.skipped.Add(1)
	return nil
}

// beat answers a ping and notes what a heartbeat says.
func (c *conn) beat(k kind, b []byte) error {
	p, err := decodeBeat(b)
	if err != nil {
		return err
	}
	ours := c.n.cfg.ClusterID()
	if conflict(ours, p.cluster) {
		return &Error{CodeWrongCluster, fmt.Sprintf("node %d belongs to cluster %x, node %d to cluster %x", c.n.cfg.Node, ours, c.theirs.node, p.cluster)}
	}
	if k == kindPong && c.dialed {
		c.echoedAt.Store(max(c.echoedAt.Load(), min(int64(p.at), c.n.now())))
	}
	to := c.n.peer(c.theirs.node)
	if to != nil && c.lane == laneControl {
		to.beat(c, k, p)
	}
	if k == kindPing {
		hears := to != nil && to.hears(c.theirs.boot)
		c.out.pong(beat{at: p.at, now: uint64(c.n.now()), hears: hears, cluster: ours})
	}
	return nil
}

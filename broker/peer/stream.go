package peer

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// streamPieceBytes is the largest piece of a stream: what others on the lane
// wait behind.
const streamPieceBytes = 64 << 10

// waitFor waits for a token, or until done is closed; false when neither came
// in time.
func waitFor(wake <-chan struct{}, patience time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-wake:
	case <-done:
	case <-timer.C:
		return false
	}
	return true
}

// streamReader is the reading end of a stream. It holds at most the window.
type streamReader struct {
	c      *conn
	id     uint64
	window int
	once   sync.Once // releases the slot
	wake   chan struct{}

	mu     sync.Mutex  // guards what follows
	unbind func() bool // takes back the watch on the caller's context
	pieces [][]byte
	held   int // bytes in pieces
	owed   int // bytes read and not yet given back as credit
	err    error
}

// stream opens a stream.
func (c *conn) stream(ctx context.Context, m Method, body []byte) (io.ReadCloser, error) {
	if requestFixed+len(body) > c.n.cfg.FrameBytesMax {
		return nil, fmt.Errorf("%w: request of %d bytes", ErrTooLarge, len(body))
	}
	if err := c.asked.enter(ctx); err != nil {
		return nil, err
	}
	s := &streamReader{c: c, window: c.n.cfg.StreamWindow, wake: make(chan struct{}, 1)}
	if err := c.asked.addStream(s); err != nil {
		c.asked.leave()
		return nil, err
	}
	s.bind(ctx)
	req := request{id: s.id, method: m, timeout: timeoutOf(ctx), window: uint32(s.window), body: body}
	if err := c.out.put(ctx, false, func(b []byte) []byte { return req.appendTo(b, kindOpen) }); err != nil {
		s.stop(err)
		return nil, err
	}
	return s, nil
}

// bind ends the stream with ctx.
func (s *streamReader) bind(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unbind = context.AfterFunc(ctx, func() { s.stop(ctx.Err()) })
}

// Read implements io.Reader. The end of a stream whose handler returned nil is
// io.EOF, that of any other its error; one that stands still is ErrStalled.
func (s *streamReader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, credit, err := s.take(b)
		if credit > 0 {
			p := part{id: s.id, credit: uint32(credit)}
			_ = s.c.out.put(s.c.ctx, true, func(b []byte) []byte { return p.appendTo(b, kindCredit) })
		}
		if n > 0 || err != nil {
			return n, err
		}
		if !waitFor(s.wake, s.c.n.cfg.streamStallMax, nil) {
			s.stop(fmt.Errorf("%w: nothing came for %s", ErrStalled, s.c.n.cfg.streamStallMax))
		}
	}
}

func (s *streamReader) take(b []byte) (n, credit int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n < len(b) && len(s.pieces) > 0 {
		k := copy(b[n:], s.pieces[0])
		n += k
		if s.pieces[0] = s.pieces[0][k:]; len(s.pieces[0]) == 0 {
			s.pieces[0] = nil
			s.pieces = s.pieces[1:]
		}
	}
	s.held -= n
	if n == 0 {
		return 0, 0, s.err
	}
	if s.owed += n; s.owed >= s.window/2 && s.err == nil {
		credit, s.owed = s.owed, 0
	}
	return n, credit, nil
}

// Close ends the stream on both ends. It may be called at any time.
func (s *streamReader) Close() error {
	s.stop(io.ErrClosedPipe)
	return nil
}

// stop ends the stream from this end.
func (s *streamReader) stop(err error) {
	if s.c.asked.removeStream(s.id) {
		s.c.sayCancel(s.id)
	}
	s.mu.Lock()
	s.pieces, s.held = nil, 0
	if s.err == nil {
		s.err = err // with the pieces, lest one that is just coming is read
	}
	unbind := s.unbind
	s.mu.Unlock()
	if unbind != nil {
		unbind()
	}
	s.signal()
	s.once.Do(s.c.asked.leave)
}

// end notes how the stream ended; what came before can still be read.
func (s *streamReader) end(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	s.mu.Unlock()
	s.signal()
}

func (s *streamReader) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *streamReader) push(data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held+s.owed+len(data) > s.window {
		return fmt.Errorf("%w: stream passes its window of %d bytes", errFormat, s.window)
	}
	if s.err == nil {
		s.pieces = append(s.pieces, data)
		s.held += len(data)
	}
	s.signal()
	return nil
}

func (a *asked) addStream(s *streamReader) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return a.err
	}
	a.last++
	s.id = a.last
	a.streams[s.id] = s
	return nil
}

// removeStream reports whether the stream was still open.
func (a *asked) removeStream(id uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.streams[id]
	delete(a.streams, id)
	return ok
}

func (a *asked) streamOf(id uint64, remove bool) *streamReader {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.streams[id]
	if remove {
		delete(a.streams, id)
	}
	return s
}

// data gives a piece to its reader; one that stopped reading misses nothing.
func (a *asked) data(p part) error {
	if s := a.streamOf(p.id, false); s != nil && len(p.data) > 0 {
		return s.push(p.data)
	}
	return nil
}

func (a *asked) end(r reply) {
	s := a.streamOf(r.id, true)
	switch {
	case s == nil:
	case r.code == 0:
		s.end(io.EOF)
	default:
		s.end(&Error{r.code, string(r.body)})
	}
}

// streamWriter is the writing end of a stream: what a handler writes goes out
// as far as the reader's window reaches.
type streamWriter struct {
	ctx  context.Context
	c    *conn
	id   uint64
	wake chan struct{}

	mu     sync.Mutex // guards what follows
	credit int
}

func newStreamWriter(ctx context.Context, c *conn, id uint64, window int) *streamWriter {
	return &streamWriter{ctx: ctx, c: c, id: id, credit: window, wake: make(chan struct{}, 1)}
}

// Write implements io.Writer. It waits for the reader, but not for one that
// takes nothing (ErrStalled), and ends with the stream's context.
func (s *streamWriter) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		n, err := s.reserve(min(len(b)-written, streamPieceBytes))
		if err != nil {
			return written, err
		}
		p := part{id: s.id, data: b[written : written+n]}
		if err := s.c.out.put(s.ctx, false, func(b []byte) []byte { return p.appendTo(b, kindData) }); err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// reserve takes up to n bytes of credit, waiting for some.
func (s *streamWriter) reserve(n int) (int, error) {
	for {
		if err := s.ctx.Err(); err != nil {
			return 0, err
		}
		s.mu.Lock()
		n := min(n, s.credit)
		s.credit -= n
		s.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		if !waitFor(s.wake, s.c.n.cfg.streamStallMax, s.ctx.Done()) {
			return 0, fmt.Errorf("%w: the reader took nothing for %s", ErrStalled, s.c.n.cfg.streamStallMax)
		}
	}
}

func (s *streamWriter) grant(n uint32) {
	s.mu.Lock()
	s.credit = int(min(int64(s.credit)+int64(n), 1<<31-1))
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

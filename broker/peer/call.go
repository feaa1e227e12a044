package peer

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"
)

// asked is the asking side of a connection's calls and streams.
type asked struct {
	slots chan struct{} // bounds what is under way

	mu      sync.Mutex // guards what follows
	last    uint64
	calls   map[uint64]chan reply
	streams map[uint64]*streamReader
	err     error // the connection ended
}

func (a *asked) init(max int) {
	a.slots = make(chan struct{}, max)
	a.calls, a.streams = map[uint64]chan reply{}, map[uint64]*streamReader{}
}

// enter waits for a slot.
func (a *asked) enter(ctx context.Context) error {
	select {
	case a.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case a.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
}

func (a *asked) leave() { <-a.slots }

func (a *asked) addCall() (uint64, chan reply, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return 0, nil, a.err
	}
	a.last++
	ch := make(chan reply, 1)
	a.calls[a.last] = ch
	return a.last, ch, nil
}

func (a *asked) removeCall(id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.calls, id)
}

// answer gives an answer to who waits for it, if anybody still does.
func (a *asked) answer(r reply) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ch := a.calls[r.id]; ch != nil {
		delete(a.calls, r.id)
		ch <- r
	}
}

// fail ends everything under way, for the connection did.
func (a *asked) fail(err error) {
	a.mu.Lock()
	a.err = fmt.Errorf("%w: %w", ErrLost, err)
	streams := a.streams
	for id, ch := range a.calls {
		delete(a.calls, id)
		close(ch)
	}
	a.streams = nil
	a.mu.Unlock()
	for _, s := range streams {
		s.end(a.err)
	}
}

func (a *asked) lost() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// timeoutOf gives ctx's deadline as the wire has it: milliseconds, rounded up,
// 0 for none.
func timeoutOf(ctx context.Context) uint32 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return uint32(min(max(time.Until(deadline).Milliseconds()+1, 1), math.MaxUint32))
}

// withTimeout is the reverse of timeoutOf.
func withTimeout(ctx context.Context, ms uint32) (context.Context, context.CancelFunc) {
	if ms == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(ms)*time.Millisecond)
}

// call asks the other end and waits for the answer.
func (c *conn) call(ctx context.Context, m Method, body []byte) ([]byte, error) {
	if requestFixed+len(body) > c.n.cfg.FrameBytesMax {
		return nil, fmt.Errorf("%w: request of %d bytes", ErrTooLarge, len(body))
	}
	if err := c.asked.enter(ctx); err != nil {
		return nil, err
	}
	defer c.asked.leave()
	id, ch, err := c.asked.addCall()
	if err != nil {
		return nil, err
	}
	defer c.asked.removeCall(id)
	req := request{id: id, method: m, timeout: timeoutOf(ctx), body: body}
	if err := c.out.put(ctx, false, func(b []byte) []byte { return req.appendTo(b, kindCall) }); err != nil {
		return nil, err
	}
	select {
	case r, ok := <-ch:
		if !ok {
			return nil, c.asked.lost()
		}
		if r.code != 0 {
			return nil, &Error{r.code, string(r.body)}
		}
		return r.body, nil
	case <-ctx.Done():
		c.sayCancel(id)
		return nil, ctx.Err()
	}
}

// sayCancel tells the other end that nobody waits any more.
func (c *conn) sayCancel(id uint64) {
	p := part{id: id}
	// A connection that ended needs no cancel.
	_ = c.out.put(c.ctx, true, func(b []byte) []byte { return p.appendTo(b, kindCancel) })
}

// served is the serving side of a connection's calls and streams.
type served struct {
	mu      sync.Mutex // guards what follows
	running map[uint64]*serving
}

// serving is one call or stream in a handler.
type serving struct {
	cancel context.CancelFunc
	stream *streamWriter // nil for a call
}

func (s *served) init() { s.running = map[uint64]*serving{} }

// add notes a request, or reports that there are max already.
func (s *served) add(id uint64, r *serving, max int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.running) >= max || s.running[id] != nil {
		return false
	}
	s.running[id] = r
	return true
}

func (s *served) remove(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, id)
}

// part acts on a cancel or a credit; what it is about may be over.
func (s *served) part(k kind, p part) {
	s.mu.Lock()
	r := s.running[p.id]
	s.mu.Unlock()
	switch {
	case r == nil:
	case k == kindCancel:
		r.cancel()
	case r.stream != nil:
		r.stream.grant(p.credit)
	}
}

func (s *served) fail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.running {
		r.cancel()
	}
}

// serve starts the handler of a call or a stream.
func (c *conn) serve(k kind, req request) {
	answer := kindAnswer
	if k == kindOpen {
		answer = kindEnd
	}
	call, stream := c.n.handlerOf(req.method)
	if k == kindCall && call == nil || k == kindOpen && stream == nil {
		c.finish(answer, req.id, nil, &Error{CodeUnknownMethod, fmt.Sprintf("node %d has no handler for method %d", c.n.cfg.Node, req.method)})
		return
	}
	ctx, cancel := withTimeout(c.ctx, req.timeout)
	r := &serving{cancel: cancel}
	if k == kindOpen {
		r.stream = newStreamWriter(ctx, c, req.id, int(min(req.window, math.MaxInt32)))
	}
	if !c.serving.add(req.id, r, c.n.cfg.CallsMax) {
		cancel()
		c.finish(answer, req.id, nil, ErrBusy)
		return
	}
	c.n.loops.Go(func() {
		defer cancel()
		defer c.serving.remove(req.id)
		var body []byte
		var err error
		if k == kindCall {
			body, err = call(ctx, c.theirs.node, req.body)
		} else {
			err = stream(ctx, c.theirs.node, req.body, r.stream)
		}
		c.finish(answer, req.id, body, err)
	})
}

// finish sends a handler's result. It waits for room, but not with an error.
func (c *conn) finish(k kind, id uint64, body []byte, err error) {
	if err == nil && replyFixed+len(body) > c.n.cfg.FrameBytesMax {
		err = fmt.Errorf("%w: answer of %d bytes", ErrTooLarge, len(body))
	}
	r := reply{id: id, body: body}
	if err != nil {
		e := travel(err)
		r.code, r.body = e.Code, []byte(e.Text[:min(len(e.Text), errorTextMax)])
	}
	// Who asked may be gone; then nobody misses the answer.
	_ = c.out.put(c.ctx, err != nil, func(b []byte) []byte { return r.appendTo(b, k) })
}

// errorTextMax bounds an error's text on the wire.
const errorTextMax = 4 << 10

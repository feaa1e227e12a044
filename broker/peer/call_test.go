package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"
)

// A caller that gives up is gone at the other end, too: by cancel and by
// deadline.
func TestCallersContextReachesTheHandler(t *testing.T) {
	a, b := pair(t)
	started, ended := make(chan struct{}, 2), make(chan error, 2)
	b.Handle(1, func(ctx context.Context, _ int32, _ []byte) ([]byte, error) {
		started <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	if _, err := a.Call(ctx, 2, 1, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled call: %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("its handler: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Second) // it is to arrive
	defer cancel()
	if _, err := a.Call(ctx, 2, 1, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("late call: %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("its handler went on")
	}
}

// A connection that ends while a call is under way says that the outcome is
// not known; its handler's context ends.
func TestLostCall(t *testing.T) {
	a, b, p := proxied(t, nil)
	started, ended := make(chan struct{}), make(chan struct{})
	b.Handle(1, func(ctx context.Context, _ int32, _ []byte) ([]byte, error) {
		close(started)
		<-ctx.Done()
		close(ended)
		return nil, nil
	})
	go func() { <-started; p.set(fault{cut: true}) }()
	if _, err := a.Call(t.Context(), 2, 1, nil); !errors.Is(err, ErrLost) || errors.Is(err, ErrDown) {
		t.Errorf("lost call: %v", err)
	}
	<-ended
	a.in.until(t, "b down", a.in.last("2/201 false"))
	for {
		_, err := a.Call(t.Context(), 2, 1, nil)
		if errors.Is(err, ErrDown) {
			break
		}
		t.Logf("while it goes down: %v", err)
	}
}

// More calls than the other end serves at a time are refused as busy; those
// beyond what may wait here wait for a slot.
func TestCallsAreBounded(t *testing.T) {
	const most = 4
	a := open(t, 1, func(c *Config) { c.CallsMax = 2 * most })
	b := open(t, 2, func(c *Config) { c.CallsMax = most })
	join(a, b)
	a.lanesUp(t)
	release := make(chan struct{})
	var running atomic.Int64
	b.Handle(1, func(context.Context, int32, []byte) ([]byte, error) {
		running.Add(1)
		<-release
		return nil, nil
	})
	results := make(chan error, 3*most)
	for range 2 * most {
		go func() { _, err := a.Call(t.Context(), 2, 1, nil); results <- err }()
	}
	for range most {
		if err := <-results; !errors.Is(err, ErrBusy) {
			t.Errorf("refused with %v", err)
		}
	}
	close(release)
	for range most {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if n := running.Load(); n != most {
		t.Errorf("%d ran", n)
	}
	// Slots of the asking end: all taken, a caller waits until its time is up.
	c := a.peer(2).lanes[laneRequest].conn.Load()
	for range 2 * most {
		c.asked.slots <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := a.Call(ctx, 2, 1, nil); !errors.Is(err, ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a slot: %v", err)
	}
}

// Large requests and answers pass; larger than a frame is refused on either
// end without harm to the connection.
func TestLargeCalls(t *testing.T) {
	const frame = 1 << 20
	a, b, _ := proxied(t, func(c *Config) { c.FrameBytesMax = frame })
	b.Handle(1, func(_ context.Context, _ int32, request []byte) ([]byte, error) {
		return append(request, request...), nil
	})
	want := bytes.Repeat([]byte("x"), frame/2-100)
	if got, err := a.Call(t.Context(), 2, 1, want); err != nil || len(got) != 2*len(want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	for _, n := range []int{frame, frame * 3 / 4} {
		if _, err := a.Call(t.Context(), 2, 1, make([]byte, n)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// A stream that nobody reads holds no more than its window, and calls on the
// same connection go on; when it is closed its writer ends.
func TestSlowStreamBlocksNobody(t *testing.T) {
	a, b := pair(t)
	var written atomic.Int64
	ended := make(chan error, 1)
	b.HandleStream(1, func(_ context.Context, _ int32, _ []byte, w io.Writer) error {
		piece := make([]byte, 10_000)
		for {
			n, err := w.Write(piece)
			written.Add(int64(n))
			if err != nil {
				ended <- err
				return err
			}
		}
	})
	b.Handle(1, func(context.Context, int32, []byte) ([]byte, error) { return []byte("quick"), nil })
	s, err := a.Stream(t.Context(), 2, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := a.Call(t.Context(), 2, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.ReadFull(s, make([]byte, 3*StreamWindowDefault)); err != nil {
		t.Fatal(err)
	}
	if n := written.Load(); n > 5*StreamWindowDefault {
		t.Errorf("%d bytes were written for %d read", n, 3*StreamWindowDefault)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("writer ended with %v", err)
	}
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("a closed stream was read")
	}
}

// A stream ends with its caller's context, with its connection, and with its
// handler's error; slots come back.
func TestStreamEnds(t *testing.T) {
	a, b, p := proxied(t, func(c *Config) { c.CallsMax = 1 })
	refused := &Error{Code: CodeOwn, Text: "no such segment"}
	b.HandleStream(1, func(ctx context.Context, _ int32, request []byte, w io.Writer) error {
		if string(request) == "refuse" {
			return refused
		}
		if _, err := w.Write([]byte("begin")); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	begin := func(ctx context.Context, request string) io.ReadCloser {
		t.Helper()
		for {
			s, err := a.Stream(ctx, 2, 1, []byte(request))
			if err != nil {
				t.Fatal(err)
			}
			// The one slot of the other end comes back when its handler is done.
			_, err = io.ReadFull(s, make([]byte, 5))
			if errors.Is(err, ErrBusy) {
				_ = s.Close()
				continue
			}
			if request == "refuse" {
				if !errors.Is(err, refused) {
					t.Errorf("refused with %v", err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	_ = begin(t.Context(), "refuse").Close()
	ctx, cancel := context.WithCancel(t.Context())
	s := begin(ctx, "go")
	cancel()
	if _, err := io.ReadAll(s); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled stream ended with %v", err)
	}
	_ = s.Close()
	s = begin(t.Context(), "go")
	p.set(fault{cut: true})
	if _, err := io.ReadAll(s); !errors.Is(err, ErrLost) {
		t.Errorf("lost stream ended with %v", err)
	}
	_ = s.Close()
}

// A writer that passes the window is no broker of ours.
func TestWindowIsChecked(t *testing.T) {
	a, _ := pair(t)
	s := &streamReader{c: a.peer(2).lanes[laneRequest].conn.Load(), window: 10, wake: make(chan struct{}, 1)}
	if err := s.push(make([]byte, 10)); err != nil {
		t.Error(err)
	}
	if err := s.push(make([]byte, 1)); !errors.Is(err, errFormat) {
		t.Errorf("%v", err)
	}
}

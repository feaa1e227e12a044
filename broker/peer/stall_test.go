package peer

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"
)

// A broker that answers heartbeats and calls, and sends nothing of a stream, or
// takes nothing of one, holds its slot for a bounded time.
func TestStreamThatStandsStillEnds(t *testing.T) {
	a, b, _ := proxied(t, func(c *Config) { c.streamStallMax = time.Second })
	silent, unread := make(chan error, 1), make(chan error, 1)
	b.HandleStream(1, func(ctx context.Context, _ int32, _ []byte, w io.Writer) error {
		if _, err := w.Write([]byte("begin")); err != nil {
			return err
		}
		<-ctx.Done()
		silent <- ctx.Err()
		return ctx.Err()
	})
	b.HandleStream(2, func(_ context.Context, _ int32, _ []byte, w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, 10_000)); err != nil {
				unread <- err
				return err
			}
		}
	})
	s, err := a.Stream(t.Context(), 2, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(s); string(b) != "begin" || !errors.Is(err, ErrStalled) {
		t.Errorf("read %q, %v", b, err)
	}
	if err := <-silent; err == nil {
		t.Error("the silent handler was not called off")
	}
	if s, err = a.Stream(t.Context(), 2, 2, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 400_000)); err != nil {
		t.Fatal(err)
	}
	if err := <-unread; !errors.Is(err, ErrStalled) {
		t.Errorf("the writer ended with %v", err)
	}
	_ = s.Close()
}

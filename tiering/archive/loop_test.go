package archive_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tidewater/tiering/archive"
	"tidewater/tiering/manifest"
)

// A loop steps at its pace, at once when kicked, slower while its step fails,
// says when it is fenced, and ends with its context.
func TestLoopPacesItsStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var steps, fenced atomic.Int32
		var fail atomic.Bool
		l := archive.NewLoop("test", time.Second, slog.New(slog.DiscardHandler), func(context.Context) error {
			steps.Add(1)
			if fail.Load() {
				return manifest.ErrFenced
			}
			return nil
		})
		l.Fenced = func(error) { fenced.Add(1) }
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if steps.Load() != 11 {
			t.Errorf("%d steps in ten seconds, want 11", steps.Load())
		}
		l.Kick()
		synctest.Wait()
		if steps.Load() != 12 {
			t.Errorf("%d steps after a kick, want 12", steps.Load())
		}
		fail.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if steps.Load() > 20 || fenced.Load() == 0 {
			t.Errorf("%d steps in a failing minute, fenced %d times", steps.Load()-12, fenced.Load())
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}

// A step that fails for one partition's sake goes on at nearly its pace: the
// others must not wait for the bucket's long pauses.
func TestLoopDoesNotWaitLongForOnePartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var steps atomic.Int32
		l := archive.NewLoop("test", time.Second, slog.New(slog.DiscardHandler), func(context.Context) error {
			steps.Add(1)
			return errors.New("one partition's segment is rotten")
		})
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if steps.Load() < 30 {
			t.Errorf("%d steps in a minute, want one every two seconds", steps.Load())
		}
		cancel()
		<-done
	})
}

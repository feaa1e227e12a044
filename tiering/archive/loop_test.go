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
		steps, fenced := 0, 0
		var fail atomic.Bool
		l := archive.NewLoop("test", time.Second, slog.New(slog.DiscardHandler), func(context.Context) error {
			steps++
			if fail.Load() {
				return manifest.ErrFenced
			}
			return nil
		})
		l.Fenced = func(error) { fenced++ }
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		if steps != 11 {
			t.Errorf("%d steps in ten seconds, want 11", steps)
		}
		l.Kick()
		synctest.Wait()
		if steps != 12 {
			t.Errorf("%d steps after a kick, want 12", steps)
		}
		fail.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		if steps > 20 || fenced == 0 {
			t.Errorf("%d steps in a failing minute, fenced %d times", steps-12, fenced)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}

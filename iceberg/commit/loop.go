package commit

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"tidewater/iceberg/translate"
)

// Bounds of a Loop.
const (
	// waitersMax bounds the Freshen calls that wait; more are answered at once.
	waitersMax = 256
	backoffMin = 200 * time.Millisecond
	backoffMax = 30 * time.Second
)

// LoopConfig says when rounds run.
type LoopConfig struct {
	// TargetLag is how old a record may get before it is in the table
	// (tidewater.iceberg.target.lag.ms); a round begins twice in that time.
	// Default 5 s.
	TargetLag time.Duration
	// Upload brings the tail of the topic's partitions into the bucket, so
	// that a round on demand can commit it. May be nil.
	Upload func(ctx context.Context) error
	// FreshenEvery is the token bucket of Freshen: one round on demand per so
	// much time. Default 500 ms.
	FreshenEvery time.Duration
	Log          *slog.Logger
}

// Loop runs a Committer's rounds. Run is its one goroutine, started and waited
// for by the composition root; the other methods may be called from any.
type Loop struct {
	cfg  LoopConfig
	c    *Committer
	wake chan func(ctx context.Context) // work for Run: freshness, resolve, configure

	mu     sync.Mutex
	status Status
	err    error // of the last round
	tokens time.Time
}

// NewLoop makes the shell of c, which it owns from now on.
func NewLoop(c *Committer, cfg LoopConfig) *Loop {
	if cfg.TargetLag <= 0 {
		cfg.TargetLag = 5 * time.Second
	}
	if cfg.FreshenEvery <= 0 {
		cfg.FreshenEvery = 500 * time.Millisecond
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Loop{cfg: cfg, c: c, wake: make(chan func(context.Context), waitersMax), status: c.Status()}
}

// Run does rounds until ctx ends. Errors are logged, kept for Status and
// retried with growing pauses; a stopped table is looked at every backoffMax.
func (l *Loop) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	backoff := backoffMin
	for {
		select {
		case <-ctx.Done():
			return
		case task := <-l.wake:
			task(ctx)
			continue
		case <-timer.C:
		}
		behind, err := l.round(ctx)
		switch {
		case err == nil && behind:
			timer.Reset(0)
			backoff = backoffMin
		case err == nil:
			timer.Reset(l.cfg.TargetLag / 2)
			backoff = backoffMin
		default:
			timer.Reset(l.pause(err, backoff))
			backoff = min(2*backoff, backoffMax)
		}
	}
}

// pause is how long to wait after err.
func (l *Loop) pause(err error, backoff time.Duration) time.Duration {
	if needsHands(err) {
		return backoffMax
	}
	return backoff
}

// needsHands says whether trying again is of no use until somebody changed
// something: the table, the topic's properties, a record.
func needsHands(err error) bool {
	var stopped *StoppedError
	var invalid *translate.InvalidRecordError
	return errors.As(err, &stopped) || errors.As(err, &invalid)
}

func (l *Loop) round(ctx context.Context) (behind bool, err error) {
	round, err := l.c.RunOnce(ctx)
	l.mu.Lock()
	again := err != nil && l.err != nil && err.Error() == l.err.Error()
	l.status, l.err = l.c.Status(), err
	l.mu.Unlock()
	if err != nil && !again && ctx.Err() == nil {
		if needsHands(err) {
			l.cfg.Log.Error("a table stands still until its cause is mended", "table", l.c.cfg.Ident.String(), "err", err)
		} else {
			l.cfg.Log.Warn("a table's commit did not succeed and will be tried again", "table", l.c.cfg.Ident.String(), "err", err)
		}
	}
	return round.Behind, err
}

// Status is the committer's after the last round, with that round's error.
func (l *Loop) Status() (Status, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status, l.err
}

// token takes one from the bucket, if there is one.
func (l *Loop) token() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.c.cfg.Now()
	if now.Before(l.tokens) {
		return false
	}
	l.tokens = now.Add(l.cfg.FreshenEvery)
	return true
}

// Freshen brings the table up to what was acked when it was called, as far as
// ctx gives time: it has the tail uploaded and waits for a round. Beyond the
// token bucket and past ctx it returns at once; the table is then as it is.
func (l *Loop) Freshen(ctx context.Context) error {
	if !l.token() {
		return nil
	}
	if l.cfg.Upload != nil {
		if err := l.cfg.Upload(ctx); err != nil {
			return err
		}
	}
	return l.do(ctx, func(ctx context.Context) error {
		_, err := l.round(ctx)
		return err
	})
}

// Resolve carries out a person's choice for a stopped table.
func (l *Loop) Resolve(ctx context.Context, choice Choice) error {
	return l.do(ctx, func(ctx context.Context) error {
		if err := l.c.Resolve(ctx, choice); err != nil {
			return err
		}
		_, err := l.round(ctx)
		return err
	})
}

// Configure changes the topic's properties.
func (l *Loop) Configure(ctx context.Context, topic Topic) error {
	return l.do(ctx, func(context.Context) error {
		l.c.Configure(topic)
		return nil
	})
}

// CollectOrphans deletes what no snapshot refers to and is older than grace.
func (l *Loop) CollectOrphans(ctx context.Context, grace time.Duration) error {
	return l.do(ctx, func(ctx context.Context) error {
		_, err := l.c.CollectOrphans(ctx, grace)
		return err
	})
}

// do has Run do task; a full queue or the end of ctx leaves it.
func (l *Loop) do(ctx context.Context, task func(ctx context.Context) error) error {
	done := make(chan error, 1)
	select {
	case l.wake <- func(ctx context.Context) { done <- task(ctx) }:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

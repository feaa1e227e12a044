package group

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// loadRetry is how long a load waits after the log could not be read.
const loadRetry = 100 * time.Millisecond

// loadPosition is how far a partition is loaded.
type loadPosition struct {
	started bool
	next    record.Offset
	end     record.Offset // the high watermark when the load began
	retry   time.Time     // not before this, after a failure
	failed  string        // the failure last logged, to say each once
	reader  record.Reader
}

// Run calls Step when something is due, until ctx ends.
func (c *Coordinator) Run(ctx context.Context) error {
	for {
		next := c.Step(ctx, c.cfg.Now())
		t := time.NewTimer(max(0, next.Sub(c.cfg.Now())))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-c.wake:
			t.Stop()
		case <-t.C:
		}
	}
}

// Step does what is due at now: it loads one piece of each partition that is
// new here, ends sessions, rebalances and offsets whose time is over, and hands
// writes to the logs. It returns when it wants to be called again at the
// latest; Submit and a log's answer may make it want to be called sooner.
func (c *Coordinator) Step(ctx context.Context, now time.Time) (next time.Time) {
	next = now.Add(c.cfg.ExpireEvery)
	c.mu.Lock()
	c.sleeping = next // who comes meanwhile with less wakes Run, which steps once more
	c.mu.Unlock()
	for _, s := range c.led() {
		c.mu.Lock()
		loading := s.core.loading && !s.core.dropped
		c.mu.Unlock()
		if loading {
			c.loadSome(ctx, s, now)
		}
		c.mu.Lock()
		s.core.step(now)
		c.collect(s)
		at := s.core.next()
		if s.core.loading {
			at = s.load.retry
		}
		c.mu.Unlock()
		if at.Before(next) {
			next = at
		}
	}
	c.settle()
	c.mu.Lock()
	c.sleeping = next
	c.mu.Unlock()
	return next
}

func (c *Coordinator) led() []*shard {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*shard, 0, len(c.shards))
	for _, p := range slices.Sorted(maps.Keys(c.shards)) {
		out = append(out, c.shards[p])
	}
	return out
}

// loadSome reads one piece of a partition. A record that cannot be read stops
// the load for good: groups that begin anew because a record was passed over
// would read twice, or not at all.
func (c *Coordinator) loadSome(ctx context.Context, s *shard, now time.Time) {
	if now.Before(s.load.retry) {
		return
	}
	done, err := c.loadPiece(ctx, s)
	if err != nil {
		s.load.retry = now.Add(loadRetry)
		if s.load.failed != err.Error() && ctx.Err() == nil {
			s.load.failed = err.Error()
			c.cfg.Log.Warn("group state is not loaded yet", "partition", s.partition, "offset", s.load.next, "error", err)
		}
		return
	}
	if done {
		c.mu.Lock()
		s.core.loaded(now)
		c.mu.Unlock()
	}
}

func (c *Coordinator) loadPiece(ctx context.Context, s *shard) (done bool, err error) {
	l := &s.load
	if !l.started {
		o, err := s.log.Offsets()
		if err != nil {
			return false, fmt.Errorf("find ends of the log: %w", err)
		}
		l.started, l.next, l.end = true, o.LogStart, o.HighWatermark
	}
	if l.next >= l.end {
		return true, nil
	}
	res, err := s.log.Read(ctx, logio.ReadRequest{Offset: l.next, BytesMax: c.cfg.LoadBytes, MinOne: true, CurrentEpoch: -1})
	if errors.Is(err, logio.ErrOffsetOutOfRange) { // retention moved the start: begin again
		l.started = false
		s.core.load = loader{}
	}
	if err != nil {
		return false, fmt.Errorf("read log: %w", err)
	}
	if res.Size() == 0 {
		return false, fmt.Errorf("read log: nothing at offset %d below the high watermark %d", l.next, l.end)
	}
	for _, p := range res.Batches {
		for len(p) > 0 {
			b, rest, err := record.Next(p)
			if err != nil {
				return false, fmt.Errorf("read log: %w", err)
			}
			if err := s.core.load.take(&l.reader, b); err != nil {
				return false, err
			}
			l.next, p = b.NextOffset(), rest
		}
	}
	return l.next >= l.end, nil
}

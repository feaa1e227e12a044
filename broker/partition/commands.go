package partition

import (
	"context"
	"fmt"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// propose puts a command into the log; done is called once, when it is
// committed or will not be here.
func (p *Partition) propose(c command, done func(error)) {
	err := p.cfg.Host.Do(p.cfg.ID, func(g Group) {
		if err := p.checkLeader(g); err != nil {
			done(err)
			return
		}
		index, err := g.Propose(c.encode())
		if err != nil {
			done(p.asLog(err))
			return
		}
		p.wait(index, g.Leadership().Term, done)
	})
	if err != nil {
		done(p.asLog(err))
	}
}

// commit proposes a command and waits for it or for the end of ctx.
func (p *Partition) commit(ctx context.Context, c command) error {
	return p.await(ctx, func(done func(error)) { p.propose(c, done) })
}

// Confirm returns nil when a majority has said, after the call, that this
// replica leads: whoever is about to do what no former leader may do asks for
// it last.
func (p *Partition) Confirm(ctx context.Context) error {
	return p.await(ctx, func(done func(error)) {
		err := p.cfg.Host.Do(p.cfg.ID, func(g Group) {
			if err := p.checkLeader(g); err != nil {
				done(err)
				return
			}
			g.ReadIndex(func(_ record.Index, err error) { done(p.asLog(err)) })
		})
		if err != nil {
			done(p.asLog(err))
		}
	})
}

// await waits for what begin promises to tell once, or for the end of ctx.
func (p *Partition) await(ctx context.Context, begin func(done func(error))) error {
	outcome := make(chan error, 2) // room for both answers, so that neither blocks
	done := make(chan struct{})
	begin(func(err error) {
		outcome <- err
		close(done)
	})
	if p.cfg.Wait != nil {
		if err := p.cfg.Wait(ctx, done); err != nil {
			return fmt.Errorf("wait for the group of %s: %w", p.Name(), err)
		}
		return <-outcome
	}
	stop := context.AfterFunc(ctx, func() {
		outcome <- fmt.Errorf("wait for the group of %s: %w", p.Name(), context.Cause(ctx))
	})
	defer stop()
	return <-outcome
}

// Trim moves the log start to before (-1: the high watermark) and returns the
// log start once that is committed. A log start above it stays.
func (p *Partition) Trim(ctx context.Context, before record.Offset) (record.Offset, error) {
	o, err := p.Offsets()
	if err == nil && before > o.HighWatermark {
		if err = p.confirmAbove(ctx, before); err == nil {
			o, err = p.Offsets()
		}
	}
	if err != nil {
		return -1, err
	}
	if before == -1 {
		before = o.HighWatermark
	}
	if before < 0 || before > o.HighWatermark {
		return -1, fmt.Errorf("%w: %s: trim to %d, the log is [%d, %d)", logio.ErrOffsetOutOfRange, p.Name(), before, o.LogStart, o.HighWatermark)
	}
	if before <= o.LogStart {
		return o.LogStart, nil
	}
	if err := p.commit(ctx, command{kind: setLogStart, logStart: before}); err != nil {
		return -1, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.marks.logStart, nil
}

// SetArchived commits that everything below end is in the bucket by the
// manifest of that number; local bytes below may go from then on.
func (p *Partition) SetArchived(ctx context.Context, end record.Offset, manifest uint64) error {
	p.mu.Lock()
	o, err, newest := p.offsets(), p.readable(true), p.marks.manifest
	p.mu.Unlock()
	if err != nil {
		return err
	}
	if end > o.HighWatermark {
		return fmt.Errorf("%w: %s: archived end %d, committed is [%d, %d)", logio.ErrOffsetOutOfRange, p.Name(), end, o.LogStart, o.HighWatermark)
	}
	if end < o.Archived || end == o.Archived && manifest <= newest {
		return nil
	}
	return p.commit(ctx, command{kind: setArchived, archived: end, manifest: manifest})
}

// Archived gives the committed archived end and the manifest that says so.
func (p *Partition) Archived() (end record.Offset, manifest uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.marks.archived, p.marks.manifest
}

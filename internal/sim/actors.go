package sim

import (
	"context"
	"errors"
	"slices"
	"time"

	"tidewater/broker/journal"
	"tidewater/broker/partition"
	"tidewater/broker/segment"
	"tidewater/iceberg/commit"
	"tidewater/internal/record"
	"tidewater/tiering/archive"
	"tidewater/tiering/manifest"
)

// openActors starts what package broker runs in loops.
func (l *life) openActors() {
	ctx := context.Background()
	l.tier.errs = map[string]error{}
	l.every("segments", 120*time.Millisecond, func() error { return l.writeSegments(ctx) })
	l.every("retain", 500*time.Millisecond, func() error { return l.retain(ctx) })
	l.every("mend", 400*time.Millisecond, func() error { return l.mend(ctx) })
	l.every("archive", 300*time.Millisecond, func() error { return l.tier.set.RunOnce(ctx) })
	l.every("tail", 700*time.Millisecond, func() error {
		if l.tier.tails == nil {
			return l.connect(ctx)
		}
		err := l.tier.tails.RunOnce(ctx)
		for _, p := range l.parts {
			if p.Leadership().Ready {
				l.bucketEnd(p.ID())
			}
		}
		return err
	})
	l.every("keeper", time.Second, func() error {
		if l.tier.keeper == nil {
			return errUnreached
		}
		return l.tier.keeper.RunOnce(ctx)
	})
	if !l.node.c.alone() {
		l.every("members", 250*time.Millisecond, l.changeMembers)
	}
	l.every("table", 2*time.Second, func() error { return l.commitTable(ctx) })
	watch := &archive.RootWatch{Store: l.bucket, Layout: l.node.c.layout, Passed: func(error) { l.passed() }}
	l.every("root", time.Second, func() error { return watch.RunOnce(ctx) })
}

// every runs an actor again and again while the process lives.
func (l *life) every(name string, pause time.Duration, turn func() error) {
	var run func()
	run = func() {
		if name == l.w.shape.CrashIn && !l.w.closing && l.w.rng.IntN(l.w.shape.CrashShare) == 0 {
			l.arm(1 + l.w.rng.IntN(20))
		}
		err, before := turn(), l.tier.errs[name]
		l.tier.errs[name] = err
		if err != nil {
			if errText(err) != errText(before) {
				l.w.say("node %d.%d %s: %v", l.node.c.layout.Incarnation, l.node.id, name, err)
			}
			l.judge(name, err)
		}
		l.stepSoon()
		l.w.add(l.w.jitter(pause), event{life: l, run: run})
	}
	l.w.add(l.w.jitter(pause), event{life: l, run: run})
}

// judge tells errors that no fault of ours explains. What a fault explains
// must go away when the faults end, which the epilogue waits for.
func (l *life) judge(name string, err error) {
	var stopped *commit.StoppedError
	switch {
	case errors.As(err, &stopped):
		if !l.node.c.zombie {
			l.w.violate(rows, "%s: %v", name, err)
		}
	case errors.Is(err, manifest.ErrFenced):
		// Among several brokers a leader may learn from the bucket that it is
		// one no longer.
		if !l.node.c.zombie && l.node.c.alone() {
			l.w.violateUnlessBlind(fencing, "the newest incarnation was fenced: %s: %v", name, err)
		}
	case errors.Is(err, manifest.ErrCorrupt), errors.Is(err, record.ErrCorrupt), errors.Is(err, partition.ErrCorrupt), errors.Is(err, journal.ErrCorrupt):
		if l.node.rotten {
			l.w.stats.RotSeen++
			return
		}
		l.w.violate(sane, "%s: %v", name, err)
	}
}

func (l *life) writeSegments(ctx context.Context) error {
	var errs []error
	pinning := l.raft.Pinning()
	for _, p := range l.parts {
		before := len(p.Sealed(0))
		if p.Due(4<<10, 400*time.Millisecond) || slices.Contains(pinning, p.ID()) {
			errs = append(errs, p.WriteSegments(ctx, false))
		}
		l.w.stats.Segments += max(len(p.Sealed(0))-before, 0)
	}
	for _, p := range l.idle {
		if p.Due(1, 0) || slices.Contains(pinning, p.ID()) {
			errs = append(errs, p.WriteSegments(ctx, false))
		}
	}
	l.stepToRest()
	err := errors.Join(errs...)
	if errors.Is(err, segment.ErrDead) {
		l.end("segments are dead")
	}
	return err
}

// mend looks through segments for what rotted, and mends it.
func (l *life) mend(ctx context.Context) error {
	var errs []error
	for _, id := range l.node.c.groupIDs() {
		p := l.partition(id)
		_, _, err := p.Scrub(ctx, 16<<10)
		errs = append(errs, err)
		if len(p.Damaged()) > 0 {
			errs = append(errs, p.Repair(ctx))
			l.stepToRest()
		}
	}
	return errors.Join(errs...)
}

func (l *life) retain(ctx context.Context) error {
	var errs []error
	for _, p := range l.parts {
		errs = append(errs, p.Retain(ctx))
		l.stepToRest()
	}
	return errors.Join(errs...)
}

// commitTable runs one round; whatever became of it, the table must lie within
// what the bucket holds.
func (l *life) commitTable(ctx context.Context) error {
	if l.tier.committer == nil {
		return errUnreached
	}
	if !l.commits() {
		return nil
	}
	round, err := l.tier.committer.RunOnce(ctx)
	if round.Moved {
		l.w.stats.Rounds++
		for _, d := range round.Done {
			l.w.stats.Rows += int(d.Rows)
		}
		l.w.say("node %d.%d table: %s", l.node.c.layout.Incarnation, l.node.id, l.tier.committer.Offsets())
	}
	l.w.checkTableHeld(ctx)
	if errors.Is(err, commit.ErrMoved) {
		return nil
	}
	return err
}

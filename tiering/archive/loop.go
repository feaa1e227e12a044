package archive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// Loop is the thin shell around a core: it calls Step once per Every, and
// sooner when kicked, until its context ends. A failing step waits longer,
// twice as long each time up to WaitMax.
type Loop struct {
	Name  string
	Every time.Duration
	Step  func(ctx context.Context) error
	Log   *slog.Logger
	// Fenced is called once when a step meets a newer incarnation or leader of
	// the whole loop's work; the loop goes on, since leadership may come back.
	Fenced func(error)

	kick chan struct{}
}

// WaitMax is the longest pause of a failing loop.
const WaitMax = 15 * time.Second

// NewLoop makes a loop that is not running.
func NewLoop(name string, every time.Duration, log *slog.Logger, step func(context.Context) error) *Loop {
	return &Loop{Name: name, Every: every, Step: step, Log: log, kick: make(chan struct{}, 1)}
}

// Kick makes the next step start at once. It does not block.
func (l *Loop) Kick() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// Run runs the loop until ctx ends and returns its cause.
func (l *Loop) Run(ctx context.Context) error {
	wait := l.Every
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		case <-l.kick:
		}
		err := l.Step(ctx)
		switch {
		case err == nil:
			wait = l.Every
		case ctx.Err() != nil:
			return context.Cause(ctx)
		default:
			wait = min(max(wait, 100*time.Millisecond)*2, longest(err, l.Every))
			l.Log.Warn("tiering step did not succeed and will be tried again", "loop", l.Name, "wait", wait, "error", err)
			if errors.Is(err, manifest.ErrFenced) && l.Fenced != nil {
				l.Fenced(err)
			}
		}
		timer.Reset(wait)
	}
}

// longest is how long a loop may pause after an error. The bucket's trouble is
// everybody's; a partition's own (rot, say) must not keep the others waiting.
func longest(err error, every time.Duration) time.Duration {
	if errors.Is(err, objstore.ErrUnavailable) || errors.Is(err, manifest.ErrFenced) {
		return WaitMax
	}
	return max(2*every, 2*time.Second)
}

// RootWatch re-reads the cluster's root, so that a broker of an incarnation
// that was passed stops acking tiered topics.
type RootWatch struct {
	Store  objstore.Store
	Layout manifest.Layout
	// Passed is called each time a newer incarnation is seen.
	Passed func(error)
}

// RunOnce looks once; call it each second. An unreachable bucket is an error
// and changes nothing.
func (r *RootWatch) RunOnce(ctx context.Context) error {
	err := manifest.CheckRoot(ctx, r.Store, r.Layout)
	if errors.Is(err, manifest.ErrFenced) {
		r.Passed(err)
	}
	return err
}

// Set holds the partitions of a broker. It is safe for concurrent use, except
// that RunOnce and RunWith belong to one caller.
type Set struct {
	mu   sync.Mutex
	list []Led // sorted by partition id
}

// Add puts a partition in; one with the same id is replaced.
func (s *Set) Add(p Led) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := slices.BinarySearchFunc(s.list, p.Archive.Dir().ID, compareLed)
	list := slices.Clone(s.list)
	if found {
		list[i] = p
	} else {
		list = slices.Insert(list, i, p)
	}
	s.list = list
}

// Remove takes a partition out.
func (s *Set) Remove(id record.PartitionID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, found := slices.BinarySearchFunc(s.list, id, compareLed); found {
		s.list = slices.Delete(slices.Clone(s.list), i, i+1)
	}
}

func compareLed(p Led, id record.PartitionID) int { return p.Archive.Dir().ID.Compare(id) }

// List gives the partitions sorted by id; nobody changes the slice. It serves
// as TailsConfig.Partitions.
func (s *Set) List() []Led {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list
}

// RunOnce runs every partition once, in order.
func (s *Set) RunOnce(ctx context.Context) error {
	var faults []error
	for _, p := range s.List() {
		if err := runPartition(ctx, p); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// RunWith does the same with several uploads at a time and waits for them.
func (s *Set) RunWith(ctx context.Context, workers int) error {
	list := s.List()
	work := make(chan Led)
	var mu sync.Mutex
	var faults []error
	var wg sync.WaitGroup
	for range min(workers, len(list)) {
		wg.Go(func() {
			for p := range work {
				if err := runPartition(ctx, p); err != nil {
					mu.Lock()
					faults = append(faults, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, p := range list {
		work <- p
	}
	close(work)
	wg.Wait()
	return errors.Join(faults...)
}

func runPartition(ctx context.Context, p Led) error {
	for ctx.Err() == nil {
		res, err := p.Archive.RunOnce(ctx)
		if err != nil {
			d := p.Archive.Dir()
			return fmt.Errorf("archive %s-%d: %w", d.Topic, d.ID.Partition, err)
		}
		if !res.More {
			return nil
		}
	}
	return ctx.Err()
}

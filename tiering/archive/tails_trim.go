package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// seriesTrim retires the tail objects of one series, oldest first: those whose
// batches are all covered by manifests are listed as retired in a tail manifest
// and deleted a grace period later.
type seriesTrim struct {
	store  objstore.Store
	layout manifest.Layout
	grace  time.Duration
	cur    manifest.TailManifest // Number 0: none written yet
	// live are the objects from cur.First on whose extents are known.
	live []liveTail
	// pending was sent and its fate is not known: it is sent again as it is.
	pending *manifest.TailManifest
	// oldest is the oldest tail manifest that may still exist.
	oldest uint64
}

type liveTail struct {
	number uint64
	ends   []tailEnd
}

type tailEnd struct {
	dir manifest.Dir
	end record.Offset
}

func newSeriesTrim(store objstore.Store, l manifest.Layout, s manifest.Series, grace time.Duration) *seriesTrim {
	return &seriesTrim{
		store: store, layout: l, grace: grace, oldest: 1,
		cur: manifest.TailManifest{Header: l.Header(), Series: s, First: 1, End: 1, RetiredFrom: 1},
	}
}

// add notes a stored object.
func (t *seriesTrim) add(n uint64, extents []manifest.Extent) {
	l := liveTail{number: n}
	for _, x := range extents {
		if x.Length > 0 {
			l.ends = append(l.ends, tailEnd{dir: manifest.Dir{Layout: t.layout, Topic: x.Topic, ID: x.Partition}, end: x.Next})
		}
	}
	t.live = append(t.live, l)
}

// runOnce retires and deletes what it can. archived answers for partitions
// whose end is known here; end is the first number not yet written; dead
// series give up their newest object, too.
func (t *seriesTrim) runOnce(ctx context.Context, archived func(record.PartitionID) (record.Offset, bool), end uint64, dead bool) error {
	if err := t.settle(ctx); err != nil {
		return err
	}
	clock, err := t.store.Now(ctx)
	if err != nil {
		return err
	}
	now := clock.UnixMilli()
	if t.cur.RetiredFrom < t.cur.First {
		if now-t.cur.RetiredSince < t.grace.Milliseconds() {
			return nil
		}
		if err := t.deleteRetired(ctx); err != nil {
			return err
		}
	}
	n, err := t.covered(ctx, archived, dead)
	if err != nil || n == 0 {
		return err
	}
	next := t.cur
	next.Number++
	next.First = t.live[n-1].number + 1
	next.End = max(end, next.First)
	next.RetiredSince, next.Closed = now, dead
	t.pending = &next
	return t.settle(ctx)
}

// settle stores the pending tail manifest.
func (t *seriesTrim) settle(ctx context.Context) error {
	if t.pending == nil {
		return nil
	}
	key := t.layout.TailManifest(t.pending.Series, t.pending.Number)
	if err := manifest.PutNew(ctx, t.store, key, t.pending.AppendTo(nil)); err != nil {
		return err
	}
	t.cur, t.pending = *t.pending, nil
	t.live = slices.DeleteFunc(t.live, func(l liveTail) bool { return l.number < t.cur.First })
	return nil
}

// covered counts the live objects, oldest first, that nobody needs. The newest
// stays as the sign of life and for its marks.
func (t *seriesTrim) covered(ctx context.Context, archived func(record.PartitionID) (record.Offset, bool), dead bool) (int, error) {
	known := map[record.PartitionID]record.Offset{} // looked up by key only
	limit := len(t.live)
	if !dead {
		limit--
	}
	for n := range limit {
		for _, e := range t.live[n].ends {
			end, ok := known[e.dir.ID]
			if !ok {
				var err error
				if end, err = t.archivedEnd(ctx, archived, e.dir); err != nil {
					return 0, err
				}
				known[e.dir.ID] = end
			}
			if end < e.end {
				return n, nil
			}
		}
	}
	return max(limit, 0), nil
}

// forGood is the end of a partition that will never be read again.
const forGood = record.Offset(1<<63 - 1)

func (t *seriesTrim) archivedEnd(ctx context.Context, archived func(record.PartitionID) (record.Offset, bool), dir manifest.Dir) (record.Offset, error) {
	if end, ok := archived(dir.ID); ok {
		return end, nil
	}
	r := manifest.NewReader(t.store, dir)
	err := r.Load(ctx)
	if errors.Is(err, objstore.ErrNotFound) {
		if _, derr := t.store.Head(ctx, deletedKey(t.layout, dir.Topic, dir.ID.Topic)); derr == nil {
			return forGood, nil
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return max(r.Current().End, r.Current().LogStart), nil
}

// deleteRetired deletes the numbers that the newest tail manifest lists, and
// the tail manifests before it.
func (t *seriesTrim) deleteRetired(ctx context.Context) error {
	for n := t.cur.RetiredFrom; n < t.cur.First; n++ {
		if err := t.store.Delete(ctx, t.layout.Tail(t.cur.Series, n)); err != nil {
			return fmt.Errorf("delete tail %s/%d: %w", t.cur.Series, n, err)
		}
	}
	for ; t.oldest < t.cur.Number; t.oldest++ {
		if err := t.store.Delete(ctx, t.layout.TailManifest(t.cur.Series, t.oldest)); err != nil {
			return fmt.Errorf("delete tail manifest %s/%d: %w", t.cur.Series, t.oldest, err)
		}
	}
	t.cur.RetiredFrom = t.cur.First
	return nil
}

// load reads the state of a series that another process wrote; at most
// tailsMax objects are looked at in one go.
func (t *seriesTrim) load(ctx context.Context, tailsMax int) error {
	if err := t.follow(ctx); err != nil {
		return err
	}
	return t.loadTails(ctx, tailsMax)
}

// follow goes on from the newest tail manifest, whoever wrote it. Among several
// that trim one series numbers are taken once, and what each retires is covered,
// so none undoes another's work.
func (t *seriesTrim) follow(ctx context.Context) error {
	s := t.cur.Series
	numbers, err := manifest.Numbers(ctx, t.store, t.layout.TailManifestPrefix(s), 0)
	if err != nil || len(numbers) == 0 {
		return err
	}
	body, err := t.store.Get(ctx, t.layout.TailManifest(s, numbers[len(numbers)-1]), 0, -1)
	if err != nil {
		return err
	}
	m, err := manifest.DecodeTailManifest(body)
	if err != nil {
		return err
	}
	t.cur, t.oldest, t.pending = *m, numbers[0], nil
	t.live = slices.DeleteFunc(t.live, func(l liveTail) bool { return l.number < t.cur.First })
	return nil
}

// loadTails reads extents of objects that follow those known.
func (t *seriesTrim) loadTails(ctx context.Context, tailsMax int) error {
	from := t.cur.First
	if n := len(t.live); n > 0 {
		from = t.live[n-1].number + 1
	}
	numbers, err := manifest.Numbers(ctx, t.store, t.layout.TailPrefix(t.cur.Series), from)
	if err != nil {
		return err
	}
	for _, n := range numbers[:min(len(numbers), max(0, tailsMax-len(t.live)))] {
		body, err := t.store.Get(ctx, t.layout.Tail(t.cur.Series, n), 0, -1)
		if errors.Is(err, objstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		tail, err := manifest.DecodeTail(body)
		if err != nil {
			return fmt.Errorf("tail %s/%d: %w", t.cur.Series, n, err)
		}
		t.add(n, tail.Extents)
	}
	return nil
}

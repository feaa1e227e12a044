package remote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidewater/internal/objstore"
	"tidewater/tiering/manifest"
)

// TailReader follows the tail objects of one series. One caller at a time.
type TailReader struct {
	store  objstore.Store
	layout manifest.Layout
	series manifest.Series
	next   uint64 // 0: not looked yet
	quiet  time.Time
	now    func() time.Time
}

// NewTailReader makes a reader that begins at the oldest object still listed.
func NewTailReader(store objstore.Store, l manifest.Layout, s manifest.Series, now func() time.Time) *TailReader {
	return &TailReader{store: store, layout: l, series: s, now: now}
}

// Series is the one it follows.
func (r *TailReader) Series() manifest.Series { return r.series }

// quietMax is how long a series may say nothing before it is checked whether
// the reader itself fell behind; a live one shows a sign every 10 s.
const quietMax = 15 * time.Second

// Next gives the next object, nil when there is none yet. It asks for one
// name; only a series that is silent for long costs a look at whether the last
// number still exists, and if not, a list.
func (r *TailReader) Next(ctx context.Context) (*manifest.Tail, error) {
	if r.next == 0 {
		if err := r.seek(ctx); err != nil || r.next == 0 {
			return nil, err
		}
	}
	t, err := r.read(ctx, r.next)
	if errors.Is(err, objstore.ErrNotFound) {
		return nil, r.silent(ctx)
	}
	if err != nil {
		return nil, err
	}
	r.next++
	r.quiet = r.now()
	return t, nil
}

func (r *TailReader) read(ctx context.Context, n uint64) (*manifest.Tail, error) {
	body, err := r.store.Get(ctx, r.layout.Tail(r.series, n), 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read tail %s/%d: %w", r.series, n, err)
	}
	t, err := manifest.DecodeTail(body)
	if err != nil {
		return nil, fmt.Errorf("read tail %s/%d: %w", r.series, n, err)
	}
	if t.Series != r.series || t.Number != n || t.Header.Incarnation != r.layout.Incarnation {
		return nil, fmt.Errorf("read tail %s/%d: %w: it says %s/%d of incarnation %d", r.series, n, manifest.ErrCorrupt, t.Series, t.Number, t.Header.Incarnation)
	}
	return t, nil
}

// More looks by a list whether objects above the next number exist, because
// that one was collected; Next then goes on with the lowest of them.
func (r *TailReader) More(ctx context.Context) (bool, error) {
	before := r.next
	if err := r.seek(ctx); err != nil {
		return false, err
	}
	return r.next != before, nil
}

// seek starts at the lowest number that is listed.
func (r *TailReader) seek(ctx context.Context) error {
	numbers, err := manifest.Numbers(ctx, r.store, r.layout.TailPrefix(r.series), r.next)
	if err != nil {
		return err
	}
	r.quiet = r.now()
	for _, n := range numbers {
		if n >= r.next {
			r.next = n
			return nil
		}
	}
	return nil
}

// silent is called when the next number is not there.
func (r *TailReader) silent(ctx context.Context) error {
	if r.now().Sub(r.quiet) < quietMax {
		return nil
	}
	r.quiet = r.now()
	if r.next > 1 {
		_, err := r.store.Head(ctx, r.layout.Tail(r.series, r.next-1))
		if err == nil || !errors.Is(err, objstore.ErrNotFound) {
			return err
		}
	}
	return r.seek(ctx)
}

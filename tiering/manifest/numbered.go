package manifest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"tidewater/internal/objstore"
)

var (
	// ErrFenced: a newer leader or incarnation writes here. The caller stops
	// writing and deletes nothing.
	ErrFenced = errors.New("a newer writer owns this part of the bucket")
	// ErrConflict: somebody of the same or an older epoch wrote the next
	// number, or an earlier write of our own turned out to have happened. The
	// newest state is loaded; the caller decides again.
	ErrConflict = errors.New("another manifest was written first")
)

// Newest finds the highest number under a prefix of numbered objects, 0 if
// there is none; after skips numbers known to be older.
func Newest(ctx context.Context, store objstore.Store, prefix string, after uint64) (uint64, error) {
	found := uint64(0)
	key := ""
	if after > 0 {
		key = prefix + number(after-1)
	}
	for {
		page, err := store.List(ctx, prefix, key, 0)
		if err != nil {
			return 0, fmt.Errorf("list %s: %w", prefix, err)
		}
		for _, o := range page.Objects {
			if n, ok := parseNumber(o.Key); ok && o.Key == prefix+number(n) {
				found = max(found, n)
			}
			key = o.Key
		}
		if !page.More || len(page.Objects) == 0 {
			return found, nil
		}
	}
}

// Numbers lists all numbers under a prefix from the given one on, ascending.
func Numbers(ctx context.Context, store objstore.Store, prefix string, from uint64) ([]uint64, error) {
	var out []uint64
	key := ""
	if from > 0 {
		key = prefix + number(from-1)
	}
	for {
		page, err := store.List(ctx, prefix, key, 0)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", prefix, err)
		}
		for _, o := range page.Objects {
			if n, ok := parseNumber(o.Key); ok && o.Key == prefix+number(n) {
				out = append(out, n)
			}
			key = o.Key
		}
		if !page.More || len(page.Objects) == 0 {
			return out, nil
		}
	}
}

// Create stores body under key unless something is there. Found tells that the
// key holds other bytes; the same bytes are our own of an earlier try.
func Create(ctx context.Context, store objstore.Store, key string, body []byte) (found bool, err error) {
	err = store.PutIfAbsent(ctx, key, body)
	if !errors.Is(err, objstore.ErrExists) {
		return false, err
	}
	there, err := store.Get(ctx, key, 0, -1)
	if err != nil {
		return false, fmt.Errorf("read back %s: %w", key, err)
	}
	return !bytes.Equal(there, body), nil
}

// TakeIncarnation takes the next number on the cluster's root. writer must be
// unique to this call. Only creation, restore, promote and mount do this.
func TakeIncarnation(ctx context.Context, store objstore.Store, l Layout, parent uint32, reason Reason, writer string) (Layout, error) {
	const racesMax = 16
	now, err := store.Now(ctx)
	if err != nil {
		return l, fmt.Errorf("take incarnation: %w", err)
	}
	newest, err := NewestIncarnation(ctx, store, l)
	if err != nil {
		return l, err
	}
	for n := newest + 1; n <= newest+racesMax; n++ {
		l = l.At(n)
		r := Root{Header: l.Header(), Parent: parent, Reason: reason, Writer: writer, Created: now.UnixMilli()}
		found, err := Create(ctx, store, l.Root(n), r.AppendTo(nil))
		if err != nil {
			return l, fmt.Errorf("take incarnation %d: %w", n, err)
		}
		if !found {
			return l, nil
		}
	}
	return l, fmt.Errorf("take incarnation: %w: lost %d races", ErrConflict, racesMax)
}

// NewestIncarnation is the highest number taken, 0 for a cluster that the
// bucket does not know.
func NewestIncarnation(ctx context.Context, store objstore.Store, l Layout) (uint32, error) {
	found, after := uint32(0), ""
	for {
		page, err := store.List(ctx, l.RootPrefix(), after, 0)
		if err != nil {
			return 0, fmt.Errorf("list incarnations: %w", err)
		}
		for _, o := range page.Objects {
			var n uint32
			if _, err := fmt.Sscanf(o.Key[len(l.RootPrefix()):], "%08d", &n); err == nil && l.Root(n) == o.Key {
				found = max(found, n)
			}
			after = o.Key
		}
		if !page.More || len(page.Objects) == 0 {
			return found, nil
		}
	}
}

// CheckRoot is ErrFenced once a newer incarnation was taken. Roots are never
// deleted, so one name tells.
func CheckRoot(ctx context.Context, store objstore.Store, l Layout) error {
	_, err := store.Head(ctx, l.Root(l.Incarnation+1))
	switch {
	case err == nil:
		return fmt.Errorf("%w: incarnation %d of cluster %s was taken, this is %d", ErrFenced, l.Incarnation+1, ClusterName(l.ClusterID), l.Incarnation)
	case errors.Is(err, objstore.ErrNotFound):
		return nil
	}
	return fmt.Errorf("read root: %w", err)
}

// ClaimSeries takes a boot number for a broker's tail objects: atLeast, or the
// one after the highest that the node ever took, so that a broker which lost
// its count does not take a number again. writer must be unique to this process.
func ClaimSeries(ctx context.Context, store objstore.Store, l Layout, node int32, atLeast uint32, writer string) (Series, error) {
	const triesMax = 4096
	s := Series{Node: node, Boot: max(atLeast, 1)}
	taken, err := ListSeries(ctx, store, l)
	if err != nil {
		return s, err
	}
	for _, t := range taken {
		if t.Node == node {
			s.Boot = max(s.Boot, t.Boot+1)
		}
	}
	for range triesMax {
		found, err := Create(ctx, store, l.SeriesKey(s), AppendSeries(nil, l.Header(), s, writer))
		if err != nil {
			return s, fmt.Errorf("claim series %s: %w", s, err)
		}
		if !found {
			return s, nil
		}
		s.Boot++
	}
	return s, fmt.Errorf("claim series of node %d: boots %d to %d are all taken", node, atLeast, s.Boot)
}

// AppendSeries encodes a claim; nobody needs to read more than its key.
func AppendSeries(b []byte, h Header, s Series, writer string) []byte {
	start := len(b)
	e := &encoder{b: appendHeader(b, magicSeries, h)}
	e.u32(uint32(s.Node))
	e.u32(s.Boot)
	e.str(writer)
	return sealFrom(e.b, start)
}

// ListSeries gives every series claimed and not yet retired, in key order.
func ListSeries(ctx context.Context, store objstore.Store, l Layout) ([]Series, error) {
	var out []Series
	after := ""
	for {
		page, err := store.List(ctx, l.SeriesPrefix(), after, 0)
		if err != nil {
			return nil, fmt.Errorf("list series: %w", err)
		}
		for _, o := range page.Objects {
			if s, err := ParseSeries(o.Key[len(l.SeriesPrefix()):]); err == nil {
				out = append(out, s)
			}
			after = o.Key
		}
		if !page.More || len(page.Objects) == 0 {
			return out, nil
		}
	}
}

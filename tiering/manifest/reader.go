package manifest

import (
	"context"
	"errors"
	"fmt"

	"tidewater/internal/objstore"
)

// Reader follows the manifests of one partition. One caller at a time.
type Reader struct {
	store  objstore.Store
	dir    Dir
	cur    *Manifest
	lowest uint64 // lowest number that the last list showed
}

// NewReader makes a reader that has read nothing.
func NewReader(store objstore.Store, dir Dir) *Reader { return &Reader{store: store, dir: dir} }

// Current is the newest manifest read, nil before; nobody changes it.
func (r *Reader) Current() *Manifest { return r.cur }

// listRaces is how often a newest manifest may vanish between list and read,
// because its writer collected it, before that is an error.
const listRaces = 4

// Load finds the newest manifest by a list. objstore.ErrNotFound: there is none.
func (r *Reader) Load(ctx context.Context) error {
	for range listRaces {
		numbers, err := Numbers(ctx, r.store, r.dir.ManifestPrefix(), 0)
		if err != nil {
			return err
		}
		if len(numbers) == 0 {
			return fmt.Errorf("manifests of %s: %w", r.dir.ID, objstore.ErrNotFound)
		}
		m, err := r.read(ctx, numbers[len(numbers)-1])
		if errors.Is(err, objstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		r.cur, r.lowest = m, numbers[0]
		return nil
	}
	return fmt.Errorf("manifests of %s vanish while they are read: %w", r.dir.ID, objstore.ErrUnavailable)
}

// Poll follows to the newest manifest; true if there was news. Normally it
// asks for the next number only. A 404 there means "no news" if our own still
// exists; else we slept while numbers were collected, and a list tells. The
// same holds for a number that is there: a writer that slept, too, may have
// created it.
func (r *Reader) Poll(ctx context.Context) (bool, error) {
	if r.cur == nil {
		err := r.Load(ctx)
		if errors.Is(err, objstore.ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	}
	had := r.cur.Number
	for {
		next, err := r.read(ctx, r.cur.Number+1)
		missing := errors.Is(err, objstore.ErrNotFound)
		if err != nil && !missing {
			return r.cur.Number != had, err
		}
		_, err = r.store.Head(ctx, r.dir.Manifest(r.cur.Number))
		switch {
		case errors.Is(err, objstore.ErrNotFound):
			if err := r.Load(ctx); err != nil {
				return false, err
			}
			return r.cur.Number != had, nil
		case err != nil:
			return r.cur.Number != had, fmt.Errorf("check manifest %d of %s: %w", r.cur.Number, r.dir.ID, err)
		case missing:
			return r.cur.Number != had, nil
		}
		if next.Epoch < r.cur.Epoch {
			return false, fmt.Errorf("manifest %d of %s: %w: epoch %d after %d", next.Number, r.dir.ID, ErrCorrupt, next.Epoch, r.cur.Epoch)
		}
		r.cur = next
	}
}

func (r *Reader) read(ctx context.Context, n uint64) (*Manifest, error) {
	body, err := r.store.Get(ctx, r.dir.Manifest(n), 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read manifest %d of %s: %w", n, r.dir.ID, err)
	}
	m, err := Decode(body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", r.dir.Manifest(n), err)
	}
	if m.Number != n || m.Partition != r.dir.ID || m.Header.ClusterID != r.dir.Layout.ClusterID || m.Header.Incarnation != r.dir.Layout.Incarnation {
		return nil, fmt.Errorf("read %s: %w: it says number %d of %s in incarnation %d", r.dir.Manifest(n), ErrCorrupt, m.Number, m.Partition, m.Header.Incarnation)
	}
	return m, nil
}

// ReadPage reads a page of old entries.
func ReadPage(ctx context.Context, store objstore.Store, p Page) ([]Entry, error) {
	body, err := store.Get(ctx, p.Key, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read page %s: %w", p.Key, err)
	}
	entries, err := DecodePage(body)
	if err != nil {
		return nil, fmt.Errorf("read page %s: %w", p.Key, err)
	}
	if len(entries) != int(p.Entries) || len(entries) == 0 || entries[0].Base != p.Base || entries[len(entries)-1].Last != p.Last {
		return nil, fmt.Errorf("read page %s: %w: %d entries, manifest says %d", p.Key, ErrCorrupt, len(entries), p.Entries)
	}
	return entries, nil
}

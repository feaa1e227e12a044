package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"tidewater/catalog"
	"tidewater/internal/objstore"
)

const (
	// recordsKept is how many of the newest objects of a series stay.
	recordsKept = 20
	// recordsGrace is how old, by the store's clock, an object must be before
	// it is deleted: longer than any request runs.
	recordsGrace = time.Hour
	// recordsDeletedMax bounds the deletes of one cleaning.
	recordsDeletedMax = 100
	// putTries bounds how often a write with a lost reply is repeated; the
	// bytes are the same, so repeating is safe.
	putTries = 3
)

// series is the numbered objects under one folder; the highest counts. Numbers
// begin at 1, have no gap above the cleaned part, and are never used again: a
// dropped name keeps its last object.
//
// A write of N+1 counts when N still exists after it. Cleaning leaves the
// newest recordsKept and what is younger than recordsGrace, so if N is gone,
// the series went on long ago, and the N+1 just written lies far below its end,
// where nobody looks: readers take the highest of a list and go on from there.
type series struct {
	store  objstore.Store
	dir    string // ends in a slash
	format string
}

func (s series) key(number uint64) string { return fmt.Sprintf("%s%020d", s.dir, number) }

func numberOf(key, dir string) (uint64, bool) {
	digits, ok := strings.CutPrefix(key, dir)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n > 0
}

// get reads one object; missing is (zero, false, nil).
func (s series) get(ctx context.Context, number uint64) (record, bool, error) {
	b, err := s.store.Get(ctx, s.key(number), 0, -1)
	if errors.Is(err, objstore.ErrNotFound) {
		return record{}, false, nil
	}
	if err != nil {
		return record{}, false, storeError("read", s.key(number), err)
	}
	r, err := decodeRecord(b, s.format)
	if err == nil && r.Number != number {
		err = fmt.Errorf("%w: number is %d", errCorrupt, r.Number)
	}
	if err != nil {
		return record{}, false, fmt.Errorf("read %s: %w", s.key(number), err)
	}
	return r, true, nil
}

// latest gives the newest object, or the zero record if there is none. known is
// what the caller had, or zero: then one read tells whether it still holds.
func (s series) latest(ctx context.Context, known record) (record, error) {
	newest := known
	if newest.Number == 0 {
		r, err := s.highest(ctx)
		if err != nil || r.Number == 0 {
			return r, err
		}
		newest = r
	}
	for { // a list may be late, and the known one old: go on by exact names
		next, found, err := s.get(ctx, newest.Number+1)
		if err != nil {
			return record{}, err
		}
		if !found {
			break
		}
		newest = next
	}
	// If the known one is gone, the series was cleaned past it, and what stands
	// next to it may be the work of a writer that slept.
	if known.Number != 0 {
		_, found, err := s.head(ctx, known.Number)
		if err != nil {
			return record{}, err
		}
		if !found {
			return s.latest(ctx, record{})
		}
	}
	return newest, nil
}

func (s series) head(ctx context.Context, number uint64) (objstore.Info, bool, error) {
	info, err := s.store.Head(ctx, s.key(number))
	if errors.Is(err, objstore.ErrNotFound) {
		return info, false, nil
	}
	if err != nil {
		return info, false, storeError("look up", s.key(number), err)
	}
	return info, true, nil
}

// highest lists the series.
func (s series) highest(ctx context.Context) (record, error) {
	numbers, err := s.list(ctx)
	if err != nil {
		return record{}, err
	}
	for i := len(numbers) - 1; i >= 0; i-- {
		r, found, err := s.get(ctx, numbers[i].number)
		if err != nil || found {
			return r, err
		}
	}
	return record{}, nil
}

type listed struct {
	number uint64
	info   objstore.Info
}

func (s series) list(ctx context.Context) ([]listed, error) {
	var out []listed
	after := ""
	for {
		page, err := s.store.List(ctx, s.dir, after, 1000)
		if err != nil {
			return nil, storeError("list", s.dir, err)
		}
		for _, o := range page.Objects {
			after = o.Key
			if n, ok := numberOf(o.Key, s.dir); ok {
				out = append(out, listed{n, o})
			}
		}
		if !page.More {
			return out, nil
		}
	}
}

// put writes r as the successor of number r.Number-1. catalog.ErrConflict:
// another object has the number. catalog.ErrUnknown: the object may exist, now
// or later.
func (s series) put(ctx context.Context, r record) error {
	body, err := r.encode()
	if err != nil {
		return err
	}
	key := s.key(r.Number)
	var last error
	for range putTries {
		last = s.store.PutIfAbsent(ctx, key, body)
		if last == nil {
			return s.counts(ctx, r)
		}
		if errors.Is(last, objstore.ErrDenied) {
			return storeError("write", key, last)
		}
		// Exists, or the reply was lost: whose is it?
		there, err := s.store.Get(ctx, key, 0, -1)
		if err == nil && bytes.Equal(there, body) {
			return s.counts(ctx, r)
		}
		if err == nil {
			return fmt.Errorf("%w: %s was written by another commit", catalog.ErrConflict, key)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("%w: write %s: %w", catalog.ErrUnknown, key, last)
}

// counts checks that the predecessor of a written object still exists.
func (s series) counts(ctx context.Context, r record) error {
	if r.Number == 1 {
		return nil // nothing is cleaned before there are recordsKept objects, and then 1 is taken or far below
	}
	_, found, err := s.head(ctx, r.Number-1)
	if err != nil {
		return fmt.Errorf("%w: %w", catalog.ErrUnknown, err)
	}
	if found {
		return nil
	}
	_ = s.store.Delete(ctx, s.key(r.Number)) // best effort; it is never read
	return fmt.Errorf("%w: %s continues a cleaned part of the series", catalog.ErrConflict, s.key(r.Number))
}

// clean deletes objects that are neither among the newest nor young.
func (s series) clean(ctx context.Context, newest uint64) error {
	if newest <= recordsKept {
		return nil
	}
	now, err := s.store.Now(ctx)
	if err != nil {
		return storeError("ask the time of", s.dir, err)
	}
	page, err := s.store.List(ctx, s.dir, "", recordsDeletedMax)
	if err != nil {
		return storeError("list", s.dir, err)
	}
	var old []string
	for _, o := range page.Objects {
		n, ok := numberOf(o.Key, s.dir)
		if ok && n+recordsKept <= newest && now.Sub(o.LastModified) > recordsGrace {
			old = append(old, o.Key)
		}
	}
	if len(old) == 0 {
		return nil
	}
	return s.store.Delete(ctx, old...)
}

// storeError turns the store's kinds into the catalog's.
func storeError(verb, key string, err error) error {
	kind := catalog.ErrUnavailable
	if errors.Is(err, objstore.ErrDenied) {
		kind = catalog.ErrDenied
	}
	return fmt.Errorf("%s %s: %w: %w", verb, key, kind, err)
}

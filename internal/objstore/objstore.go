// Package objstore is object storage as the rest of the tree sees it: whole
// immutable objects, conditional creation, ranged reads, sorted listing, and
// the store's own clock.
//
// Implementations: S3 (any S3-compatible store, over minio-go), Mem (tests and
// simulation), Fault (wraps one: errors, 503s, delays, lost replies of
// successful writes, stale lists). One suite in objstoretest runs on all.
package objstore

import (
	"context"
	"errors"
	"time"
)

// What a caller does differs by kind; implementations wrap these.
var (
	// ErrNotFound: no object under the key.
	ErrNotFound = errors.New("object not found")
	// ErrExists: PutIfAbsent found an object. The caller looks whether it is its own.
	ErrExists = errors.New("object exists already")
	// ErrDenied: credentials are wrong or lack the right. Retrying does not help.
	ErrDenied = errors.New("access to the bucket was denied")
	// ErrUnavailable: timeouts, 5xx, throttling, no route. The write may or may
	// not have happened. Retry later.
	ErrUnavailable = errors.New("object store is unavailable")
)

// Info is what the store says about an object.
type Info struct {
	Key          string
	Size         int64
	LastModified time.Time // by the store's clock
}

// Page is one page of a listing, sorted by key; More tells that keys after the
// last one remain.
type Page struct {
	Objects []Info
	More    bool
}

// Store is one bucket. All methods are safe for concurrent use.
type Store interface {
	// Put writes a whole object, replacing any.
	Put(ctx context.Context, key string, body []byte) error
	// PutIfAbsent writes a whole object unless one exists (ErrExists).
	// After ErrUnavailable the object may exist: read it back and compare.
	PutIfAbsent(ctx context.Context, key string, body []byte) error
	// Get reads length bytes from offset; length -1 reads to the end. A range
	// that starts at or past the end gives no bytes and no error.
	Get(ctx context.Context, key string, offset, length int64) ([]byte, error)
	// Head gives size and age.
	Head(ctx context.Context, key string) (Info, error)
	// List gives up to max (at most 1000) objects whose keys begin with prefix
	// and are greater than after.
	List(ctx context.Context, prefix, after string, max int) (Page, error)
	// Delete removes objects; missing ones are no error.
	Delete(ctx context.Context, keys ...string) error
	// Now is the store's own clock (its Date header), the only clock by which
	// ages of objects are judged.
	Now(ctx context.Context) (time.Time, error)
}

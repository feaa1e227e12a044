package objstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Op names a Store method, for faults aimed at one of them.
type Op string

// The operations of Store.
const (
	OpPut         Op = "put"
	OpPutIfAbsent Op = "put-if-absent"
	OpGet         Op = "get"
	OpHead        Op = "head"
	OpList        Op = "list"
	OpDelete      Op = "delete"
	OpNow         Op = "now"
)

// Call is one call that reached a Fault. Key is the prefix for OpList, the
// first key for OpDelete, empty for OpNow. Seq counts all calls from 1.
type Call struct {
	Op  Op
	Key string
	Seq int64
}

// Write reports whether the call changes the bucket.
func (c Call) Write() bool { return c.Op == OpPut || c.Op == OpPutIfAbsent || c.Op == OpDelete }

// Effect is what a Fault does to a call. The zero value lets it pass.
type Effect struct {
	// Err answers instead of the store, which is not asked. ErrUnavailable is
	// a 503 or a timeout.
	Err error
	// LostReply does the call and then answers ErrUnavailable.
	LostReply bool
	// Delay is called before the store is asked: a simulation moves its clock
	// or runs others there.
	Delay func(ctx context.Context)
	// StaleBy makes a list forget the newest so many keys created through
	// this Fault, as a store with late listings does.
	StaleBy int
}

// Fault wraps a Store and disturbs it as told. Both hooks may be nil; they are
// called from the goroutine of the call with no lock held.
type Fault struct {
	Store Store
	// Before is called first, for every call. A simulated crash panics here
	// (the call then did not happen) or in After (it did).
	Before func(Call)
	// After is called when the store has answered, before the caller knows.
	After func(Call)
	// Rule decides the fault.
	Rule func(Call) Effect

	mu      sync.Mutex
	seq     int64
	created []string // keys in order of first creation, for stale lists
}

var _ Store = (*Fault)(nil)

// do runs one call with its fault; ask is the call itself.
func (f *Fault) do(ctx context.Context, op Op, key string, ask func(Effect) error) error {
	f.mu.Lock()
	f.seq++
	c := Call{Op: op, Key: key, Seq: f.seq}
	f.mu.Unlock()
	if f.Before != nil {
		f.Before(c)
	}
	var e Effect
	if f.Rule != nil {
		e = f.Rule(c)
	}
	if e.Delay != nil {
		e.Delay(ctx)
	}
	if e.Err != nil {
		return fmt.Errorf("%s object %s: %w", op, key, e.Err)
	}
	err := ask(e)
	if f.After != nil {
		f.After(c)
	}
	if e.LostReply {
		return fmt.Errorf("%s object %s: reply lost: %w", op, key, ErrUnavailable)
	}
	return err
}

func (f *Fault) noteCreated(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.created, key) {
		f.created = append(f.created, key)
		if len(f.created) > createdMax {
			f.created = f.created[1:]
		}
	}
}

// createdMax bounds how far back a stale list can forget.
const createdMax = 256

// Calls is the number of calls so far.
func (f *Fault) Calls() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seq
}

// Put implements Store.
func (f *Fault) Put(ctx context.Context, key string, body []byte) error {
	return f.do(ctx, OpPut, key, func(Effect) error {
		err := f.Store.Put(ctx, key, body)
		if err == nil {
			f.noteCreated(key)
		}
		return err
	})
}

// PutIfAbsent implements Store.
func (f *Fault) PutIfAbsent(ctx context.Context, key string, body []byte) error {
	return f.do(ctx, OpPutIfAbsent, key, func(Effect) error {
		err := f.Store.PutIfAbsent(ctx, key, body)
		if err == nil {
			f.noteCreated(key)
		}
		return err
	})
}

// Get implements Store.
func (f *Fault) Get(ctx context.Context, key string, offset, length int64) (body []byte, err error) {
	err = f.do(ctx, OpGet, key, func(Effect) (err error) {
		body, err = f.Store.Get(ctx, key, offset, length)
		return err
	})
	if err != nil {
		return nil, err
	}
	return body, nil
}

// Head implements Store.
func (f *Fault) Head(ctx context.Context, key string) (info Info, err error) {
	err = f.do(ctx, OpHead, key, func(Effect) (err error) {
		info, err = f.Store.Head(ctx, key)
		return err
	})
	return info, err
}

// List implements Store.
func (f *Fault) List(ctx context.Context, prefix, after string, max int) (p Page, err error) {
	err = f.do(ctx, OpList, prefix, func(e Effect) (err error) {
		p, err = f.Store.List(ctx, prefix, after, max)
		if e.StaleBy > 0 {
			p.Objects = f.forget(p.Objects, e.StaleBy)
		}
		return err
	})
	return p, err
}

func (f *Fault) forget(objects []Info, n int) []Info {
	f.mu.Lock()
	hidden := slices.Clone(f.created[max(0, len(f.created)-n):])
	f.mu.Unlock()
	return slices.DeleteFunc(objects, func(o Info) bool { return slices.Contains(hidden, o.Key) })
}

// Delete implements Store.
func (f *Fault) Delete(ctx context.Context, keys ...string) error {
	key := ""
	if len(keys) > 0 {
		key = keys[0]
	}
	return f.do(ctx, OpDelete, key, func(Effect) error { return f.Store.Delete(ctx, keys...) })
}

// Now implements Store.
func (f *Fault) Now(ctx context.Context) (t time.Time, err error) {
	err = f.do(ctx, OpNow, "", func(Effect) (err error) {
		t, err = f.Store.Now(ctx)
		return err
	})
	return t, err
}

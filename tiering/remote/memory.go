package remote

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"tidewater/internal/objstore"
)

// span is adjoining chunks of one object, in memory or on the way there: what
// one request brings. Its fields are guarded by memory.mu, but keys, cuts and
// bytes, which never change, and body, which does not once done lets through.
type span struct {
	keys  []string // of its chunks
	cuts  []int64  // where each chunk begins in body, and the end
	bytes int64    // counted from admission until it leaves memory
	body  []byte   // checked; nil while it is fetched, and if that failed
	// done is held by the one who fetches; others wait for it.
	done    *semaphore.Weighted
	waiters int
	// cancel ends the fetch of a span that was read ahead.
	cancel context.CancelFunc
	// stream is the reader that it was read ahead for and that has not come
	// to it yet: nobody else's bytes take its place.
	stream  *stream
	filling bool          // waits for the disk: it stays until it is there
	place   *list.Element // in memory.order, nil while it is fetched
}

// part is the bytes of a chunk.
func (s *span) part(i int) []byte { return s.body[s.cuts[i]:s.cuts[i+1]:s.cuts[i+1]] }

// place is a chunk in a span.
type place struct {
	span *span
	i    int
}

// memory holds chunks that were read last, or will be read next, within a
// strict budget: a span is counted before it is fetched. It knows the readers
// that go on and what waits to be done for them.
type memory struct {
	bytesMax int64
	alone    bool
	now      func() time.Time
	wake     func(Work)

	mu      sync.Mutex
	bytes   int64 // of all spans, those being fetched included
	unread  int64 // of them, read ahead and not read yet
	byKey   map[string]place
	order   *list.List // of *span with a body, most recently used first
	ahead   *list.List // of *stream for which something was read ahead
	hungry  []*stream  // for which more is to be read ahead
	fills   []*span    // to be written to the disk
	filling int64      // bytes of them
}

// unreadShare and fillShare, in quarters, bound what is read ahead and what
// waits for the disk: the rest is for chunks that are read now.
const unreadShare, fillShare = 3, 1

func newMemory(cfg CacheConfig) *memory {
	return &memory{
		bytesMax: max(cfg.MemoryBytesMax, 0), alone: cfg.Alone, now: cfg.Now, wake: cfg.Wake,
		byKey: map[string]place{}, order: list.New(), ahead: list.New(),
	}
}

// find gives a chunk in memory, or the span that will bring it, for which the
// caller waits. Neither is there if both are nil.
func (m *memory) find(key string) (chunk []byte, coming place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.byKey[key]
	if !ok {
		return nil, place{}
	}
	if at.span.body == nil && m.alone {
		return nil, place{}
	}
	if at.span.body == nil {
		at.span.waiters++
		return nil, at
	}
	m.order.MoveToFront(at.span.place)
	return at.span.part(at.i), place{}
}

// wait gives the chunk of a span that is fetched by somebody else; nil if that
// failed.
func (m *memory) wait(ctx context.Context, at place) ([]byte, error) {
	err := at.span.done.Acquire(ctx, 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	at.span.waiters--
	if err != nil {
		if at.span.waiters == 0 && at.span.stream == nil && at.span.cancel != nil {
			at.span.cancel() // its reader is gone, and this was the last other one
		}
		return nil, fmt.Errorf("wait for %s: %w: %w", at.span.keys[at.i], objstore.ErrUnavailable, err)
	}
	at.span.done.Release(1)
	if at.span.body == nil {
		return nil, nil
	}
	return at.span.part(at.i), nil
}

// begin makes room for a span and notes that it is fetched; nil if there is no
// room, or a chunk of it is there or coming. The caller calls finish.
func (m *memory) begin(keys []string, cuts []int64) *span {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.beginFor(nil, keys, cuts)
}

// beginFor needs the lock.
func (m *memory) beginFor(r *stream, keys []string, cuts []int64) *span {
	s := &span{keys: keys, cuts: cuts, bytes: cuts[len(keys)], stream: r, done: semaphore.NewWeighted(1)}
	for _, k := range keys {
		if _, there := m.byKey[k]; there {
			return nil
		}
	}
	if r != nil && m.unread+s.bytes > m.bytesMax*unreadShare/4 || !m.room(s.bytes) {
		return nil
	}
	s.done.TryAcquire(1)
	m.bytes += s.bytes
	if r != nil {
		m.unread += s.bytes
	}
	for i, k := range keys {
		m.byKey[k] = place{s, i}
	}
	return s
}

// room makes room by letting go of what was used longest ago.
func (m *memory) room(bytes int64) bool {
	for e := m.order.Back(); m.bytes+bytes > m.bytesMax && e != nil; {
		s := e.Value.(*span)
		e = e.Prev()
		if !s.filling && s.stream == nil {
			m.drop(s)
		}
	}
	return m.bytes+bytes <= m.bytesMax
}

// finish ends a span's fetch: with its bytes, or without.
func (m *memory) finish(s *span, body []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.cancel = nil
	if s.body = body; body == nil {
		m.drop(s)
	} else {
		s.place = m.order.PushFront(s)
	}
	s.done.Release(1)
}

// drop lets go of a span; it needs the lock. Who reads it goes on reading.
func (m *memory) drop(s *span) {
	for i, k := range s.keys {
		if m.byKey[k] == (place{s, i}) {
			delete(m.byKey, k)
		}
	}
	if s.place != nil {
		m.order.Remove(s.place)
		s.place = nil
	}
	m.disown(s)
	m.bytes -= s.bytes
}

// disown ends the claim of a reader on a span; it needs the lock.
func (m *memory) disown(s *span) {
	if s.stream == nil {
		return
	}
	m.unread -= s.bytes
	s.stream.ahead -= s.bytes
	s.stream = nil
}

// has reports whether a chunk is in memory or coming.
func (m *memory) has(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.byKey[key]
	return ok
}

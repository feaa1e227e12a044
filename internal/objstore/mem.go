package objstore

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Mem is a bucket in memory: strongly consistent, deterministic, with a clock
// given by the caller. Times are cut to whole seconds, as HTTP dates are, so
// that nobody comes to rely on finer ones.
type Mem struct {
	now func() time.Time

	mu      sync.Mutex
	keys    []string // sorted
	objects map[string]memObject
	stats   Stats
}

type memObject struct {
	body     []byte
	modified time.Time
}

// Stats counts what a Mem was asked; for tests and cost figures.
type Stats struct {
	Puts, Gets, Heads, Lists, Deletes int64
	BytesIn, BytesOut                 int64
}

var _ Store = (*Mem)(nil)

// NewMem makes an empty bucket whose clock is now.
func NewMem(now func() time.Time) *Mem {
	return &Mem{now: now, objects: map[string]memObject{}}
}

// Stats gives the counts so far.
func (m *Mem) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

func (m *Mem) clock() time.Time { return m.now().UTC().Truncate(time.Second) }

// Put implements Store.
func (m *Mem) Put(ctx context.Context, key string, body []byte) error {
	return m.put(ctx, key, body, false)
}

// PutIfAbsent implements Store.
func (m *Mem) PutIfAbsent(ctx context.Context, key string, body []byte) error {
	return m.put(ctx, key, body, true)
}

func (m *Mem) put(ctx context.Context, key string, body []byte, absent bool) error {
	if err := ctx.Err(); err != nil {
		return unavailable("put", key, err)
	}
	if key == "" {
		return fmt.Errorf("put object: empty key")
	}
	t := m.clock()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.Puts++
	_, there := m.objects[key]
	if there && absent {
		return fmt.Errorf("put object %s: %w", key, ErrExists)
	}
	if !there {
		i, _ := slices.BinarySearch(m.keys, key)
		m.keys = slices.Insert(m.keys, i, key)
	}
	m.stats.BytesIn += int64(len(body))
	m.objects[key] = memObject{body: bytes.Clone(body), modified: t}
	return nil
}

// Get implements Store.
func (m *Mem) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable("get", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.Gets++
	o, ok := m.objects[key]
	if !ok {
		return nil, fmt.Errorf("get object %s: %w", key, ErrNotFound)
	}
	if offset < 0 {
		return nil, fmt.Errorf("get object %s: negative offset %d", key, offset)
	}
	size := int64(len(o.body))
	end := size
	if offset > size {
		offset = size
	}
	if length >= 0 && length < size-offset {
		end = offset + length
	}
	m.stats.BytesOut += end - offset
	return bytes.Clone(o.body[offset:end]), nil
}

// Head implements Store.
func (m *Mem) Head(ctx context.Context, key string) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, unavailable("head", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.Heads++
	o, ok := m.objects[key]
	if !ok {
		return Info{}, fmt.Errorf("head object %s: %w", key, ErrNotFound)
	}
	return Info{Key: key, Size: int64(len(o.body)), LastModified: o.modified}, nil
}

// List implements Store.
func (m *Mem) List(ctx context.Context, prefix, after string, max int) (Page, error) {
	if err := ctx.Err(); err != nil {
		return Page{}, unavailable("list", prefix, err)
	}
	max = pageSize(max)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stats.Lists++
	i, _ := slices.BinarySearch(m.keys, prefix)
	if after >= prefix {
		j, found := slices.BinarySearch(m.keys, after)
		if found {
			j++
		}
		i = j
	}
	var p Page
	for ; i < len(m.keys) && strings.HasPrefix(m.keys[i], prefix); i++ {
		if len(p.Objects) == max {
			p.More = true
			break
		}
		k := m.keys[i]
		o := m.objects[k]
		p.Objects = append(p.Objects, Info{Key: k, Size: int64(len(o.body)), LastModified: o.modified})
	}
	return p, nil
}

// Delete implements Store.
func (m *Mem) Delete(ctx context.Context, keys ...string) error {
	if err := ctx.Err(); err != nil {
		return unavailable("delete", strings.Join(keys, ","), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		m.stats.Deletes++
		if _, ok := m.objects[k]; !ok {
			continue
		}
		delete(m.objects, k)
		i, _ := slices.BinarySearch(m.keys, k)
		m.keys = slices.Delete(m.keys, i, i+1)
	}
	return nil
}

// Now implements Store.
func (m *Mem) Now(ctx context.Context) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, unavailable("read clock of", "the store", err)
	}
	return m.clock(), nil
}

func unavailable(verb, key string, err error) error {
	return fmt.Errorf("%s object %s: %w: %w", verb, key, ErrUnavailable, err)
}

// pageKeysMax is the most keys that S3 gives in one page.
const pageKeysMax = 1000

func pageSize(max int) int {
	if max <= 0 || max > pageKeysMax {
		return pageKeysMax
	}
	return max
}

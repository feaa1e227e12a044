package remote

import (
	"context"
	"fmt"

	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// Work is a kind of work that is done beside reads.
type Work int

const (
	// Ahead reads ahead for one reader.
	Ahead Work = iota
	// Fill writes what one request brought to the disk.
	Fill
	// WorkCount is the number of kinds.
	WorkCount
)

// Do does one piece of work; false when there was none. Trouble is nobody's
// error: the reader asks the bucket itself, and is told.
func (c *Cache) Do(ctx context.Context, w Work) bool {
	if w == Fill {
		return c.fillOne()
	}
	m := c.memory
	m.mu.Lock()
	if len(m.hungry) == 0 {
		m.mu.Unlock()
		return false
	}
	s := m.hungry[0]
	m.hungry[0] = nil
	m.hungry = m.hungry[1:]
	from, part := s.frontier, s.part()
	if s.window() == 0 { // given up meanwhile
		s.hungry = false
		m.mu.Unlock()
		return true
	}
	m.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := s.p.choose(ctx, from, part)
	if r == nil || err != nil {
		m.mu.Lock()
		s.hungry = false // until its next read
		m.mu.Unlock()
		return true
	}
	if one := m.start(s, from, r, cancel); one != nil {
		s.p.bring(ctx, one, r)
	}
	return true
}

// stretch is chunks [c, end) of an entry.
type stretch struct {
	e      *manifest.Entry
	x      *index
	c, end int
	onDisk bool // a single chunk that is in the cache on disk
}

// next is the offset after it.
func (r *stretch) next() record.Offset { return chunkEnd(r.e, r.x, r.end-1) }

// keys and cuts describe a stretch as a span.
func (r *stretch) keys() (keys []string, cuts []int64) {
	from, to := r.x.span(r.c)
	for i := r.c; i < r.end; i++ {
		var lo int64
		lo, to = r.x.span(i)
		keys, cuts = append(keys, chunkKey(r.e, r.x, i)), append(cuts, lo-from)
	}
	return keys, append(cuts, to-from)
}

// choose finds what to read ahead, from an offset on and about bytesMax of it;
// nil if there is nothing. It may read index and manifest page.
func (p *Partition) choose(ctx context.Context, from record.Offset, bytesMax int64) (*stretch, error) {
	list := p.Manifest()
	c := p.cfg.Cache
	for list != nil && from < list.End {
		e, ok, err := p.entryAt(ctx, list, from)
		if err != nil || !ok {
			return nil, err
		}
		x, err := p.indexOf(ctx, &e)
		if err != nil {
			return nil, err
		}
		r := &stretch{e: &e, x: x, c: x.chunkOf(max(from, e.Base))}
		for r.c < len(x.chunks) && c.memory.has(chunkKey(&e, x, r.c)) {
			r.c++
		}
		if r.c == len(x.chunks) {
			from = e.Next()
			continue
		}
		r.end = r.c + 1
		if r.onDisk = c.has(chunkKey(&e, x, r.c)); r.onDisk {
			return r, nil
		}
		lo, _ := x.span(r.c)
		for ; r.end < len(x.chunks); r.end++ {
			key := chunkKey(&e, x, r.end)
			if _, hi := x.span(r.end); hi-lo > bytesMax || c.memory.has(key) || c.has(key) {
				break
			}
		}
		return r, nil
	}
	return nil, nil
}

// start admits a stretch that was chosen from an offset on; nil if there is no
// room, or its reader has been given up meanwhile.
func (m *memory) start(s *stream, from record.Offset, r *stretch, cancel context.CancelFunc) *span {
	keys, cuts := r.keys()
	m.mu.Lock()
	defer m.mu.Unlock()
	s.hungry = false
	if s.frontier != from || s.window() == 0 {
		m.feed(s) // its reader is elsewhere
		return nil
	}
	one := m.beginFor(s, keys, cuts)
	if one == nil {
		return nil
	}
	one.cancel = cancel
	s.frontier = r.next()
	s.spans = append(s.spans, aheadSpan{one, s.frontier})
	s.ahead += one.bytes
	if s.place == nil {
		s.place = m.ahead.PushBack(s)
	}
	m.feed(s)
	return one
}

// bring fetches a span that was read ahead.
func (p *Partition) bring(ctx context.Context, one *span, r *stretch) {
	c := p.cfg.Cache
	if r.onDisk {
		body, ok := c.get(one.keys[0])
		if ok && r.x.check(r.c, body) != nil {
			c.drop(one.keys[0])
			ok = false
		}
		if ok {
			c.memory.finish(one, body)
			return
		}
	}
	body, err := p.fetchChunks(ctx, r)
	if err != nil {
		c.memory.failed(one)
		return
	}
	c.memory.finish(one, body)
	c.queue(one)
}

// failed ends a span that could not be brought. Its reader is read ahead for
// again after it got something by itself.
func (m *memory) failed(one *span) {
	m.mu.Lock()
	if s := one.stream; s != nil {
		s.read, s.frontier = 0, 0
	}
	m.mu.Unlock()
	m.finish(one, nil)
}

// fetchChunks gets a stretch from the bucket and checks it.
func (p *Partition) fetchChunks(ctx context.Context, r *stretch) ([]byte, error) {
	from, _ := r.x.span(r.c)
	_, to := r.x.span(r.end - 1)
	body, err := p.fetch(ctx, r.e, from, to)
	if err != nil {
		return nil, err
	}
	for i := r.c; i < r.end; i++ {
		lo, hi := r.x.span(i)
		if err := r.x.check(i, body[lo-from:hi-from]); err != nil {
			return nil, fmt.Errorf("read %s: %w", r.e.Key, err)
		}
	}
	return body, nil
}

package remote

import (
	"container/list"
	"slices"
	"time"

	"tidewater/internal/record"
)

// stream is a reader that was seen going on where it had stopped. Its fields
// are guarded by memory.mu.
type stream struct {
	p    *Partition
	next record.Offset // where its reader goes on
	runs int           // how often it did
	// read is the bytes it was given without a jump: the more, the further it
	// is read ahead for.
	read    int64
	touched time.Time
	// frontier is the offset from which on nothing was read ahead yet.
	frontier record.Offset
	spans    []aheadSpan // in the order of the log
	ahead    int64       // bytes of them
	hungry   bool        // in memory.hungry, or its next span is being chosen
	place    *list.Element
}

// aheadSpan is a span that was read ahead, and the offset after it.
type aheadSpan struct {
	*span
	next record.Offset
}

const (
	// streamsMax is how many readers of a partition are told apart.
	streamsMax = 8
	// streamIdleMax is after how long without a read a reader counts as gone.
	streamIdleMax = 10 * time.Second
	// aheadParts is how many requests a reader's window is divided into, so
	// that they overlap.
	aheadParts = 4
)

// window is how many bytes are read ahead for a reader: twice of what it read,
// at most two requests of the largest size. A reader that took less than half
// a chunk has none.
func (s *stream) window() int64 {
	most := 2 * int64(s.p.cfg.AheadMax) * s.p.cfg.ChunkBytes
	if w := 2 * s.read; w >= s.p.cfg.ChunkBytes {
		return min(w, most)
	}
	return 0
}

// part is how many bytes one request brings for it.
func (s *stream) part() int64 { return max(s.window()/aheadParts, s.p.cfg.ChunkBytes) }

// seen gives the reader that stopped at o, or a new one. It is the caller's
// until stopped.
func (p *Partition) seen(o record.Offset) *stream {
	m := p.cfg.Cache.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, s := range p.streams {
		if s.next == o {
			p.streams = slices.Delete(p.streams, i, i+1)
			s.runs++
			return s
		}
	}
	return &stream{p: p, next: o}
}

// stopped remembers that a reader ended at o, having got that many bytes, in a
// chunk that ends before end; for one that met trouble nothing is read ahead
// until it got something. It forgets the reader that was quiet for longest.
func (p *Partition) stopped(s *stream, o, end record.Offset, bytes int, trouble error) {
	m := p.cfg.Cache.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	s.next, s.frontier = o, max(s.frontier, end)
	s.read += int64(bytes)
	if trouble != nil {
		s.read = 0
	}
	if m.now != nil {
		s.touched = m.now()
	}
	for len(s.spans) > 0 && s.spans[0].next <= o {
		m.disown(s.spans[0].span)
		s.spans = s.spans[1:]
	}
	if len(p.streams) == streamsMax {
		m.giveUp(p.streams[0])
		p.streams = slices.Delete(p.streams, 0, 1)
	}
	p.streams = append(p.streams, s)
	if s.runs > 0 {
		m.feed(s)
	}
}

// feed has more read ahead for a reader if a request's worth is missing. It
// needs the lock.
func (m *memory) feed(s *stream) {
	if m.wake == nil || s.hungry || s.window() == 0 || s.window()-s.ahead < s.part() {
		return
	}
	s.hungry = true
	m.hungry = append(m.hungry, s)
	m.wake(Ahead)
}

// giveUp lets go of all that was read ahead for a reader, and ends what is on
// the way unless another one waits for it. It needs the lock.
func (m *memory) giveUp(s *stream) {
	for _, one := range s.spans {
		if one.stream == nil {
			continue
		}
		m.disown(one.span)
		switch {
		case one.place == nil && one.waiters == 0 && one.cancel != nil:
			one.cancel()
		case one.place != nil && !one.filling:
			m.drop(one.span)
		case one.place != nil:
			m.order.MoveToBack(one.place)
		}
	}
	if s.place != nil {
		m.ahead.Remove(s.place)
		s.place = nil
	}
	s.spans, s.read, s.frontier = nil, 0, 0
}

// Sweep gives up the readers that did not come for long. The shell calls it
// every few seconds.
func (c *Cache) Sweep() {
	m := c.memory
	if m.now == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	for e := m.ahead.Front(); e != nil; {
		s := e.Value.(*stream)
		e = e.Next()
		if now.Sub(s.touched) >= streamIdleMax {
			m.giveUp(s)
		}
	}
}

package segment

import (
	"errors"
	"fmt"
	"hash/crc32"

	"tidewater/internal/record"
)

// Damage is a segment that does not hold everything that was written.
type Damage struct {
	Info Info
	Err  error // what was found first
}

// Damaged lists the segments of which a read or a Check found damage, oldest
// first.
func (l *Log) Damaged() []Damage {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.damaged) == 0 {
		return nil
	}
	var out []Damage
	for _, p := range l.sealed {
		if err := l.damaged[p.info.First]; err != nil {
			out = append(out, Damage{p.info, err})
		}
	}
	if l.active != nil {
		if err := l.damaged[l.active.info.First]; err != nil {
			out = append(out, Damage{l.active.info, err})
		}
	}
	return out
}

// Suspect notes damage that the caller found in what was read at an offset.
func (l *Log) Suspect(offset record.Offset, err error) {
	if v := l.look(func(in *Info) bool { return in.Next > offset }); len(v.parts) > 0 {
		_ = l.spoilt(&v.parts[0], err)
	}
}

// spoilt notes an error about p if it is damage, and gives it.
func (l *Log) spoilt(p *part, err error) error {
	if !errors.Is(err, ErrCorrupt) {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.lists(p) || l.damaged[p.info.First] != nil {
		return err
	}
	if l.damaged == nil {
		l.damaged = map[record.Index]error{}
	}
	l.damaged[p.info.First] = err
	return err
}

// lists reports whether p's file belongs to the log. It needs mu.
func (l *Log) lists(p *part) bool {
	if l.active != nil && l.active.info.Name == p.info.Name {
		return true
	}
	for _, s := range l.sealed {
		if s.info.Name == p.info.Name {
			return true
		}
	}
	return false
}

// Check reads a segment from the chunk at pos on (0: from its beginning) until
// about bytesMax bytes are read, and compares all with the checksums. It gives
// where to go on, 0 at the segment's end. Damage is noted (Damaged) and ends the
// check of this segment without an error.
func (l *Log) Check(in Info, pos, bytesMax int64) (next int64, err error) {
	v := l.look(func(o *Info) bool { return o.Last >= in.First })
	if len(v.parts) == 0 || v.parts[0].info.Name != in.Name {
		return 0, nil // it went meanwhile
	}
	p := &v.parts[0]
	next, err = l.check(p, pos, bytesMax)
	if errors.Is(l.spoilt(p, err), ErrCorrupt) {
		return 0, nil
	}
	return next, err
}

func (l *Log) check(p *part, pos, bytesMax int64) (int64, error) {
	h, err := l.cache.open(l.cfg.FS, l.Path(p.info))
	if err != nil {
		return 0, l.gone(p, err)
	}
	defer l.cache.release(h)
	if p.fileSum, err = l.readFileSum(h.file, p.info); err != nil {
		return 0, err
	}
	w := l.walk(h, p, point{pos: max(pos, headerBytes), offset: -1}, windowBytesMax)
	lease := Lease{cache: l.cache}
	defer lease.Release()
	w.reuse, w.lease = true, &lease
	for left := bytesMax; left > 0; {
		if w.pos >= w.size {
			return 0, nil
		}
		if err := w.header(); err != nil {
			return 0, err
		}
		c := w.chunk
		c.others = nil
		holds, err := payloadHolds(w, &c)
		if err != nil {
			return 0, err
		}
		if !holds {
			return 0, fmt.Errorf("%w: %s: position %d: batches do not match their CRC-32C %08x", ErrCorrupt, w.name, c.payload(), c.payloadSum)
		}
		left -= c.end() - c.pos
		w.pos, w.end, w.next = c.end(), 0, c.next
	}
	if w.pos >= w.size {
		return 0, nil
	}
	return w.pos, nil
}

// Stretch is a run of entries of a segment that its file does not give.
type Stretch struct {
	First, Last record.Index  // inclusive
	Base, Next  record.Offset // of the batches among them; Next is exclusive
	// Known: the batches alone are gone, and Others are the other entries.
	Known  bool
	Others []Entry

	sum uint32 // of the batches, where Known
}

// Rebuilt is a segment made anew that has not taken its place yet.
type Rebuilt struct {
	old  Info
	part *part
}

// Rebuild makes a sealed segment anew beside the old one, in a file of the next
// generation: what is sound of the old one, and for each stretch that is not
// what fill adds, in order. The segment must not be removed meanwhile. Nil
// without an error: nothing is wrong with it (any more).
func (l *Log) Rebuild(in Info, fill func(s Stretch, add func([]Entry) error) error) (*Rebuilt, error) {
	out := &Log{cfg: l.cfg, cache: l.cache, end: Position{Index: in.First - 1, Next: in.Base}, anchored: true, generation: generationOf(in.Name) + 1}
	out.cfg.SegmentBytes = SegmentBytesMax
	if err := l.removeNext(in); err != nil { // of a try before
		return nil, err
	}
	s := &salvage{in: in, out: out, fill: fill}
	err := s.run(l)
	if err == nil && s.bad > 0 {
		err = out.Roll()
	}
	if err == nil && s.bad > 0 {
		return &Rebuilt{old: in, part: out.sealed[0]}, nil
	}
	err = errors.Join(err, out.Close(), l.removeNext(in))
	if err == nil {
		l.sound(in)
	}
	return nil, err
}

// sound forgets damage that is no more.
func (l *Log) sound(in Info) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.damaged, in.First)
}

// Use puts a rebuilt segment in the place of the damaged one, for readers in one
// step, and removes the old file. It belongs to the appender.
func (l *Log) Use(r *Rebuilt) error {
	l.mu.Lock()
	at := -1
	for i, p := range l.sealed {
		if p.info.Name == r.old.Name {
			at = i
		}
	}
	if at >= 0 {
		sealed := append([]*part(nil), l.sealed...)
		sealed[at] = r.part
		l.sealed = sealed
	}
	delete(l.damaged, r.old.First)
	l.mu.Unlock()
	if at < 0 {
		return l.removeNext(r.old) // retention was there before
	}
	if err := l.remove(r.old.Name); err != nil {
		return err
	}
	l.dirDirty = true
	return l.syncDir()
}

// salvage copies what is sound of a segment.
type salvage struct {
	in   Info
	out  *Log
	fill func(Stretch, func([]Entry) error) error
	bad  int // stretches that were not sound, and a header block

	walker
	sumKnown bool
}

func (s *salvage) run(l *Log) error {
	h, err := l.cache.open(l.cfg.FS, l.Path(s.in))
	if err != nil {
		return err
	}
	defer l.cache.release(h)
	size, err := h.file.Size()
	if err != nil {
		return fmt.Errorf("size of segment %s: %w", l.Path(s.in), err)
	}
	s.walker = walker{file: h.file, name: h.name, size: min(s.in.Bytes, alignDown(size)), ahead: windowBytesMax, next: -1}
	if head, err := s.view(0, headerBytes); err == nil {
		s.fileSum, err = l.checkHeader(head, s.in)
		s.sumKnown = err == nil
	}
	if !s.sumKnown {
		s.bad++
	}
	if err := s.chunks(); err != nil {
		return err
	}
	if end := s.out.end; end.Index < s.in.Last {
		if err := s.missing(Stretch{First: end.Index + 1, Last: s.in.Last, Base: end.Next, Next: s.in.Next}); err != nil {
			return err
		}
	}
	if end := s.out.end; end != (Position{Index: s.in.Last, Term: s.in.LastTerm, Next: s.in.Next}) {
		return fmt.Errorf("%w: %s: made anew it ends at (%d, term %d, offset %d), expected (%d, term %d, offset %d)", ErrCorrupt, s.name,
			end.Index, end.Term, end.Next, s.in.Last, s.in.LastTerm, s.in.Next)
	}
	return nil
}

// chunks goes through the file and copies each chunk that is sound.
func (s *salvage) chunks() error {
	for pos := int64(headerBytes); pos < s.size; {
		c, ok, err := s.at(pos)
		if err != nil {
			return err
		}
		if !ok {
			pos += headerBytes
			continue
		}
		if end := s.out.end; c.first > end.Index+1 {
			if err := s.missing(Stretch{First: end.Index + 1, Last: c.first - 1, Base: end.Next, Next: c.base}); err != nil {
				return err
			}
		}
		entries, err := s.entries(&c)
		if err == nil {
			err = s.out.Append(entries)
		} else if errors.Is(err, ErrCorrupt) {
			err = s.missing(Stretch{First: c.first, Last: c.last, Base: c.base, Next: c.next, Known: true, Others: c.others, sum: c.payloadSum})
		}
		if err != nil {
			return err
		}
		pos = c.end()
	}
	return nil
}

// at reads the chunk header at pos; false when there is no sound one that
// follows what was copied.
func (s *salvage) at(pos int64) (c chunk, ok bool, err error) {
	b, err := s.view(pos, headerBytes)
	if err != nil {
		return c, false, err
	}
	n := chunkHeaderBytes(b)
	if n == 0 || pos+n > s.size {
		return c, false, nil
	}
	if b, err = s.view(pos, n); err != nil {
		return c, false, err
	}
	sum := s.fileSum
	if !s.sumKnown {
		sum = chunkFileSum(b) // nobody else writes to this file
	}
	c, bad := decodeChunk(b, pos, sum)
	end := s.out.end
	if bad != nil || c.first <= end.Index || c.last > s.in.Last || c.base < end.Next || c.next > s.in.Next || c.end() > s.size ||
		c.first == end.Index+1 && c.base != end.Next {
		return c, false, nil
	}
	s.fileSum, s.sumKnown = sum, true
	c.others = cloneEntries(c.others)
	return c, true, nil
}

// entries reads a chunk's entries after checking all of it.
func (s *salvage) entries(c *chunk) ([]Entry, error) {
	b, err := s.view(c.payload(), c.payloadBytes)
	if err != nil {
		return nil, err
	}
	if got := crc32.Checksum(b, castagnoli); got != c.payloadSum {
		return nil, fmt.Errorf("%w: %s: position %d: batches have CRC-32C %08x, expected %08x", ErrCorrupt, s.name, c.payload(), got, c.payloadSum)
	}
	others := c.others
	entries := make([]Entry, 0, c.last-c.first+1)
	for index := c.first; index <= c.last; index++ {
		if len(others) > 0 && others[0].Index == index {
			entries, others = append(entries, others[0]), others[1:]
			continue
		}
		one, rest, err := record.Next(b)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: position %d: entry %d: %v", ErrCorrupt, s.name, c.payload(), index, err)
		}
		entries, b = append(entries, Entry{Index: index, Term: uint64(uint32(one.Epoch())), Data: one}), rest
	}
	return entries, nil
}

// missing has a stretch filled and checks what came.
func (s *salvage) missing(m Stretch) error {
	s.bad++
	sum := uint32(0)
	err := s.fill(m, func(entries []Entry) error {
		for i := range entries {
			if isBatch(entries[i].Data) {
				sum = crc32.Update(sum, castagnoli, entries[i].Data)
			}
		}
		return s.out.Append(entries)
	})
	if err != nil {
		return fmt.Errorf("entries %d to %d of segment %s: %w", m.First, m.Last, s.name, err)
	}
	if end := s.out.end; end.Index != m.Last || end.Next != m.Next || m.Known && sum != m.sum {
		return fmt.Errorf("%w: entries %d to %d of segment %s, offsets [%d, %d): what came in their place ends at entry %d, offset %d, CRC-32C %08x", ErrCorrupt,
			m.First, m.Last, s.name, m.Base, m.Next, end.Index, end.Next, sum)
	}
	return nil
}

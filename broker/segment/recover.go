package segment

import (
	"errors"
	"fmt"
	"path"

	"tidewater/internal/record"
)

// recover reads an unsealed segment chunk header by chunk header. In the last
// file of a log (whole false) a torn end is cut off, which is anything after
// the last good chunk that no later header calls durable; with whole it is
// corruption. Nil without an error: nothing in the file counts, it was removed.
func (l *Log) recover(name string, whole bool) (*part, error) {
	full := path.Join(l.cfg.Dir, name)
	h, err := l.cache.open(l.cfg.FS, full)
	if err != nil {
		return nil, err
	}
	defer l.cache.release(h)
	size, err := h.file.Size()
	if err != nil {
		return nil, fmt.Errorf("size of segment %s: %w", full, err)
	}
	base, first, _, ok := parseName(name)
	if !ok {
		return nil, fmt.Errorf("%w: %s: not the name of a segment", ErrCorrupt, full)
	}
	p := &part{info: Info{Name: name, Base: base, Next: base, First: first, MaxTimestamp: -1, MinTimestamp: -1}, maxSoFar: -1}
	// One read takes the header and the first chunks: most logs are small.
	s := &scan{walker: walker{file: h.file, name: full, size: alignDown(size), ahead: scanWindowBytes, reuse: true, pos: headerBytes, next: base}, part: p, mark: l.cfg.Durable}
	head, err := s.view(0, headerBytes)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return nil, err
	}
	if _, bad := decodeHeader(head, segmentMagic); errors.Is(bad, ErrCorrupt) {
		bad = fmt.Errorf("segment %s: %w", full, bad)
		if whole || first <= l.cfg.Durable {
			return nil, bad
		}
		return nil, l.dropTorn(h, full, size, bad)
	}
	if p.fileSum, err = l.checkHeader(head, p.info); err != nil {
		return nil, err
	}
	s.fileSum = p.fileSum
	bad, err := s.chunks()
	if err != nil {
		return nil, err
	}
	if bad != nil && whole {
		return nil, bad
	}
	if p.info.Last == 0 {
		if first <= l.cfg.Durable || whole {
			return nil, fmt.Errorf("%w: %s: position %d: no chunk, expected entry %d", ErrCorrupt, full, headerBytes, first)
		}
		return nil, l.drop(full)
	}
	p.durable = max(s.durable, s.marked)
	if p.info.Bytes == size {
		return p, nil
	}
	if bad != nil && p.info.Last < l.cfg.Durable {
		return nil, fmt.Errorf("%w (entries up to %d were synced)", bad, l.cfg.Durable)
	}
	if err := h.file.Truncate(p.info.Bytes); err != nil {
		return nil, fmt.Errorf("cut torn end of segment %s at %d: %w", full, p.info.Bytes, err)
	}
	if err := h.file.Sync(); err != nil {
		return nil, fmt.Errorf("sync segment %s: %w", full, err)
	}
	return p, nil
}

// dropTorn removes a file whose header block does not check, unless a chunk in
// it says that something of the file was durable: then bad is damage.
func (l *Log) dropTorn(h *handle, full string, size int64, bad error) error {
	s := &scan{walker: walker{file: h.file, name: full, size: alignDown(size), reuse: true}}
	if err := s.noDurableAfter(0, bad); err != nil {
		return err
	}
	return l.drop(full)
}

// drop removes a file that a crash left before its first chunk was durable.
func (l *Log) drop(full string) error {
	l.cache.forget(full)
	if err := l.cfg.FS.Remove(full); err != nil {
		return fmt.Errorf("remove torn segment %s: %w", full, err)
	}
	return nil
}

// scan is the reading of one unsealed segment.
type scan struct {
	walker
	part    *part
	durable int64 // what the headers read so far say was durable
	mark    record.Index
	marked  int64   // where the last chunk ends that the mark covers
	unsure  []chunk // chunks that end after durable, oldest first
}

// chunks reads headers until one is missing, then settles where the segment
// ends. bad is what ended it, nil at the end of the file; err is corruption
// or a disk that cannot be read.
func (s *scan) chunks() (bad, err error) {
	for s.pos < s.size {
		bad = s.one()
		if bad != nil {
			break
		}
	}
	if bad != nil && !errors.Is(bad, ErrCorrupt) {
		return nil, bad
	}
	stop := s.pos
	if bad != nil {
		if err := s.noDurableAfter(stop, bad); err != nil {
			return nil, err
		}
	}
	if torn, err := s.settle(); torn != nil || err != nil {
		return torn, err
	}
	return bad, nil
}

// one reads the chunk header at pos and takes the chunk if it is whole as far
// as the header tells.
func (s *scan) one() error {
	if err := s.header(); err != nil {
		return err
	}
	c := s.chunk
	in := &s.part.info
	if want := max(in.Last+1, in.First); c.first != want {
		return fmt.Errorf("%w: %s: position %d: chunk begins at entry %d, expected %d", ErrCorrupt, s.name, c.pos, c.first, want)
	}
	if c.end() > s.size {
		s.pos = c.pos
		return fmt.Errorf("%w: %s: position %d: chunk ends at %d, the file at %d", ErrCorrupt, s.name, c.pos, c.end(), s.size)
	}
	s.durable = max(s.durable, c.durable)
	if c.last <= s.mark {
		s.marked = c.end()
	}
	s.take(c)
	s.pos, s.end, s.next = c.end(), 0, c.next
	// Small chunks are read many at a time, large ones by their headers only.
	s.ahead = headerBytes
	if c.end()-c.pos < scanWindowBytes/4 {
		s.ahead = scanWindowBytes
	}
	return nil
}

// take adds a chunk to the segment and to those whose batches must be checked.
func (s *scan) take(c chunk) {
	c.others = nil
	x := indexer{last: -1, max: s.part.maxSoFar}
	if n := len(s.part.points); n > 0 {
		x.last = s.part.points[n-1].pos
	}
	x.chunk(&c)
	s.part.points = append(s.part.points, x.points...)
	s.part.add(&c)
	for len(s.unsure) > 0 && s.unsure[0].end() <= s.durable {
		s.unsure = s.unsure[1:]
	}
	if c.end() > s.durable {
		s.unsure = append(s.unsure, c)
	}
}

// noDurableAfter looks for a later chunk header that says the bad place was
// durable: then it is not a torn end but damage.
func (s *scan) noDurableAfter(stop int64, bad error) error {
	s.ahead = windowBytesMax
	for pos := stop + headerBytes; pos < s.size; pos += headerBytes {
		b, err := s.view(pos, headerBytes)
		if err != nil {
			return err
		}
		n := chunkHeaderBytes(b)
		if n == 0 || pos+n > s.size {
			continue
		}
		if b, err = s.view(pos, n); err != nil {
			return err
		}
		sum := s.fileSum
		if stop == 0 {
			sum = chunkFileSum(b) // the header block that would say it is the bad place
		}
		if c, err := decodeChunk(b, pos, sum); err == nil && c.durable > stop {
			return fmt.Errorf("%w (position %d says %d bytes were durable)", bad, pos, c.durable)
		}
	}
	return nil
}

// settle checks the batches of chunks not known durable and ends the segment
// before the first that does not check. The header of a later chunk may claim
// it was durable: take has then left it out, and reads will find the damage.
func (s *scan) settle() (torn, err error) {
	for i := range s.unsure {
		c := &s.unsure[i]
		s.ahead = windowBytesMax
		ok, err := payloadHolds(&s.walker, c)
		if err != nil {
			return nil, err
		}
		if !ok {
			s.cut(c)
			return fmt.Errorf("%w: %s: position %d: batches do not match their CRC-32C %08x", ErrCorrupt, s.name, c.payload(), c.payloadSum), nil
		}
	}
	return nil, nil
}

// cut ends the segment before c. The chunks before it are read again for the
// segment's facts: rare, and simpler than keeping them.
func (s *scan) cut(c *chunk) {
	old := s.part
	in := old.info
	*old = part{info: Info{Name: in.Name, Base: in.Base, Next: in.Base, First: in.First, MaxTimestamp: -1, MinTimestamp: -1}, fileSum: old.fileSum, maxSoFar: -1}
	again := &scan{walker: walker{file: s.file, name: s.name, size: c.pos, fileSum: s.fileSum, ahead: headerBytes, reuse: true, pos: headerBytes, next: in.Base}, part: old}
	for again.pos < again.size && again.one() == nil {
	}
}

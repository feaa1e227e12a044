package segment

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"tidewater/internal/disk"
)

// Open recovers the log in cfg.Dir. Sealed segments are known by their index
// files; the active one is read chunk header by chunk header, and a torn last
// chunk is dropped. Damage to what was durable is ErrCorrupt.
func Open(cfg Config) (*Log, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open segments: %w", err)
	}
	if cfg.SegmentBytes == 0 {
		cfg.SegmentBytes = SegmentBytesDefault
	}
	if cfg.Cache == nil {
		cfg.Cache = NewCache(4, 1<<20)
	}
	l := &Log{cfg: cfg, cache: cfg.Cache, end: cfg.Start, anchored: cfg.Start != (Position{})}
	names, err := cfg.FS.List(cfg.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		l.newDir = true
		return l, l.checkEnd()
	}
	if err != nil {
		return nil, fmt.Errorf("list segment directory %s: %w", cfg.Dir, err)
	}
	if err := l.openParts(names); err != nil {
		return nil, err
	}
	// A name that the last process made may not be durable yet.
	l.newDir, l.dirDirty = true, true
	return l, l.checkEnd()
}

// checkEnd refuses a log that ends before what is known to be durable.
func (l *Log) checkEnd() error {
	if l.end.Index >= l.cfg.Durable {
		return nil
	}
	return fmt.Errorf("%w: %s: log ends at entry %d, expected entry %d, which was synced", ErrCorrupt, l.cfg.Dir, l.end.Index, l.cfg.Durable)
}

func (l *Log) openParts(names []string) error {
	var segments []string
	indexed := map[string]bool{}
	for _, name := range names {
		if first, ok := firstOf(name); ok && first < l.cfg.First {
			continue
		}
		switch {
		case strings.HasSuffix(name, segmentSuffix):
			segments = append(segments, name)
		case strings.HasSuffix(name, indexSuffix):
			indexed[name] = true
		}
	}
	if err := l.removeOrphans(segments, names); err != nil {
		return err
	}
	segments, err := l.newest(segments, indexed)
	if err != nil {
		return err
	}
	for i, name := range segments {
		p, err := l.openPart(name, indexed[indexName(name)], i == len(segments)-1)
		if err != nil {
			return err
		}
		if p == nil {
			continue
		}
		if err := l.follow(p, i == 0); err != nil {
			return err
		}
	}
	return nil
}

// removeOrphans removes indexes whose segments are gone.
func (l *Log) removeOrphans(segments, names []string) error {
	for _, name := range names {
		if !strings.HasSuffix(name, indexSuffix) || slices.Contains(segments, strings.TrimSuffix(name, indexSuffix)+segmentSuffix) {
			continue
		}
		if err := l.cfg.FS.Remove(path.Join(l.cfg.Dir, name)); err != nil {
			return fmt.Errorf("remove index %s without segment: %w", path.Join(l.cfg.Dir, name), err)
		}
	}
	return nil
}

// follow puts p at the end of the log after checking that it continues it.
func (l *Log) follow(p *part, first bool) error {
	in := &p.info
	if !first && (in.First != l.end.Index+1 || in.Base != l.end.Next) {
		return fmt.Errorf("%w: %s: begins at entry %d, offset %d, expected entry %d, offset %d", ErrCorrupt, l.Path(*in), in.First, in.Base, l.end.Index+1, l.end.Next)
	}
	if in.Sealed {
		l.sealed = append(l.sealed, p)
	} else {
		l.active = p
		l.durable, l.doubt = min(p.durable, in.Bytes), in.Bytes
	}
	l.end = Position{Index: in.Last, Term: in.LastTerm, Next: in.Next}
	l.anchored = true
	return nil
}

// openPart reads what is needed to know one segment. Nil without an error: the
// file held nothing that counts and was removed.
func (l *Log) openPart(name string, indexed, last bool) (*part, error) {
	if indexed {
		in, err := l.openIndex(name)
		if err == nil {
			return &part{info: in}, nil
		}
		if !errors.Is(err, ErrCorrupt) {
			return nil, err
		}
	}
	p, err := l.recover(name, !last)
	if err != nil || p == nil || last {
		return p, err
	}
	// A segment that another follows was sealed: its index was lost.
	if err := l.writeIndex(p); err != nil {
		return nil, err
	}
	p.info.Sealed, p.points = true, nil
	return p, nil
}

// openIndex reads the head of a sealed segment's index and checks that it is
// about this file as it is.
func (l *Log) openIndex(segment string) (Info, error) {
	name := path.Join(l.cfg.Dir, indexName(segment))
	f, err := l.cfg.FS.Open(name)
	if err != nil {
		return Info{}, fmt.Errorf("open index %s: %w", name, err)
	}
	defer f.Close()
	b, err := readAll(f, 0, headerBytes)
	if err != nil {
		return Info{}, fmt.Errorf("read index %s: %w", name, err)
	}
	x, err := decodeIndexHead(b)
	if err == nil {
		err = checkIdentity(x.identity, l.cfg.Identity)
	}
	if err != nil {
		return Info{}, fmt.Errorf("index %s: %w", name, err)
	}
	if segmentName(x.base, x.first, x.generation) != segment {
		return Info{}, fmt.Errorf("index %s: %w: position 72: is about offset %d, entry %d", name, ErrCorrupt, x.base, x.first)
	}
	x.info.Name = segment
	return x.info, nil
}

// loadPoints reads the index file of a sealed segment.
func (l *Log) loadPoints(p *part) ([]point, error) {
	name := l.IndexPath(p.info)
	f, err := l.cfg.FS.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open index %s: %w", name, err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of index %s: %w", name, err)
	}
	b, err := readAll(f, 0, min(size, p.info.Bytes))
	if err != nil {
		return nil, fmt.Errorf("read index %s: %w", name, err)
	}
	x, err := decodeIndexHead(b)
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", name, err)
	}
	points, err := decodePoints(b[headerBytes:], x)
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", name, err)
	}
	return points, nil
}

// readAll reads up to n bytes at pos; fewer where the file ends.
func readAll(f disk.File, pos, n int64) ([]byte, error) {
	b := disk.Alloc(int(alignUp(n)))
	got, err := f.ReadAt(b, pos)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:min(int64(got), n)], nil
}

// readFileSum checks a segment's header block and gives its checksum.
func (l *Log) readFileSum(f disk.File, in Info) (uint32, error) {
	b, err := readAll(f, 0, headerBytes)
	if err != nil {
		return 0, fmt.Errorf("read segment %s: %w", l.Path(in), err)
	}
	return l.checkHeader(b, in)
}

// checkHeader checks that a header block is this segment's and gives its
// checksum.
func (l *Log) checkHeader(b []byte, in Info) (uint32, error) {
	name := l.Path(in)
	h, err := decodeHeader(b, segmentMagic)
	if err == nil {
		err = checkIdentity(h.identity, l.cfg.Identity)
	}
	if err != nil {
		return 0, fmt.Errorf("segment %s: %w", name, err)
	}
	if segmentName(h.base, h.first, h.generation) != in.Name {
		return 0, fmt.Errorf("segment %s: %w: position 72: begins at offset %d, entry %d", name, ErrCorrupt, h.base, h.first)
	}
	return headerSum(b), nil
}

// scanPoints builds a sealed segment's index from the segment.
func (l *Log) scanPoints(h *handle, p *part) ([]point, error) {
	w := l.walk(h, p, point{pos: headerBytes, offset: p.info.Base}, windowBytesMax)
	w.reuse = true
	x := indexer{last: -1, max: -1}
	for w.pos < w.size {
		if err := w.header(); err != nil {
			return nil, err
		}
		x.chunk(&w.chunk)
		for w.pos < w.end {
			b, err := w.peek()
			if err != nil {
				return nil, err
			}
			x.batch(&w.chunk, w.pos, b)
			w.skip(b)
		}
		w.pos, w.end = w.chunk.end(), 0
	}
	return x.points, nil
}

// payloadHolds checks a chunk's batches against its checksum.
func payloadHolds(w *walker, c *chunk) (bool, error) {
	sum := uint32(0)
	for at := c.payload(); at < c.payloadEnd(); {
		n := min(c.payloadEnd()-at, windowBytesMax)
		b, err := w.view(at, n)
		if err != nil {
			return false, err
		}
		sum = crc32.Update(sum, castagnoli, b)
		at += n
	}
	return sum == c.payloadSum, nil
}

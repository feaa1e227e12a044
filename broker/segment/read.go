package segment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// view is what a reader needs of the log, taken at one instant.
type view struct {
	parts []part
	end   record.Offset
}

// look copies the segments from the first on for which wanted is true. The
// segments are sorted, and wanted must be false, then true.
func (l *Log) look(wanted func(*Info) bool) view {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := view{end: l.end.Next}
	i := sort.Search(len(l.sealed), func(i int) bool { return wanted(&l.sealed[i].info) })
	for _, p := range l.sealed[i:] {
		v.parts = append(v.parts, *p)
		if len(v.parts) == partsPerLook {
			return v
		}
	}
	if l.active != nil && wanted(&l.active.info) {
		v.parts = append(v.parts, *l.active)
	}
	return v
}

// partsPerLook bounds what one look copies; a reader that needs more looks
// again.
const partsPerLook = 16

// Read gives whole batches from the one that holds offset on, as views of the
// buffers they were read into, one buffer for each large read. Each is checked
// against its CRC, which leaves out the leader epoch only: ErrCorrupt. It gives at
// least one batch, whatever its size, then stops before bytesMax, before limit
// (exclusive) and at the end of what was appended, where it gives none. An
// offset before the first segment or after End is logio.ErrOffsetOutOfRange.
func (l *Log) Read(offset record.Offset, bytesMax int, limit record.Offset) ([][]byte, error) {
	return l.ReadLeased(offset, bytesMax, limit, &Lease{})
}

// ReadLeased is Read for a caller that says when it is done with the batches.
func (l *Log) ReadLeased(offset record.Offset, bytesMax int, limit record.Offset, lease *Lease) ([][]byte, error) {
	r := collector{offset: offset, left: int64(bytesMax), limit: limit, lease: lease}
	err := l.read(&r)
	if errors.Is(err, errReplaced) && len(r.batches) == 0 {
		err = l.read(&r)
	}
	if err != nil && len(r.batches) > 0 {
		err = nil // the read that begins there meets it again, and tells
	}
	return r.batches, err
}

func (l *Log) read(r *collector) error {
	v := l.look(func(in *Info) bool { return in.Next > r.offset })
	if r.offset == v.end {
		return nil
	}
	if len(v.parts) == 0 || r.offset < v.parts[0].info.Base {
		return fmt.Errorf("%w: %d is not in the segments of %s", logio.ErrOffsetOutOfRange, r.offset, l.cfg.Dir)
	}
	for i := range v.parts {
		if err := l.readPart(&v.parts[i], r); err != nil || r.done {
			return l.spoilt(&v.parts[i], err)
		}
	}
	return nil
}

// errReplaced: a segment was made anew while somebody began to read it.
var errReplaced = errors.New("segment was made anew")

// collector is what one Read has and still wants.
type collector struct {
	offset  record.Offset
	left    int64
	limit   record.Offset
	batches [][]byte
	lease   *Lease
	done    bool
}

func (l *Log) readPart(p *part, r *collector) error {
	points, h, err := l.begin(p)
	if err != nil {
		return err
	}
	defer l.cache.release(h)
	// One read for all: what is wanted, and the way to it from the index point.
	ahead := min(alignUp(max(r.left, 0)+indexEveryBytes), readBufferBytes)
	w := l.walk(h, p, startAt(points, r.offset), ahead)
	r.lease.cache = l.cache
	w.lease = r.lease
	if err := r.take(w); err != io.EOF {
		return err
	}
	if w.next != p.info.Next {
		return fmt.Errorf("%w: %s: batches end at offset %d, expected %d", ErrCorrupt, w.name, w.next, p.info.Next)
	}
	return nil
}

// take reads batches from w until r has enough; io.EOF where the file ends
// before. Every batch is checked before its header is believed, also those that
// are passed over on the way from the index point.
func (r *collector) take(w *walker) error {
	for {
		if err := w.more(); err != nil {
			return err
		}
		if len(r.batches) > 0 && r.left < indexEveryBytes && !w.holds(w.pos, record.HeaderBytes) {
			r.done = true // the rest is not worth a read of its own
			return nil
		}
		h, err := w.peek()
		if err != nil {
			return err
		}
		if len(r.batches) > 0 && (h.NextOffset() > r.limit || h.Size() > r.left) {
			r.done = true // if the header is wrong, the read that begins here finds it
			return nil
		}
		b, err := w.whole(h)
		if err != nil {
			return err
		}
		if b.NextOffset() <= r.offset {
			w.skip(b)
			continue
		}
		if b.NextOffset() > r.limit {
			r.done = true
			return nil
		}
		r.batches = append(r.batches, b)
		r.left -= int64(len(b))
		w.skip(b)
		if r.left <= 0 {
			r.done = true
			return nil
		}
		w.ahead = min(alignUp(r.left), windowBytesMax)
	}
}

// begin gives a segment's index and its open file; the caller releases it. A
// segment that retention removed meanwhile is out of range.
func (l *Log) begin(p *part) ([]point, *handle, error) {
	points, err := l.points(p)
	if err != nil {
		return nil, nil, l.gone(p, err)
	}
	h, err := l.cache.open(l.cfg.FS, l.Path(p.info))
	if err != nil {
		return nil, nil, l.gone(p, err)
	}
	return points, h, nil
}

func (l *Log) gone(p *part, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.lists(p):
		return fmt.Errorf("%w: segment %s is missing", ErrCorrupt, l.Path(p.info))
	case len(l.sealed) > 0 && l.sealed[0].info.First <= p.info.First:
		return fmt.Errorf("%w: %s", errReplaced, l.Path(p.info))
	}
	return fmt.Errorf("%w: segment %s was removed", logio.ErrOffsetOutOfRange, l.Path(p.info))
}

// points gives the sparse index of p, from memory, its file, or the segment.
func (l *Log) points(p *part) ([]point, error) {
	if !p.info.Sealed {
		return p.points, nil
	}
	name := l.Path(p.info)
	if points, sum := l.cache.index(name); points != nil {
		p.fileSum = sum
		return points, nil
	}
	h, err := l.cache.open(l.cfg.FS, name)
	if err != nil {
		return nil, err
	}
	defer l.cache.release(h)
	if p.fileSum, err = l.readFileSum(h.file, p.info); err != nil {
		return nil, err
	}
	points, err := l.loadPoints(p)
	if errors.Is(err, ErrCorrupt) || errors.Is(err, fs.ErrNotExist) {
		// The index is only a cache: the segment itself has everything.
		points, err = l.scanPoints(h, p)
	}
	if err != nil {
		return nil, err
	}
	l.cache.putIndex(name, points, p.fileSum)
	return points, nil
}

// Scan calls fn with the header of every batch from the one that holds offset
// from on, up to the end; fn sees record.HeaderBytes of it, until it returns.
// Bodies are read only where they are too small to jump over.
func (l *Log) Scan(from record.Offset, fn func(header record.Batch) error) error {
	for {
		v := l.look(func(in *Info) bool { return in.Next > from })
		if len(v.parts) == 0 {
			return nil
		}
		for i := range v.parts {
			if err := l.scanPart(&v.parts[i], from, fn); err != nil {
				return l.spoilt(&v.parts[i], err)
			}
		}
		from = v.parts[len(v.parts)-1].info.Next
	}
}

// scanWindowBytes is small enough that jumping over a batch of that size saves
// more than the read costs.
const scanWindowBytes = 128 << 10

func (l *Log) scanPart(p *part, from record.Offset, fn func(record.Batch) error) error {
	points, h, err := l.begin(p)
	if err != nil {
		return err
	}
	defer l.cache.release(h)
	w := l.walk(h, p, startAt(points, from), scanWindowBytes)
	w.reuse = true
	return w.each(func(h record.Batch) error {
		// Large reads run at several times the rate of small ones, but from a
		// batch of scanWindowBytes on a jump costs less than its body.
		w.ahead = windowBytesMax
		if h.Size() >= scanWindowBytes {
			w.ahead = headerBytes
		}
		if h.NextOffset() <= from {
			return nil
		}
		return fn(h)
	})
}

// each goes through the headers of all batches left.
func (w *walker) each(fn func(record.Batch) error) error {
	for {
		if err := w.more(); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		h, err := w.peek()
		if err != nil {
			return err
		}
		// fn may read on, and the header's bytes with it.
		pos, next := w.pos+h.Size(), h.NextOffset()
		if err := fn(h); err != nil {
			return err
		}
		w.pos, w.next = pos, next
	}
}

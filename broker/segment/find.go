package segment

import (
	"errors"
	"fmt"

	"tidewater/internal/record"
)

// errFound ends a walk that has what it wants.
var errFound = errors.New("found")

// Find gives the first record, in offset order, whose timestamp is not below
// ts (milliseconds since the Unix epoch): its offset and timestamp. It reads
// the batches from the nearest index point on, and checks them.
func (l *Log) Find(ts int64) (record.Offset, int64, bool, error) {
	from := record.Offset(-1)
	for {
		v := l.look(func(in *Info) bool { return in.Next > from })
		if len(v.parts) == 0 {
			return 0, 0, false, nil
		}
		for i := range v.parts {
			p := &v.parts[i]
			from = p.info.Next
			if p.info.MaxTimestamp < ts || p.info.PayloadBytes == 0 {
				continue
			}
			offset, at, ok, err := l.findIn(p, ts)
			if ok || err != nil {
				return offset, at, ok, l.spoilt(p, err)
			}
		}
	}
}

func (l *Log) findIn(p *part, ts int64) (record.Offset, int64, bool, error) {
	points, h, err := l.begin(p)
	if err != nil {
		return 0, 0, false, err
	}
	defer l.cache.release(h)
	w := l.walk(h, p, startAtTime(points, ts), scanWindowBytes)
	w.reuse = true
	var offset record.Offset
	var at int64
	err = w.each(func(h record.Batch) error {
		b, err := w.whole(h) // h is gone after this
		if err != nil {
			return err
		}
		if b.MaxTimestamp() < ts {
			return nil
		}
		var ok bool
		if offset, at, ok, err = findRecord(b, ts); err != nil {
			return fmt.Errorf("%w: %s: position %d: %v", ErrCorrupt, w.name, w.pos, err)
		}
		if ok {
			return errFound
		}
		// The batch claims a timestamp that none of its records has, as a
		// compacted one may: the next batch may have it.
		return nil
	})
	if err == errFound {
		return offset, at, true, nil
	}
	return 0, 0, false, err
}

func findRecord(b record.Batch, ts int64) (record.Offset, int64, bool, error) {
	if b.Control() {
		return 0, 0, false, nil
	}
	if b.LogAppendTime() {
		return b.BaseOffset(), b.MaxTimestamp(), true, nil
	}
	var r record.Reader
	if err := r.Reset(b, 0); err != nil {
		return 0, 0, false, err
	}
	for r.Next() {
		if one := r.Record(); one.Timestamp >= ts {
			return one.Offset, one.Timestamp, true, nil
		}
	}
	return 0, 0, false, r.Err()
}

// Entries gives the entries with lo <= Index < hi in order, at least one and
// then up to bytesMax, to bring a follower up to date; each batch is checked as
// Read does. It gives fewer, or none, where the log ends; an index before the
// first segment is ErrGap.
func (l *Log) Entries(lo, hi record.Index, bytesMax int) ([]Entry, error) {
	g := gatherer{lo: lo, hi: hi, left: int64(bytesMax)}
	err := l.entries(&g)
	if errors.Is(err, errReplaced) && len(g.entries) == 0 {
		err = l.entries(&g)
	}
	if len(g.entries) > 0 {
		err = nil // who goes on from there meets it again
	}
	return g.entries, err
}

func (l *Log) entries(g *gatherer) error {
	v := l.look(func(in *Info) bool { return in.Last >= g.lo })
	if len(v.parts) == 0 || g.lo >= g.hi {
		return nil
	}
	if g.lo < v.parts[0].info.First {
		return fmt.Errorf("%w: entry %d is not in the segments of %s", ErrGap, g.lo, l.cfg.Dir)
	}
	for i := range v.parts {
		if err := l.gather(&v.parts[i], g); err != nil && err != errFound {
			return l.spoilt(&v.parts[i], err)
		}
		if g.done {
			break
		}
	}
	return nil
}

// gatherer is what one Entries has and still wants.
type gatherer struct {
	lo, hi  record.Index
	left    int64
	entries []Entry
	done    bool
}

func (g *gatherer) add(e Entry) bool {
	if e.Index < g.lo {
		return true
	}
	if e.Index >= g.hi || len(g.entries) > 0 && int64(len(e.Data)) > g.left {
		g.done = true
		return false
	}
	g.left -= int64(len(e.Data))
	g.entries = append(g.entries, e)
	return true
}

func (l *Log) gather(p *part, g *gatherer) error {
	points, h, err := l.begin(p)
	if err != nil {
		return err
	}
	defer l.cache.release(h)
	at := startAtIndex(points, g.lo)
	w := l.walk(h, p, at, min(alignUp(max(g.left, 0)+indexEveryBytes), windowBytesMax))
	for w.pos < w.size {
		if err := w.header(); err != nil {
			return err
		}
		if err := g.chunk(w); err != nil {
			return err
		}
		w.pos, w.end = w.chunk.end(), 0
		w.next = w.chunk.next
	}
	return nil
}

// chunk gathers from the chunk whose header w has just read: other entries
// and batches interleaved by Index. A chunk wholly below lo is jumped over.
func (g *gatherer) chunk(w *walker) error {
	c := &w.chunk
	if c.last < g.lo {
		return nil
	}
	others := c.others
	for index := c.first; index <= c.last; index++ {
		e := Entry{Index: index}
		if len(others) > 0 && others[0].Index == index {
			e, others = others[0], others[1:]
		} else {
			if w.pos >= w.end {
				return fmt.Errorf("%w: %s: position %d: batches end before entry %d", ErrCorrupt, w.name, w.pos, index)
			}
			h, err := w.peek()
			if err != nil {
				return err
			}
			e.Term = uint64(uint32(h.Epoch()))
			if index >= g.lo && index < g.hi {
				b, err := w.whole(h)
				if err != nil {
					return err
				}
				e.Data = b
			}
			w.skip(h)
		}
		if !g.add(e) {
			return errFound
		}
	}
	return nil
}

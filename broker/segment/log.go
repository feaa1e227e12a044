package segment

import (
	"fmt"
	"path"
	"strings"
	"sync"

	"tidewater/internal/record"
)

// Suffixes of file names; before them stand the first offset and the first
// Index, 20 digits each, so that names sort as the log does.
const (
	segmentSuffix = ".segment"
	indexSuffix   = ".index"
)

// Log is the segments of one partition.
type Log struct {
	cfg   Config
	cache *Cache

	// The appender's own: the active segment's open file while it holds
	// unsynced writes, what of it is durable, and whether the directory has a
	// new name in it. From durable to doubt stands what recovery found and the
	// next Sync writes again.
	dirty    *handle
	durable  int64
	doubt    int64
	dirDirty bool
	// newDir: the directory's own name may not be durable yet.
	newDir bool

	// generation is that of the files which are made.
	generation uint32

	mu     sync.Mutex // guards what follows
	sealed []*part
	active *part // nil when there is none
	end    Position
	// anchored: end is known, so an Append must continue it.
	anchored bool
	failed   error // a sync failed: nothing more is written
	// damaged are the segments found damaged, by their first entry, with what
	// was found; nil while there are none.
	damaged map[record.Index]error
}

// part is one segment file. Its fields other than info, points and lastPoint
// never change; of a sealed one nothing does. Readers take copies under Log.mu.
type part struct {
	info    Info
	fileSum uint32  // checksum of the header block, 0 until read from a sealed one
	points  []point // of the active segment only; grows at the end
	// maxSoFar is the largest timestamp in the file, for the next point.
	maxSoFar int64
	// durable is how much of a recovered file its headers or the mark call
	// durable.
	durable int64
}

// Path is the file name of segment in under the disk's root.
func (l *Log) Path(in Info) string { return path.Join(l.cfg.Dir, in.Name) }

// IndexPath is the file name of a sealed segment's index.
func (l *Log) IndexPath(in Info) string { return path.Join(l.cfg.Dir, indexName(in.Name)) }

// segmentName names a file; the generation of one that was made anew stands
// behind, so that it may lie beside the one before.
func segmentName(base record.Offset, first record.Index, generation uint32) string {
	if generation == 0 {
		return fmt.Sprintf("%020d-%020d%s", base, first, segmentSuffix)
	}
	return fmt.Sprintf("%020d-%020d-%d%s", base, first, generation, segmentSuffix)
}

func indexName(segment string) string {
	return strings.TrimSuffix(segment, segmentSuffix) + indexSuffix
}

// End is the position after everything appended, synced or not.
func (l *Log) End() (record.Index, uint64, record.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end.Index, l.end.Term, l.end.Next
}

// Segments describes all segments, oldest first; the active one is last and
// not Sealed.
func (l *Log) Segments() []Info {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Info, 0, len(l.sealed)+1)
	for _, p := range l.sealed {
		out = append(out, p.info)
	}
	if l.active != nil {
		out = append(out, l.active.info)
	}
	return out
}

// Active describes the active segment; false when there is none.
func (l *Log) Active() (Info, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active == nil {
		return Info{}, false
	}
	return l.active.info, true
}

// Append writes entries, which must continue the log, as one chunk of the
// active segment; it lasts once Sync returned. After an error nothing was
// appended and the same entries may be given again (a full disk: disk.ErrFull).
// Batches are copied; the caller keeps its memory. A batch's own CRC, which the
// caller has checked, makes the chunk's: one that does not hold is damage from
// then on.
func (l *Log) Append(entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if err := l.writable(); err != nil {
		return err
	}
	c, err := l.plan(entries)
	if err != nil {
		return err
	}
	if l.active != nil && l.active.info.Bytes+alignUp(c.headerBytes+c.payloadBytes) > l.cfg.SegmentBytes {
		if err := l.Roll(); err != nil {
			return err
		}
	}
	p, lead := l.active, int64(0)
	if p == nil {
		p = &part{info: Info{Name: segmentName(c.base, c.first, l.generation), Base: c.base, Next: c.base, First: c.first, MaxTimestamp: -1, MinTimestamp: -1}, maxSoFar: -1}
		lead = headerBytes
	}
	c.pos = max(p.info.Bytes, headerBytes)
	c.durable = l.durable
	if lead > 0 {
		c.durable = 0
	}
	buf := l.cache.writeBuffer(int(lead + alignUp(c.headerBytes+c.payloadBytes)))
	defer l.cache.free(buf)
	clear(buf[:lead+c.headerBytes])
	if lead > 0 {
		h := fileHeader{identity: l.cfg.Identity, generation: l.generation, base: c.base, first: c.first}
		h.put(buf, segmentMagic)
		sealHeader(buf)
		p.fileSum = headerSum(buf)
	}
	c.fileSum = p.fileSum
	points := c.fill(buf[lead:], entries, p)
	if err := l.write(p, buf, c.pos-lead); err != nil {
		return err
	}
	l.publish(p, &c, points)
	return nil
}

// plan checks that entries continue the log and measures their chunk.
func (l *Log) plan(entries []Entry) (chunk, error) {
	l.mu.Lock()
	end, anchored := l.end, l.anchored
	l.mu.Unlock()
	c := chunk{headerBytes: chunkFixedBytes, first: entries[0].Index, last: entries[len(entries)-1].Index, base: end.Next, next: end.Next, maxTimestamp: -1, minTimestamp: -1}
	if !anchored {
		end.Index = c.first - 1
	}
	for i := range entries {
		e := &entries[i]
		if e.Index != end.Index+1 || e.Term < end.Term {
			return c, fmt.Errorf("%w: entry (%d, term %d) after (%d, term %d)", ErrGap, e.Index, e.Term, end.Index, end.Term)
		}
		end.Index, end.Term = e.Index, e.Term
		if !isBatch(e.Data) {
			c.headerBytes += otherBytes(*e)
			c.others = append(c.others, *e)
			continue
		}
		if err := c.plan(e, anchored); err != nil {
			return c, err
		}
		anchored = true
	}
	c.lastTerm = end.Term
	if c.headerBytes+c.payloadBytes > ChunkBytesMax {
		return c, fmt.Errorf("append entries %d to %d: %d bytes in one chunk, at most %d", c.first, c.last, c.headerBytes+c.payloadBytes, int64(ChunkBytesMax))
	}
	return c, nil
}

// plan adds one batch to the chunk's measures. The first batch of an
// unanchored log says where the log begins.
func (c *chunk) plan(e *Entry, anchored bool) error {
	b := record.Batch(e.Data)
	if len(b) < record.HeaderBytes || b.Size() != int64(len(b)) || b.LastOffsetDelta() < 0 {
		return fmt.Errorf("%w: entry %d of %d bytes is no whole batch", ErrGap, e.Index, len(b))
	}
	if !anchored {
		c.base, c.next = b.BaseOffset(), b.BaseOffset()
	}
	if b.BaseOffset() != c.next || uint64(uint32(b.Epoch())) != e.Term {
		return fmt.Errorf("%w: entry (%d, term %d) holds offset %d of epoch %d, expected offset %d", ErrGap, e.Index, e.Term, b.BaseOffset(), b.Epoch(), c.next)
	}
	c.next = b.NextOffset()
	c.payloadBytes += int64(len(b))
	c.batches++
	c.maxTimestamp = max(c.maxTimestamp, b.MaxTimestamp())
	if c.minTimestamp < 0 || b.BaseTimestamp() < c.minTimestamp {
		c.minTimestamp = b.BaseTimestamp()
	}
	return nil
}

// fill writes the chunk into buf, whose header is zero, and gives the index
// points it adds to p.
func (c *chunk) fill(buf []byte, entries []Entry, p *part) []point {
	x := indexer{points: p.points[len(p.points):], last: -1, max: p.maxSoFar}
	if n := len(p.points); n > 0 {
		x.last = p.points[n-1].pos
	}
	x.chunk(c)
	at := c.headerBytes
	for i := range entries {
		if d := entries[i].Data; isBatch(d) {
			x.batch(c, c.pos+at, record.Batch(d))
			c.payloadSum = record.Batch(d).SumAfter(c.payloadSum)
			at += int64(copy(buf[at:], d))
		}
	}
	clear(buf[at:])
	c.put(buf[:c.headerBytes])
	return x.points
}

// write puts buf at pos of p's file and keeps the file open until Sync.
func (l *Log) write(p *part, buf []byte, pos int64) error {
	name := l.Path(p.info)
	if l.dirty == nil {
		var err error
		if l.dirty, err = l.openActive(name, pos == 0); err != nil {
			return err
		}
	}
	if _, err := l.dirty.file.WriteAt(buf, pos); err != nil {
		if pos == 0 {
			// Nothing of this file counts yet; the next try makes it again.
			l.abandon(name)
		}
		return fmt.Errorf("write segment %s at %d: %w", name, pos, err)
	}
	return nil
}

func (l *Log) openActive(name string, fresh bool) (*handle, error) {
	if !fresh {
		return l.cache.open(l.cfg.FS, name)
	}
	if l.newDir {
		if err := l.cfg.FS.MkdirAll(l.cfg.Dir); err != nil {
			return nil, fmt.Errorf("make segment directory %s: %w", l.cfg.Dir, err)
		}
	}
	l.dirDirty = true
	return l.cache.create(l.cfg.FS, name)
}

// abandon removes a file whose first write failed.
func (l *Log) abandon(name string) {
	h := l.dirty
	l.dirty = nil
	l.cache.release(h)
	l.cache.forget(name)
	// A file that stays is found without a valid header and removed at Open.
	_ = l.cfg.FS.Remove(name)
}

// publish makes a written chunk visible to readers.
func (l *Log) publish(p *part, c *chunk, points []point) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active == nil {
		l.active, l.durable, l.doubt = p, 0, 0
	}
	p.points = append(p.points, points...)
	p.add(c)
	l.end = Position{Index: c.last, Term: c.lastTerm, Next: c.next}
	l.anchored = true
}

// add moves the segment's facts past chunk c.
func (p *part) add(c *chunk) {
	in := &p.info
	in.Next, in.Last, in.LastTerm = c.next, c.last, c.lastTerm
	in.Bytes = c.end()
	in.PayloadBytes += c.payloadBytes
	in.MaxTimestamp = max(in.MaxTimestamp, c.maxTimestamp)
	if c.minTimestamp >= 0 && (in.MinTimestamp < 0 || c.minTimestamp < in.MinTimestamp) {
		in.MinTimestamp = c.minTimestamp
	}
	p.maxSoFar = in.MaxTimestamp
}

// Dead says why the log takes no more: ErrDead, or that it is closed.
func (l *Log) Dead() error { return l.writable() }

func (l *Log) writable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// Sync makes everything appended durable, the names of new files included.
// Its error is final: ErrDead.
func (l *Log) Sync() error {
	if err := l.writable(); err != nil {
		return err
	}
	if err := l.sync(); err != nil {
		err = fmt.Errorf("%w: %w", ErrDead, err)
		l.mu.Lock()
		l.failed = err
		l.mu.Unlock()
		return err
	}
	return nil
}

func (l *Log) sync() error {
	if p := l.active; l.dirty == nil && p != nil && l.durable < p.info.Bytes {
		h, err := l.cache.open(l.cfg.FS, l.Path(p.info))
		if err != nil {
			return err
		}
		l.dirty = h
	}
	if l.dirty != nil {
		if err := l.writeAgain(); err != nil {
			return err
		}
		if err := l.dirty.file.Sync(); err != nil {
			return fmt.Errorf("sync segment %s: %w", l.dirty.name, err)
		}
		l.cache.release(l.dirty)
		l.dirty = nil
		if l.active != nil {
			l.durable = l.active.info.Bytes
		}
	}
	return l.syncDir()
}

func (l *Log) syncDir() error {
	if !l.dirDirty {
		return nil
	}
	if err := l.cfg.FS.SyncDir(l.cfg.Dir); err != nil {
		return fmt.Errorf("sync segment directory %s: %w", l.cfg.Dir, err)
	}
	if l.newDir {
		for dir := path.Clean(l.cfg.Dir); dir != "." && dir != "/"; dir = path.Dir(dir) {
			if err := l.cfg.FS.SyncDir(path.Dir(dir)); err != nil {
				return fmt.Errorf("sync directory %s: %w", path.Dir(dir), err)
			}
		}
		l.newDir = false
	}
	l.dirDirty = false
	return nil
}

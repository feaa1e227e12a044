package segment

import (
	"errors"
	"fmt"
	"io/fs"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// indexer makes points as chunks and batches go by in the order of the file.
type indexer struct {
	points []point
	last   int64 // position of the last point, -1 before the first
	max    int64 // largest timestamp so far
}

func (x *indexer) add(p point) {
	if x.last >= 0 && p.pos-x.last < indexEveryBytes {
		return
	}
	x.points = append(x.points, p)
	x.last = p.pos
}

func (x *indexer) chunk(c *chunk) {
	x.add(point{pos: c.pos, offset: c.base, index: c.first, maxBefore: x.max})
}

func (x *indexer) batch(c *chunk, pos int64, b record.Batch) {
	x.add(point{pos: pos, end: c.payloadEnd(), offset: b.BaseOffset(), index: c.first, maxBefore: x.max})
	x.max = max(x.max, b.MaxTimestamp())
}

// Roll seals the active segment: synced, its index beside it, synced too. The
// next Append begins a new one. Without an active segment it does nothing.
func (l *Log) Roll() error {
	if l.active == nil {
		return l.writable()
	}
	if err := l.Sync(); err != nil {
		return err
	}
	p := l.active
	if err := l.writeIndex(p); err != nil {
		return err
	}
	l.cache.putIndex(l.Path(p.info), p.points, p.fileSum)
	l.mu.Lock()
	defer l.mu.Unlock()
	sealed := *p
	sealed.info.Sealed = true
	sealed.points = nil
	l.sealed = append(l.sealed[:len(l.sealed):len(l.sealed)], &sealed)
	l.active = nil
	return nil
}

// writeIndex writes and syncs the index file of p, replacing a broken one. It
// leaves the segment as it was when it fails, so it may be tried again.
func (l *Log) writeIndex(p *part) error {
	name := l.IndexPath(p.info)
	if err := l.cfg.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove index %s: %w", name, err)
	}
	f, err := l.cfg.FS.Create(name)
	if err != nil {
		return fmt.Errorf("create index %s: %w", name, err)
	}
	buf := disk.Alloc(int(indexFileBytes(len(p.points))))
	h := fileHeader{identity: l.cfg.Identity, generation: generationOf(p.info.Name), base: p.info.Base, first: p.info.First}
	encodeIndex(buf, h, p.info, p.points)
	_, err = f.WriteAt(buf, 0)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write index %s: %w", name, err)
	}
	l.dirDirty = true
	return l.syncDir()
}

// RemoveBefore removes sealed segments that lie wholly below next, oldest
// first. Reads of them that are under way end well or with an error.
func (l *Log) RemoveBefore(next record.Offset) error {
	l.mu.Lock()
	n := 0
	for n < len(l.sealed) && l.sealed[n].info.Next <= next {
		n++
	}
	gone := l.sealed[:n]
	l.sealed = l.sealed[n:]
	for _, p := range gone {
		delete(l.damaged, p.info.First)
	}
	l.mu.Unlock()
	for i, p := range gone {
		if err := l.removeFiles(p.info); err != nil {
			l.mu.Lock()
			l.sealed = append(gone[i:n:n], l.sealed...)
			l.mu.Unlock()
			return err
		}
		// One by one: a crash must not bring back an older segment than one
		// that is gone, since that would be a hole.
		l.dirDirty = true
		if err := l.syncDir(); err != nil {
			return err
		}
	}
	return nil
}

// removeFiles removes a segment for good, with what may lie there in order to
// take its place.
func (l *Log) removeFiles(in Info) error {
	if err := l.removeNext(in); err != nil {
		return err
	}
	return l.remove(in.Name)
}

// Close lets go of files and memory; what was not synced is not made durable.
func (l *Log) Close() error {
	l.mu.Lock()
	all := l.sealed
	if l.active != nil {
		all = append(all[:len(all):len(all)], l.active)
	}
	l.failed = errors.New("log is closed")
	l.mu.Unlock()
	if l.dirty != nil {
		l.cache.release(l.dirty)
		l.dirty = nil
	}
	for _, p := range all {
		l.cache.forget(l.Path(p.info))
	}
	return nil
}

// Remove closes the log and removes its directory.
func (l *Log) Remove() error {
	if err := l.Close(); err != nil {
		return err
	}
	if err := l.cfg.FS.RemoveAll(l.cfg.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove segment directory %s: %w", l.cfg.Dir, err)
	}
	return nil
}

package disk

import (
	"fmt"
	"io"
	"slices"
)

// sectorBytes is what a device writes whole or not at all.
const sectorBytes = 512

// memFile is a file of Mem, guarded by Mem.mu.
type memFile struct {
	now     content
	durable content
	writes  []memWrite // since the last Sync, in order
}

// memWrite is one write or truncation that is not yet durable.
type memWrite struct {
	at   int64
	data []byte // nil: size bytes of zeros
	size int64  // of the write; of the file for a truncation
	cut  bool   // a truncation
}

// content is bytes in pages; a nil page reads as zeros. Pages are never
// changed once made: a write replaces them, so contents may share them.
type content struct {
	pages []*[BlockBytes]byte
	size  int64
}

func (c *content) resize(size int64) {
	n := int(RoundUp(size) / BlockBytes)
	if n <= len(c.pages) {
		c.pages = c.pages[:n:n]
		if rest := size % BlockBytes; rest != 0 && c.pages[n-1] != nil {
			page := *c.pages[n-1]
			clear(page[rest:])
			c.pages = slices.Clone(c.pages)
			c.pages[n-1] = &page
		}
	} else {
		c.pages = append(c.pages[:len(c.pages):len(c.pages)], make([]*[BlockBytes]byte, n-len(c.pages))...)
	}
	c.size = size
}

// write puts p (or n zeros where p is nil) at off, growing as needed. The
// page table must not be shared.
func (c *content) write(p []byte, n, off int64) {
	if end := off + n; end > c.size {
		if whole := int(RoundUp(end) / BlockBytes); whole > len(c.pages) {
			c.pages = append(c.pages, make([]*[BlockBytes]byte, whole-len(c.pages))...)
		}
		c.size = end
	}
	for done := int64(0); done < n; {
		i, at := (off+done)/BlockBytes, (off+done)%BlockBytes
		step := min(n-done, BlockBytes-at)
		switch {
		case p == nil && step == BlockBytes:
			c.pages[i] = nil
		case p != nil || c.pages[i] != nil:
			var page [BlockBytes]byte
			if c.pages[i] != nil {
				page = *c.pages[i]
			}
			if p == nil {
				clear(page[at : at+step])
			} else {
				copy(page[at:at+step], p[done:done+step])
			}
			c.pages[i] = &page
		}
		done += step
	}
}

func (c *content) read(p []byte, off int64) int {
	n := int(min(int64(len(p)), c.size-off))
	for done := 0; done < n; {
		i, at := (off+int64(done))/BlockBytes, (off+int64(done))%BlockBytes
		step := min(n-done, int(BlockBytes-at))
		if page := c.pages[i]; page == nil {
			clear(p[done : done+step])
		} else {
			copy(p[done:done+step], page[at:])
		}
		done += step
	}
	return max(n, 0)
}

func (c content) clone() content { return content{pages: slices.Clone(c.pages), size: c.size} }

// crashed gives the file after a power cut: the durable content and those
// sectors of later writes that odds lets through.
func (f *memFile) crashed(o odds) *memFile {
	after := f.durable.clone()
	for _, w := range f.writes {
		if w.cut {
			if o.survives() {
				after.resize(w.size)
			}
			continue
		}
		for from := int64(0); from < w.size; {
			to := min(w.size, from+sectorBytes-(w.at+from)%sectorBytes)
			if o.survives() {
				var sector []byte
				if w.data != nil {
					sector = w.data[from:to]
				}
				after.write(sector, to-from, w.at+from)
			}
			from = to
		}
	}
	return &memFile{now: after, durable: after.clone()}
}

// memHandle is an open file of Mem.
type memHandle struct {
	disk   *Mem
	file   *memFile
	name   string
	life   int
	closed bool
}

// enter takes the lock and refuses a handle that is closed or of an earlier
// life; the caller unlocks when err is nil.
func (h *memHandle) enter(op string) error {
	h.disk.mu.Lock()
	err := error(nil)
	switch {
	case h.life != h.disk.life:
		err = fmt.Errorf("%s %s: %w", op, h.name, ErrCrashed)
	case h.closed:
		err = fmt.Errorf("%s %s: file is closed", op, h.name)
	default:
		return nil
	}
	h.disk.mu.Unlock()
	return err
}

// blocks refuses what direct I/O would refuse.
func blocks(op, name string, n int, off int64) error {
	if n%BlockBytes != 0 || off%BlockBytes != 0 || off < 0 {
		return fmt.Errorf("%s %s: %d bytes at %d are not whole blocks", op, name, n, off)
	}
	return nil
}

// ReadAt implements File.
func (h *memHandle) ReadAt(p []byte, off int64) (int, error) {
	if err := blocks("read", h.name, len(p), off); err != nil {
		return 0, err
	}
	if err := h.enter("read"); err != nil {
		return 0, err
	}
	defer h.disk.mu.Unlock()
	n := h.file.now.read(p, off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements File.
func (h *memHandle) WriteAt(p []byte, off int64) (int, error) {
	if err := blocks("write", h.name, len(p), off); err != nil {
		return 0, err
	}
	if err := h.enter("write"); err != nil {
		return 0, err
	}
	defer h.disk.mu.Unlock()
	n := int64(len(p))
	if grow := RoundUp(off+n) - RoundUp(h.file.now.size); grow > 0 && grow > h.disk.free() {
		return 0, fmt.Errorf("write %s: %w", h.name, ErrFull)
	}
	w := memWrite{at: off, size: n}
	if !allZero(p) {
		w.data = slices.Clone(p)
	}
	h.file.writes = append(h.file.writes, w)
	h.file.now.write(w.data, n, off)
	return len(p), nil
}

func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// Sync implements File.
func (h *memHandle) Sync() error {
	if err := h.enter("sync"); err != nil {
		return err
	}
	defer h.disk.mu.Unlock()
	for _, w := range h.file.writes {
		if w.cut {
			h.file.durable.resize(w.size)
		} else {
			h.file.durable.write(w.data, w.size, w.at)
		}
	}
	h.file.writes = nil
	return nil
}

// forget has what was not synced never become durable, though it can be read.
func (h *memHandle) forget() {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	h.file.writes = nil
}

// Truncate implements File.
func (h *memHandle) Truncate(size int64) error {
	if err := h.enter("truncate"); err != nil {
		return err
	}
	defer h.disk.mu.Unlock()
	if grow := RoundUp(size) - RoundUp(h.file.now.size); grow > 0 && grow > h.disk.free() {
		return fmt.Errorf("truncate %s: %w", h.name, ErrFull)
	}
	h.file.writes = append(h.file.writes, memWrite{cut: true, size: size})
	h.file.now.resize(size)
	return nil
}

// Size implements File.
func (h *memHandle) Size() (int64, error) {
	if err := h.enter("size"); err != nil {
		return 0, err
	}
	defer h.disk.mu.Unlock()
	return h.file.now.size, nil
}

// Close implements File. Closing a file of an earlier life is no error: its
// owner is cleaning up.
func (h *memHandle) Close() error {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	h.closed = true
	return nil
}

package journal

import (
	"fmt"

	"tidewater/internal/disk"
)

// Bounds of the write buffer: it starts small, doubles on demand, is written
// out (not synced) when full at its largest, and shrinks when it proved too
// large for shrinkAfter flushes. One write of bufferBytesMax runs a device at
// its full rate.
const (
	bufferBytesMin = 64 << 10
	bufferBytesMax = 1 << 20
	shrinkAfter    = 64
)

// buffer gathers records and writes them to the active file in whole blocks,
// each block once.
type buffer struct {
	b   []byte // aligned; its length is what may be filled
	n   int    // filled
	off int64  // where in the file b[0] goes; a multiple of the block size
	// dirty: bytes were written since the last sync.
	dirty bool

	peak    int // most bytes one flush held, over the last flushes
	flushes int
}

// put appends p, writing to f what does not fit.
func (w *buffer) put(p []byte, f disk.File) error {
	for len(p) > 0 {
		if w.n == len(w.b) {
			if err := w.grow(f); err != nil {
				return err
			}
		}
		n := copy(w.b[w.n:], p)
		w.n += n
		p = p[n:]
	}
	return nil
}

func (w *buffer) grow(f disk.File) error {
	if len(w.b) >= bufferBytesMax {
		return w.write(f)
	}
	b := disk.Alloc(max(2*len(w.b), bufferBytesMin))
	copy(b, w.b[:w.n])
	w.b = b
	return nil
}

// write hands what is filled, which must be whole blocks, to the file.
func (w *buffer) write(f disk.File) error {
	if _, err := f.WriteAt(w.b[:w.n], w.off); err != nil {
		return fmt.Errorf("write %d bytes at %d: %w", w.n, w.off, err)
	}
	w.peak = max(w.peak, w.n)
	w.off += int64(w.n)
	w.n = 0
	w.dirty = true
	return nil
}

// writeOut pads the last block with zeros and writes everything.
func (w *buffer) writeOut(f disk.File) error {
	if w.n == 0 {
		return nil
	}
	whole := int(disk.RoundUp(int64(w.n)))
	clear(w.b[w.n:whole])
	w.n = whole
	return w.write(f)
}

// flushed lets go of memory that the last flushes did not need. The buffer
// must be empty.
func (w *buffer) flushed() {
	if w.flushes++; w.flushes < shrinkAfter {
		return
	}
	if fit := max(int(disk.RoundUp(int64(2*w.peak))), bufferBytesMin); 2*fit <= len(w.b) {
		w.b = disk.Alloc(fit)
	}
	w.flushes, w.peak = 0, 0
}

package journal

import (
	"fmt"

	"tidewater/internal/disk"
)

// Bounds of the write buffer: it starts small, grows on demand, is written out
// (not synced) when full at its largest, and shrinks when it proved too large
// for shrinkAfter flushes. From bufferBytesHuge on it lies in huge pages, which
// make a write cheaper and let one of bufferBytesMax run a device at its full
// rate; a size between is not worth having, since a huge page is taken anyway.
const (
	bufferBytesMin  = 64 << 10
	bufferBytesHuge = 2 << 20
	bufferBytesMax  = 4 << 20
	shrinkAfter     = 64
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
	b := allocBuffer(2 * len(w.b))
	copy(b, w.b[:w.n])
	w.b = b
	return nil
}

// bufferSize is the size of buffer that n bytes are worth.
func bufferSize(n int) int {
	for _, size := range [...]int{bufferBytesMin, 2 * bufferBytesMin, bufferBytesHuge} {
		if n <= size {
			return size
		}
	}
	return bufferBytesMax
}

func allocBuffer(n int) []byte {
	if n = bufferSize(n); n >= bufferBytesHuge {
		return disk.AllocHuge(n)
	}
	return disk.Alloc(n)
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
	if bufferSize(2*w.peak) < len(w.b) {
		w.b = allocBuffer(2 * w.peak)
	}
	w.flushes, w.peak = 0, 0
}

package segment

import (
	"errors"
	"fmt"
	"io"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// windowBytesMax bounds one read of the disk where batches are smaller:
// 1 MiB direct reads run at nearly three times the rate of 16 KiB ones, and
// beyond that little is gained.
const windowBytesMax = 1 << 20

// walker goes through one segment file, batch by batch. The bytes it gives
// are views of the buffer it read them into.
type walker struct {
	file    disk.File
	name    string
	size    int64 // of the file as far as it counts
	fileSum uint32
	// ahead is how much a read takes from where it begins, at least one block.
	ahead int64
	// reuse lets the next read overwrite the buffer: views do not last.
	reuse bool
	// lease gets the buffers, nil for nobody: they are the garbage collector's.
	lease *Lease

	buf    []byte
	bufPos int64

	pos   int64 // what comes next
	end   int64 // of the current chunk's batches; 0: pos is at a chunk header
	next  record.Offset
	chunk chunk
	// index of the entry before the next batch; meaningful when the walk began
	// at a chunk header.
	index  record.Index
	others []Entry // of the current chunk, not yet passed
}

// walk begins at p; the caller releases the handle when it is done.
func (l *Log) walk(h *handle, p *part, at point, ahead int64) *walker {
	return &walker{file: h.file, name: h.name, size: p.info.Bytes, fileSum: p.fileSum, ahead: ahead, pos: at.pos, end: at.end, next: at.offset}
}

// view gives the n bytes at pos, reading ahead from there if need be.
func (w *walker) view(pos, n int64) ([]byte, error) {
	if pos+n > w.size {
		return nil, fmt.Errorf("%w: %s: position %d: file ends at %d, expected %d bytes more", ErrCorrupt, w.name, pos, w.size, n)
	}
	if !w.holds(pos, n) {
		if err := w.load(pos, n); err != nil {
			return nil, err
		}
	}
	at := pos - w.bufPos
	return w.buf[at : at+n : at+n], nil
}

// holds reports whether the n bytes at pos are in the buffer.
func (w *walker) holds(pos, n int64) bool {
	return pos >= w.bufPos && pos+n <= w.bufPos+int64(len(w.buf))
}

func (w *walker) load(pos, n int64) error {
	from := alignDown(pos)
	to := min(alignUp(max(pos+n, from+w.ahead)), w.size)
	switch {
	case w.reuse && int64(cap(w.buf)) >= to-from:
		w.buf = w.buf[:to-from]
	case w.lease != nil:
		w.buf = w.lease.alloc(int(to - from))
	default:
		w.buf = disk.Alloc(int(to - from))
	}
	got, err := w.file.ReadAt(w.buf, from)
	if got < len(w.buf) {
		w.buf = w.buf[:0]
		if err == nil || errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: %s: position %d: read %d bytes, expected %d", ErrCorrupt, w.name, from, got, to-from)
		}
		return fmt.Errorf("read segment %s at %d: %w", w.name, from, err)
	}
	w.bufPos = from
	return nil
}

// header reads the chunk header at pos.
func (w *walker) header() error {
	fixed, err := w.view(w.pos, chunkFixedBytes)
	if err != nil {
		return err
	}
	n := chunkHeaderBytes(fixed)
	if n == 0 {
		return fmt.Errorf("%w: %s: position %d: read %x, expected a chunk header", ErrCorrupt, w.name, w.pos, fixed[:16])
	}
	b, err := w.view(w.pos, n)
	if err != nil {
		return err
	}
	if w.chunk, err = decodeChunk(b, w.pos, w.fileSum); err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	if w.next >= 0 && w.chunk.base != w.next {
		return fmt.Errorf("%w: %s: position %d: chunk begins at offset %d, expected %d", ErrCorrupt, w.name, w.pos, w.chunk.base, w.next)
	}
	w.next = w.chunk.base
	w.index = w.chunk.first - 1
	w.others = w.chunk.others
	if w.reuse {
		w.others = cloneEntries(w.others)
	}
	w.pos, w.end = w.chunk.payload(), w.chunk.payloadEnd()
	return nil
}

// more moves to the next batch, over chunk headers; io.EOF at the end.
func (w *walker) more() error {
	for w.end == 0 || w.pos >= w.end {
		if w.end != 0 {
			w.pos, w.end = alignUp(w.end), 0
		}
		if w.pos >= w.size {
			return io.EOF
		}
		if err := w.header(); err != nil {
			return err
		}
	}
	return nil
}

// peek gives the header of the batch at pos; more came before.
func (w *walker) peek() (record.Batch, error) {
	b, err := w.view(w.pos, record.HeaderBytes)
	if err != nil {
		return nil, err
	}
	h := record.Batch(b)
	n := h.Size()
	if h.Magic() != 2 || n < record.HeaderBytes || w.pos+n > w.end || h.LastOffsetDelta() < 0 {
		return nil, fmt.Errorf("%w: %s: position %d: read %x, expected a batch of at most %d bytes", ErrCorrupt, w.name, w.pos, b[:24], w.end-w.pos)
	}
	if h.BaseOffset() != w.next {
		return nil, fmt.Errorf("%w: %s: position %d: batch begins at offset %d, expected %d", ErrCorrupt, w.name, w.pos, h.BaseOffset(), w.next)
	}
	return h, nil
}

// whole gives the batch whose header peek gave, after checking it: what is on
// the disk may have changed since it was written.
func (w *walker) whole(h record.Batch) (record.Batch, error) {
	b, err := w.view(w.pos, h.Size())
	if err != nil {
		return nil, err
	}
	if err := record.Batch(b).Check(); err != nil {
		return nil, fmt.Errorf("%w: %s: position %d: batch at offset %d: %v", ErrCorrupt, w.name, w.pos, w.next, err)
	}
	return b, nil
}

// skip moves past the batch whose header peek gave.
func (w *walker) skip(h record.Batch) {
	w.pos += h.Size()
	w.next = h.NextOffset()
}

func cloneEntries(in []Entry) []Entry {
	out := make([]Entry, len(in))
	for i, e := range in {
		out[i] = Entry{Index: e.Index, Term: e.Term, Data: append([]byte(nil), e.Data...)}
	}
	return out
}

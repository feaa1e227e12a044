package segment

import (
	"errors"
	"fmt"
	"hash/crc32"

	"tidewater/internal/disk"
)

// writeAgain writes what a start found beyond what is known to be durable once
// more, as it stands. A sync is not enough: after one that failed, the kernel
// or the device may hold bytes that can be read, count as written, and are gone
// with the power. Headers and the mark say what was synced, so this is as a
// rule the last chunk of a log that is written to again, and of others nothing.
// What is written is what was checked, chunk by chunk; a crash on the way leaves
// each sector as it is.
func (l *Log) writeAgain() error {
	p, pos, end := l.active, l.durable, l.doubt
	if p == nil || pos >= end {
		return nil
	}
	if pos == 0 {
		if err := l.writeHeaderAgain(p); err != nil {
			return err
		}
		pos = headerBytes
	}
	w := l.walk(l.dirty, p, point{pos: pos, offset: -1}, scanWindowBytes)
	w.size, w.reuse = end, true
	for w.pos < end {
		if err := w.header(); err != nil {
			return fmt.Errorf("%w: %w", errOtherBytes, err)
		}
		c := w.chunk
		if err := l.writeChunkAgain(w, c.pos, c.end()); err != nil {
			return err
		}
		w.pos, w.end, w.next = c.end(), 0, c.next
	}
	l.doubt = 0
	return nil
}

// writeChunkAgain writes the chunk of a file between two positions.
func (l *Log) writeChunkAgain(w *walker, pos, end int64) error {
	b, err := w.view(pos, end-pos)
	if err != nil {
		return err
	}
	n := chunkHeaderBytes(b)
	if n > end-pos {
		n = 0
	}
	c, err := decodeChunk(b[:n], pos, w.fileSum)
	if err != nil || c.end() != end {
		return fmt.Errorf("%w: %s: position %d: %w", errOtherBytes, w.name, pos, errors.Join(ErrCorrupt, err))
	}
	if got := crc32.Checksum(b[c.payload()-pos:c.payloadEnd()-pos], castagnoli); got != c.payloadSum {
		return fmt.Errorf("%w: %w: %s: position %d: batches have CRC-32C %08x, expected %08x", errOtherBytes, ErrCorrupt, w.name, c.payload(), got, c.payloadSum)
	}
	if _, err := l.dirty.file.WriteAt(b, pos); err != nil {
		return fmt.Errorf("write segment %s again at %d: %w", w.name, pos, err)
	}
	return nil
}

// errOtherBytes: the disk gave two answers to one question.
var errOtherBytes = errors.New("the disk gives other bytes than at the start")

func (l *Log) writeHeaderAgain(p *part) error {
	b := disk.Alloc(headerBytes)
	if n, err := l.dirty.file.ReadAt(b, 0); n < len(b) {
		return fmt.Errorf("%w: segment %s: read %d bytes at 0: %w", errOtherBytes, l.dirty.name, n, errors.Join(ErrCorrupt, err))
	}
	if _, err := l.checkHeader(b, p.info); err != nil {
		return fmt.Errorf("%w: %w", errOtherBytes, err)
	}
	if _, err := l.dirty.file.WriteAt(b, 0); err != nil {
		return fmt.Errorf("write segment %s again at 0: %w", l.dirty.name, err)
	}
	return nil
}

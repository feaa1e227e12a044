package journal

import (
	"errors"
	"fmt"
	"io"

	"tidewater/internal/disk"
)

// secureStepBytes bounds one write of what is written again.
const secureStepBytes = 4 << 20

// secure makes what replay read of the newest use durable. A sync is not
// enough: after one that failed, the kernel or the device may hold bytes that
// can be read, count as written, and are gone with the power. So everything
// that no record says was synced, which is the last flush at most, and the
// header are written again, block by block the bytes that stand there: a crash
// on the way leaves each sector as it is. Before that they are read again, for
// what a cache gave once it may give no more.
func (r *replay) secure() error {
	j := r.journal
	tail := j.active()
	from := max(r.claimed, tail.start+disk.BlockBytes)
	if err := j.writeAgain(tail, from&^(disk.BlockBytes-1), disk.RoundUp(r.end)); err != nil {
		return j.die("write again "+tail.name, err)
	}
	if err := j.writeHeaderAgain(tail); err != nil {
		return j.die("write again the header of "+tail.name, err)
	}
	if err := r.checkAgain(from); err != nil {
		return j.die("check "+tail.name, err)
	}
	if err := tail.f.Sync(); err != nil {
		return j.die("sync "+tail.name, err)
	}
	return nil
}

// writeAgain writes the blocks between two journal positions as they are.
func (j *Journal) writeAgain(f *file, from, to int64) error {
	if from >= to {
		return nil
	}
	b := disk.Alloc(int(min(to-from, secureStepBytes)))
	for from < to {
		part := b[:min(to-from, int64(len(b)))]
		if n, err := f.f.ReadAt(part, from-f.start); n < len(part) {
			return fmt.Errorf("read %d bytes at %d: %w", len(part), from-f.start, err)
		}
		if _, err := f.f.WriteAt(part, from-f.start); err != nil {
			return err
		}
		from += int64(len(part))
	}
	return nil
}

// errOtherBytes: the disk gave two answers to one question.
var errOtherBytes = errors.New("the disk gives other bytes than before")

func (j *Journal) writeHeaderAgain(f *file) error {
	if n, err := f.f.ReadAt(j.block, 0); n < len(j.block) {
		return fmt.Errorf("read header: %w", errors.Join(err, io.ErrUnexpectedEOF))
	}
	if h, err := decodeHeader(j.block); err != nil || h != f.header {
		return fmt.Errorf("header: %w", errors.Join(errOtherBytes, err))
	}
	_, err := f.f.WriteAt(j.block, 0)
	return err
}

// checkAgain reads the records from a position to the end of the replay once
// more. A valid record there is the one that was replayed: a use has one record
// at a position.
func (r *replay) checkAgain(from int64) error {
	s := r.scanner
	s.again(r.end - s.start)
	for pos := from; pos < r.end; {
		_, size, bad, err := s.frame(pos - s.start)
		if err != nil {
			return err
		}
		if bad == nil {
			pos += size
			continue
		}
		pad, err := s.padding(pos - s.start)
		if err != nil {
			return err
		}
		if !pad {
			return fmt.Errorf("%w: at %d: %w", errOtherBytes, pos-s.start, bad)
		}
		pos = s.start + disk.RoundUp(pos-s.start)
	}
	return nil
}

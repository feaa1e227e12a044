package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"tidewater/internal/disk"
)

const (
	// scanBytes is one read in replay: what a device gives at its full rate.
	scanBytes = 4 << 20
	// joinBytes is how much of a window may stand in front of the next one, so
	// that a record on the edge is not read twice.
	joinBytes = 2 * frameBytesGoal
)

// scanner reads records from one file after the other through a window, while
// the next one is read beside it.
type scanner struct {
	*file
	beside    func(func()) (wait func())
	front     int64 // free bytes before each window, at most joinBytes
	limit     int64 // of the file: what is read ahead
	following *file // is read when this one is; nil for none

	now, next window
	reading   *file  // what next is of; nil for nothing
	wait      func() // for next; nil while it is not being read
}

// window is a part of a file in memory.
type window struct {
	buf []byte // aligned; scanner.front bytes are free before at
	at  int64  // byte of the file at b[0]
	b   []byte // what was read, and what was joined to it
	err error
}

// inline is Config.Beside for who wants none: it reads when asked.
func inline(fn func()) (wait func()) { return fn }

// newScanner makes a scanner of files of at most that many bytes.
func newScanner(bytesMax int64, beside func(func()) func()) *scanner {
	if beside == nil {
		beside = inline
	}
	return &scanner{beside: beside, front: disk.RoundUp(min(joinBytes, bytesMax))}
}

// begin turns to a file, of which bytes up to limit are wanted; following
// comes after it.
func (s *scanner) begin(f *file, limit int64, following *file) {
	s.file, s.limit, s.following = f, min(disk.RoundUp(limit), f.size), following
	s.now.b = nil
	if s.wait == nil || s.reading != f {
		s.ahead(f, 0)
	}
}

// again turns back to the file, whose bytes up to limit are wanted anew.
func (s *scanner) again(limit int64) {
	s.settle()
	s.limit, s.following, s.reading = min(disk.RoundUp(limit), s.size), nil, nil
	s.now.b = nil
}

// settle waits for what is being read, so that nobody uses the file any more.
func (s *scanner) settle() {
	if s.wait != nil {
		s.wait()
		s.wait = nil
	}
}

// bytes gives up to n bytes of the file from off on, fewer at its end. They
// are good until the next call.
func (s *scanner) bytes(off, n int64) ([]byte, error) {
	n = min(n, s.size-off)
	if n <= 0 {
		return nil, nil
	}
	if off < s.now.at || off+n > s.now.at+int64(len(s.now.b)) {
		if err := s.load(off, n); err != nil {
			return nil, err
		}
	}
	from := min(off-s.now.at, int64(len(s.now.b)))
	return s.now.b[from:min(from+n, int64(len(s.now.b)))], nil
}

// load makes the window hold n bytes from off on, or what the file has of them.
func (s *scanner) load(off, n int64) error {
	s.settle()
	at := off &^ (disk.BlockBytes - 1)
	if s.joins(at, off+n) {
		s.join(at)
	} else {
		s.read(&s.now, s.file, at, max(disk.RoundUp(off+n)-at, min(scanBytes, s.limit-at)))
	}
	if err := s.now.err; err != nil {
		s.now.b = nil
		return err
	}
	if to := s.now.at + int64(len(s.now.b)); to < s.limit {
		s.ahead(s.file, to)
	} else if s.following != nil {
		s.ahead(s.following, 0)
	}
	return nil
}

// joins reports whether what was read ahead, behind what is left of the window
// from at on, holds everything up to end, or could not be read.
func (s *scanner) joins(at, end int64) bool {
	next := &s.next
	if s.reading != s.file {
		return false
	}
	if next.err != nil {
		return true
	}
	if end > next.at+int64(len(next.b)) {
		return false
	}
	left := next.at - at
	return left <= 0 || left <= s.front && at >= s.now.at && s.now.at+int64(len(s.now.b)) == next.at
}

// join makes what was read ahead the window, with what is left of the old one
// from at on before it.
func (s *scanner) join(at int64) {
	old := s.now
	s.now, s.next, s.reading = s.next, window{buf: old.buf}, nil
	if left := s.now.at - at; left > 0 && s.now.err == nil {
		whole := s.now.buf[s.front-left : s.front+int64(len(s.now.b))]
		copy(whole, old.b[at-old.at:])
		s.now.at, s.now.b = at, whole
	}
}

// ahead begins to read f from at on, beside.
func (s *scanner) ahead(f *file, at int64) {
	s.settle()
	limit := s.limit
	if f != s.file {
		limit = f.size
	}
	n := min(scanBytes, limit-at)
	if s.reading = nil; n <= 0 {
		return
	}
	s.reading = f
	s.wait = s.beside(func() { s.read(&s.next, f, at, n) })
}

// read fills w with n bytes of f from at on; fewer where the file ends.
func (s *scanner) read(w *window, f *file, at, n int64) {
	n = disk.RoundUp(n)
	if int64(len(w.buf)) < s.front+n {
		w.buf = disk.Alloc(int(s.front + max(n, scanBytes)))
	}
	got, err := f.f.ReadAt(w.buf[s.front:s.front+n], at)
	w.at, w.b, w.err = at, w.buf[s.front:s.front+int64(got)], nil
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = fmt.Errorf("read %s at %d: %w", f.name, at, err)
	}
}

// frame decodes the record at off. bad says why there is none; err is the
// disk's.
func (s *scanner) frame(off int64) (f frame, size int64, bad, err error) {
	head, err := s.bytes(off, frameBytes)
	if err != nil {
		return f, 0, nil, err
	}
	size, bad = claim(head)
	if bad == nil && int64(binary.LittleEndian.Uint64(head[16:])) != s.start+off {
		bad = fmt.Errorf("%w: says it stands at %d, expected %d",
			errFrameBad, int64(binary.LittleEndian.Uint64(head[16:])), s.start+off)
	}
	if bad == nil && size > s.size-off {
		bad = fmt.Errorf("%w: %d, the file has %d", errFrameShort, size, s.size-off)
	}
	if bad != nil {
		return f, 0, bad, nil
	}
	whole, err := s.bytes(off, size)
	if err != nil {
		return f, 0, nil, err
	}
	f, size, bad = decodeFrame(whole, s.seed, s.start+off)
	return f, size, bad, nil
}

// padding reports whether only zeros stand from off, which is inside a block,
// to the block's end.
func (s *scanner) padding(off int64) (bool, error) {
	end := disk.RoundUp(off)
	if end == off {
		return false, nil
	}
	rest, err := s.bytes(off, end-off)
	return err == nil && len(bytes.Trim(rest, "\x00")) == 0, err
}

// strayRecord gives the first block of f, whose start is set, that begins
// with a record saying it belongs there; 0 is none. It goes by magic and
// position, since the header with the checksum's seed is lost.
func strayRecord(f *file) (int64, error) {
	s := newScanner(f.size, nil)
	s.begin(f, f.size, nil)
	for off := int64(disk.BlockBytes); off < f.size; off += disk.BlockBytes {
		head, err := s.bytes(off, frameBytes)
		if err != nil {
			return 0, err
		}
		if _, bad := claim(head); bad == nil && int64(binary.LittleEndian.Uint64(head[16:])) == f.start+off {
			return off, nil
		}
	}
	return 0, nil
}

package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"tidewater/internal/disk"
)

// scanBytes is one read in replay.
const scanBytes = 1 << 20

// scanner reads records from one file after the other through a window.
type scanner struct {
	*file
	window []byte // aligned
	at     int64  // byte of the file at window[0]
	n      int    // valid bytes
}

// begin turns to another file.
func (s *scanner) begin(f *file) { s.file, s.at, s.n = f, 0, 0 }

// bytes gives up to n bytes of the file from off on, fewer at its end. They
// are good until the next call.
func (s *scanner) bytes(off, n int64) ([]byte, error) {
	n = min(n, s.size-off)
	if n <= 0 {
		return nil, nil
	}
	if off < s.at || off+n > s.at+int64(s.n) {
		if err := s.load(off, n); err != nil {
			return nil, err
		}
	}
	from := min(off-s.at, int64(s.n))
	return s.window[from:min(from+n, int64(s.n))], nil
}

func (s *scanner) load(off, n int64) error {
	s.at = off &^ (disk.BlockBytes - 1)
	want := max(disk.RoundUp(off+n)-s.at, disk.RoundUp(min(scanBytes, s.size-s.at)))
	if int64(len(s.window)) < want {
		s.window = disk.Alloc(int(want))
	}
	got, err := s.f.ReadAt(s.window[:want], s.at)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read %s at %d: %w", s.name, s.at, err)
	}
	s.n = got
	return nil
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
	s := scanner{file: f}
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

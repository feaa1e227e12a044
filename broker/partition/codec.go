package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

var (
	// ErrCorrupt: stored state of a partition does not check. The replica does
	// not start from it.
	ErrCorrupt = errors.New("partition state is corrupt")
	// ErrVersion: stored state needs a newer program. The caller stops and says so.
	ErrVersion = errors.New("partition state has an unsupported format version")
)

// sumBytes is the size of the CRC-32C that ends each stored form.
const sumBytes = 4

// seal appends the checksum over everything in b from start on.
func seal(b []byte, start int) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], crc32.MakeTable(crc32.Castagnoli)))
}

// unseal checks magic, versions and checksum of what, and gives the fields
// between. Each form begins: magic (4), format version (2), minimum reader
// version (2).
func unseal(what string, b []byte, magic string, version uint16) (*fields, error) {
	if len(b) < len(magic)+4+sumBytes || string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: %s: read %x, expected %q", ErrCorrupt, what, b[:min(len(b), 8)], magic)
	}
	at := len(magic)
	if least := binary.BigEndian.Uint16(b[at+2:]); least > version {
		return nil, fmt.Errorf("%w: %s has version %d and needs a reader of version %d, this one has %d", ErrVersion, what, binary.BigEndian.Uint16(b[at:]), least, version)
	}
	body := b[:len(b)-sumBytes]
	got, want := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)), binary.BigEndian.Uint32(b[len(body):])
	if got != want {
		return nil, fmt.Errorf("%w: %s: CRC-32C is %08x, expected %08x", ErrCorrupt, what, got, want)
	}
	return &fields{b: body[at+4:]}, nil
}

// fields reads big-endian fields off b; bad sticks at the first that does not fit.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n int) []byte {
	if f.bad || n < 0 || n > len(f.b) {
		f.bad = true
		return nil
	}
	p := f.b[:n:n]
	f.b = f.b[n:]
	return p
}

func (f *fields) u64() uint64 {
	if p := f.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (f *fields) u32() uint32 {
	if p := f.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (f *fields) u16() uint16 {
	if p := f.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (f *fields) u8() uint8 {
	if p := f.take(1); p != nil {
		return p[0]
	}
	return 0
}

// count reads how many items of at least itemBytes follow.
func (f *fields) count(itemBytes int) int {
	n := f.u32()
	if f.bad || int64(n)*int64(itemBytes) > int64(len(f.b)) {
		f.bad = true
		return 0
	}
	return int(n)
}

// end reports whether everything fit and nothing is left.
func (f *fields) end(what string) error {
	if f.bad || len(f.b) != 0 {
		return fmt.Errorf("%w: %s: fields do not fit its length (%d bytes left)", ErrCorrupt, what, len(f.b))
	}
	return nil
}

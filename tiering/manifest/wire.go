package manifest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Errors of a reader of objects.
var (
	// ErrCorrupt: the object's bytes do not check. It is not used; a person
	// must look.
	ErrCorrupt = errors.New("object is corrupt")
	// ErrVersion: the object was written by a newer version, which says that
	// this one cannot read it.
	ErrVersion = errors.New("object needs a newer version to read it")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC is the checksum of all formats here: CRC-32C.
func CRC(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// Magics of the objects.
const (
	magicManifest     = "TWmf"
	magicPage         = "TWpg"
	magicBoundary     = "TWbd"
	magicSegment      = "TWsg"
	magicIndex        = "TWix"
	magicTail         = "TWtl"
	magicTailManifest = "TWtm"
	magicSeries       = "TWsr"
	magicRoot         = "TWrt"
	magicMetadata     = "TWmd"
	magicCut          = "TWct"
)

// version is the format version of all objects so far; each could move alone.
const version = 1

// Header begins every object.
type Header struct {
	ClusterID   [16]byte
	Incarnation uint32
	Tenant      string // at most 255 bytes
	KeyID       uint32 // 0: not encrypted
	Flags       uint32 // none defined
}

func appendHeader(b []byte, magic string, h Header) []byte {
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint16(b, version)
	b = binary.BigEndian.AppendUint16(b, version) // minimum reader version
	b = append(b, h.ClusterID[:]...)
	b = binary.BigEndian.AppendUint32(b, h.Incarnation)
	b = binary.BigEndian.AppendUint32(b, h.KeyID)
	b = binary.BigEndian.AppendUint32(b, h.Flags)
	b = append(b, byte(len(h.Tenant)))
	return append(b, h.Tenant...)
}

func readHeader(d *decoder, magic string) (Header, error) {
	var h Header
	got := string(d.take(4))
	written, needed := d.u16(), d.u16()
	if d.bad || got != magic {
		return h, fmt.Errorf("%w: magic is %q, want %q", ErrCorrupt, got, magic)
	}
	if needed > version {
		return h, fmt.Errorf("%w: %q version %d, readable from version %d on; this is version %d", ErrVersion, magic, written, needed, version)
	}
	copy(h.ClusterID[:], d.take(16))
	h.Incarnation, h.KeyID, h.Flags = d.u32(), d.u32(), d.u32()
	h.Tenant = string(d.take(int(d.u8())))
	if d.bad {
		return h, fmt.Errorf("%w: %q header is cut short", ErrCorrupt, magic)
	}
	if h.KeyID != 0 {
		return h, fmt.Errorf("%w: %q is encrypted with key %d", ErrVersion, magic, h.KeyID)
	}
	return h, nil
}

// unseal checks and strips the checksum that sealFrom appended.
func unseal(b []byte) (*decoder, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(b))
	}
	body := b[:len(b)-4]
	if got, want := CRC(body), binary.BigEndian.Uint32(b[len(b)-4:]); got != want {
		return nil, fmt.Errorf("%w: CRC-32C is %08x, object says %08x", ErrCorrupt, got, want)
	}
	return &decoder{b: body}, nil
}

// encoder appends big-endian fields; strings carry a 16-bit length, blobs a
// 32-bit one.
type encoder struct{ b []byte }

func (e *encoder) u8(v uint8)   { e.b = append(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = binary.BigEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = binary.BigEndian.AppendUint64(e.b, v) }
func (e *encoder) i64(v int64)  { e.u64(uint64(v)) }
func (e *encoder) str(s string) {
	e.b = binary.BigEndian.AppendUint16(e.b, uint16(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) blob(p []byte) {
	e.u32(uint32(len(p)))
	e.b = append(e.b, p...)
}

// decoder reads the same; bad sticks at the first field that does not fit.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	p := d.b[:n:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) u8() uint8 {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if p := d.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if p := d.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if p := d.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (d *decoder) i64() int64   { return int64(d.u64()) }
func (d *decoder) str() string  { return string(d.take(int(d.u16()))) }
func (d *decoder) blob() []byte { return d.take(int(d.u32())) }

// count reads a number of items of at least itemBytes each, so that a claim
// cannot ask for more memory than the bytes that are there.
func (d *decoder) count(itemBytes int) int {
	n := int(d.u32())
	if d.bad || n > len(d.b)/itemBytes {
		d.bad = true
		return 0
	}
	return n
}

// end is nil when all was read and nothing is left.
func (d *decoder) end(what string) error {
	if d.bad {
		return fmt.Errorf("%w: %s is cut short", ErrCorrupt, what)
	}
	if len(d.b) != 0 {
		return fmt.Errorf("%w: %d bytes after the %s", ErrCorrupt, len(d.b), what)
	}
	return nil
}

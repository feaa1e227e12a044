package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"tidewater/internal/disk"
)

// fileMagic begins every journal file.
const fileMagic = "TWJOURNL"

// Versions of the format: written, and the oldest reader that understands it.
const (
	formatVersion    = 1
	formatReaderMin  = 1
	headerCRCAt      = 508
	headerFieldBytes = 128
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errHeader: block 0 is not a whole header; the file may be one that was never
// finished.
var errHeader = errors.New("header is not whole")

// header is block 0 of a journal file. Its fields and checksum fit in one
// sector, which devices write whole or not at all. docs/formats/journal.md
// gives the layout.
type header struct {
	clusterID   [16]byte
	incarnation uint64
	use         uint64 // 0: filled with zeros, never used
	salt        uint64
	size        int64  // of the file
	start       int64  // journal position of the file's byte 0
	prevEnd     int64  // journal position where the records of use-1 end
	needed      uint64 // the oldest use that replay needs
}

// put writes the header into a block.
func (h *header) put(block []byte) {
	clear(block)
	le := binary.LittleEndian
	copy(block, fileMagic)
	le.PutUint16(block[8:], formatVersion)
	le.PutUint16(block[10:], formatReaderMin)
	copy(block[12:], h.clusterID[:])
	le.PutUint64(block[28:], h.incarnation)
	// 36: tenant, 16 bytes, the default tenant is zero. 52: key id, 0 is
	// clear. 56: flags, none yet.
	le.PutUint64(block[60:], h.use)
	le.PutUint64(block[68:], h.salt)
	le.PutUint64(block[76:], uint64(h.size))
	le.PutUint64(block[84:], uint64(h.start))
	le.PutUint64(block[92:], uint64(h.prevEnd))
	le.PutUint64(block[100:], h.needed)
	le.PutUint32(block[headerCRCAt:], crc32.Checksum(block[:headerCRCAt], castagnoli))
}

// decodeHeader reads block 0. Its error is errHeader where the block is not a
// whole header, else it names what this program cannot read.
func decodeHeader(block []byte) (header, error) {
	var h header
	le := binary.LittleEndian
	if len(block) < disk.BlockBytes {
		return h, fmt.Errorf("%w: %d bytes", errHeader, len(block))
	}
	if !bytes.HasPrefix(block, []byte(fileMagic)) {
		return h, fmt.Errorf("%w: begins with %q, expected %q", errHeader, block[:len(fileMagic)], fileMagic)
	}
	if got, want := crc32.Checksum(block[:headerCRCAt], castagnoli), le.Uint32(block[headerCRCAt:]); got != want {
		return h, fmt.Errorf("%w: CRC-32C is %08x, expected %08x", errHeader, got, want)
	}
	if version, reader := le.Uint16(block[8:]), le.Uint16(block[10:]); reader > formatVersion || version == 0 {
		return h, fmt.Errorf("journal format version %d needs a reader of version %d, this program reads up to %d",
			version, reader, formatVersion)
	}
	if key, flags := le.Uint32(block[52:]), le.Uint32(block[56:]); key != 0 || flags != 0 {
		return h, fmt.Errorf("journal file has key id %d and flags %#x, this program knows none", key, flags)
	}
	copy(h.clusterID[:], block[12:])
	h.incarnation = le.Uint64(block[28:])
	h.use = le.Uint64(block[60:])
	h.salt = le.Uint64(block[68:])
	h.size = int64(le.Uint64(block[76:]))
	h.start = int64(le.Uint64(block[84:]))
	h.prevEnd = int64(le.Uint64(block[92:]))
	h.needed = le.Uint64(block[100:])
	return h, nil
}

// seed begins the checksum of every record in one use of a file, so that a
// record of another use, another cluster or a client's making does not pass.
func (h *header) seed() uint32 {
	var b [32]byte
	copy(b[:], h.clusterID[:])
	binary.LittleEndian.PutUint64(b[16:], h.use)
	binary.LittleEndian.PutUint64(b[24:], h.salt)
	return crc32.Checksum(b[:], castagnoli)
}

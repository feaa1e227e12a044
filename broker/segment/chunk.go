package segment

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"tidewater/internal/record"
)

const (
	chunkMagic = "TWCK"
	// chunkFixedBytes is a chunk header without its other entries.
	chunkFixedBytes = 104
	// otherFixedBytes is one other entry without its data.
	otherFixedBytes = 20
)

// chunk is the header of one chunk: what one Append wrote.
type chunk struct {
	pos          int64 // of the header in the file; block-aligned
	durable      int64 // bytes of the file known durable when it was written
	headerBytes  int64 // fixed part and other entries
	payloadBytes int64
	batches      uint32
	payloadSum   uint32
	fileSum      uint32 // checksum of the file's header block
	first, last  record.Index
	lastTerm     uint64
	base, next   record.Offset
	maxTimestamp int64
	minTimestamp int64
	others       []Entry // entries that are not batches, by Index; Data views the buffer
}

// payload is where the batches begin, payloadEnd where they end, end where the
// next chunk begins.
func (c *chunk) payload() int64    { return c.pos + c.headerBytes }
func (c *chunk) payloadEnd() int64 { return c.payload() + c.payloadBytes }
func (c *chunk) end() int64        { return alignUp(c.payloadEnd()) }

// otherBytes is the room an entry takes in a chunk header.
func otherBytes(e Entry) int64 { return otherFixedBytes + int64(len(e.Data)) }

// put writes the header into b, which has headerBytes bytes, and its checksum.
func (c *chunk) put(b []byte) {
	copy(b, chunkMagic)
	binary.BigEndian.PutUint32(b[8:], c.payloadSum)
	binary.BigEndian.PutUint32(b[12:], uint32(c.headerBytes))
	binary.BigEndian.PutUint32(b[16:], uint32(c.payloadBytes))
	binary.BigEndian.PutUint32(b[20:], c.batches)
	binary.BigEndian.PutUint64(b[24:], uint64(c.pos))
	binary.BigEndian.PutUint64(b[32:], uint64(c.durable))
	binary.BigEndian.PutUint64(b[40:], uint64(c.first))
	binary.BigEndian.PutUint64(b[48:], uint64(c.last))
	binary.BigEndian.PutUint64(b[56:], c.lastTerm)
	binary.BigEndian.PutUint64(b[64:], uint64(c.base))
	binary.BigEndian.PutUint64(b[72:], uint64(c.next))
	binary.BigEndian.PutUint64(b[80:], uint64(c.maxTimestamp))
	binary.BigEndian.PutUint64(b[88:], uint64(c.minTimestamp))
	binary.BigEndian.PutUint32(b[96:], uint32(len(c.others)))
	binary.BigEndian.PutUint32(b[100:], c.fileSum)
	at := chunkFixedBytes
	for _, e := range c.others {
		binary.BigEndian.PutUint64(b[at:], uint64(e.Index))
		binary.BigEndian.PutUint64(b[at+8:], e.Term)
		binary.BigEndian.PutUint32(b[at+16:], uint32(len(e.Data)))
		at += otherFixedBytes + copy(b[at+otherFixedBytes:], e.Data)
	}
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:c.headerBytes], castagnoli))
}

// chunkHeaderBytes reads how long a header claims to be, from its first
// chunkFixedBytes; 0 when it is no chunk header.
func chunkHeaderBytes(b []byte) int64 {
	if len(b) < chunkFixedBytes || string(b[:4]) != chunkMagic {
		return 0
	}
	n := int64(binary.BigEndian.Uint32(b[12:]))
	if n < chunkFixedBytes || n > ChunkBytesMax {
		return 0
	}
	return n
}

// chunkFileSum is the file checksum a chunk header claims.
func chunkFileSum(b []byte) uint32 { return binary.BigEndian.Uint32(b[100:]) }

// decodeChunk reads a whole chunk header that stands at pos of the file whose
// header block has checksum fileSum. Others view b.
func decodeChunk(b []byte, pos int64, fileSum uint32) (chunk, error) {
	n := chunkHeaderBytes(b)
	if n == 0 || n > int64(len(b)) {
		return chunk{}, fmt.Errorf("%w: position %d: read %x, expected a chunk header", ErrCorrupt, pos, b[:min(len(b), 16)])
	}
	if got, want := crc32.Checksum(b[8:n], castagnoli), binary.BigEndian.Uint32(b[4:]); got != want {
		return chunk{}, fmt.Errorf("%w: position %d: chunk header CRC-32C is %08x, expected %08x", ErrCorrupt, pos, got, want)
	}
	c := chunk{
		pos:          int64(binary.BigEndian.Uint64(b[24:])),
		durable:      int64(binary.BigEndian.Uint64(b[32:])),
		headerBytes:  n,
		payloadBytes: int64(binary.BigEndian.Uint32(b[16:])),
		batches:      binary.BigEndian.Uint32(b[20:]),
		payloadSum:   binary.BigEndian.Uint32(b[8:]),
		fileSum:      chunkFileSum(b),
		first:        record.Index(binary.BigEndian.Uint64(b[40:])),
		last:         record.Index(binary.BigEndian.Uint64(b[48:])),
		lastTerm:     binary.BigEndian.Uint64(b[56:]),
		base:         record.Offset(binary.BigEndian.Uint64(b[64:])),
		next:         record.Offset(binary.BigEndian.Uint64(b[72:])),
		maxTimestamp: int64(binary.BigEndian.Uint64(b[80:])),
		minTimestamp: int64(binary.BigEndian.Uint64(b[88:])),
	}
	if c.pos != pos || c.fileSum != fileSum {
		return chunk{}, fmt.Errorf("%w: position %d: chunk says position %d of file %08x, expected file %08x", ErrCorrupt, pos, c.pos, c.fileSum, fileSum)
	}
	if err := c.checkFields(); err != nil {
		return chunk{}, err
	}
	others := binary.BigEndian.Uint32(b[96:])
	return c, c.decodeOthers(b[chunkFixedBytes:n], others)
}

// checkFields refuses numbers that cannot be; a checksum says only that they
// are what was written.
func (c *chunk) checkFields() error {
	switch {
	case c.payloadBytes > ChunkBytesMax, c.durable < 0, c.durable > c.pos, c.base < 0, c.next < c.base,
		c.first == 0, c.last < c.first, uint64(c.last-c.first)+1 < uint64(c.batches):
		return fmt.Errorf("%w: position %d: chunk header holds impossible numbers", ErrCorrupt, c.pos)
	}
	return nil
}

func (c *chunk) decodeOthers(b []byte, count uint32) error {
	if int64(count)*otherFixedBytes > int64(len(b)) {
		return fmt.Errorf("%w: position %d: %d other entries in %d bytes", ErrCorrupt, c.pos, count, len(b))
	}
	if uint64(c.batches)+uint64(count) != uint64(c.last-c.first)+1 {
		return fmt.Errorf("%w: position %d: %d batches and %d other entries, expected %d", ErrCorrupt, c.pos, c.batches, count, c.last-c.first+1)
	}
	if count > 0 {
		c.others = make([]Entry, 0, count)
	}
	for range count {
		if len(b) < otherFixedBytes {
			return fmt.Errorf("%w: position %d: other entries are cut short", ErrCorrupt, c.pos)
		}
		e := Entry{Index: record.Index(binary.BigEndian.Uint64(b)), Term: binary.BigEndian.Uint64(b[8:])}
		n := int64(binary.BigEndian.Uint32(b[16:]))
		b = b[otherFixedBytes:]
		if n > int64(len(b)) || e.Index < c.first || e.Index > c.last {
			return fmt.Errorf("%w: position %d: other entry %d of %d bytes does not fit", ErrCorrupt, c.pos, e.Index, n)
		}
		if n > 0 {
			e.Data = b[:n:n]
		}
		b = b[n:]
		c.others = append(c.others, e)
	}
	if len(b) != 0 {
		return fmt.Errorf("%w: position %d: %d bytes after the other entries", ErrCorrupt, c.pos, len(b))
	}
	return nil
}

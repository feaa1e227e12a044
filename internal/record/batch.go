package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// HeaderBytes is the size of a batch header: from the base offset up to and
// with the record count.
const HeaderBytes = 61

// lengthEnd is where the field "length" ends; length counts the bytes after it.
const lengthEnd = 12

// Attribute bits of a batch.
const (
	attrCodec         = 0x07
	attrLogAppendTime = 0x08
	attrTransactional = 0x10
	attrControl       = 0x20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is one whole record batch: a view of somebody else's bytes. The
// accessors need HeaderBytes of it and do no checks; make one with Next, or
// call Check first.
//
//	offset size field
//	0      8    base offset            (outside the CRC)
//	8      4    length of the rest
//	12     4    partition leader epoch (outside the CRC)
//	16     1    magic, 2
//	17     4    CRC-32C of everything from 21 on
//	21     2    attributes
//	23     4    last offset delta
//	27     8    base timestamp
//	35     8    max timestamp
//	43     8    producer id
//	51     2    producer epoch
//	53     4    base sequence
//	57     4    record count
//	61          records
type Batch []byte

func (b Batch) BaseOffset() Offset  { return Offset(binary.BigEndian.Uint64(b)) }
func (b Batch) Epoch() LeaderEpoch  { return LeaderEpoch(binary.BigEndian.Uint32(b[12:])) }
func (b Batch) Magic() int8         { return int8(b[16]) }
func (b Batch) CRC() uint32         { return binary.BigEndian.Uint32(b[17:]) }
func (b Batch) attributes() uint16  { return binary.BigEndian.Uint16(b[21:]) }
func (b Batch) Codec() Codec        { return Codec(b.attributes() & attrCodec) }
func (b Batch) LogAppendTime() bool { return b.attributes()&attrLogAppendTime != 0 }
func (b Batch) Transactional() bool { return b.attributes()&attrTransactional != 0 }
func (b Batch) Control() bool       { return b.attributes()&attrControl != 0 }

// LastOffsetDelta is the distance from base to last offset (inclusive).
func (b Batch) LastOffsetDelta() int32 { return int32(binary.BigEndian.Uint32(b[23:])) }

// LastOffset is the offset of the last record, inclusive.
func (b Batch) LastOffset() Offset { return b.BaseOffset() + Offset(b.LastOffsetDelta()) }

// NextOffset is the offset after the last record.
func (b Batch) NextOffset() Offset { return b.LastOffset() + 1 }

// BaseTimestamp and MaxTimestamp are milliseconds since the Unix epoch; -1 is
// "none".
func (b Batch) BaseTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[27:])) }
func (b Batch) MaxTimestamp() int64  { return int64(binary.BigEndian.Uint64(b[35:])) }

// ProducerID is -1 for a producer without idempotence.
func (b Batch) ProducerID() int64    { return int64(binary.BigEndian.Uint64(b[43:])) }
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[51:])) }
func (b Batch) BaseSequence() int32  { return int32(binary.BigEndian.Uint32(b[53:])) }
func (b Batch) RecordCount() int32   { return int32(binary.BigEndian.Uint32(b[57:])) }

// Size is the batch's size in bytes as its length field claims, header
// included. It may be any number in bytes not yet checked.
func (b Batch) Size() int64 { return lengthEnd + int64(int32(binary.BigEndian.Uint32(b[8:]))) }

// SetBaseOffset stamps the base offset; it is outside the CRC.
func (b Batch) SetBaseOffset(o Offset) { binary.BigEndian.PutUint64(b, uint64(o)) }

// SetEpoch stamps the leader epoch; it is outside the CRC.
func (b Batch) SetEpoch(e LeaderEpoch) { binary.BigEndian.PutUint32(b[12:], uint32(e)) }

// SetLogAppendTime makes ms the batch's timestamp (topic property
// message.timestamp.type=LogAppendTime) and mends the CRC. It is done once, on
// the leader, before the append.
func (b Batch) SetLogAppendTime(ms int64) {
	binary.BigEndian.PutUint16(b[21:], b.attributes()|attrLogAppendTime)
	binary.BigEndian.PutUint64(b[35:], uint64(ms))
	b.SetCRC()
}

// SetCRC computes and writes the checksum.
func (b Batch) SetCRC() { binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli)) }

// Next splits the first batch off p by its length field, checking that the
// header is whole and the claim fits. It does not look at the CRC.
func Next(p []byte) (b Batch, rest []byte, err error) {
	if len(p) < HeaderBytes {
		return nil, p, fmt.Errorf("%w: %d bytes, a header has %d", ErrShort, len(p), HeaderBytes)
	}
	h := Batch(p)
	if m := h.Magic(); m != 2 {
		return nil, p, fmt.Errorf("%w: %d", ErrMagic, m)
	}
	n := h.Size()
	if n < HeaderBytes {
		return nil, p, fmt.Errorf("%w: length field says %d bytes, less than a header", ErrCorrupt, n)
	}
	if n > int64(len(p)) {
		return nil, p, fmt.Errorf("%w: %d bytes of %d", ErrShort, len(p), n)
	}
	return Batch(p[:n:n]), p[n:], nil
}

// Check verifies everything a header says that can be known without
// decompressing: size, magic, codec, counts, CRC.
func (b Batch) Check() error {
	if len(b) < HeaderBytes || b.Size() != int64(len(b)) {
		return fmt.Errorf("%w: %d bytes do not match the length field", ErrCorrupt, len(b))
	}
	if m := b.Magic(); m != 2 {
		return fmt.Errorf("%w: %d", ErrMagic, m)
	}
	if c := b.Codec(); c > Zstd {
		return fmt.Errorf("%w: %d", ErrCodec, int8(c))
	}
	if d := b.LastOffsetDelta(); d < 0 || b.RecordCount() < 0 || int64(b.RecordCount()) > int64(d)+1 {
		return fmt.Errorf("%w: %d records with last offset delta %d", ErrCorrupt, b.RecordCount(), d)
	}
	if got := crc32.Checksum(b[21:], castagnoli); got != b.CRC() {
		return fmt.Errorf("%w: base offset %d: CRC-32C is %08x, header says %08x", ErrCorrupt, b.BaseOffset(), got, b.CRC())
	}
	return nil
}

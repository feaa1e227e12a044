package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// What files begin with, and the versions of their format this code writes
// and needs (docs/formats/segment.md).
const (
	segmentMagic  = "TWSEGMNT"
	indexMagic    = "TWSEGIDX"
	formatVersion = 1
	readerVersion = 1

	headerBytes = disk.BlockBytes
	// commonBytes is the part of a header block that both kinds of file share.
	commonBytes = 152
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// fileHeader is what the first block of a segment and of its index say.
type fileHeader struct {
	identity   Identity
	generation uint32 // 0 until compaction rewrites segments
	base       record.Offset
	first      record.Index
}

// put writes the shared part of a header block into b, which has
// headerBytes zeros; sealHeader makes it valid.
func (h *fileHeader) put(b []byte, magic string) {
	copy(b, magic)
	binary.BigEndian.PutUint16(b[12:], formatVersion)
	binary.BigEndian.PutUint16(b[14:], readerVersion)
	copy(b[16:32], h.identity.ClusterID[:])
	binary.BigEndian.PutUint64(b[32:], h.identity.Incarnation)
	binary.BigEndian.PutUint32(b[40:], h.identity.KeyID)
	copy(b[48:64], h.identity.Partition.Topic[:])
	binary.BigEndian.PutUint32(b[64:], uint32(h.identity.Partition.Partition))
	binary.BigEndian.PutUint32(b[68:], h.generation)
	binary.BigEndian.PutUint64(b[72:], uint64(h.base))
	binary.BigEndian.PutUint64(b[80:], uint64(h.first))
	b[88] = byte(len(h.identity.Tenant))
	copy(b[89:commonBytes], h.identity.Tenant)
}

// sealHeader writes the checksum of a header block.
func sealHeader(b []byte) {
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[12:headerBytes], castagnoli))
}

// headerSum is what ties a chunk to its file: the checksum of the header block.
func headerSum(b []byte) uint32 { return binary.BigEndian.Uint32(b[8:]) }

// decodeHeader reads the shared part of a header block. The version comes
// before the checksum, which a newer version may place elsewhere.
func decodeHeader(b []byte, magic string) (fileHeader, error) {
	var h fileHeader
	if len(b) < headerBytes {
		return h, fmt.Errorf("%w: position 0: read %d bytes, expected a header of %d", ErrCorrupt, len(b), headerBytes)
	}
	if !bytes.Equal(b[:8], []byte(magic)) {
		return h, fmt.Errorf("%w: position 0: read magic %q, expected %q", ErrCorrupt, b[:8], magic)
	}
	if v := binary.BigEndian.Uint16(b[14:]); v > formatVersion {
		return h, fmt.Errorf("%w: version %d needs reader %d, this is %d", ErrVersion, binary.BigEndian.Uint16(b[12:]), v, formatVersion)
	}
	if got, want := crc32.Checksum(b[12:headerBytes], castagnoli), headerSum(b); got != want {
		return h, fmt.Errorf("%w: position 0: header CRC-32C is %08x, expected %08x", ErrCorrupt, got, want)
	}
	if flags := binary.BigEndian.Uint32(b[44:]); flags != 0 {
		return h, fmt.Errorf("%w: unknown flags %08x", ErrVersion, flags)
	}
	n := int(b[88])
	if n > tenantBytesMax {
		return h, fmt.Errorf("%w: position 88: tenant length %d, at most %d", ErrCorrupt, n, tenantBytesMax)
	}
	copy(h.identity.ClusterID[:], b[16:32])
	h.identity.Incarnation = binary.BigEndian.Uint64(b[32:])
	h.identity.KeyID = binary.BigEndian.Uint32(b[40:])
	if h.identity.KeyID != 0 {
		return h, fmt.Errorf("%w: key id %d: encryption is not built", ErrVersion, h.identity.KeyID)
	}
	copy(h.identity.Partition.Topic[:], b[48:64])
	h.identity.Partition.Partition = int32(binary.BigEndian.Uint32(b[64:]))
	h.generation = binary.BigEndian.Uint32(b[68:])
	h.base = record.Offset(binary.BigEndian.Uint64(b[72:]))
	h.first = record.Index(binary.BigEndian.Uint64(b[80:]))
	h.identity.Tenant = string(b[89 : 89+n])
	return h, nil
}

// checkIdentity refuses a file that belongs to something else. A lower
// incarnation is fine: files outlive a promotion.
func checkIdentity(got, want Identity) error {
	if got.ClusterID != want.ClusterID || got.Partition != want.Partition || got.Tenant != want.Tenant {
		return fmt.Errorf("%w: position 16: belongs to cluster %x tenant %q partition %s, expected cluster %x tenant %q partition %s", ErrIdentity,
			got.ClusterID, got.Tenant, got.Partition, want.ClusterID, want.Tenant, want.Partition)
	}
	if got.Incarnation > want.Incarnation {
		return fmt.Errorf("%w: position 32: incarnation %d, this cluster is at %d", ErrIdentity, got.Incarnation, want.Incarnation)
	}
	return nil
}

// alignUp rounds n up to whole blocks, alignDown down.
func alignUp(n int64) int64   { return (n + disk.BlockBytes - 1) &^ (disk.BlockBytes - 1) }
func alignDown(n int64) int64 { return n &^ (disk.BlockBytes - 1) }

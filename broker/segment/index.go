package segment

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sort"

	"tidewater/internal/record"
)

// pointBytes is one point in an index file.
const pointBytes = 40

// point is one step of the sparse index: a place in the segment from which a
// reader can go on.
type point struct {
	pos int64 // of a chunk header (end is 0) or of a batch inside a chunk
	// end is where the batches of the chunk around pos end.
	end    int64
	offset record.Offset // of the first batch at or after pos
	index  record.Index  // of the first entry of the chunk at or around pos
	// maxBefore is the largest timestamp in the segment before pos, -1 for none.
	maxBefore int64
}

// startAt gives the place to begin looking for offset: the last point at or
// before it.
func startAt(points []point, offset record.Offset) point {
	i := sort.Search(len(points), func(i int) bool { return points[i].offset > offset })
	return points[max(i-1, 0)]
}

// startAtIndex gives the last chunk header at or before index.
func startAtIndex(points []point, index record.Index) point {
	i := sort.Search(len(points), func(i int) bool { return points[i].index > index })
	for i = max(i-1, 0); points[i].end != 0; i-- {
	}
	return points[i]
}

// startAtTime gives the last point before which every timestamp is below ts.
func startAtTime(points []point, ts int64) point {
	i := sort.Search(len(points), func(i int) bool { return points[i].maxBefore >= ts })
	return points[max(i-1, 0)]
}

// encodeIndex makes the bytes of an index file, whole blocks, in b, which has
// indexFileBytes(len(points)) zeros.
func encodeIndex(b []byte, h fileHeader, in Info, points []point) {
	for i, p := range points {
		at := b[headerBytes+i*pointBytes:]
		binary.BigEndian.PutUint64(at, uint64(p.pos))
		binary.BigEndian.PutUint64(at[8:], uint64(p.end))
		binary.BigEndian.PutUint64(at[16:], uint64(p.offset))
		binary.BigEndian.PutUint64(at[24:], uint64(p.index))
		binary.BigEndian.PutUint64(at[32:], uint64(p.maxBefore))
	}
	h.put(b, indexMagic)
	f := b[commonBytes:]
	binary.BigEndian.PutUint64(f, uint64(in.Next))
	binary.BigEndian.PutUint64(f[8:], uint64(in.Last))
	binary.BigEndian.PutUint64(f[16:], in.LastTerm)
	binary.BigEndian.PutUint64(f[24:], uint64(in.Bytes))
	binary.BigEndian.PutUint64(f[32:], uint64(in.PayloadBytes))
	binary.BigEndian.PutUint64(f[40:], uint64(in.MaxTimestamp))
	binary.BigEndian.PutUint64(f[48:], uint64(in.MinTimestamp))
	binary.BigEndian.PutUint32(f[56:], uint32(len(points)))
	binary.BigEndian.PutUint32(f[60:], crc32.Checksum(b[headerBytes:headerBytes+len(points)*pointBytes], castagnoli))
	sealHeader(b)
}

func indexFileBytes(points int) int64 { return headerBytes + alignUp(int64(points)*pointBytes) }

// indexHead is the first block of an index file.
type indexHead struct {
	fileHeader
	info   Info
	points int
	sum    uint32
}

// decodeIndexHead reads the first block, which describes the segment.
func decodeIndexHead(b []byte) (indexHead, error) {
	h, err := decodeHeader(b, indexMagic)
	if err != nil {
		return indexHead{}, err
	}
	f := b[commonBytes:]
	x := indexHead{fileHeader: h, points: int(binary.BigEndian.Uint32(f[56:])), sum: binary.BigEndian.Uint32(f[60:])}
	x.info = Info{
		Base: h.base, First: h.first, Sealed: true,
		Next:         record.Offset(binary.BigEndian.Uint64(f)),
		Last:         record.Index(binary.BigEndian.Uint64(f[8:])),
		LastTerm:     binary.BigEndian.Uint64(f[16:]),
		Bytes:        int64(binary.BigEndian.Uint64(f[24:])),
		PayloadBytes: int64(binary.BigEndian.Uint64(f[32:])),
		MaxTimestamp: int64(binary.BigEndian.Uint64(f[40:])),
		MinTimestamp: int64(binary.BigEndian.Uint64(f[48:])),
	}
	in := &x.info
	if x.points == 0 || in.Next < in.Base || in.Last < in.First || in.Bytes <= headerBytes || in.Bytes%headerBytes != 0 || int64(x.points) > in.Bytes {
		return indexHead{}, fmt.Errorf("%w: position %d: index of %d points holds impossible numbers", ErrCorrupt, commonBytes, x.points)
	}
	return x, nil
}

// decodePoints reads the points that follow the first block.
func decodePoints(b []byte, x indexHead) ([]point, error) {
	n := x.points * pointBytes
	if len(b) < n {
		return nil, fmt.Errorf("%w: position %d: read %d bytes, expected %d points", ErrCorrupt, headerBytes, len(b), x.points)
	}
	if got := crc32.Checksum(b[:n], castagnoli); got != x.sum {
		return nil, fmt.Errorf("%w: position %d: points' CRC-32C is %08x, expected %08x", ErrCorrupt, headerBytes, got, x.sum)
	}
	points := make([]point, x.points)
	for i := range points {
		at := b[i*pointBytes:]
		points[i] = point{
			pos:       int64(binary.BigEndian.Uint64(at)),
			end:       int64(binary.BigEndian.Uint64(at[8:])),
			offset:    record.Offset(binary.BigEndian.Uint64(at[16:])),
			index:     record.Index(binary.BigEndian.Uint64(at[24:])),
			maxBefore: int64(binary.BigEndian.Uint64(at[32:])),
		}
	}
	if p := points[0]; p.pos != headerBytes || p.end != 0 {
		return nil, fmt.Errorf("%w: position %d: first point is at %d, expected %d", ErrCorrupt, headerBytes, p.pos, headerBytes)
	}
	return points, nil
}

package translate

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"tidewater/internal/record"
)

// RowSum is a 64-bit hash of one record as Kafka has it: partition, offset,
// timestamp, key, value and headers. Sums of it over a range do not depend on
// the order, so that parts can be added up.
func RowSum(partition int32, r *record.Record) uint64 {
	var head [20]byte
	binary.BigEndian.PutUint32(head[:], uint32(partition))
	binary.BigEndian.PutUint64(head[4:], uint64(r.Offset))
	binary.BigEndian.PutUint64(head[12:], uint64(r.Timestamp))
	sum := xxhash.Sum64(head[:])
	sum = mix(sum, r.Key)
	sum = mix(sum, r.Value)
	for _, h := range r.Headers {
		sum = mix(sum, []byte(h.Key))
		sum = mix(sum, h.Value)
	}
	return sum
}

// mix folds one field into sum; nil and empty differ.
func mix(sum uint64, p []byte) uint64 {
	const prime = 0x9e3779b97f4a7c15
	h := uint64(prime)
	if p != nil {
		h = xxhash.Sum64(p)
	}
	return (sum^h)*prime + sum>>29
}

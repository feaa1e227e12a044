package partition

import (
	"encoding/binary"
	"fmt"

	"tidewater/broker/segment"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// A producer snapshot is the state of a log's producers at one offset, of
// committed batches only: docs/formats/producers.md. It lies beside the
// segments on disk and beside archived ones in the bucket.
const (
	snapshotMagic   = "TWPS"
	snapshotVersion = 1
)

// encodeSnapshot gives the state at next. The same state gives the same bytes.
func encodeSnapshot(id segment.Identity, next record.Offset, s *producers) []byte {
	b := append([]byte(nil), snapshotMagic...)
	b = binary.BigEndian.AppendUint16(b, snapshotVersion)
	b = binary.BigEndian.AppendUint16(b, snapshotVersion)
	b = append(b, id.ClusterID[:]...)
	b = binary.BigEndian.AppendUint64(b, id.Incarnation)
	b = binary.BigEndian.AppendUint32(b, id.KeyID)
	b = binary.BigEndian.AppendUint32(b, 0) // flags
	b = append(b, byte(len(id.Tenant)))
	b = append(b, id.Tenant...)
	b = append(b, id.Partition.Topic[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(id.Partition.Partition))
	b = binary.BigEndian.AppendUint64(b, uint64(next))
	b = s.encode(b)
	return seal(b, 0)
}

func (s *producers) encode(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.byID)))
	for _, id := range s.ids() {
		b = s.byID[id].encode(binary.BigEndian.AppendUint64(b, uint64(id)))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.txns.undecided)))
	for _, t := range s.txns.undecided {
		b = binary.BigEndian.AppendUint64(b, uint64(t.producer))
		b = binary.BigEndian.AppendUint64(b, uint64(t.first))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.txns.aborted)))
	for _, a := range s.txns.aborted {
		b = binary.BigEndian.AppendUint64(b, uint64(a.ProducerID))
		b = binary.BigEndian.AppendUint64(b, uint64(a.FirstOffset))
		b = binary.BigEndian.AppendUint64(b, uint64(a.LastOffset))
	}
	return b
}

// encodedBytes is the size of encode's bytes, or some size above enough.
func (s *producers) encodedBytes(enough int64) int64 {
	n := 12 + undecidedBytes*int64(len(s.txns.undecided)) + abortedBytes*int64(len(s.txns.aborted)) + producerFixedBytes*int64(len(s.byID))
	if n > enough {
		return n
	}
	for _, p := range s.byID {
		n += recentBytes * int64(len(p.recent))
	}
	return n
}

// Sizes of the parts, to check counts before memory is taken.
const (
	producerFixedBytes = 8 + 2 + 4 + 8 + 1
	recentBytes        = 4 + 4 + 8 + 4 + 8
	undecidedBytes     = 16
	abortedBytes       = 24
)

func (p *producer) encode(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(p.epoch))
	b = binary.BigEndian.AppendUint32(b, uint32(p.coordinatorEpoch))
	b = binary.BigEndian.AppendUint64(b, uint64(p.usedMs))
	b = append(b, byte(len(p.recent)))
	for _, r := range p.recent {
		b = binary.BigEndian.AppendUint32(b, uint32(r.first))
		b = binary.BigEndian.AppendUint32(b, uint32(r.last))
		b = binary.BigEndian.AppendUint64(b, uint64(r.base))
		b = binary.BigEndian.AppendUint32(b, uint32(r.delta))
		b = binary.BigEndian.AppendUint64(b, uint64(r.timestamp))
	}
	return b
}

// decodeSnapshot reads what encodeSnapshot gives. Identity is for the caller
// to judge: a restored partition begins with another incarnation's snapshot.
func decodeSnapshot(data []byte) (segment.Identity, record.Offset, producers, error) {
	const what = "producer snapshot"
	var id segment.Identity
	f, err := unseal(what, data, snapshotMagic, snapshotVersion)
	if err != nil {
		return id, 0, producers{}, err
	}
	copy(id.ClusterID[:], f.take(16))
	id.Incarnation = f.u64()
	id.KeyID = f.u32()
	f.u32()
	id.Tenant = string(f.take(int(f.u8())))
	copy(id.Partition.Topic[:], f.take(16))
	id.Partition.Partition = int32(f.u32())
	if id.KeyID != 0 {
		return id, 0, producers{}, fmt.Errorf("%w: %s is encrypted by key %d", ErrVersion, what, id.KeyID)
	}
	next := record.Offset(f.u64())
	s := decodeProducers(f)
	if err := f.end(what); err != nil {
		return id, 0, producers{}, err
	}
	if next < 0 {
		return id, 0, producers{}, fmt.Errorf("%w: %s at offset %d", ErrCorrupt, what, next)
	}
	return id, next, s, nil
}

func decodeProducers(f *fields) producers {
	var s producers
	n := f.count(producerFixedBytes)
	s.byID = make(map[int64]*producer, n)
	last := int64(-1)
	for range n {
		id := int64(f.u64())
		if id <= last { // ids rise, so that one state has one form
			f.bad = true
		}
		last = id
		s.byID[id] = decodeProducer(f)
	}
	for range f.count(undecidedBytes) {
		s.txns.undecided = append(s.txns.undecided, transaction{producer: int64(f.u64()), first: record.Offset(f.u64()), marker: -1})
	}
	for range f.count(abortedBytes) {
		s.txns.aborted = append(s.txns.aborted, logio.AbortedTxn{
			ProducerID: int64(f.u64()), FirstOffset: record.Offset(f.u64()), LastOffset: record.Offset(f.u64())})
	}
	return s
}

func decodeProducer(f *fields) *producer {
	p := &producer{epoch: int16(f.u16()), coordinatorEpoch: int32(f.u32()), usedMs: int64(f.u64())}
	n := int(f.u8())
	if n > recentMax {
		f.bad = true
		return p
	}
	for range n {
		p.recent = append(p.recent, recentBatch{
			first: int32(f.u32()), last: int32(f.u32()), base: record.Offset(f.u64()), delta: int32(f.u32()), timestamp: int64(f.u64())})
	}
	return p
}

package manifest

import (
	"fmt"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Extent is what a tail object says of one partition and, if Length is not 0,
// the batches of it that the object holds.
type Extent struct {
	Topic     string
	Partition record.PartitionID
	// Epoch is the term the writer leads.
	Epoch record.LeaderEpoch
	// Base and Next are the batches' ends; equal when there are none.
	Base, Next    record.Offset
	HighWatermark record.Offset
	LastStable    record.Offset
	LogStart      record.Offset
	// Manifest is the number of the newest manifest that the writer wrote or
	// opened, 0 for none; Archived its end.
	Manifest     uint64
	Archived     record.Offset
	MaxTimestamp int64 // milliseconds since the Unix epoch, -1 for none
	Open         []logio.AbortedTxn
	Position     int64 // from the first byte of the object's data
	Length       int64
	CRC          uint32
}

// Tail is one tail object: the newest committed batches of all partitions that
// a broker leads.
type Tail struct {
	Header  Header
	Series  Series
	Number  uint64
	Created int64 // milliseconds since the Unix epoch by the writer's clock
	Extents []Extent
	Data    []byte
}

const extentBytesMin = 2 + 16 + 4 + 4 + 8*5 + 8 + 8 + 8 + 4 + 8 + 8 + 4

// AppendTo encodes t: header, extents, checksum, then the data. Extents carry
// the checksums of their data.
func (t *Tail) AppendTo(b []byte) []byte {
	start := len(b)
	e := &encoder{b: appendHeader(b, magicTail, t.Header)}
	e.u32(uint32(t.Series.Node))
	e.u32(t.Series.Boot)
	e.u64(t.Number)
	e.i64(t.Created)
	e.u32(uint32(len(t.Extents)))
	for i := range t.Extents {
		e.extent(&t.Extents[i])
	}
	e.u64(uint64(len(t.Data)))
	return append(sealFrom(e.b, start), t.Data...)
}

func (e *encoder) extent(x *Extent) {
	e.partition(x.Topic, x.Partition)
	e.u32(uint32(x.Epoch))
	e.i64(int64(x.Base))
	e.i64(int64(x.Next))
	e.i64(int64(x.HighWatermark))
	e.i64(int64(x.LastStable))
	e.i64(int64(x.LogStart))
	e.u64(x.Manifest)
	e.i64(int64(x.Archived))
	e.i64(x.MaxTimestamp)
	e.u32(uint32(len(x.Open)))
	for _, o := range x.Open {
		e.i64(o.ProducerID)
		e.i64(int64(o.FirstOffset))
	}
	e.i64(x.Position)
	e.i64(x.Length)
	e.u32(x.CRC)
}

func (d *decoder) extent() Extent {
	var x Extent
	x.Topic, x.Partition = d.partition()
	x.Epoch = record.LeaderEpoch(d.u32())
	x.Base, x.Next = record.Offset(d.i64()), record.Offset(d.i64())
	x.HighWatermark, x.LastStable, x.LogStart = record.Offset(d.i64()), record.Offset(d.i64()), record.Offset(d.i64())
	x.Manifest = d.u64()
	x.Archived = record.Offset(d.i64())
	x.MaxTimestamp = d.i64()
	for range d.count(16) {
		x.Open = append(x.Open, logio.AbortedTxn{ProducerID: d.i64(), FirstOffset: record.Offset(d.i64())})
	}
	x.Position, x.Length, x.CRC = d.i64(), d.i64(), d.u32()
	return x
}

// DecodeTail reads what AppendTo gave. The data is checked per extent, by
// Batches; Data points into p.
func DecodeTail(p []byte) (*Tail, error) {
	d := &decoder{b: p}
	t := &Tail{}
	var err error
	if t.Header, err = readHeader(d, magicTail); err != nil {
		return nil, fmt.Errorf("decode tail object: %w", err)
	}
	t.Series.Node, t.Series.Boot = int32(d.u32()), d.u32()
	t.Number = d.u64()
	t.Created = d.i64()
	for range d.count(extentBytesMin) {
		t.Extents = append(t.Extents, d.extent())
	}
	length := d.u64()
	head := p[:len(p)-len(d.b)]
	sum := d.u32()
	if d.bad {
		return nil, fmt.Errorf("decode tail object: %w: cut short", ErrCorrupt)
	}
	if got := CRC(head); got != sum {
		return nil, fmt.Errorf("decode tail object: %w: CRC-32C of the extents is %08x, object says %08x", ErrCorrupt, got, sum)
	}
	if uint64(len(d.b)) != length {
		return nil, fmt.Errorf("decode tail object: %w: %d bytes of data, object says %d", ErrCorrupt, len(d.b), length)
	}
	t.Data = d.b
	for _, x := range t.Extents {
		if x.Position < 0 || x.Length < 0 || x.Position > int64(length)-x.Length || x.Next < x.Base || (x.Length == 0) != (x.Next == x.Base) {
			return nil, fmt.Errorf("decode tail object: %w: extent %s %d to %d", ErrCorrupt, x.Partition, x.Base, x.Next)
		}
	}
	return t, nil
}

// Batches gives the whole batches of an extent, checked: checksum of the
// bytes, each batch's own, contiguity.
func (t *Tail) Batches(x *Extent) ([][]byte, error) {
	p := t.Data[x.Position : x.Position+x.Length]
	if got := CRC(p); got != x.CRC {
		return nil, fmt.Errorf("tail %s/%d: extent of %s at offset %d: %w: CRC-32C is %08x, object says %08x",
			t.Series, t.Number, x.Partition, x.Base, ErrCorrupt, got, x.CRC)
	}
	list, err := SplitBatches(p)
	if err != nil {
		return nil, fmt.Errorf("tail %s/%d: extent of %s: %w", t.Series, t.Number, x.Partition, err)
	}
	next := x.Base
	for _, b := range list {
		if err := record.Batch(b).Check(); err != nil {
			return nil, fmt.Errorf("tail %s/%d: extent of %s: %w", t.Series, t.Number, x.Partition, err)
		}
		if o := record.Batch(b).BaseOffset(); o != next {
			return nil, fmt.Errorf("tail %s/%d: extent of %s: %w: batch at offset %d, want %d", t.Series, t.Number, x.Partition, ErrCorrupt, o, next)
		}
		next = record.Batch(b).NextOffset()
	}
	if next != x.Next {
		return nil, fmt.Errorf("tail %s/%d: extent of %s: %w: batches end at %d, extent says %d", t.Series, t.Number, x.Partition, ErrCorrupt, next, x.Next)
	}
	return list, nil
}

// TailManifest lists the tail objects of a series that readers may still need
// and those about to go. Only numbers that it lists as retired are deleted.
type TailManifest struct {
	Header Header
	Series Series
	Number uint64
	// First is the lowest live number, End the exclusive end of those written.
	First, End uint64
	// RetiredFrom up to First (exclusive) are retired since RetiredSince
	// (milliseconds since the Unix epoch by the store's clock).
	RetiredFrom  uint64
	RetiredSince int64
	// Closed: no process writes the series any more.
	Closed bool
}

// AppendTo encodes m.
func (m *TailManifest) AppendTo(b []byte) []byte {
	start := len(b)
	e := &encoder{b: appendHeader(b, magicTailManifest, m.Header)}
	e.u32(uint32(m.Series.Node))
	e.u32(m.Series.Boot)
	e.u64(m.Number)
	e.u64(m.First)
	e.u64(m.End)
	e.u64(m.RetiredFrom)
	e.i64(m.RetiredSince)
	if m.Closed {
		e.u8(1)
	} else {
		e.u8(0)
	}
	return sealFrom(e.b, start)
}

// DecodeTailManifest reads what AppendTo gave.
func DecodeTailManifest(p []byte) (*TailManifest, error) {
	d, err := unseal(p)
	if err != nil {
		return nil, fmt.Errorf("decode tail manifest: %w", err)
	}
	m := &TailManifest{}
	if m.Header, err = readHeader(d, magicTailManifest); err != nil {
		return nil, fmt.Errorf("decode tail manifest: %w", err)
	}
	m.Series = Series{Node: int32(d.u32()), Boot: d.u32()}
	m.Number, m.First, m.End = d.u64(), d.u64(), d.u64()
	m.RetiredFrom, m.RetiredSince = d.u64(), d.i64()
	closed := d.u8()
	if err := d.end("tail manifest"); err != nil {
		return nil, fmt.Errorf("decode tail manifest: %w", err)
	}
	if closed > 1 || m.RetiredFrom > m.First || m.First > m.End {
		return nil, fmt.Errorf("decode tail manifest: %w: retired from %d, first %d, end %d", ErrCorrupt, m.RetiredFrom, m.First, m.End)
	}
	m.Closed = closed == 1
	return m, nil
}

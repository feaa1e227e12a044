package manifest

import (
	"fmt"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// SegmentHeader stands before the batches of a segment object.
type SegmentHeader struct {
	Header    Header
	Topic     string
	Partition record.PartitionID
	Base      record.Offset
	Next      record.Offset // exclusive end
	Length    int64         // bytes of batches
	CRC       uint32        // CRC-32C of the batches
}

// AppendTo encodes h; the batches follow.
func (h SegmentHeader) AppendTo(b []byte) []byte {
	start := len(b)
	e := &encoder{b: appendHeader(b, magicSegment, h.Header)}
	e.partition(h.Topic, h.Partition)
	e.i64(int64(h.Base))
	e.i64(int64(h.Next))
	e.i64(h.Length)
	e.u32(h.CRC)
	e.u32(uint32(len(e.b) + 8 - start)) // length of this header
	return sealFrom(e.b, start)
}

// DecodeSegmentHeader reads what AppendTo gave from the beginning of an
// object, and says how long it is.
func DecodeSegmentHeader(p []byte) (h SegmentHeader, length int, err error) {
	d := &decoder{b: p}
	if h.Header, err = readHeader(d, magicSegment); err != nil {
		return h, 0, fmt.Errorf("decode segment header: %w", err)
	}
	h.Topic, h.Partition = d.partition()
	h.Base = record.Offset(d.i64())
	h.Next = record.Offset(d.i64())
	h.Length = d.i64()
	h.CRC = d.u32()
	length = int(d.u32())
	sum := d.u32()
	if d.bad || length != len(p)-len(d.b) {
		return h, 0, fmt.Errorf("decode segment header: %w: cut short", ErrCorrupt)
	}
	if got := CRC(p[:length-4]); got != sum {
		return h, 0, fmt.Errorf("decode segment header: %w: CRC-32C is %08x, object says %08x", ErrCorrupt, got, sum)
	}
	return h, length, nil
}

// Block is a run of whole batches in a segment that is checked as one.
type Block struct {
	Base         record.Offset
	Position     int64 // from the first byte of the segment's batches
	MaxTimestamp int64 // greatest in this block
	CRC          uint32
}

// Index stands beside a segment object: where offsets and times are, checksums
// by which a ranged read is verified whole, and the state of the partition at
// the segment's ends. See docs/formats/bucket.md.
type Index struct {
	Header    Header
	Topic     string
	Partition record.PartitionID
	Base      record.Offset
	Next      record.Offset // exclusive end
	Length    int64         // bytes of batches
	Blocks    []Block       // the first at Base and position 0
	Epochs    []logio.EpochStart
	// ProducersAtBase and ProducersAtEnd are broker/partition's snapshots,
	// empty when it had none there.
	ProducersAtBase, ProducersAtEnd []byte
}

const blockBytes = 8 + 8 + 8 + 4

// AppendTo encodes x.
func (x *Index) AppendTo(b []byte) []byte {
	start := len(b)
	e := &encoder{b: appendHeader(b, magicIndex, x.Header)}
	e.partition(x.Topic, x.Partition)
	e.i64(int64(x.Base))
	e.i64(int64(x.Next))
	e.i64(x.Length)
	e.u32(uint32(len(x.Blocks)))
	for _, k := range x.Blocks {
		e.i64(int64(k.Base))
		e.i64(k.Position)
		e.i64(k.MaxTimestamp)
		e.u32(k.CRC)
	}
	e.epochs(x.Epochs)
	e.blob(x.ProducersAtBase)
	e.blob(x.ProducersAtEnd)
	return sealFrom(e.b, start)
}

// DecodeIndex reads what AppendTo gave. The snapshots point into p.
func DecodeIndex(p []byte) (*Index, error) {
	d, err := unseal(p)
	if err != nil {
		return nil, fmt.Errorf("decode index: %w", err)
	}
	x := &Index{}
	if x.Header, err = readHeader(d, magicIndex); err != nil {
		return nil, fmt.Errorf("decode index: %w", err)
	}
	x.Topic, x.Partition = d.partition()
	x.Base = record.Offset(d.i64())
	x.Next = record.Offset(d.i64())
	x.Length = d.i64()
	for range d.count(blockBytes) {
		x.Blocks = append(x.Blocks, Block{Base: record.Offset(d.i64()), Position: d.i64(), MaxTimestamp: d.i64(), CRC: d.u32()})
	}
	x.Epochs = d.epochs()
	x.ProducersAtBase = d.blob()
	x.ProducersAtEnd = d.blob()
	if err := d.end("index"); err != nil {
		return nil, fmt.Errorf("decode index: %w", err)
	}
	return x, x.check()
}

func (x *Index) check() error {
	if len(x.Blocks) == 0 || x.Blocks[0].Position != 0 || x.Blocks[0].Base != x.Base {
		return fmt.Errorf("decode index: %w: first block is not at the start", ErrCorrupt)
	}
	for i, k := range x.Blocks {
		if k.Position >= x.Length || k.Base >= x.Next || i > 0 && (k.Position <= x.Blocks[i-1].Position || k.Base <= x.Blocks[i-1].Base) {
			return fmt.Errorf("decode index: %w: block %d at offset %d, position %d", ErrCorrupt, i, k.Base, k.Position)
		}
	}
	return nil
}

// SegmentBuilder checks batches as they come and lays them out as a segment
// object with its index. The zero value with Base, Limit and Epoch set is ready.
type SegmentBuilder struct {
	Base record.Offset // first offset wanted
	// Limit is the exclusive end that is committed; no batch may pass it.
	Limit record.Offset
	// BlockBytes is the size from which a block is closed; 0 is 64 KiB.
	BlockBytes int64

	next       record.Offset
	body       []byte
	blocks     []Block
	maxTime    int64
	producer   int64
	first, max record.LeaderEpoch
}

const defaultBlockBytes = 64 << 10

// Add takes the next batch; it copies it. A batch that does not check, does
// not follow, or is not committed is refused: the caller must not archive.
func (s *SegmentBuilder) Add(p []byte) error {
	b := record.Batch(p)
	if err := b.Check(); err != nil {
		return fmt.Errorf("batch that should begin at offset %d: %w", s.wanted(), err)
	}
	if b.BaseOffset() != s.wanted() {
		return fmt.Errorf("%w: batch begins at offset %d, want %d", record.ErrCorrupt, b.BaseOffset(), s.wanted())
	}
	if b.NextOffset() > s.Limit {
		return fmt.Errorf("batch %d to %d is not committed, the high watermark is %d", b.BaseOffset(), b.LastOffset(), s.Limit)
	}
	if len(s.blocks) == 0 {
		s.first, s.max, s.maxTime, s.producer = b.Epoch(), b.Epoch(), -1, -1
	} else if b.Epoch() < s.max {
		return fmt.Errorf("%w: batch at offset %d has epoch %d after %d", record.ErrCorrupt, b.BaseOffset(), b.Epoch(), s.max)
	}
	s.open(b)
	k := &s.blocks[len(s.blocks)-1]
	k.MaxTimestamp = max(k.MaxTimestamp, b.MaxTimestamp())
	s.max = b.Epoch()
	s.maxTime = max(s.maxTime, b.MaxTimestamp())
	s.producer = max(s.producer, b.ProducerID())
	s.body = append(s.body, p...)
	s.next = b.NextOffset()
	return nil
}

// open begins a block at b when there is none or the last one is full.
func (s *SegmentBuilder) open(b record.Batch) {
	size := s.BlockBytes
	if size == 0 {
		size = defaultBlockBytes
	}
	at := int64(len(s.body))
	if n := len(s.blocks); n > 0 {
		if at-s.blocks[n-1].Position < size {
			return
		}
		s.closeBlock()
	}
	s.blocks = append(s.blocks, Block{Base: b.BaseOffset(), Position: at, MaxTimestamp: -1})
}

func (s *SegmentBuilder) closeBlock() {
	k := &s.blocks[len(s.blocks)-1]
	k.CRC = CRC(s.body[k.Position:])
}

func (s *SegmentBuilder) wanted() record.Offset {
	if len(s.blocks) == 0 {
		return s.Base
	}
	return s.next
}

// Len is the number of bytes of batches so far, Next the exclusive end.
func (s *SegmentBuilder) Len() int64          { return int64(len(s.body)) }
func (s *SegmentBuilder) Next() record.Offset { return s.wanted() }

// Finish gives both objects and the entry that names them in dir; writer is
// unique. There must be at least one batch. history may be empty.
func (s *SegmentBuilder) Finish(dir Dir, writer string, x Index) (object, index []byte, entry Entry) {
	s.closeBlock()
	sum := CRC(s.body)
	object = SegmentHeader{
		Header: dir.Layout.Header(), Topic: dir.Topic, Partition: dir.ID,
		Base: s.Base, Next: s.next, Length: s.Len(), CRC: sum,
	}.AppendTo(nil)
	position := int64(len(object))
	object = append(object, s.body...)
	x.Header, x.Topic, x.Partition = dir.Layout.Header(), dir.Topic, dir.ID
	x.Base, x.Next, x.Length, x.Blocks = s.Base, s.next, s.Len(), s.blocks
	r := Range{Base: s.Base, Last: s.next - 1, Epoch: s.max, Writer: writer}
	entry = Entry{
		Kind: KindSegment, Key: dir.Segment(r), Index: dir.Index(r), Position: position, Length: s.Len(),
		Base: s.Base, Last: s.next - 1, FirstEpoch: s.first, LastEpoch: s.max, CRC: sum,
		MaxTimestamp: s.maxTime, MaxProducerID: s.producer,
	}
	return object, x.AppendTo(nil), entry
}

// SplitBatches cuts bytes that hold whole batches; the slices point into p.
func SplitBatches(p []byte) ([][]byte, error) {
	var out [][]byte
	for len(p) > 0 {
		b, rest, err := record.Next(p)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
		p = rest
	}
	return out, nil
}

package manifest

import (
	"fmt"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Least encoded sizes, which bound what a count may claim.
const (
	entryBytesMin   = 1 + 3*2 + 4*8 + 2*4 + 4 + 4 + 2*8
	pageBytesMin    = 2 + 2*8 + 4 + 3*8
	retiredBytesMin = 2 + 8
	epochBytes      = 4 + 8
)

// AppendTo encodes m.
func (m *Manifest) AppendTo(b []byte) []byte {
	start := len(b)
	e := &encoder{b: appendHeader(b, magicManifest, m.Header)}
	e.partition(m.Topic, m.Partition)
	e.u64(m.Number)
	e.str(m.Writer)
	e.u32(uint32(m.Epoch))
	e.i64(m.Created)
	e.i64(int64(m.LogStart))
	e.i64(int64(m.End))
	e.i64(int64(m.StableTo))
	e.i64(m.MaxProducerID)
	e.epochs(m.Epochs)
	e.u32(uint32(len(m.Pages)))
	for _, p := range m.Pages {
		e.str(p.Key)
		e.i64(int64(p.Base))
		e.i64(int64(p.Last))
		e.u32(p.Entries)
		e.i64(p.Bytes)
		e.i64(p.MaxTimestamp)
		e.i64(p.MaxProducerID)
	}
	e.entries(m.Entries)
	e.u32(uint32(len(m.Retired)))
	for _, r := range m.Retired {
		e.str(r.Key)
		e.i64(r.Since)
	}
	return sealFrom(e.b, start)
}

// Decode reads what AppendTo gave.
func Decode(p []byte) (*Manifest, error) {
	d, err := unseal(p)
	if err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	m := &Manifest{}
	if m.Header, err = readHeader(d, magicManifest); err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	m.Topic, m.Partition = d.partition()
	m.Number = d.u64()
	m.Writer = d.str()
	m.Epoch = record.LeaderEpoch(d.u32())
	m.Created = d.i64()
	m.LogStart = record.Offset(d.i64())
	m.End = record.Offset(d.i64())
	m.StableTo = record.Offset(d.i64())
	m.MaxProducerID = d.i64()
	m.Epochs = d.epochs()
	for range d.count(pageBytesMin) {
		m.Pages = append(m.Pages, Page{
			Key: d.str(), Base: record.Offset(d.i64()), Last: record.Offset(d.i64()), Entries: d.u32(),
			Bytes: d.i64(), MaxTimestamp: d.i64(), MaxProducerID: d.i64(),
		})
	}
	m.Entries = d.entries()
	for range d.count(retiredBytesMin) {
		m.Retired = append(m.Retired, Retired{Key: d.str(), Since: d.i64()})
	}
	if err := d.end("manifest"); err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	return m, m.check()
}

// check refuses what no writer writes.
func (m *Manifest) check() error {
	next := record.Offset(-1)
	for _, p := range m.Pages {
		if p.Last < p.Base || p.Base < next {
			return fmt.Errorf("decode manifest: %w: page %d to %d after %d", ErrCorrupt, p.Base, p.Last, next)
		}
		next = p.Last + 1
	}
	for _, e := range m.Entries {
		if e.Kind < KindSegment || e.Kind > KindParquet {
			return fmt.Errorf("decode manifest: %w: entry of kind %d", ErrVersion, e.Kind)
		}
		if e.Last < e.Base || e.Base < next || e.Position < 0 || e.Length <= 0 {
			return fmt.Errorf("decode manifest: %w: entry %d to %d after %d", ErrCorrupt, e.Base, e.Last, next)
		}
		next = e.Next()
	}
	if next > m.End || m.Number == 0 {
		return fmt.Errorf("decode manifest: %w: number %d, entries end at %d, manifest at %d", ErrCorrupt, m.Number, next, m.End)
	}
	return nil
}

func sealFrom(b []byte, start int) []byte {
	e := &encoder{b: b}
	e.u32(CRC(b[start:]))
	return e.b
}

func (e *encoder) partition(topic string, id record.PartitionID) {
	e.str(topic)
	e.b = append(e.b, id.Topic[:]...)
	e.u32(uint32(id.Partition))
}

func (d *decoder) partition() (topic string, id record.PartitionID) {
	topic = d.str()
	copy(id.Topic[:], d.take(16))
	id.Partition = int32(d.u32())
	return topic, id
}

func (e *encoder) epochs(h []logio.EpochStart) {
	e.u32(uint32(len(h)))
	for _, s := range h {
		e.u32(uint32(s.Epoch))
		e.i64(int64(s.Start))
	}
}

func (d *decoder) epochs() []logio.EpochStart {
	var h []logio.EpochStart
	for range d.count(epochBytes) {
		h = append(h, logio.EpochStart{Epoch: record.LeaderEpoch(d.u32()), Start: record.Offset(d.i64())})
	}
	return h
}

func (e *encoder) entries(list []Entry) {
	e.u32(uint32(len(list)))
	for i := range list {
		x := &list[i]
		e.u8(uint8(x.Kind))
		e.str(x.Key)
		e.str(x.Index)
		e.str(x.Aborted)
		e.i64(x.Position)
		e.i64(x.Length)
		e.i64(int64(x.Base))
		e.i64(int64(x.Last))
		e.u32(uint32(x.FirstEpoch))
		e.u32(uint32(x.LastEpoch))
		e.u32(x.Generation)
		e.u32(x.CRC)
		e.i64(x.MaxTimestamp)
		e.i64(x.MaxProducerID)
	}
}

func (d *decoder) entries() []Entry {
	var list []Entry
	for range d.count(entryBytesMin) {
		list = append(list, Entry{
			Kind: Kind(d.u8()), Key: d.str(), Index: d.str(), Aborted: d.str(), Position: d.i64(), Length: d.i64(),
			Base: record.Offset(d.i64()), Last: record.Offset(d.i64()),
			FirstEpoch: record.LeaderEpoch(d.u32()), LastEpoch: record.LeaderEpoch(d.u32()),
			Generation: d.u32(), CRC: d.u32(), MaxTimestamp: d.i64(), MaxProducerID: d.i64(),
		})
	}
	return list
}

// AppendPage encodes spilled entries.
func AppendPage(b []byte, h Header, id record.PartitionID, topic string, entries []Entry) []byte {
	start := len(b)
	e := &encoder{b: appendHeader(b, magicPage, h)}
	e.partition(topic, id)
	e.entries(entries)
	return sealFrom(e.b, start)
}

// DecodePage reads what AppendPage gave.
func DecodePage(p []byte) ([]Entry, error) {
	d, err := unseal(p)
	if err != nil {
		return nil, fmt.Errorf("decode page: %w", err)
	}
	if _, err := readHeader(d, magicPage); err != nil {
		return nil, fmt.Errorf("decode page: %w", err)
	}
	d.partition()
	list := d.entries()
	if err := d.end("page"); err != nil {
		return nil, fmt.Errorf("decode page: %w", err)
	}
	return list, nil
}

// AppendBoundary encodes a boundary: everything of the partition's manifests
// below the number in its key may be gone.
func AppendBoundary(b []byte, h Header, n uint64) []byte {
	start := len(b)
	e := &encoder{b: appendHeader(b, magicBoundary, h)}
	e.u64(n)
	return sealFrom(e.b, start)
}

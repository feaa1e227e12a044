package manifest

import (
	"fmt"

	"tidewater/internal/record"
)

// Reason is why an incarnation was taken.
type Reason uint8

// The reasons. Only these take a number.
const (
	ReasonCreate  Reason = 1
	ReasonRestore Reason = 2
	ReasonPromote Reason = 3
	ReasonMount   Reason = 4
)

// Root is the object by which an incarnation is taken.
type Root struct {
	Header  Header // Header.Incarnation is the one taken
	Parent  uint32 // the incarnation whose data it continues, 0 for none
	Reason  Reason
	Writer  string // unique to the taker
	Created int64  // milliseconds since the Unix epoch
}

// AppendTo encodes r.
func (r *Root) AppendTo(b []byte) []byte {
	start := len(b)
	e := &encoder{b: appendHeader(b, magicRoot, r.Header)}
	e.u32(r.Parent)
	e.u8(uint8(r.Reason))
	e.str(r.Writer)
	e.i64(r.Created)
	return sealFrom(e.b, start)
}

// DecodeRoot reads what AppendTo gave.
func DecodeRoot(p []byte) (*Root, error) {
	d, err := unseal(p)
	if err != nil {
		return nil, fmt.Errorf("decode root: %w", err)
	}
	r := &Root{}
	if r.Header, err = readHeader(d, magicRoot); err != nil {
		return nil, fmt.Errorf("decode root: %w", err)
	}
	r.Parent, r.Reason, r.Writer, r.Created = d.u32(), Reason(d.u8()), d.str(), d.i64()
	return r, d.end("root")
}

// Metadata is what a cluster knows of itself, for restores and replicas.
type Metadata struct {
	Header  Header
	Number  uint64
	Epoch   record.LeaderEpoch // the controller's term
	Created int64              // milliseconds since the Unix epoch by the writer's clock
	Series  []Series           // of every broker and boot whose tails may matter
	// NextProducerID and NextSchemaID are the counters after everything that
	// was handed out.
	NextProducerID int64
	NextSchemaID   int64
	// Blob is the controller's state; its format belongs to broker/cluster.
	Blob []byte
}

// AppendTo encodes m.
func (m *Metadata) AppendTo(b []byte) []byte {
	start := len(b)
	e := &encoder{b: appendHeader(b, magicMetadata, m.Header)}
	e.u64(m.Number)
	e.u32(uint32(m.Epoch))
	e.i64(m.Created)
	e.u32(uint32(len(m.Series)))
	for _, s := range m.Series {
		e.u32(uint32(s.Node))
		e.u32(s.Boot)
	}
	e.i64(m.NextProducerID)
	e.i64(m.NextSchemaID)
	e.blob(m.Blob)
	return sealFrom(e.b, start)
}

// DecodeMetadata reads what AppendTo gave. Blob points into p.
func DecodeMetadata(p []byte) (*Metadata, error) {
	d, err := unseal(p)
	if err != nil {
		return nil, fmt.Errorf("decode cluster metadata: %w", err)
	}
	m := &Metadata{}
	if m.Header, err = readHeader(d, magicMetadata); err != nil {
		return nil, fmt.Errorf("decode cluster metadata: %w", err)
	}
	m.Number, m.Epoch, m.Created = d.u64(), record.LeaderEpoch(d.u32()), d.i64()
	for range d.count(8) {
		m.Series = append(m.Series, Series{Node: int32(d.u32()), Boot: d.u32()})
	}
	m.NextProducerID, m.NextSchemaID = d.i64(), d.i64()
	m.Blob = d.blob()
	return m, d.end("cluster metadata")
}

// Class orders the capture of a cut: a lower class is captured, and confirmed
// by the bucket, before a higher one.
type Class uint8

// The classes. Group offsets are captured before the data they speak of, so
// they never pass it; prepared transactions before their records.
const (
	ClassTransactions Class = 1 // __transaction_state
	ClassGroups       Class = 2 // __consumer_offsets
	ClassData         Class = 3
)

// ClassOf gives the class of a topic.
func ClassOf(topic string) Class {
	switch topic {
	case "__transaction_state":
		return ClassTransactions
	case "__consumer_offsets":
		return ClassGroups
	}
	return ClassData
}

// CutEnd is how far one partition reaches in a cut.
type CutEnd struct {
	Topic     string
	Partition record.PartitionID
	End       record.Offset // exclusive; all below is in the bucket
}

// Cut is a set of offsets that fit together.
type Cut struct {
	Header   Header
	Number   uint64
	Epoch    record.LeaderEpoch // the controller's term
	Created  int64              // milliseconds since the Unix epoch by the writer's clock
	Metadata uint64             // number of the newest cluster metadata
	Ends     []CutEnd           // by class, then partition
}

// AppendTo encodes c.
func (c *Cut) AppendTo(b []byte) []byte {
	start := len(b)
	e := &encoder{b: appendHeader(b, magicCut, c.Header)}
	e.u64(c.Number)
	e.u32(uint32(c.Epoch))
	e.i64(c.Created)
	e.u64(c.Metadata)
	e.u32(uint32(len(c.Ends)))
	for _, x := range c.Ends {
		e.partition(x.Topic, x.Partition)
		e.i64(int64(x.End))
	}
	return sealFrom(e.b, start)
}

// DecodeCut reads what AppendTo gave.
func DecodeCut(p []byte) (*Cut, error) {
	d, err := unseal(p)
	if err != nil {
		return nil, fmt.Errorf("decode cut: %w", err)
	}
	c := &Cut{}
	if c.Header, err = readHeader(d, magicCut); err != nil {
		return nil, fmt.Errorf("decode cut: %w", err)
	}
	c.Number, c.Epoch, c.Created, c.Metadata = d.u64(), record.LeaderEpoch(d.u32()), d.i64(), d.u64()
	for range d.count(2 + 16 + 4 + 8) {
		var x CutEnd
		x.Topic, x.Partition = d.partition()
		x.End = record.Offset(d.i64())
		c.Ends = append(c.Ends, x)
	}
	return c, d.end("cut")
}

// Package icebergtest holds what tests of the table's packages share: a log of
// partitions in memory and a catalog in memory whose calls can be disturbed.
// Both are deterministic;
// the catalog is for one caller at a time.
package icebergtest

import (
	"context"
	"fmt"
	"sync"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Partition is a partition's log in memory; a translate.Source.
type Partition struct {
	// Codec compresses batches appended from now on.
	Codec record.Codec

	mu      sync.Mutex
	id      record.PartitionID
	batches []record.Batch
	aborted []logio.AbortedTxn
	offsets logio.Offsets
	open    map[int64]record.Offset // producers with an open transaction
}

// NewPartition makes an empty log.
func NewPartition(topic record.TopicID, partition int32) *Partition {
	return &Partition{Codec: record.Snappy, id: record.PartitionID{Topic: topic, Partition: partition}, open: map[int64]record.Offset{}}
}

// ID implements translate.Source.
func (p *Partition) ID() record.PartitionID { return p.id }

// Offsets implements translate.Source.
func (p *Partition) Offsets() (logio.Offsets, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets, nil
}

// End is the log end offset.
func (p *Partition) End() record.Offset {
	o, _ := p.Offsets()
	return o.LogEnd
}

// Rec is a record to append.
type Rec struct {
	Time       int64
	Key, Value []byte
	Headers    []record.Header
}

// Append adds a batch and gives its base offset.
func (p *Partition) Append(recs ...Rec) record.Offset {
	return p.add(record.Builder{Codec: p.Codec}, recs)
}

// AppendValues adds a batch of values without key at time 1 s.
func (p *Partition) AppendValues(values ...string) record.Offset {
	recs := make([]Rec, len(values))
	for i, v := range values {
		recs[i] = Rec{Time: 1000, Value: []byte(v)}
	}
	return p.Append(recs...)
}

// AppendTxn adds a batch of producer's transaction, opening it if need be.
func (p *Partition) AppendTxn(producer int64, recs ...Rec) record.Offset {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.open[producer]; !ok {
		p.open[producer] = p.offsets.LogEnd
	}
	return p.add(record.Builder{Transactional: true, Producer: &record.Producer{ID: producer}}, recs)
}

// EndTxn writes the transaction's marker.
func (p *Partition) EndTxn(producer int64, commit bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	value := []byte{0, 0, 0, 0, 0, 0}
	key := []byte{0, 0, 0, 0}
	if commit {
		key[3] = 1
	}
	first := p.open[producer]
	delete(p.open, producer)
	at := p.add(record.Builder{Transactional: true, Control: true, Producer: &record.Producer{ID: producer}}, []Rec{{Key: key, Value: value}})
	if !commit {
		p.aborted = append(p.aborted, logio.AbortedTxn{ProducerID: producer, FirstOffset: first, LastOffset: at})
	}
	p.stable()
}

func (p *Partition) add(b record.Builder, recs []Rec) record.Offset {
	for _, r := range recs {
		b.Add(r.Time, r.Key, r.Value, r.Headers...)
	}
	base := p.offsets.LogEnd
	batch, err := b.Build(base)
	if err != nil {
		panic(err)
	}
	batch.SetEpoch(1)
	p.batches = append(p.batches, batch)
	p.offsets.LogEnd = batch.NextOffset()
	p.offsets.HighWatermark = p.offsets.LogEnd
	p.stable()
	return base
}

func (p *Partition) stable() {
	p.offsets.LastStable = p.offsets.HighWatermark
	for _, first := range p.open {
		p.offsets.LastStable = min(p.offsets.LastStable, first)
	}
}

// Cut forgets everything from offset end on, as a restore does.
func (p *Partition) Cut(end record.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.batches) > 0 && p.batches[len(p.batches)-1].BaseOffset() >= end {
		p.batches = p.batches[:len(p.batches)-1]
	}
	p.offsets.LogEnd, p.offsets.HighWatermark = end, end
	p.stable()
}

// Trim moves the log start, as retention does.
func (p *Partition) Trim(start record.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offsets.LogStart = start
}

// Corrupt flips a byte of the batch that holds offset.
func (p *Partition) Corrupt(offset record.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, b := range p.batches {
		if b.NextOffset() > offset {
			c := append(record.Batch{}, b...)
			c[len(c)-1] ^= 1
			p.batches[i] = c
			return
		}
	}
}

// Read implements translate.Source.
func (p *Partition) Read(_ context.Context, r logio.ReadRequest) (logio.ReadResult, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Offset < p.offsets.LogStart || r.Offset > p.offsets.LogEnd {
		return logio.ReadResult{}, fmt.Errorf("read offset %d: %w", r.Offset, logio.ErrOffsetOutOfRange)
	}
	out := logio.ReadResult{Offsets: p.offsets, Aborted: p.aborted}
	size := 0
	for _, b := range p.batches {
		if b.NextOffset() <= r.Offset || b.BaseOffset() >= p.offsets.End(r.Isolation) {
			continue
		}
		if size += len(b); size > r.BytesMax && (len(out.Batches) > 0 || !r.MinOne) {
			break
		}
		out.Batches = append(out.Batches, b)
	}
	return out, nil
}

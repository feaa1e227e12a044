package readreplica

import (
	"context"
	"slices"

	"tidewater/internal/logio"
	"tidewater/internal/record"
	"tidewater/tiering/remote"
)

// Find implements kafka.Partition.
func (p *Partition) Find(ctx context.Context, ts int64, iso logio.Isolation) (logio.FoundOffset, error) {
	o, err := p.Offsets()
	if err != nil {
		return logio.FoundOffset{}, err
	}
	at := func(x record.Offset) (logio.FoundOffset, error) {
		return logio.FoundOffset{Offset: x, Timestamp: -1, Epoch: p.epochOf(x)}, nil
	}
	switch ts {
	case logio.TimeLatest:
		return at(o.End(iso))
	case logio.TimeEarliest:
		return at(o.LogStart)
	case logio.TimeEarliestLocal:
		return at(o.LocalLogStart)
	case logio.TimeLatestTiered:
		return at(o.Archived - 1)
	case logio.TimeMaxTimestamp:
		return p.findMax(ctx, o, iso)
	}
	found, err := p.src.Find(ctx, ts)
	if err != nil {
		return logio.FoundOffset{}, err
	}
	if found.Offset < 0 {
		if found, err = remote.FindInBatches(p.memoryBytes(), o.LogStart, ts); err != nil {
			return logio.FoundOffset{}, err
		}
	}
	if found.Offset >= o.End(iso) {
		return logio.FoundOffset{Offset: -1, Timestamp: -1, Epoch: -1}, nil
	}
	return found, nil
}

// findMax compares the newest record of the bucket's segments with those in
// memory.
func (p *Partition) findMax(ctx context.Context, o logio.Offsets, iso logio.Isolation) (logio.FoundOffset, error) {
	end := o.End(iso)
	at, ms, epoch, err := record.Newest(p.memoryBatches(), o.LogStart, end)
	if err != nil {
		return logio.FoundOffset{}, err
	}
	found, err := p.src.FindMax(ctx, o.LogStart, end, ms)
	if err != nil {
		return found, err
	}
	// What both hold is the same record; of equals the lower offset counts.
	if ms > found.Timestamp || ms == found.Timestamp && at < found.Offset {
		return logio.FoundOffset{Offset: at, Timestamp: ms, Epoch: epoch}, nil
	}
	return found, nil
}

// memoryBatches are the batches in memory; nobody changes them.
func (p *Partition) memoryBatches() []record.Batch {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]record.Batch, len(p.run))
	for i, b := range p.run {
		all[i] = b.batch
	}
	return all
}

// memoryBytes are the batches in memory, one after the other.
func (p *Partition) memoryBytes() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []byte
	for _, b := range p.run {
		all = append(all, b.batch...)
	}
	return all
}

// epochOf is the leader epoch of an offset, -1 if unknown.
func (p *Partition) epochOf(o record.Offset) record.LeaderEpoch {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := record.LeaderEpoch(-1)
	for _, h := range p.epochs {
		if h.Start <= o {
			e = h.Epoch
		}
	}
	return e
}

// EpochEnd implements kafka.Partition.
func (p *Partition) EpochEnd(epoch record.LeaderEpoch) (logio.EpochEnd, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return logio.EpochEnd{}, logio.ErrClosed
	}
	o := p.offsets()
	if epoch >= o.Epoch {
		if epoch > o.Epoch {
			return logio.EpochEnd{Epoch: -1, End: -1}, nil
		}
		return logio.EpochEnd{Epoch: o.Epoch, End: o.HighWatermark}, nil
	}
	i := slices.IndexFunc(p.epochs, func(h logio.EpochStart) bool { return h.Epoch > epoch })
	switch {
	case i == 0:
		return logio.EpochEnd{Epoch: -1, End: -1}, nil
	case i > 0:
		return logio.EpochEnd{Epoch: p.epochs[i-1].Epoch, End: p.epochs[i].Start}, nil
	case len(p.epochs) > 0:
		return logio.EpochEnd{Epoch: p.epochs[len(p.epochs)-1].Epoch, End: o.HighWatermark}, nil
	}
	return logio.EpochEnd{Epoch: -1, End: -1}, nil
}

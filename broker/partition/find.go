package partition

import (
	"context"
	"fmt"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// findBytesMax is how much one step of a look-up by time reads.
const findBytesMax = 1 << 20

// Find looks up by time (ms since the Unix epoch), or one of logio.Time….
func (p *Partition) Find(ctx context.Context, ts int64, iso logio.Isolation) (logio.FoundOffset, error) {
	none := logio.FoundOffset{Offset: -1, Timestamp: -1, Epoch: -1}
	p.mu.Lock()
	o, err := p.offsets(), p.readable(true)
	p.mu.Unlock()
	if err != nil {
		return none, err
	}
	end := o.End(iso)
	switch ts {
	case logio.TimeLatest:
		return p.known(end, o.Epoch), nil
	case logio.TimeEarliest:
		return p.known(o.LogStart, -1), nil
	case logio.TimeEarliestLocal:
		return p.known(o.LocalLogStart, -1), nil
	case logio.TimeLatestTiered:
		if o.Archived <= o.LogStart {
			return none, nil
		}
		return p.known(o.Archived-1, -1), nil
	case logio.TimeMaxTimestamp:
		return p.findNewest(ctx, &o, end)
	}
	if ts < 0 {
		return none, fmt.Errorf("%w: timestamp %d has no meaning", logio.ErrInvalidTimestamp, ts)
	}
	return p.findTime(ctx, ts, &o, end)
}

// known answers with an offset and the epoch of its record, or epoch if that
// is not negative.
func (p *Partition) known(o record.Offset, epoch record.LeaderEpoch) logio.FoundOffset {
	if epoch < 0 {
		p.mu.Lock()
		epoch = p.live.epochs.at(o)
		p.mu.Unlock()
	}
	return logio.FoundOffset{Offset: o, Timestamp: -1, Epoch: epoch}
}

// findTime finds the first record in [log start, end) not older than ts.
func (p *Partition) findTime(ctx context.Context, ts int64, o *logio.Offsets, end record.Offset) (logio.FoundOffset, error) {
	if remote := p.bucket(); remote != nil && o.LogStart < o.LocalLogStart {
		f, err := remote.Find(ctx, ts)
		if err != nil {
			return f, fmt.Errorf("%w: find time %d in the bucket of %s: %w", logio.ErrStorage, ts, p.Name(), err)
		}
		if f.Offset >= o.LogStart && f.Offset < o.LocalLogStart && f.Offset < end {
			return f, nil
		}
	}
	p.mu.Lock()
	younger := p.stable.next // taken first: what is older is in segments
	p.mu.Unlock()
	from, _, ok, err := p.segments.Find(ts)
	if err != nil {
		return logio.FoundOffset{Offset: -1}, fmt.Errorf("%w: find time %d in %s: %w", logio.ErrStorage, ts, p.Name(), err)
	}
	if !ok {
		from = younger
	}
	return p.findFrom(ctx, max(from, o.LocalLogStart), end, func(r *record.Record) bool { return r.Timestamp >= ts })
}

// findFrom walks the records of [from, end) to the first that is wanted.
func (p *Partition) findFrom(ctx context.Context, from, end record.Offset, wanted func(*record.Record) bool) (logio.FoundOffset, error) {
	none := logio.FoundOffset{Offset: -1, Timestamp: -1, Epoch: -1}
	var r record.Reader
	for at := from; at < end; {
		g := gathering{at: at, limit: end, left: findBytesMax, minOne: true}
		if err := p.gather(ctx, &g); err != nil {
			return none, err
		}
		if g.at == at {
			return none, nil
		}
		for _, data := range g.batches {
			b := record.Batch(data)
			if b.Control() {
				continue
			}
			if err := r.Reset(b, 0); err != nil {
				return none, err
			}
			for r.Next() {
				if one := r.Record(); one.Offset >= from && wanted(one) {
					return logio.FoundOffset{Offset: one.Offset, Timestamp: one.Timestamp, Epoch: b.Epoch()}, nil
				}
			}
			if r.Err() != nil {
				return none, r.Err()
			}
		}
		at = g.at
	}
	return none, nil
}

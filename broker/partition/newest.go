package partition

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// findNewest finds the first record of [log start, end) with the greatest
// timestamp (KIP-734), over this disk and the bucket.
func (p *Partition) findNewest(ctx context.Context, o *logio.Offsets, end record.Offset) (logio.FoundOffset, error) {
	local, err := p.newestLocal(ctx, max(o.LogStart, o.LocalLogStart), end)
	if err != nil {
		return local, fmt.Errorf("%w: find newest record of %s: %w", logio.ErrStorage, p.Name(), err)
	}
	remote := p.bucket()
	if remote == nil || o.LogStart >= o.LocalLogStart {
		return local, nil
	}
	cold, err := remote.FindMax(ctx, o.LogStart, min(end, o.LocalLogStart), local.Timestamp)
	if err != nil {
		return cold, fmt.Errorf("%w: find newest record in the bucket of %s: %w", logio.ErrStorage, p.Name(), err)
	}
	if cold.Offset >= 0 && cold.Timestamp >= local.Timestamp { // of equals the lower offset
		return cold, nil
	}
	return local, nil
}

// stretch is a part of the log and a timestamp that none of its records exceeds.
type stretch struct {
	base, next record.Offset
	top        int64
}

// newestLocal is findNewest in segments and memory. Segments are looked at in
// the order of what they claim, until none can have a newer record.
func (p *Partition) newestLocal(ctx context.Context, from, end record.Offset) (logio.FoundOffset, error) {
	p.mu.Lock() // memory first: what leaves it after this is in segments
	held := p.tail.collect(max(from, p.tail.start(p.live.next)), end, math.MaxInt, false)
	p.mu.Unlock()
	best, err := newestOf(held, from, end)
	if err != nil {
		return best, err
	}
	var parts []stretch
	for _, in := range p.segments.Segments() {
		if in.MaxTimestamp >= 0 && in.Next > from && in.Base < end {
			parts = append(parts, stretch{in.Base, in.Next, in.MaxTimestamp})
		}
	}
	slices.SortStableFunc(parts, func(a, b stretch) int { return cmp.Compare(b.top, a.top) })
	for _, s := range parts {
		if s.top < best.Timestamp {
			break
		}
		one, err := p.newestIn(ctx, s, from, end)
		if err != nil {
			return best, err
		}
		best = newer(best, one)
	}
	return best, nil
}

// newestIn looks into one segment. Its index leads to the record, unless that
// one lies outside [from, end): then the segment is read through.
func (p *Partition) newestIn(ctx context.Context, s stretch, from, end record.Offset) (logio.FoundOffset, error) {
	at, _, ok, err := p.segments.Find(s.top)
	lo, hi := max(s.base, from), min(s.next, end)
	if err != nil {
		return logio.FoundOffset{Offset: -1}, err
	}
	if ok && at >= from && at < end {
		lo, hi = at, at+1
	}
	best := logio.FoundOffset{Offset: -1, Timestamp: -1, Epoch: -1}
	for next := lo; next < hi; {
		g := gathering{at: next, limit: end, left: findBytesMax, minOne: true}
		if hi == lo+1 {
			g.left = 0 // the one batch
		}
		if err := p.gather(ctx, &g); err != nil {
			return best, err
		}
		if g.at == next {
			break
		}
		one, err := newestOf(g.batches, lo, hi)
		if err != nil {
			return best, err
		}
		best, next = newer(best, one), g.at
	}
	return best, nil
}

func newestOf(raw [][]byte, from, end record.Offset) (logio.FoundOffset, error) {
	batches := make([]record.Batch, len(raw))
	for i, b := range raw {
		batches[i] = b
	}
	at, ms, epoch, err := record.Newest(batches, from, end)
	return logio.FoundOffset{Offset: at, Timestamp: ms, Epoch: epoch}, err
}

// newer is the newer of two, and of equals the first.
func newer(a, b logio.FoundOffset) logio.FoundOffset {
	if b.Timestamp > a.Timestamp || b.Timestamp == a.Timestamp && b.Offset < a.Offset {
		return b
	}
	return a
}

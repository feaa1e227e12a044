package partition

import (
	"context"
	"errors"
	"fmt"

	"tidewater/broker/segment"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Read gives whole batches from the one that holds r.Offset on, up to what the
// isolation shows: from memory, else this disk, else the bucket.
func (p *Partition) Read(ctx context.Context, r logio.ReadRequest) (logio.ReadResult, error) {
	res, err := p.beginRead(&r)
	if errors.Is(err, logio.ErrOffsetOutOfRange) && r.Offset > res.Offsets.LogEnd {
		if err := p.confirmAbove(ctx, r.Offset); err != nil {
			return res, err
		}
		res, err = p.beginRead(&r)
	}
	if err != nil {
		return res, err
	}
	g := gathering{at: r.Offset, limit: res.Offsets.End(r.Isolation), left: r.BytesMax, minOne: r.MinOne}
	if err := p.gather(ctx, &g); err != nil {
		return res, err
	}
	res.Batches, res.Bytes = g.batches, g.bytes
	if g.lease != nil {
		res.Release = g.lease.Release
	}
	if r.Isolation == logio.ReadCommitted && len(g.batches) > 0 {
		p.mu.Lock()
		res.Aborted = p.live.producers.txns.abortedIn(r.Offset, g.at)
		p.mu.Unlock()
	}
	return res, nil
}

// beginRead gives what a read shows beside the batches, or why there is none.
func (p *Partition) beginRead(r *logio.ReadRequest) (logio.ReadResult, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	res := logio.ReadResult{Offsets: p.offsets(), Followed: !p.lead.Leading}
	return res, p.checkRead(r, &res.Offsets)
}

// confirmAbove comes before an answer that an offset lies above the log. A
// leader that was deposed unawares lacks what its successor wrote and would say
// so of what a client has just been given there: the client starts over. What a
// majority confirms after the question knew all that was shown before it.
func (p *Partition) confirmAbove(ctx context.Context, at record.Offset) error {
	if err := p.Confirm(ctx); err != nil {
		return fmt.Errorf("%w: %s: offset %d is above this log, and no majority confirms that it is the newest: %w", logio.ErrNotAvailable, p.Name(), at, err)
	}
	return nil
}

// checkRead says whether this replica answers r now. A leader whose term is not
// confirmed answers nothing, not even below the high watermark that it knows:
// the answer shows that mark too, and the one before it may have shown a higher
// one to the same client. It needs mu.
func (p *Partition) checkRead(r *logio.ReadRequest, o *logio.Offsets) error {
	if err := p.readable(true); err != nil && !(r.Follower && p.following()) {
		return err
	}
	switch {
	case !p.lead.Leading && r.Offset > o.HighWatermark:
		// Only behind, maybe: the leader decides what is out of range.
		return fmt.Errorf("%w: %s: offset %d, this replica knows of %d", logio.ErrNotAvailable, p.Name(), r.Offset, o.HighWatermark)
	case r.CurrentEpoch >= 0 && r.CurrentEpoch < o.Epoch:
		return fmt.Errorf("%w: %s: asked with epoch %d, it is %d", logio.ErrFencedEpoch, p.Name(), r.CurrentEpoch, o.Epoch)
	case r.CurrentEpoch > o.Epoch:
		return fmt.Errorf("%w: %s: asked with epoch %d, it is %d", logio.ErrUnknownEpoch, p.Name(), r.CurrentEpoch, o.Epoch)
	case r.Offset < o.LogStart || r.Offset > o.LogEnd:
		return fmt.Errorf("%w: %s: offset %d, the log is [%d, %d)", logio.ErrOffsetOutOfRange, p.Name(), r.Offset, o.LogStart, o.LogEnd)
	}
	return nil
}

// gathering is what one read has and still wants.
type gathering struct {
	at, limit record.Offset
	left      int
	minOne    bool
	batches   [][]byte
	bytes     [logio.SourceCount]int64
	full      bool // the next batch did not fit
	// lease has the memory of what came from the disk; nil for nothing.
	lease *segment.Lease
}

// take adds batches that came from src, as far as they fit. Offsets have no
// gap in a log that is not compacted: a source that leaves one out has lost it.
func (g *gathering) take(batches [][]byte, src logio.Source) error {
	for _, b := range batches {
		h := record.Batch(b)
		if h.BaseOffset() > g.at {
			g.full = true
			return fmt.Errorf("%s has no batch that holds offset %d, the next begins at %d", src, g.at, h.BaseOffset())
		}
		if h.NextOffset() > g.limit || len(b) > g.left && !(g.minOne && len(g.batches) == 0) {
			g.full = true
			return nil
		}
		g.batches = append(g.batches, b)
		g.bytes[src] += int64(len(b))
		g.left -= len(b)
		g.at = h.NextOffset()
	}
	return nil
}

// one asks a source for at least one batch when none is there yet.
func (g *gathering) one() bool { return g.minOne && len(g.batches) == 0 }

// gather reads what g wants, going from tier to tier. A tier that gives
// nothing ends it. The bucket is asked once: what it gives is an answer.
func (p *Partition) gather(ctx context.Context, g *gathering) error {
	for g.at < g.limit && !g.full && (g.left > 0 || g.one()) {
		p.mu.Lock()
		tail, local := p.tail.start(p.live.next), p.localStart
		var batches [][]byte
		if g.at >= tail {
			batches = p.tail.collect(g.at, g.limit, g.left, g.one())
		}
		p.mu.Unlock()
		if g.at >= tail {
			return g.take(batches, logio.FromMemory)
		}
		before := g.at
		var err error
		if g.at >= local {
			if g.lease == nil {
				g.lease = &segment.Lease{}
			}
			batches, err = p.segments.ReadLeased(g.at, g.left, min(g.limit, tail), g.lease)
			if errors.Is(err, logio.ErrOffsetOutOfRange) && p.trimmedPast(g.at) {
				continue // it is in the bucket now, or gone
			}
			if err == nil {
				batches, err = p.soundEpochs(batches)
			}
			if err == nil {
				err = g.take(batches, logio.FromDisk)
			} else if p.inBucket(g.at, err) {
				err = p.gatherRemote(ctx, g)
				g.full = true
			}
		} else {
			err = p.gatherRemote(ctx, g)
			g.full = true
		}
		if err != nil {
			if len(g.batches) > 0 {
				return nil // the next read meets the fault again, and tells
			}
			return p.unreadable(g.at, err)
		}
		if g.at == before {
			return nil
		}
	}
	return nil
}

// inBucket reports whether the bucket can answer for what is damaged here.
func (p *Partition) inBucket(at record.Offset, err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Is(err, segment.ErrCorrupt) && p.remote != nil && at < p.marks.archived
}

// checkEpochs looks at what no CRC covers of batches, and gives how many in
// front are right.
func (p *Partition) checkEpochs(batches [][]byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live.epochs.check(batches)
}

// soundEpochs gives the batches from this disk whose leader epochs are right, an
// error when the first is not.
func (p *Partition) soundEpochs(batches [][]byte) ([][]byte, error) {
	sound, err := p.checkEpochs(batches)
	if err != nil {
		p.segments.Suspect(record.Batch(batches[sound]).BaseOffset(), err)
		if sound > 0 {
			err = nil // the next read begins with it
		}
	}
	return batches[:sound], err
}

// unreadable is the error for an offset that the log has and no tier gives. It
// is never taken for an offset out of range, which would have a consumer skip
// what is there, unless retention has passed the offset meanwhile.
func (p *Partition) unreadable(at record.Offset, cause error) error {
	p.mu.Lock()
	o := p.offsets()
	p.mu.Unlock()
	switch {
	case at < o.LogStart:
		return fmt.Errorf("%w: %s: offset %d, the log is [%d, %d)", logio.ErrOffsetOutOfRange, p.Name(), at, o.LogStart, o.LogEnd)
	case errors.Is(cause, logio.ErrOffsetOutOfRange):
		return fmt.Errorf("%w: read %s at %d: %v", logio.ErrStorage, p.Name(), at, cause)
	}
	return fmt.Errorf("%w: read %s at %d: %w", logio.ErrStorage, p.Name(), at, cause)
}

// trimmedPast reports whether local trimming has passed o.
func (p *Partition) trimmedPast(o record.Offset) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return o < p.localStart
}

// gatherRemote reads from the bucket what this disk does not hold.
func (p *Partition) gatherRemote(ctx context.Context, g *gathering) error {
	remote := p.bucket()
	if remote == nil {
		return fmt.Errorf("%w: offset %d is not on this disk, and the topic has no bucket", logio.ErrOffsetOutOfRange, g.at)
	}
	res, err := remote.Read(ctx, logio.ReadRequest{Offset: g.at, BytesMax: g.left, MinOne: g.one(), CurrentEpoch: -1})
	if err != nil {
		return err
	}
	had := len(g.batches)
	if err := g.take(res.Batches, logio.FromBucket); err != nil {
		return err
	}
	if len(g.batches)-had == len(res.Batches) {
		// The remote knows better which bytes came from its cache.
		g.bytes[logio.FromBucket] = 0
		for src, n := range res.Bytes {
			g.bytes[src] += n
		}
	}
	if len(g.batches) == 0 && g.one() {
		return fmt.Errorf("the bucket has no batch at offset %d", g.at)
	}
	return nil
}

// Batches gives committed whole batches from the one that holds from on, none
// that passes limit, about bytesMax bytes but at least one batch; none at the
// end of what is committed.
func (p *Partition) Batches(ctx context.Context, from, limit record.Offset, bytesMax int) ([][]byte, error) {
	p.mu.Lock()
	o, closed := p.offsets(), p.closed
	p.mu.Unlock()
	if closed {
		return nil, fmt.Errorf("%w: %s", logio.ErrClosed, p.Name())
	}
	if from < o.LogStart || from > o.HighWatermark {
		return nil, fmt.Errorf("%w: %s: offset %d, committed is [%d, %d)", logio.ErrOffsetOutOfRange, p.Name(), from, o.LogStart, o.HighWatermark)
	}
	g := gathering{at: from, limit: min(limit, o.HighWatermark), left: bytesMax, minOne: true}
	err := p.gather(ctx, &g)
	return g.batches, err
}

package sim

import (
	"context"
	"errors"
	"strconv"
	"time"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// reader is a client that reads somewhere, again and again. What it was shown
// of a partition never goes back for it, whoever leads: it names the newest
// epoch that it has seen, and an older leader refuses.
type reader struct {
	w       *world
	cluster *cluster
	at      []*node // the broker that it takes for the leader, by partition
	seen    []logio.Offsets
}

func (w *world) newReader() {
	r := &reader{w: w}
	var next func()
	next = func() {
		w.after(w.jitter(90*time.Millisecond), func() {
			r.turn(context.Background())
			next()
		})
	}
	next()
}

// turn reads once.
func (r *reader) turn(ctx context.Context) {
	w := r.w
	if r.cluster != w.active { // offsets of the past count no more
		r.cluster, r.at, r.seen = w.active, make([]*node, len(w.parts)), make([]logio.Offsets, len(w.parts))
	}
	part := int32(w.rng.IntN(len(w.parts)))
	if r.at[part] == nil || w.rng.IntN(8) == 0 {
		r.at[part] = w.active.bootstrap(part)
	}
	n := r.at[part]
	if n == nil || n.life == nil || !n.life.up || n.paused() {
		r.at[part] = nil
		return
	}
	l := n.life
	w.guard(l, true, func() {
		p, seen := l.parts[part], &r.seen[part]
		t := p.truth
		hw := max(t.hw, seen.HighWatermark)
		if hw <= t.logStart {
			return
		}
		req := logio.ReadRequest{
			Offset:    t.logStart + record.Offset(w.rng.Int64N(int64(hw-t.logStart)+1)),
			Isolation: logio.Isolation(w.rng.IntN(2)), BytesMax: 1 + w.rng.IntN(12<<10), MinOne: true, CurrentEpoch: -1,
		}
		if !r.cluster.alone() && seen.Epoch > 0 {
			req.CurrentEpoch = seen.Epoch
		}
		if !r.cluster.alone() && req.Offset > seen.HighWatermark {
			// Told by another client: with the epoch, as group offsets are, or by
			// hand, without.
			if req.CurrentEpoch = t.epoch; w.rng.IntN(2) == 0 {
				req.CurrentEpoch = -1
			}
		}
		r.note(ctx, l, p, req, seen)
	})
}

// note reads and compares with what this client was shown before.
func (r *reader) note(ctx context.Context, l *life, p *hosted, req logio.ReadRequest, seen *logio.Offsets) {
	w := r.w
	shown, _, err := w.read(ctx, l, p, req)
	if err != nil {
		r.at[p.truth.id.Partition] = nil
		if errors.Is(err, logio.ErrUnknownEpoch) || errors.Is(err, logio.ErrFencedEpoch) {
			seen.Epoch = max(seen.Epoch, record.LeaderEpoch(p.Leadership().Term)) // new metadata
		}
		return
	}
	if w.active != r.cluster || r.cluster.zombie {
		return
	}
	if shown.HighWatermark < seen.HighWatermark || shown.LastStable < seen.LastStable || shown.LogStart < seen.LogStart || shown.Epoch < seen.Epoch {
		w.violate(offsets, "%d: a client was shown %+v after %+v", p.truth.id.Partition, shown, *seen)
	}
	*seen = shown
}

// read reads once and compares with the truth. It gives the offset behind what
// it got.
func (w *world) read(ctx context.Context, l *life, p *hosted, r logio.ReadRequest) (logio.Offsets, record.Offset, error) {
	began := w.now
	res, err := p.Read(ctx, r)
	if err != nil {
		w.trace.note("read", err.Error())
		if !w.excused(l, p, r.Offset, began, err) {
			w.violate(working, "%d: read at %d with a healthy bucket: %v", p.truth.id.Partition, r.Offset, err)
		}
		return res.Offsets, r.Offset, err
	}
	w.stats.Reads++
	from, rule := "a read", same
	if res.Bytes[logio.FromBucket]+res.Bytes[logio.FromCache] > 0 {
		w.stats.ColdReads++
		from, rule = "a cold read", cold
	}
	at := r.Offset
	for i, raw := range res.Batches {
		b := record.Batch(raw)
		if i == 0 && (b.BaseOffset() > at || b.NextOffset() <= at) || i > 0 && b.BaseOffset() != at {
			w.violate(offsets, "%d: %s at %d gave a batch [%d, %d) at %d", p.truth.id.Partition, from, r.Offset, b.BaseOffset(), b.NextOffset(), at)
		}
		if b.NextOffset() > res.Offsets.End(r.Isolation) {
			w.violate(offsets, "%d: %s gave offset %d, committed is %d", p.truth.id.Partition, from, b.LastOffset(), res.Offsets.HighWatermark)
		}
		if l.node.c == w.active {
			p.truth.shown(w, rule, from, b)
		}
		at = b.NextOffset()
	}
	if len(res.Batches) == 0 && r.Offset < res.Offsets.End(r.Isolation) {
		w.violate(acked, "%d: nothing at %d, committed is %d", p.truth.id.Partition, r.Offset, res.Offsets.HighWatermark)
	}
	w.trace.note("read", strconv.FormatInt(int64(at), 10))
	return res.Offsets, at, nil
}

// excused says whether a fault explains that a read failed: the bucket does
// not answer and is needed, or the broker is just starting or stopping.
func (w *world) excused(l *life, p *hosted, at record.Offset, began time.Time, err error) bool {
	switch {
	case l.node.rotten && errors.Is(err, logio.ErrStorage):
		w.stats.RotSeen++
		return true
	case l.sick || l.dead || !p.ready:
		return true
	case !l.node.c.alone() && refusal(err):
		return true // another one leads, or is to
	case errors.Is(err, logio.ErrOffsetOutOfRange):
		o, _ := p.Offsets()
		return at < o.LogStart
	case w.disturbedSince(began):
		o, _ := p.Offsets()
		return at < o.LocalLogStart && errors.Is(err, logio.ErrStorage)
	}
	return false
}

// refusal reports an answer that sends a client to another broker, or to the
// same in a moment.
func refusal(err error) bool {
	for _, kind := range []error{logio.ErrNotLeader, logio.ErrNotAvailable, logio.ErrUnknownEpoch, logio.ErrFencedEpoch} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

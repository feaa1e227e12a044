package sim

import (
	"context"
	"errors"
	"strconv"
	"time"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// newReader lets somebody read somewhere, again and again.
func (w *world) newReader() {
	w.after(w.jitter(90*time.Millisecond), func() {
		w.readSomewhere(context.Background())
		w.newReader()
	})
}

func (w *world) readSomewhere(ctx context.Context) {
	l := w.active.life
	if l == nil || len(l.parts) == 0 {
		return
	}
	w.guard(l, func() {
		p := l.parts[w.rng.IntN(len(l.parts))]
		t := p.truth
		if t.hw <= t.logStart {
			return
		}
		at := t.logStart + record.Offset(w.rng.Int64N(int64(t.hw-t.logStart)+1))
		iso := logio.Isolation(w.rng.IntN(2))
		w.read(ctx, l, p, logio.ReadRequest{Offset: at, Isolation: iso, BytesMax: 1 + w.rng.IntN(12<<10), MinOne: true, CurrentEpoch: -1})
	})
}

// read reads once and compares with the truth. It gives the offset behind what
// it got.
func (w *world) read(ctx context.Context, l *life, p *hosted, r logio.ReadRequest) record.Offset {
	res, err := p.Read(ctx, r)
	if err != nil {
		w.trace.note("read", err.Error())
		if !w.excused(l, p, r.Offset, err) {
			w.violate(working, "%d: read at %d with a healthy bucket: %v", p.truth.id.Partition, r.Offset, err)
		}
		return r.Offset
	}
	w.stats.Reads++
	from, rule := "a read", bytes
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
		p.truth.shown(w, rule, from, b)
		at = b.NextOffset()
	}
	if len(res.Batches) == 0 && r.Offset < res.Offsets.End(r.Isolation) {
		w.violate(acked, "%d: nothing at %d, committed is %d", p.truth.id.Partition, r.Offset, res.Offsets.HighWatermark)
	}
	w.trace.note("read", strconv.FormatInt(int64(at), 10))
	return at
}

// excused says whether a fault explains that a read failed: the bucket does
// not answer and is needed, or the broker is just starting or stopping.
func (w *world) excused(l *life, p *hosted, at record.Offset, err error) bool {
	switch {
	case l.sick || l.dead || !p.ready:
		return true
	case w.outage == down || w.outage == flaky:
		o, _ := p.Offsets()
		return at < o.LocalLogStart && errors.Is(err, logio.ErrStorage)
	case errors.Is(err, logio.ErrOffsetOutOfRange):
		o, _ := p.Offsets()
		return at < o.LogStart
	}
	return false
}

package readreplica

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"tidewater/internal/logio"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
	"tidewater/tiering/remote"
)

// Partition is one partition of the source cluster, read-only. It implements
// kafka.Partition.
type Partition struct {
	src    *remote.Partition
	source [16]byte // the followed cluster

	mu       sync.Mutex
	closed   bool
	archived record.Offset // end of the manifest
	manifest uint64        // its number
	logStart record.Offset
	end      record.Offset // of the contiguous run: high watermark shown
	stable   record.Offset // newest last stable offset heard of
	epoch    record.LeaderEpoch
	epochs   []logio.EpochStart
	run      []piece  // contiguous batches up to end; older ones may be in the manifest, too
	waiting  []extent // heard of, but behind a gap
	bytes    int64    // of run and waiting
	lag      Lag
	waiters  map[uint64]waiter // by turn
	turn     uint64
}

// piece is one batch in memory.
type piece struct {
	base, next record.Offset
	batch      []byte
}

// extent is one partition's part of a tail object.
type extent struct {
	manifest.Extent
	batches [][]byte
}

type waiter struct {
	iso   logio.Isolation
	after record.Offset
	fn    func()
}

// Lag is how far a replica is behind its source.
type Lag struct {
	// Visible is, for the newest batch with a timestamp, from that timestamp
	// (the source's or its client's clock) until it could be read here.
	Visible time.Duration
	// Heard is when the source last wrote something that was read here, by the
	// source's clock; zero for never.
	Heard time.Time
}

func newPartition(src *remote.Partition, source [16]byte) *Partition {
	return &Partition{src: src, source: source, waiters: map[uint64]waiter{}}
}

// waitingMax bounds extents that wait behind a gap.
const waitingMax = 64

// apply takes what a tail object says. batches are those of x, checked.
func (p *Partition) apply(x *manifest.Extent, batches [][]byte, created, now time.Time) {
	p.mu.Lock()
	p.logStart = max(p.logStart, x.LogStart)
	p.stable = max(p.stable, x.LastStable)
	p.epoch = max(p.epoch, x.Epoch)
	if created.After(p.lag.Heard) {
		p.lag.Heard = created
	}
	if x.Length > 0 && x.Next > p.end && len(p.waiting) < waitingMax {
		p.waiting = append(p.waiting, extent{*x, batches})
		p.bytes += x.Length
	}
	p.join(now)
	fire := p.ripe()
	p.mu.Unlock()
	call(fire)
}

// join moves what follows the run without a gap into it, highest epoch first.
func (p *Partition) join(now time.Time) {
	for {
		best := -1
		for i := range p.waiting {
			x := &p.waiting[i]
			// Below the log start nothing is read any more: no gap.
			if x.Base <= max(p.end, p.logStart) && x.Next > p.end && (best < 0 || x.Epoch > p.waiting[best].Epoch) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		p.take(best, now)
	}
	p.waiting = slices.DeleteFunc(p.waiting, func(x extent) bool {
		if x.Next > p.end {
			return false
		}
		p.bytes -= x.Length
		return true
	})
}

func (p *Partition) take(i int, now time.Time) {
	for _, raw := range p.waiting[i].batches {
		b := record.Batch(raw)
		if b.NextOffset() <= p.end {
			continue
		}
		p.run = append(p.run, piece{base: b.BaseOffset(), next: b.NextOffset(), batch: raw})
		p.bytes += int64(len(raw))
		p.end = b.NextOffset()
		if n := len(p.epochs); n == 0 || p.epochs[n-1].Epoch < b.Epoch() {
			p.epochs = append(p.epochs, logio.EpochStart{Epoch: b.Epoch(), Start: b.BaseOffset()})
		}
		if b.MaxTimestamp() >= 0 {
			p.lag.Visible = now.Sub(time.UnixMilli(b.MaxTimestamp()))
		}
	}
}

// covered takes over what the newest manifest says: the run in memory that it
// covers goes.
func (p *Partition) covered(m *manifest.Manifest, now time.Time) {
	p.mu.Lock()
	if m != nil && m.Number > p.manifest {
		p.manifest, p.archived = m.Number, m.End
		p.logStart = max(p.logStart, m.LogStart)
		p.epoch = max(p.epoch, m.Epoch)
		p.stable = max(p.stable, m.StableTo)
		p.mergeEpochs(m.Epochs)
		p.end = max(p.end, m.End)
		p.join(now)
		n := 0
		for n < len(p.run) && p.run[n].next <= p.archived {
			p.bytes -= int64(len(p.run[n].batch))
			n++
		}
		p.run = slices.Clone(p.run[n:])
	}
	fire := p.ripe()
	p.mu.Unlock()
	call(fire)
}

// mergeEpochs puts the manifest's history before what tails added to it.
func (p *Partition) mergeEpochs(h []logio.EpochStart) {
	merged := slices.Clone(h)
	for _, e := range p.epochs {
		if n := len(merged); n == 0 || e.Epoch > merged[n-1].Epoch {
			merged = append(merged, e)
		}
	}
	p.epochs = merged
}

// Lag says how far behind the source this partition is.
func (p *Partition) Lag() Lag {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lag
}

// held bytes, for the bound over all partitions.
func (p *Partition) memory() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}

func (p *Partition) known() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.manifest
}

// Append implements kafka.Partition: a replica takes nothing.
func (p *Partition) Append(r logio.AppendRequest) {
	r.Done(logio.AppendResult{Err: p.readOnly(), BaseOffset: -1, AppendTime: -1, LogStart: -1})
}

// Trim implements kafka.Partition.
func (p *Partition) Trim(context.Context, record.Offset) (record.Offset, error) {
	return -1, p.readOnly()
}

// readOnly names the cluster that takes what this one refuses.
func (p *Partition) readOnly() error {
	return fmt.Errorf("%w, %s", logio.ErrReadOnly, manifest.ClusterName(p.source))
}

// Offsets implements kafka.Partition.
func (p *Partition) Offsets() (logio.Offsets, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return logio.Offsets{}, logio.ErrClosed
	}
	return p.offsets(), nil
}

func (p *Partition) offsets() logio.Offsets {
	end := max(p.end, p.logStart)
	return logio.Offsets{
		LogStart: p.logStart, LocalLogStart: max(p.logStart, p.archived), Archived: p.archived,
		LastStable: max(min(p.stable, end), p.logStart), HighWatermark: end, LogEnd: end, Epoch: p.epoch,
	}
}

// Read implements kafka.Partition.
func (p *Partition) Read(ctx context.Context, r logio.ReadRequest) (logio.ReadResult, error) {
	p.mu.Lock()
	o := p.offsets()
	err := p.refuse(r, o)
	end := o.End(r.Isolation)
	var res logio.ReadResult
	inMemory := err == nil && (r.Offset >= end || len(p.run) > 0 && p.run[0].base <= r.Offset)
	if inMemory {
		res = p.readRun(r, end)
	}
	p.mu.Unlock()
	if err != nil || inMemory {
		res.Offsets = o
		return res, err
	}
	if res, err = p.src.Read(ctx, r); err != nil {
		return logio.ReadResult{Offsets: o}, err
	}
	res.Offsets = o
	clip(&res, end)
	return res, nil
}

// clip drops batches that begin at or above the end that is shown.
func clip(res *logio.ReadResult, end record.Offset) {
	for n := len(res.Batches); n > 0 && record.Batch(res.Batches[n-1]).NextOffset() > end; n-- {
		res.Batches = res.Batches[:n-1]
	}
}

func (p *Partition) refuse(r logio.ReadRequest, o logio.Offsets) error {
	switch {
	case p.closed:
		return logio.ErrClosed
	case r.CurrentEpoch >= 0 && r.CurrentEpoch < o.Epoch:
		return fmt.Errorf("%w: client says %d, partition is at %d", logio.ErrFencedEpoch, r.CurrentEpoch, o.Epoch)
	case r.CurrentEpoch > o.Epoch:
		return fmt.Errorf("%w: client says %d, partition is at %d", logio.ErrUnknownEpoch, r.CurrentEpoch, o.Epoch)
	case r.Offset < o.LogStart || r.Offset > o.HighWatermark:
		return fmt.Errorf("%w: offset %d, replica has %d to %d", logio.ErrOffsetOutOfRange, r.Offset, o.LogStart, o.HighWatermark)
	}
	return nil
}

// readRun answers from memory.
func (p *Partition) readRun(r logio.ReadRequest, end record.Offset) logio.ReadResult {
	var res logio.ReadResult
	size := 0
	i, _ := slices.BinarySearchFunc(p.run, r.Offset, func(b piece, o record.Offset) int {
		if b.next <= o {
			return -1
		}
		return 1
	})
	for ; i < len(p.run) && p.run[i].next <= end; i++ {
		b := p.run[i].batch
		if size+len(b) > r.BytesMax && !(r.MinOne && size == 0) {
			break
		}
		size += len(b)
		res.Batches = append(res.Batches, b)
		res.Bytes[logio.FromMemory] += int64(len(b))
	}
	return res
}

// Notify implements kafka.Partition.
func (p *Partition) Notify(iso logio.Isolation, after record.Offset, fn func()) (cancel func()) {
	p.mu.Lock()
	if p.closed || p.offsets().End(iso) > after {
		p.mu.Unlock()
		fn()
		return func() {}
	}
	p.turn++
	turn := p.turn
	p.waiters[turn] = waiter{iso: iso, after: after, fn: fn}
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.waiters, turn)
	}
}

// ripe takes out the waiters whose time has come, in the order they came.
func (p *Partition) ripe() []func() {
	if len(p.waiters) == 0 {
		return nil
	}
	o := p.offsets()
	var turns []uint64
	for t, w := range p.waiters {
		if p.closed || o.End(w.iso) > w.after {
			turns = append(turns, t)
		}
	}
	slices.Sort(turns)
	var fire []func()
	for _, t := range turns {
		fire = append(fire, p.waiters[t].fn)
		delete(p.waiters, t)
	}
	return fire
}

func call(fns []func()) {
	for _, fn := range fns {
		fn()
	}
}

// close makes every call answer ErrClosed.
func (p *Partition) close() {
	p.mu.Lock()
	p.closed = true
	fire := p.ripe()
	p.mu.Unlock()
	call(fire)
}

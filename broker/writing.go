package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"tidewater/broker/segment"
)

const (
	// segmentsEvery is how often the segments loop looks for work, and
	// chunkBytes how much of a partition makes a write worth it: large enough
	// that a read of it is one request to the device.
	segmentsEvery = 50 * time.Millisecond
	chunkBytes    = 1 << 20
	// chunkAge writes the little that slow partitions have, so that it does
	// not hold journal files for ever.
	chunkAge = 5 * time.Second
	// allEvery is how often the segments loop looks at all partitions, and
	// segmentWorkers how many are written at a time.
	allEvery       = time.Second
	segmentWorkers = 16
	// Of eight parts of Config.Memory, pendingShare may wait for segments before
	// produce is refused. From spillShare on partitions are written that have
	// less than a chunk.
	memoryShares, pendingShare, spillShare = 8, 3, 2
)

// writeSegments brings committed batches of one directory to segments: a disk
// that is slow keeps no other waiting. It looks at those that
// have some; now and then at all, for what falls due by time alone. Where others
// have replicas it ends, and the broker with it, when the disk has failed a
// sync: what it leads would refuse every append until the next start.
func (b *Broker) writeSegments(ctx context.Context, d *dataDir) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	looked := time.Time{}
	err := every(ctx, segmentsEvery, func() {
		if now := time.Now(); now.Sub(looked) >= allEvery {
			looked = now
			d.pending.add(b.parts.in(d)...)
		}
		if err := b.writeDue(ctx, b.dueSegments(d)); err != nil && b.parts.source != nil {
			end(fmt.Errorf("the segments of data directory %s have failed; the broker ends so that others lead what it led: see to its disk, then start again: %w", d.path, err))
		}
	})
	if cause := context.Cause(ctx); errors.Is(cause, segment.ErrDead) {
		return cause
	}
	return err
}

// waiting is a partition with bytes that are in no segment yet.
type waiting struct {
	*hosted
	bytes   int64
	sinceMs int64 // when the oldest of them came
}

// dueSegments gives the partitions to write to segments, those first that keep
// the oldest journal files: that the journal names, then those whose oldest
// record has waited longest.
func (b *Broker) dueSegments(d *dataDir) []*hosted {
	held, _ := b.parts.budget.Use()
	full := d.host.Stats().Full
	spill := spillBytes(held, b.cfg.Memory, full)
	if n := int64(len(b.dirs)); !full && n > 1 {
		spill = (spill + n - 1) / n // the others do their part
	}
	sinceMs := map[*hosted]int64{}
	for _, id := range d.host.Pinning() {
		if h, err := b.parts.get(id); err == nil {
			sinceMs[h] = -1
		}
	}
	var small []waiting
	for _, h := range d.pending.take() {
		w := waiting{hosted: h}
		w.bytes, w.sinceMs = h.Partition.Pending()
		_, pinning := sinceMs[h]
		switch {
		case pinning:
		case h.Due(chunkBytes, chunkAge):
			sinceMs[h] = w.sinceMs
		case w.bytes > 0:
			small = append(small, w)
			continue
		}
		spill -= w.bytes
	}
	more, rest := largest(small, spill)
	for _, w := range more {
		sinceMs[w.hosted] = w.sinceMs
	}
	for _, w := range rest {
		d.pending.add(w.hosted)
	}
	due := slices.Collect(maps.Keys(sinceMs))
	slices.SortFunc(due, func(x, y *hosted) int {
		return cmp.Or(cmp.Compare(sinceMs[x], sinceMs[y]), x.ID().Compare(y.ID()))
	})
	return due
}

// largest parts those that have most, bytes in all at least, from the rest. A
// write costs a sync, whatever its size: the fewer partitions the better.
func largest(small []waiting, bytes int64) (more, rest []waiting) {
	if bytes <= 0 {
		return nil, small
	}
	slices.SortFunc(small, func(x, y waiting) int { return cmp.Compare(y.bytes, x.bytes) })
	n := 0
	for ; n < len(small) && bytes > 0; n++ {
		bytes -= small[n].bytes
	}
	return small[:n], small[n:]
}

// spillBytes is how much is to be written whether or not it comes to chunks,
// before produce is refused. With many partitions none may come to a chunk
// before memory is full, and one slow partition may fill the journal.
func spillBytes(held, memory int64, journalFull bool) int64 {
	from := memory / memoryShares * spillShare
	switch {
	case journalFull:
		return held
	case held <= from:
		return 0
	}
	return held - from + from/memoryShares // and a little, not one at a time
}

// writeDue writes partitions to their segments, several at a time: what is
// slow about it is the sync, which the disk does for many as fast as for one.
// It gives an error only when segments are dead; stepped tells the others.
func (b *Broker) writeDue(ctx context.Context, due []*hosted) error {
	var workers errgroup.Group
	workers.SetLimit(segmentWorkers)
	for _, h := range due {
		workers.Go(func() error {
			err := h.WriteSegments(ctx, false)
			b.stepped(ctx, h, "segment", &h.writing, err)
			if bytes, _ := h.Partition.Pending(); bytes > 0 {
				h.on.pending.add(h)
			}
			if errors.Is(err, segment.ErrDead) {
				return err
			}
			return nil
		})
	}
	return workers.Wait()
}

// writeAll brings all records to segments, so that the next start has little to
// replay. It has time of its own, however long clients took; what it does not
// get to is replayed.
func (b *Broker) writeAll(ctx context.Context) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer stop()
	var workers errgroup.Group
	workers.SetLimit(segmentWorkers)
	for _, h := range b.parts.all() {
		if !h.Due(1, 0) {
			continue
		}
		workers.Go(func() error {
			if err := h.WriteSegments(ctx, false); !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			return nil
		})
	}
	return workers.Wait()
}

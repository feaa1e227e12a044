package sim

import (
	"context"
	"slices"

	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// truth is what is known of one partition: what was answered to producers and
// shown to readers. It belongs to the newest incarnation; a restore cuts it.
type truth struct {
	id    record.PartitionID
	facts map[record.Offset]*fact // by base offset

	hw, lso, logStart record.Offset      // highest ever shown
	epoch             record.LeaderEpoch // newest that showed them
	ackedEnd          record.Offset      // of what was acknowledged
	archived          record.Offset
	confirmed         record.Offset // highest bucket end ever told
	frozen            record.Offset // of it, when the next incarnation was taken
	// lostPIDs had records acknowledged that a restore did not bring back, or
	// that were lost with memory.
	lostPIDs map[int64]bool
	// gone are batches that were answered from memory and lost with it, losses
	// how many.
	gone   map[lostBatch]bool
	losses int
}

// fact is one batch of the log.
type fact struct {
	next  record.Offset
	crc   uint32
	acked bool
	whole []byte // as a reader saw it first; nil before
	pid   int64
}

func newTruth(id record.PartitionID) *truth {
	return &truth{id: id, facts: map[record.Offset]*fact{}, lostPIDs: map[int64]bool{}, gone: map[lostBatch]bool{}}
}

// acknowledged notes the answer to a producer.
func (t *truth) acknowledged(w *world, b record.Batch, base record.Offset) {
	next := base + record.Offset(b.RecordCount())
	f := t.facts[base]
	if f == nil {
		f = &fact{next: next, crc: b.CRC(), pid: b.ProducerID()}
		t.facts[base] = f
	}
	if f.crc != b.CRC() || f.next != next {
		w.violate(acked, "%d: offset %d was acknowledged for a batch with CRC %08x, the log has %08x there", t.id.Partition, base, b.CRC(), f.crc)
	}
	f.acked = true
	t.ackedEnd = max(t.ackedEnd, next)
}

// shown notes a batch that a reader got.
func (t *truth) shown(w *world, rule Rule, from string, b record.Batch) {
	base := b.BaseOffset()
	if err := b.Check(); err != nil {
		w.violate(sane, "%d: %s gave a broken batch at %d: %v", t.id.Partition, from, base, err)
		return
	}
	f := t.facts[base]
	if f == nil {
		f = &fact{next: b.NextOffset(), crc: b.CRC(), pid: b.ProducerID()}
		t.facts[base] = f
	}
	switch {
	case f.crc != b.CRC() || f.next != b.NextOffset():
		w.violate(acked, "%d: %s gave a batch [%d, %d) with CRC %08x, known is one to %d with %08x",
			t.id.Partition, from, base, b.NextOffset(), b.CRC(), f.next, f.crc)
	case f.whole == nil:
		f.whole = slices.Clone(b)
	case !slices.Equal(f.whole, b):
		w.violate(rule, "%d: %s gave other bytes at offset %d than before", t.id.Partition, from, base)
	}
}

// bases gives the known batches in order.
func (t *truth) bases() []record.Offset {
	out := make([]record.Offset, 0, len(t.facts))
	for o := range t.facts {
		out = append(out, o)
	}
	slices.Sort(out)
	return out
}

// confirm notes how far the broker says that the bucket holds the partition.
func (t *truth) confirm(l *life, end record.Offset) {
	if !l.node.c.zombie {
		t.confirmed = max(t.confirmed, end)
	}
}

// watch looks at a partition after its group moved: its marks, once they can be
// relied on, never go back, over restarts too.
func (t *truth) watch(l *life, p *hosted) {
	w := l.w
	if l.node.c != w.active {
		return
	}
	o, err := p.Offsets()
	if err != nil {
		return
	}
	p.ready = true
	if l.node.c.zombie {
		// Retention goes on until the restore is through, and what it took
		// need not come back.
		t.logStart = max(t.logStart, o.LogStart)
		return
	}
	if o.Epoch < t.epoch {
		// It does not know yet that it is deposed; clients that know the newer
		// leader are refused by it, and it commits nothing.
		if o.HighWatermark > t.hw {
			w.violate(oneLeader, "%d: the leader of epoch %d shows high watermark %d, that of epoch %d showed %d", t.id.Partition, o.Epoch, o.HighWatermark, t.epoch, t.hw)
		}
		return
	}
	t.epoch = o.Epoch
	if o.HighWatermark < t.hw || o.LastStable < t.lso || o.LogStart < t.logStart {
		rule := offsets
		if o.HighWatermark < t.hw {
			rule = acked
		}
		w.violate(rule, "%d: high watermark %d, last stable %d, log start %d after %d, %d, %d",
			t.id.Partition, o.HighWatermark, o.LastStable, o.LogStart, t.hw, t.lso, t.logStart)
	}
	if o.LastStable > o.HighWatermark || o.LogStart > o.HighWatermark || o.Archived > o.HighWatermark {
		w.violate(offsets, "%d: marks out of order: %+v", t.id.Partition, o)
	}
	if w.shape.RetentionBytes < 0 && w.shape.DeleteEvery == 0 && o.LogStart > 0 {
		w.violate(acked, "%d: the log starts at %d and keeps everything", t.id.Partition, o.LogStart)
	}
	t.hw, t.lso, t.logStart = max(t.hw, o.HighWatermark), max(t.lso, o.LastStable), max(t.logStart, o.LogStart)
	t.checkArchived(l, o.Archived)
}

// checkArchived holds that what is committed as archived is in a manifest that
// lies in the bucket, with its objects.
func (t *truth) checkArchived(l *life, end record.Offset) {
	w := l.w
	if end < t.archived {
		w.violate(offsets, "%d: archived end %d after %d", t.id.Partition, end, t.archived)
	}
	if end == t.archived {
		return
	}
	ctx := context.Background()
	r := manifest.NewReader(w.ground.Mem, l.dir(t.id))
	if err := r.Load(ctx); err != nil {
		w.violateUnlessBlind(archived, "%d: %d is committed as archived, and there is no manifest: %v", t.id.Partition, end, err)
		return
	}
	m := r.Current()
	if m.End < end {
		w.violateUnlessBlind(archived, "%d: %d is committed as archived, manifest %d ends at %d", t.id.Partition, end, m.Number, m.End)
	}
	for i := range m.Entries {
		if _, err := w.ground.Head(ctx, m.Entries[i].Key); err != nil {
			w.violateUnlessBlind(archived, "%d: manifest %d names what is not there: %v", t.id.Partition, m.Number, err)
		}
	}
	t.archived = max(t.archived, end)
}

// held is how far the bucket holds a partition of an incarnation: its newest
// manifest, and tail objects that follow without a gap, but for records that
// were deleted before.
func (w *world) held(ctx context.Context, l manifest.Layout, id record.PartitionID) record.Offset {
	store := w.ground.Mem
	r := manifest.NewReader(store, manifest.Dir{Layout: l, Topic: topicName, ID: id})
	end := record.Offset(0)
	if r.Load(ctx) == nil {
		end = max(r.Current().End, r.Current().LogStart)
	}
	series, err := manifest.ListSeries(ctx, store, l)
	if err != nil {
		return end
	}
	var extents []manifest.Extent
	for _, s := range series {
		numbers, _ := manifest.Numbers(ctx, store, l.TailPrefix(s), 1)
		for _, n := range numbers {
			body, err := store.Get(ctx, l.Tail(s, n), 0, -1)
			if err != nil {
				continue
			}
			if tail, err := manifest.DecodeTail(body); err == nil {
				extents = append(extents, tail.Extents...)
				for _, x := range tail.Extents {
					if x.Partition == id {
						end = max(end, x.LogStart)
					}
				}
			}
		}
	}
	for moved := true; moved; {
		moved = false
		for _, x := range extents {
			if x.Partition == id && x.Length > 0 && x.Base <= end && x.Next > end {
				end, moved = x.Next, true
			}
		}
	}
	return end
}

// cut makes the truth that of a log restored up to end.
func (t *truth) cut(w *world, logStart, end record.Offset) {
	if end < t.frozen {
		w.violate(held, "%d: restored to %d, the bucket had confirmed %d", t.id.Partition, end, t.frozen)
	}
	if logStart > t.logStart {
		w.violate(acked, "%d: restored log starts at %d, it had started at %d", t.id.Partition, logStart, t.logStart)
	}
	for _, base := range t.bases() {
		f := t.facts[base]
		switch {
		case f.next <= end:
			continue
		case base < end && end != logStart: // else the log start lay inside it, and the rest was not in the bucket
			w.violate(held, "%d: restored to %d, inside the batch [%d, %d)", t.id.Partition, end, base, f.next)
		}
		if f.acked && f.pid >= 0 {
			t.lostPIDs[f.pid] = true
		}
		delete(t.facts, base)
	}
	t.hw, t.lso, t.logStart = end, end, logStart // what was restored is committed
	t.epoch, t.ackedEnd = 0, min(t.ackedEnd, end)
	t.archived, t.confirmed, t.frozen = end, end, end
}

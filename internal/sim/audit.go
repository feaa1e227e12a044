package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"tidewater/broker/partition"
	"tidewater/catalog"
	"tidewater/iceberg/commit"
	"tidewater/iceberg/tablefs"
	"tidewater/iceberg/verify"
	"tidewater/internal/logio"
	"tidewater/internal/record"
	"tidewater/tiering/archive"
	"tidewater/tiering/remote"
)

// epilogue ends all faults and checks everything, three times: as it is, after
// a power cut, and restored from the bucket alone.
func (w *world) epilogue(ctx context.Context) {
	w.say("epilogue")
	w.heal()
	for n, then := range []func(){w.cutPower, func() { w.lose(false) }, nil} {
		w.settle()
		if !w.failed() {
			w.audit(ctx, n != 1) // the table did not change in the power cut
		}
		if w.failed() || then == nil {
			return
		}
		then()
	}
}

// cutPower ends every process and has the disks forget what they may.
func (w *world) cutPower() {
	w.say("the power is cut")
	w.active.kill()
	for _, n := range w.active.nodes {
		n.disk.Crash(w.rng)
	}
	w.active.boot()
}

// settle lets the world go on without faults until nothing is left to do.
func (w *world) settle() {
	why := ""
	for range 80 {
		w.runUntil(w.now.Add(500 * time.Millisecond))
		if w.failed() {
			return
		}
		if why = w.unrest(); why == "" {
			return
		}
	}
	w.violate(rest, "%s", why)
}

// unrest says what is still to be done, "" for nothing.
func (w *world) unrest() string {
	if w.restoring {
		return "the restore is not through"
	}
	for _, n := range w.active.nodes {
		if l := n.life; !n.lost && (l == nil || !l.up || l.sick || l.tier.tails == nil) {
			return fmt.Sprintf("broker %d does not serve", n.id)
		}
		if n.paused() {
			return fmt.Sprintf("broker %d is stopped", n.id)
		}
	}
	if n := w.active.hurt; n != nil {
		return fmt.Sprintf("broker %d's replicas are not whole again: %v", n.id, w.active.agreeing)
	}
	for _, p := range w.people {
		if p.idempotent && slices.ContainsFunc(p.queue, func(s *sent) bool { return !s.answered }) {
			return fmt.Sprintf("producer %d has %d batches unanswered", p.pid, len(p.queue))
		}
	}
	lives := w.active.lives()
	for _, t := range w.parts {
		if why := w.restless(lives, t); why != "" {
			return why
		}
	}
	if why := w.active.apart(lives); why != "" {
		return why
	}
	if w.replica != nil && !w.replica.caught {
		return "the replica is behind the bucket"
	}
	for _, l := range lives {
		for _, name := range []string{"segments", "retain", "archive", "tail", "keeper", "table", "root"} {
			if err := l.tier.errs[name]; err != nil {
				return fmt.Sprintf("broker %d: %s: %v", l.node.id, name, err)
			}
		}
	}
	return ""
}

// restless says what is still to be done about one partition.
func (w *world) restless(lives []*life, t *truth) string {
	p := leaderOf(lives, t.id.Partition)
	first := leaderOf(lives, 0)
	if p == nil || first == nil {
		return fmt.Sprintf("partition %d: nobody leads", t.id.Partition)
	}
	o, err := p.Offsets()
	if err != nil {
		return fmt.Sprintf("partition %d: %v", t.id.Partition, err)
	}
	errs := p.life.tier.errs
	if end := p.life.bucketEnd(t.id); end != o.HighWatermark {
		return fmt.Sprintf("partition %d: the bucket has %d of %d: %v %v", t.id.Partition, end, o.HighWatermark, errs["tail"], errs["archive"])
	}
	m, begun := first.life.tier.committer.Offsets().Marks[t.id.Partition]
	if m.End != o.HighWatermark && (begun || o.LogStart < o.HighWatermark) {
		return fmt.Sprintf("partition %d: the table has %d of %d: %v", t.id.Partition, m.End, o.HighWatermark, first.life.tier.errs["table"])
	}
	return ""
}

// apart says where the replicas of a group differ.
func (c *cluster) apart(lives []*life) string {
	for _, id := range c.groupIDs() {
		var first partition.Agreed
		for i, l := range lives {
			a := l.partition(id).Agreed()
			if i == 0 {
				first = a
			}
			if a != first {
				return fmt.Sprintf("group %s: broker %d has %+v, broker %d %+v", id, lives[0].node.id, first, l.node.id, a)
			}
		}
	}
	return ""
}

// audit reads everything there is and compares.
func (w *world) audit(ctx context.Context, table bool) {
	w.still = true
	defer func() { w.still = false }()
	for _, t := range w.parts {
		p := w.active.leader(t.id.Partition)
		w.auditLog(ctx, p.life, p)
		w.auditBucket(ctx, p.life, p)
		w.auditFollowers(ctx, p)
	}
	if table {
		w.auditTable(ctx, w.active.leader(0).life)
	}
	w.checkTableHeld(ctx)
}

// auditFollowers reads every other replica to its end.
func (w *world) auditFollowers(ctx context.Context, leader *hosted) {
	for _, l := range w.active.lives() {
		p := l.parts[leader.truth.id.Partition]
		if p == leader {
			continue
		}
		o, _ := p.Offsets()
		for at := o.LogStart; at < o.HighWatermark && !w.failed(); {
			batches, err := p.Batches(ctx, at, o.HighWatermark, 16<<10)
			if err != nil || len(batches) == 0 {
				w.violate(equal, "%d: broker %d gives nothing at %d of [%d, %d): %v", p.truth.id.Partition, l.node.id, at, o.LogStart, o.HighWatermark, err)
				return
			}
			for _, b := range batches {
				p.truth.shown(w, equal, "a follower", b)
				at = record.Batch(b).NextOffset()
			}
		}
	}
}

// auditLog reads a partition from its start to its end: no gap, everything
// acknowledged, each batch of an idempotent producer once and in order.
func (w *world) auditLog(ctx context.Context, l *life, p *hosted) {
	o, err := p.Offsets()
	if err != nil {
		w.violate(rest, "%d: %v", p.truth.id.Partition, err)
		return
	}
	found := map[record.Offset]bool{}
	for at := o.LogStart; at < o.HighWatermark && !w.failed(); {
		_, next, err := w.read(ctx, l, p, logio.ReadRequest{Offset: at, BytesMax: 1 + w.rng.IntN(16<<10), MinOne: true, CurrentEpoch: -1})
		if next == at {
			w.violate(acked, "%d: nothing can be read at %d of [%d, %d): %v", p.truth.id.Partition, at, o.LogStart, o.HighWatermark, err)
		}
		at = next
	}
	next := map[int64]int32{}
	payloads := map[uint64]record.Offset{}
	for _, base := range p.truth.bases() {
		f := p.truth.facts[base]
		if f.next <= o.LogStart {
			continue
		}
		found[base] = true
		if f.whole == nil {
			w.violate(acked, "%d: offset %d was acknowledged and is not in the log [%d, %d)", p.truth.id.Partition, base, o.LogStart, o.HighWatermark)
			return
		}
		w.auditBatch(p.truth, f.whole, next, payloads)
	}
}

// auditBatch checks one batch of a log against those before it.
func (w *world) auditBatch(t *truth, b record.Batch, next map[int64]int32, payloads map[uint64]record.Offset) {
	if pid := b.ProducerID(); pid >= 0 {
		if want, ok := next[pid]; ok && want != b.BaseSequence() {
			w.violate(once, "%d: producer %d has sequence %d at offset %d, %d would follow", t.id.Partition, pid, b.BaseSequence(), b.BaseOffset(), want)
		}
		next[pid] = b.BaseSequence() + b.RecordCount()
	}
	var r record.Reader
	if err := r.Reset(b, 0); err != nil {
		w.violate(sane, "%d: batch at %d: %v", t.id.Partition, b.BaseOffset(), err)
		return
	}
	for r.Next() {
		id := binary.BigEndian.Uint64(r.Record().Value)
		if before, ok := payloads[id]; ok {
			w.violate(once, "%d: the record at %d is also at %d", t.id.Partition, r.Record().Offset, before)
		}
		payloads[id] = r.Record().Offset
		if w.alien[id] {
			w.violate(fencing, "%d: the record at %d was written to a broker of the past", t.id.Partition, r.Record().Offset)
		}
	}
}

// auditBucket reads what the bucket holds of a partition as a stranger would.
func (w *world) auditBucket(ctx context.Context, l *life, p *hosted) {
	cache, err := remote.OpenCache(remote.CacheConfig{})
	if err != nil {
		w.violate(sane, "open cache: %v", err)
		return
	}
	r := remote.New(remote.Config{Store: w.ground.Mem, Dir: l.dir(p.truth.id), Cache: cache})
	if _, err := r.Refresh(ctx); err != nil {
		w.violate(cold, "%d: read manifest: %v", p.truth.id.Partition, err)
		return
	}
	err = r.Scan(ctx, r.Start(), r.End(), func(b record.Batch) error {
		p.truth.shown(w, cold, "the bucket", b)
		return nil
	})
	if err != nil {
		w.violate(cold, "%d: read the bucket [%d, %d): %v", p.truth.id.Partition, r.Start(), r.End(), err)
	}
	report, err := archive.Scrub(ctx, w.ground.Mem, l.dir(p.truth.id), time.Hour, false)
	if err != nil || len(report.Missing) > 0 {
		w.violate(cold, "%d: scrub: missing %v, %v", p.truth.id.Partition, report.Missing, err)
	}
}

// auditTable compares the whole table with the log.
func (w *world) auditTable(ctx context.Context, l *life) {
	fs := tablefs.FS{Store: w.ground.Mem, Root: bucketURI}
	cfg, err := verify.Open(ctx, w.tables, fs, tableIdent(), commit.Topic{}, l.sources())
	if errors.Is(err, catalog.ErrNoTable) && l.tier.committer.Offsets().Seq == 0 {
		return // there never was a record to put into it
	}
	if err != nil {
		w.violate(rows, "open table: %v", err)
		return
	}
	report, err := verify.Run(ctx, cfg)
	if err != nil {
		w.violate(rows, "verify: %v", err)
	} else if !report.OK() {
		w.violate(rows, "%s", report)
	}
}

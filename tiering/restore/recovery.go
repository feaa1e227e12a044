package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"tidewater/internal/logio"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
	"tidewater/tiering/remote"
)

// recovery makes one partition's part of the plan.
type recovery struct {
	cfg         Config
	plan        *Plan
	dir         manifest.Dir // in the source
	maxProducer int64
}

// noLimit is the end of a partition that no cut bounds.
const noLimit = record.Offset(1<<63 - 1)

func (r *recovery) run(ctx context.Context, extents []extent) (Partition, error) {
	reader := manifest.NewReader(r.cfg.Store, r.dir)
	err := reader.Load(ctx)
	if err != nil && !errors.Is(err, objstore.ErrNotFound) {
		return Partition{}, err
	}
	m := &manifest.Manifest{Topic: r.dir.Topic, Partition: r.dir.ID, MaxProducerID: -1}
	if err == nil {
		m = reader.Current().Clone()
	}
	to := r.dir
	to.Layout = r.plan.Layout
	p := Partition{Dir: to, FloorTerm: floor(m, extents)}
	for _, x := range extents {
		m.LogStart = max(m.LogStart, x.LogStart)
	}
	limit := r.limit()
	var batches [][]byte
	if m.End > limit {
		if batches, err = r.cutBack(ctx, m, limit); err != nil {
			return p, err
		}
	}
	if len(batches) == 0 {
		batches, _ = run(extents, max(m.End, r.resume(m, extents)), limit)
	}
	if err := r.write(ctx, &p, m, batches); err != nil {
		return p, err
	}
	r.maxProducer = m.MaxProducerID
	p.LogStart, p.End, p.Manifest, p.Epochs = m.LogStart, m.End, m.Number, m.Epochs
	return p, r.snapshot(ctx, &p, m)
}

// floor is a term that no epoch seen passes.
func floor(m *manifest.Manifest, extents []extent) record.LeaderEpoch {
	top := m.Epoch
	for _, h := range m.Epochs {
		top = max(top, h.Epoch)
	}
	for _, x := range extents {
		top = max(top, x.Epoch)
	}
	return top + termGap
}

// limit bounds coordinator partitions by the cut, so that no group offset
// passes the data it speaks of.
func (r *recovery) limit() record.Offset {
	if r.plan.Cut == nil || manifest.ClassOf(r.dir.Topic) == manifest.ClassData {
		return noLimit
	}
	for _, e := range r.plan.Cut.Ends {
		if e.Partition == r.dir.ID {
			return e.End
		}
	}
	return noLimit
}

// resume is where the tail goes on: the manifest's end, or, when the log start
// passed that and a gap lies between, the base of the first extent that holds it.
func (r *recovery) resume(m *manifest.Manifest, extents []extent) record.Offset {
	if m.LogStart <= m.End {
		return m.End
	}
	if _, end := run(extents, m.End, noLimit); end > m.LogStart {
		return m.End // what lies below the log start still tells of its producers
	}
	for _, x := range extents {
		if x.Length > 0 && x.Base <= m.LogStart && x.Next > m.LogStart {
			return x.Base
		}
	}
	return m.LogStart
}

// cutBack makes m end at limit; the batches of an entry that straddles it and
// lie below are read, to be stored again.
func (r *recovery) cutBack(ctx context.Context, m *manifest.Manifest, limit record.Offset) ([][]byte, error) {
	i := slices.IndexFunc(m.Entries, func(e manifest.Entry) bool { return e.Next() > limit })
	if i < 0 || i == 0 && len(m.Pages) > 0 && m.Pages[len(m.Pages)-1].Last >= limit {
		return nil, fmt.Errorf("the cut at offset %d lies in old entries of the manifest, which ends at %d", limit, m.End)
	}
	base := m.Entries[i].Base
	var batches [][]byte
	if base < limit {
		cache, err := remote.OpenCache(remote.CacheConfig{})
		if err != nil {
			return nil, err
		}
		src := remote.New(remote.Config{Store: r.cfg.Store, Dir: r.dir, Cache: cache})
		err = src.Scan(ctx, max(base, m.Start()), limit, func(b record.Batch) error {
			if b.NextOffset() <= limit {
				batches = append(batches, b)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	m.Entries = m.Entries[:i]
	m.End = base
	m.LogStart = min(m.LogStart, limit)
	return batches, nil
}

// write stores what no segment holds yet as one of the new incarnation, and
// its manifest 1.
func (r *recovery) write(ctx context.Context, p *Partition, m *manifest.Manifest, batches [][]byte) error {
	name := fmt.Sprintf("restore%d", r.plan.Layout.Incarnation)
	w, err := manifest.OpenWriter(ctx, manifest.WriterConfig{Store: r.cfg.Store, Dir: p.Dir, Epoch: p.FloorTerm, Name: name})
	if err != nil {
		return err
	}
	for len(batches) > 0 {
		if batches, err = r.store(ctx, p, m, w, batches); err != nil {
			return err
		}
	}
	if m.LogStart > m.End {
		m.End = m.LogStart
	}
	now, err := r.cfg.Store.Now(ctx)
	if err != nil {
		return err
	}
	m.StableTo = min(m.StableTo, m.End)
	m.Epochs = slices.DeleteFunc(m.Epochs, func(h logio.EpochStart) bool { return h.Start >= m.End })
	return w.Write(ctx, m, now.UnixMilli())
}

// segmentBytesMax bounds one object made of tail batches.
const segmentBytesMax = 32 << 20

func (r *recovery) store(ctx context.Context, p *Partition, m *manifest.Manifest, w *manifest.Writer, batches [][]byte) (rest [][]byte, err error) {
	first, last := record.Batch(batches[0]), record.Batch(batches[len(batches)-1])
	b := manifest.SegmentBuilder{Base: first.BaseOffset(), Limit: last.NextOffset()}
	n := 0
	for n < len(batches) && (n == 0 || b.Len() < segmentBytesMax) {
		if err := b.Add(batches[n]); err != nil {
			return nil, err
		}
		m.Epochs = extendEpochs(m.Epochs, record.Batch(batches[n]))
		n++
	}
	object, index, entry := b.Finish(p.Dir, w.NextName(), manifest.Index{Epochs: m.Epochs})
	if err := manifest.PutNew(ctx, r.cfg.Store, entry.Key, object); err != nil {
		return nil, err
	}
	if err := manifest.PutNew(ctx, r.cfg.Store, entry.Index, index); err != nil {
		return nil, err
	}
	p.TailBytes += entry.Length
	p.TailRecords += int64(entry.Next() - entry.Base)
	return batches[n:], m.Append(entry)
}

// extendEpochs adds the epoch of a batch that follows the history.
func extendEpochs(h []logio.EpochStart, b record.Batch) []logio.EpochStart {
	if n := len(h); n == 0 || h[n-1].Epoch < b.Epoch() {
		return append(slices.Clone(h), logio.EpochStart{Epoch: b.Epoch(), Start: b.BaseOffset()})
	}
	return h
}

// snapshot finds the producer state nearest before the end. Where offsets are
// missing between entries, deleted before they were uploaded, what producers
// wrote there is not known, and no state from before it counts.
func (r *recovery) snapshot(ctx context.Context, p *Partition, m *manifest.Manifest) error {
	next := m.End
	for i := len(m.Entries) - 1; i >= 0; i-- {
		e := &m.Entries[i]
		if e.Next() != next {
			p.SnapshotAt = next
			return nil
		}
		next = e.Base
		if e.Index == "" {
			continue
		}
		x, err := remote.ReadIndex(ctx, r.cfg.Store, e)
		if err != nil {
			return err
		}
		if len(x.ProducersAtEnd) > 0 {
			p.Snapshot, p.SnapshotAt = x.ProducersAtEnd, e.Next()
			return nil
		}
		if len(x.ProducersAtBase) > 0 {
			p.Snapshot, p.SnapshotAt = x.ProducersAtBase, e.Base
			return nil
		}
	}
	p.SnapshotAt = m.First()
	return nil
}

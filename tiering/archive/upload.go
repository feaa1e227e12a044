package archive

import (
	"context"
	"fmt"

	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// upload is a segment that was stored and is in no manifest yet.
type upload struct {
	entry   manifest.Entry
	history History
}

// checkStored sees that an entry's objects are there, the data in full size.
func checkStored(ctx context.Context, store objstore.Store, e *manifest.Entry) error {
	info, err := store.Head(ctx, e.Key)
	if err != nil {
		return fmt.Errorf("check stored segment: %w", err)
	}
	if want := e.Position + e.Length; info.Size < want {
		return fmt.Errorf("check stored segment %s: %w: %d bytes, %d were sent", e.Key, manifest.ErrCorrupt, info.Size, want)
	}
	if e.Index == "" {
		return nil
	}
	if _, err := store.Head(ctx, e.Index); err != nil {
		return fmt.Errorf("check stored index: %w", err)
	}
	return nil
}

// upload stores what is sealed above next.End and appends it to next. Records
// deleted before they were uploaded are left out, by whole batches.
func (p *Partition) upload(ctx context.Context, marks Marks, next *manifest.Manifest, res *Result) ([]upload, error) {
	var stored []upload
	for _, s := range p.cfg.Source.Sealed(next.End) {
		least := max(s.Base, next.End)
		from := max(least, marks.LogStart)
		if s.Next > marks.HighWatermark {
			break // sealed after the marks were taken
		}
		for from < s.Next {
			if len(stored) == p.cfg.SegmentsPerRunMax {
				res.More = true
				return stored, nil
			}
			u, err := p.store(ctx, least, from, s.Next)
			if err != nil {
				return nil, err
			}
			if u.entry.Base > next.End && marks.LogStart > next.LogStart {
				next.LogStart = marks.LogStart // what explains the gap
			}
			if err := next.Append(u.entry); err != nil {
				return nil, fmt.Errorf("archive %s-%d: %w", p.cfg.Dir.Topic, p.cfg.Dir.ID.Partition, err)
			}
			stored = append(stored, u)
			res.Segments++
			res.Bytes += u.entry.Length
			from = u.entry.Next()
			least = from
		}
	}
	return stored, nil
}

// store reads [from, limit), or as much of it as one object may hold, checks it
// and puts object and index into the bucket. Above least, from may lie inside a
// batch: the log start does.
func (p *Partition) store(ctx context.Context, least, from, limit record.Offset) (upload, error) {
	b := manifest.SegmentBuilder{Base: from, Limit: limit}
	for b.Next() < limit && b.Len() < p.cfg.ObjectBytesMax {
		want := int(min(readBytes, p.cfg.ObjectBytesMax-b.Len()))
		batches, err := p.cfg.Source.Batches(ctx, b.Next(), limit, want)
		if err != nil {
			return upload{}, fmt.Errorf("read segment at offset %d: %w", b.Next(), err)
		}
		if len(batches) == 0 {
			return upload{}, fmt.Errorf("read segment at offset %d: nothing there, segment ends at %d: %w", b.Next(), limit, record.ErrCorrupt)
		}
		for _, batch := range batches {
			if base := record.Batch(batch).BaseOffset(); b.Len() == 0 && base >= least && base < from {
				b.Base = base
			}
			if err := b.Add(batch); err != nil {
				return upload{}, fmt.Errorf("archive %s-%d: %w", p.cfg.Dir.Topic, p.cfg.Dir.ID.Partition, err)
			}
		}
	}
	h, err := p.cfg.Source.History(ctx, b.Base, b.Next())
	if err != nil {
		return upload{}, fmt.Errorf("read state at offsets %d and %d: %w", b.Base, b.Next(), err)
	}
	return p.put(ctx, &b, h)
}

func (p *Partition) put(ctx context.Context, b *manifest.SegmentBuilder, h History) (upload, error) {
	object, index, entry := b.Finish(p.cfg.Dir, p.w.NextName(), manifest.Index{
		Epochs: h.Epochs, ProducersAtBase: h.ProducersAtBase, ProducersAtEnd: h.ProducersAtEnd,
	})
	u := upload{entry: entry, history: h}
	if err := manifest.PutNew(ctx, p.cfg.Store, entry.Key, object); err != nil {
		return u, err
	}
	return u, manifest.PutNew(ctx, p.cfg.Store, entry.Index, index)
}

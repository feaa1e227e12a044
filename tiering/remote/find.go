package remote

import (
	"context"
	"errors"
	"fmt"

	"tidewater/internal/logio"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// none answers a look-up that found nothing.
func none() logio.FoundOffset { return logio.FoundOffset{Offset: -1, Timestamp: -1, Epoch: -1} }

// Find gives the first record not older than ts (milliseconds since the Unix
// epoch) by the newest manifest; offset -1 if there is none.
func (p *Partition) Find(ctx context.Context, ts int64) (logio.FoundOffset, error) {
	found, err := p.find(ctx, ts)
	// The object may have been retired, and newer ones added, since this manifest.
	if errors.Is(err, objstore.ErrNotFound) || err == nil && found.Offset < 0 {
		var news bool
		if news, err = p.Refresh(ctx); err == nil && news {
			found, err = p.find(ctx, ts)
		}
	}
	return found, storageError(err)
}

func (p *Partition) find(ctx context.Context, ts int64) (logio.FoundOffset, error) {
	m, err := p.known(ctx, 0)
	if err != nil {
		return none(), err
	}
	found := none()
	err = p.walk(ctx, m, func(g manifest.Page) bool { return g.MaxTimestamp < ts }, func(e *manifest.Entry) (bool, error) {
		if e.MaxTimestamp < ts || e.Next() <= m.Start() {
			return true, nil
		}
		found, err = p.findIn(ctx, e, m.Start(), ts)
		return found.Offset < 0, err
	})
	return found, err
}

// findIn looks through one entry, from the first block that may hold ts.
func (p *Partition) findIn(ctx context.Context, e *manifest.Entry, start record.Offset, ts int64) (logio.FoundOffset, error) {
	x, err := p.indexOf(ctx, e)
	if err != nil {
		return none(), err
	}
	done := -1 // last chunk looked through
	for i, b := range x.blocks {
		c := x.chunkOfBlock(i)
		if b.MaxTimestamp < ts || c <= done {
			continue
		}
		done = c
		chunk, _, err := p.chunk(ctx, e, x, c, 1)
		if err != nil {
			return none(), err
		}
		found, err := FindInBatches(chunk, start, ts)
		if err != nil {
			return none(), fmt.Errorf("read %s: %w", e.Key, err)
		}
		if found.Offset >= 0 {
			return found, nil
		}
	}
	return none(), nil
}

// FindInBatches gives the first record of whole batches that is not older than
// ts nor before start; offset -1 if there is none.
func FindInBatches(p []byte, start record.Offset, ts int64) (logio.FoundOffset, error) {
	var r record.Reader
	for len(p) > 0 {
		b, rest, err := record.Next(p)
		if err != nil {
			return none(), err
		}
		p = rest
		if b.MaxTimestamp() < ts || b.NextOffset() <= start || b.Control() {
			continue
		}
		if err := r.Reset(b, 0); err != nil {
			return none(), err
		}
		for r.Next() {
			if rec := r.Record(); rec.Timestamp >= ts && rec.Offset >= start {
				return logio.FoundOffset{Offset: rec.Offset, Timestamp: rec.Timestamp, Epoch: b.Epoch()}, nil
			}
		}
		if err := r.Err(); err != nil {
			return none(), err
		}
	}
	return none(), nil
}

// Keep gives the base offset of the oldest segment that retention keeps: from
// the front those go whose newest timestamp is below olderThan (milliseconds;
// a negative one keeps all), and those not needed to hold bytesMax bytes (a
// negative one is no bound). It is the end when all go. It asks for the newest
// manifest first.
func (p *Partition) Keep(ctx context.Context, olderThan, bytesMax int64) (record.Offset, error) {
	if _, err := p.Refresh(ctx); err != nil {
		return 0, err
	}
	m, err := p.known(ctx, 0)
	if err != nil {
		return 0, err
	}
	keep, total := m.End, m.Bytes()
	err = p.walk(ctx, m, nil, func(e *manifest.Entry) (bool, error) {
		old := olderThan >= 0 && e.MaxTimestamp < olderThan
		spare := bytesMax >= 0 && total-e.Length >= bytesMax
		if !old && !spare {
			keep = e.Base
			return false, nil
		}
		total -= e.Length
		return true, nil
	})
	return keep, storageError(err)
}

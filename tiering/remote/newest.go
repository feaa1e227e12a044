package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"tidewater/internal/logio"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// FindMax gives the first record of [from, end), as far as the newest manifest
// has it, with the greatest timestamp; offset -1 if there is none, or none
// that is as new as atLeast (milliseconds since the Unix epoch). Where the
// manifest says that nothing is, the bucket is asked nothing.
func (p *Partition) FindMax(ctx context.Context, from, end record.Offset, atLeast int64) (logio.FoundOffset, error) {
	found, err := p.findMax(ctx, from, end, atLeast)
	if errors.Is(err, objstore.ErrNotFound) { // retired since this manifest
		if _, err = p.Refresh(ctx); err == nil {
			found, err = p.findMax(ctx, from, end, atLeast)
		}
	}
	return found, storageError(err)
}

func (p *Partition) findMax(ctx context.Context, from, end record.Offset, atLeast int64) (logio.FoundOffset, error) {
	m, err := p.known(ctx, end-1)
	if err != nil {
		return none(), err
	}
	s := newest{p: p, from: max(from, m.Start()), end: end, best: none()}
	s.best.Offset, s.best.Timestamp = end, max(atLeast, 0) // a record that is not newer than this, and no lower, is not wanted
	for _, g := range m.Pages {
		s.add(suspect{base: g.Base, next: g.Last + 1, top: g.MaxTimestamp, look: func(ctx context.Context) error { return s.page(ctx, g) }})
	}
	s.entries(m.Entries)
	if err := s.run(ctx); err != nil || s.best.Epoch < 0 {
		return none(), err
	}
	return s.best, nil
}

// newest is a search for the newest record: the part of the log that claims
// the greatest timestamp is looked into first, until no other can have a
// newer record than the one found. A page is looked into by adding its
// entries, an entry by adding its chunks.
type newest struct {
	p         *Partition
	from, end record.Offset
	best      logio.FoundOffset
	suspects  []suspect
}

// suspect is a part of the log that may hold the newest record.
type suspect struct {
	base, next record.Offset
	top        int64 // no record in it is newer
	look       func(context.Context) error
}

func (s *newest) add(x suspect) {
	if x.next > s.from && x.base < s.end && x.top >= 0 {
		s.suspects = append(s.suspects, x)
	}
}

func (s *newest) run(ctx context.Context) error {
	for len(s.suspects) > 0 {
		first := 0
		for i, x := range s.suspects {
			if x.top > s.suspects[first].top {
				first = i
			}
		}
		x := s.suspects[first]
		s.suspects = slices.Delete(s.suspects, first, first+1)
		if x.top < s.best.Timestamp {
			return nil
		}
		if x.top == s.best.Timestamp && x.base > s.best.Offset {
			continue // of equals the first counts
		}
		if err := x.look(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *newest) page(ctx context.Context, g manifest.Page) error {
	list, err := s.p.page(ctx, g)
	if err == nil {
		s.entries(list)
	}
	return err
}

func (s *newest) entries(list []manifest.Entry) {
	for i := range list {
		e := &list[i]
		s.add(suspect{base: e.Base, next: e.Next(), top: e.MaxTimestamp, look: func(ctx context.Context) error { return s.entry(ctx, e) }})
	}
}

func (s *newest) entry(ctx context.Context, e *manifest.Entry) error {
	x, err := s.p.indexOf(ctx, e)
	if err != nil {
		return err
	}
	for c := range x.chunks {
		lo, hi := x.blockRange(c)
		one := suspect{base: x.blocks[lo].Base, next: chunkEnd(e, x, c), top: -1, look: func(ctx context.Context) error { return s.chunk(ctx, e, x, c) }}
		for _, b := range x.blocks[lo:hi] {
			one.top = max(one.top, b.MaxTimestamp)
		}
		s.add(one)
	}
	return nil
}

func (s *newest) chunk(ctx context.Context, e *manifest.Entry, x *index, c int) error {
	raw, _, err := s.p.chunk(ctx, e, x, c, 1)
	if err != nil {
		return err
	}
	var batches []record.Batch
	for len(raw) > 0 {
		var b record.Batch
		if b, raw, err = record.Next(raw); err != nil {
			return fmt.Errorf("read %s: %w", e.Key, err)
		}
		batches = append(batches, b)
	}
	at, ms, epoch, err := record.Newest(batches, s.from, s.end)
	if err != nil {
		return fmt.Errorf("read %s: %w", e.Key, err)
	}
	if ms > s.best.Timestamp || ms == s.best.Timestamp && at < s.best.Offset {
		s.best = logio.FoundOffset{Offset: at, Timestamp: ms, Epoch: epoch}
	}
	return nil
}

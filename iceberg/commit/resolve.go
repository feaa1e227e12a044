package commit

import (
	"context"
	"fmt"
	"math"

	"tidewater/iceberg/scan"
	"tidewater/internal/record"
)

// decided gives the offsets of partition p from on that are in the dead-letter
// table although the table has not passed them: a crash, or another committer,
// came between the two commits.
func (c *Committer) decided(ctx context.Context, p int32, from record.Offset) (map[record.Offset]bool, error) {
	if c.dead == nil {
		return nil, nil
	}
	m, ok := c.dead.offsets.Marks[p]
	if !ok || m.End <= from || c.dead.offsets.Owner().Topic != c.cfg.Owner.Topic {
		return nil, nil
	}
	out := map[record.Offset]bool{}
	rows := scan.At(c.cfg.FS, c.dead.ident, c.dead.meta)
	err := rows.Offsets(ctx, scan.Between(p, int64(from), math.MaxInt64), func(_ string, _ int32, offset int64) error {
		out[record.Offset(offset)] = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read dead letters of partition %d: %w", p, err)
	}
	return out, nil
}

// Resolve carries out a person's choice for a table that stopped. It takes
// rows or offsets as the truth and commits offsets that match main.
func (c *Committer) Resolve(ctx context.Context, choice Choice) error {
	ends := map[int32]record.Offset{}
	for _, s := range c.cfg.Sources() {
		o, err := s.Offsets()
		if err != nil {
			return fmt.Errorf("read offsets of partition %s: %w", s.ID(), err)
		}
		ends[s.ID().Partition] = o.HighWatermark
	}
	for _, t := range []*table{&c.main, c.dead} {
		if t == nil {
			continue
		}
		if err := t.resolve(ctx, choice, ends, c.cfg.Random()>>1); err != nil {
			return err
		}
	}
	c.pending, c.ready = nil, false
	return nil
}

func (t *table) resolve(ctx context.Context, choice Choice, ends map[int32]record.Offset, snapshot uint64) error {
	if err := t.load(ctx); err != nil {
		return err
	}
	if t.lineage() == nil && choice == Retranslate {
		return nil // this one never stopped
	}
	c := &change{snapshot: int64(snapshot), to: map[int32]Mark{}}
	switch choice {
	case Accept:
		// Rows that the log does not reach stay; the log goes on at its end.
		for p, m := range t.offsets.Marks {
			if end, ok := ends[p]; ok {
				c.to[p] = Mark{Start: min(m.Start, end), End: min(m.End, end), Epoch: m.Epoch}
			}
		}
	case Retranslate:
		last, err := scan.At(t.fs, t.ident, t.meta).MaxOffsets(ctx)
		if err != nil {
			return err
		}
		for p, m := range t.offsets.Marks {
			end := m.Start
			if offset, ok := last[p]; ok {
				end = record.Offset(offset) + 1
			}
			c.to[p] = Mark{Start: m.Start, End: min(end, m.End), Epoch: -1}
		}
	default:
		return fmt.Errorf("resolve table %s: %q is no choice: use %s or %s", t.ident, choice, Retranslate, Accept)
	}
	return t.attempt(ctx, c)
}

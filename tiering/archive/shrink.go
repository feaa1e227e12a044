package archive

import (
	"context"
	"fmt"
	"slices"

	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// shrinks reports whether shrink has anything to do.
func (p *Partition) shrinks(m *manifest.Manifest, logStart record.Offset) bool {
	_, old := m.OldPage()
	return old || logStart > m.LogStart || len(m.Entries) > p.cfg.EntriesMax
}

// shrink applies the log start to next and spills old entries to a page.
func (p *Partition) shrink(ctx context.Context, next *manifest.Manifest, logStart record.Offset, now int64) (changed bool, err error) {
	changed = next.Trim(logStart, now)
	for {
		page, ok := next.OldPage()
		if !ok {
			break
		}
		entries, err := manifest.ReadPage(ctx, p.cfg.Store, page)
		if err != nil {
			return false, err
		}
		next.RetirePage(entries, now)
		changed = true
	}
	if next.Trim(logStart, now) { // entries, now that no page stands before them
		changed = true
	}
	if len(next.Entries) > p.cfg.EntriesMax {
		if err := p.spill(ctx, next); err != nil {
			return false, err
		}
		changed = true
	}
	return changed, nil
}

// spill stores the older half of the entries as a page.
func (p *Partition) spill(ctx context.Context, next *manifest.Manifest) error {
	n := len(next.Entries) / 2
	first, last := next.Entries[0], next.Entries[n-1]
	key := p.cfg.Dir.Page(manifest.Range{Base: first.Base, Last: last.Last, Epoch: last.LastEpoch, Writer: p.w.NextName()})
	entries := next.Spill(n, key)
	body := manifest.AppendPage(nil, p.cfg.Dir.Layout.Header(), p.cfg.Dir.ID, p.cfg.Dir.Topic, entries)
	return manifest.PutNew(ctx, p.cfg.Store, key, body)
}

// collect deletes retired objects whose time has come, and old manifests. The
// fence is checked right before: the list is then the newest there is, and
// what it retires no manifest of any incarnation will name again. After that a
// majority confirms that this broker leads the partition.
func (p *Partition) collect(ctx context.Context) error {
	m := p.w.Current()
	if len(m.Retired) > len(p.deleted) && p.due() {
		if err := p.deleteRipe(ctx, m); err != nil {
			return p.fenced(err)
		}
	}
	if err := p.w.Collect(ctx); err != nil {
		return p.fenced(err)
	}
	return nil
}

// due paces the looks for ripe objects.
func (p *Partition) due() bool {
	if p.cfg.Now == nil {
		return true
	}
	now := p.cfg.Now()
	if now.Sub(p.looked) < ripeEvery {
		return false
	}
	p.looked = now
	return true
}

func (p *Partition) deleteRipe(ctx context.Context, m *manifest.Manifest) error {
	clock, err := p.cfg.Store.Now(ctx)
	if err != nil {
		return err
	}
	ripe := m.Ripe(clock.UnixMilli(), p.cfg.Grace.Milliseconds(), len(p.deleted)+ripeKeysMax)
	ripe = slices.DeleteFunc(ripe, func(k string) bool { return slices.Contains(p.deleted, k) })
	if len(ripe) == 0 {
		return nil
	}
	if err := manifest.CheckRoot(ctx, p.cfg.Store, p.cfg.Dir.Layout); err != nil {
		return err
	}
	if err := p.w.Check(ctx); err != nil {
		return err
	}
	if err := p.cfg.Source.Confirm(ctx); err != nil {
		return err
	}
	if err := p.cfg.Store.Delete(ctx, ripe...); err != nil {
		return fmt.Errorf("delete retired objects of %s: %w", p.cfg.Dir.ID, err)
	}
	p.deleted = append(p.deleted, ripe...)
	return nil
}

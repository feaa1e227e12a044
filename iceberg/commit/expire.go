package commit

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	icetable "github.com/apache/iceberg-go/table"
)

// expireBatch is how many snapshots must be due before a commit is spent on
// them.
const expireBatch = 10

// due gives the snapshots to expire: those of main beyond SnapshotsMax, or
// beyond SnapshotsMin and older than SnapshotAge. What another branch or a tag
// leads to, and the newest of ours, stay.
func (t *table) due(now time.Time) []int64 {
	keep := map[int64]bool{}
	for name, ref := range t.meta.Refs() {
		if name != icetable.MainBranch {
			for _, s := range t.ancestry(ref.SnapshotID) {
				keep[s.SnapshotID] = true
			}
		}
	}
	var due []int64
	ours := false
	main := map[int64]bool{}
	for i, s := range t.ancestry(head(t.meta)) {
		main[s.SnapshotID] = true
		_, isOurs := property(&s, SummarySeq)
		newest := isOurs && !ours
		ours = ours || isOurs
		old := now.Sub(time.UnixMilli(s.TimestampMs)) > t.cfg.SnapshotAge
		if !newest && !keep[s.SnapshotID] && (i >= t.cfg.SnapshotsMax || i >= t.cfg.SnapshotsMin && old) {
			due = append(due, s.SnapshotID)
		}
	}
	for _, s := range t.meta.Snapshots() {
		// What neither main nor a ref leads to was rolled back by somebody.
		if !main[s.SnapshotID] && !keep[s.SnapshotID] && now.Sub(time.UnixMilli(s.TimestampMs)) > t.cfg.SnapshotAge {
			due = append(due, s.SnapshotID)
		}
	}
	if len(due) < expireBatch {
		return nil
	}
	slices.Sort(due)
	return due
}

func head(meta icetable.Metadata) int64 {
	if s := meta.CurrentSnapshot(); s != nil {
		return s.SnapshotID
	}
	return 0
}

// ancestry is snapshot id and its parents as far as they are known.
func (t *table) ancestry(id int64) []icetable.Snapshot {
	return icetable.AncestorsOf(id, t.meta.SnapshotByID)
}

// expire removes due snapshots by a commit of its own and then the manifest
// lists and manifests that no snapshot refers to any more. Data files go by
// CollectOrphans.
func (t *table) expire(ctx context.Context) error {
	ids := t.due(t.cfg.Now())
	if len(ids) == 0 {
		return nil
	}
	gone, err := t.metadataFiles(ctx, ids)
	if err != nil {
		return err
	}
	if err := t.send(ctx, t.requirements(), []icetable.Update{icetable.NewRemoveSnapshotsUpdate(ids, false)}); err != nil {
		if undecided(err) {
			return t.load(ctx) // next time
		}
		return err
	}
	// Only after the commit is it known what is referred to; a crash before
	// the deletion leaves orphans.
	used, err := t.metadataFiles(ctx, nil)
	if err != nil {
		return err
	}
	var keys []string
	for location := range gone {
		if key, err := t.fs.Key(location); err == nil && !used[location] {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	if err := t.fs.Store.Delete(ctx, keys...); err != nil {
		return fmt.Errorf("delete metadata of expired snapshots of %s: %w", t.ident, err)
	}
	return nil
}

// metadataFiles gives manifest lists and manifests of the snapshots ids; nil
// is all.
func (t *table) metadataFiles(ctx context.Context, ids []int64) (map[string]bool, error) {
	out := map[string]bool{}
	for _, s := range t.meta.Snapshots() {
		if ids != nil && !slices.Contains(ids, s.SnapshotID) || s.ManifestList == "" {
			continue
		}
		out[s.ManifestList] = true
		manifests, err := s.Manifests(t.fs.IO(ctx))
		if err != nil {
			return nil, fmt.Errorf("read manifest list %s: %w", s.ManifestList, err)
		}
		for _, m := range manifests {
			out[m.FilePath()] = true
		}
	}
	return out, nil
}

// collect deletes objects below data/ and metadata/ (Avro files only: the rest
// is the catalog's) that no snapshot refers to and that are older than grace
// by the store's clock.
func (t *table) collect(ctx context.Context, grace time.Duration) (int, error) {
	now, err := t.fs.Store.Now(ctx)
	if err != nil {
		return 0, fmt.Errorf("collect orphans of %s: %w", t.ident, err)
	}
	// Ask what is there before what is used: what comes up meanwhile is young.
	prefix, err := t.fs.Key(t.meta.Location() + "/")
	if err != nil {
		return 0, err
	}
	old, err := t.olderThan(ctx, prefix, now.Add(-grace))
	if err != nil || len(old) == 0 {
		return 0, err
	}
	if err := t.load(ctx); err != nil {
		return 0, err
	}
	used, err := t.files(ctx)
	if err != nil {
		return 0, err
	}
	var keys []string
	for _, key := range old {
		if !used[t.fs.Location(key)] {
			keys = append(keys, key)
		}
	}
	for batch := range slices.Chunk(keys, 1000) {
		if err := t.fs.Store.Delete(ctx, batch...); err != nil {
			return 0, fmt.Errorf("delete orphans of %s: %w", t.ident, err)
		}
	}
	return len(keys), nil
}

func (t *table) olderThan(ctx context.Context, prefix string, before time.Time) (keys []string, err error) {
	for after := ""; ; {
		page, err := t.fs.Store.List(ctx, prefix, after, 1000)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", prefix, err)
		}
		for _, o := range page.Objects {
			after = o.Key
			dir := strings.TrimPrefix(o.Key, prefix)
			mine := strings.HasPrefix(dir, "data/") || strings.HasPrefix(dir, "metadata/") && path.Ext(o.Key) == ".avro"
			if mine && o.LastModified.Before(before) {
				keys = append(keys, o.Key)
			}
		}
		if !page.More {
			return keys, nil
		}
	}
}

// files gives every file that a snapshot refers to.
func (t *table) files(ctx context.Context) (map[string]bool, error) {
	used, err := t.metadataFiles(ctx, nil)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, s := range t.meta.Snapshots() {
		manifests, err := s.Manifests(t.fs.IO(ctx))
		if err != nil {
			return nil, fmt.Errorf("read manifest list %s: %w", s.ManifestList, err)
		}
		for _, m := range manifests {
			if seen[m.FilePath()] {
				continue
			}
			seen[m.FilePath()] = true
			for e, err := range m.Entries(t.fs.IO(ctx), true) {
				if err != nil {
					return nil, fmt.Errorf("read manifest %s: %w", m.FilePath(), err)
				}
				used[e.DataFile().FilePath()] = true
			}
		}
	}
	return used, nil
}

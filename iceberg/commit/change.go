package commit

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	ice "github.com/apache/iceberg-go"
	icetable "github.com/apache/iceberg-go/table"

	"tidewater/catalog"
	"tidewater/internal/record"
)

// attemptsMax bounds how often a change is sent in one round.
const attemptsMax = 5

// Manifests are merged when manifestTier of about the same size have gathered,
// so that a table of n commits has about manifestTier*log(n) of them.
const manifestTier = 8

// change is a commit to be made: files and the offsets they bring the table to.
// It is kept until it is known to be in or out.
type change struct {
	snapshot int64 // id; the same in every attempt
	files    []ice.DataFile
	from     map[int32]record.Offset // where the partitions must stand
	to       map[int32]Mark
	summary  ice.Properties // further facts

	manifest ice.ManifestFile // of files; written once
	attempt  int
}

// fits reports whether the partitions stand where the change began.
func (t *table) fits(c *change) bool {
	now := t.offsets.clone()
	now.takeOver(t.cfg.Owner)
	for p, from := range c.from {
		m, ok := now.Marks[p]
		if ok && m.End != from || !ok && c.to[p].Start != from {
			return false
		}
	}
	return true
}

// apply commits c: nil when it is in the table, ErrMoved when it never will be.
// After any other error the same change may be applied again.
func (t *table) apply(ctx context.Context, c *change) error {
	var last error
	for range attemptsMax {
		if t.has(c.snapshot) {
			return nil
		}
		if err := t.lineage(); err != nil {
			return err
		}
		if !t.fits(c) {
			return fmt.Errorf("commit table %s: %w", t.ident, ErrMoved)
		}
		if last = t.attempt(ctx, c); last == nil || !undecided(last) {
			return last
		}
		if err := t.load(ctx); err != nil {
			return fmt.Errorf("%w (after: %w)", err, last)
		}
	}
	return last
}

func (t *table) attempt(ctx context.Context, c *change) error {
	next := t.offsets.clone()
	next.takeOver(t.cfg.Owner)
	next.Seq++
	maps.Copy(next.Marks, c.to)
	snapshot, err := t.snapshot(ctx, c)
	if err != nil {
		return err
	}
	snapshot.Summary.Properties[SummarySeq] = strconv.FormatUint(next.Seq, 10)
	snapshot.Summary.Properties[SummaryHash] = next.Hash()
	return t.send(ctx, t.requirements(), []icetable.Update{
		icetable.NewAddSnapshotUpdate(snapshot),
		icetable.NewSetSnapshotRefUpdate(icetable.MainBranch, snapshot.SnapshotID, icetable.BranchRef, 0, 0, 0),
		icetable.NewSetPropertiesUpdate(ice.Properties{PropertyOffsets: next.String()}),
	})
}

// snapshot writes the change's manifest (once) and manifest list.
func (t *table) snapshot(ctx context.Context, c *change) (*icetable.Snapshot, error) {
	c.attempt++
	manifests, err := t.manifests(ctx, c)
	if err != nil {
		return nil, err
	}
	parent := t.meta.CurrentSnapshot()
	s := &icetable.Snapshot{
		SnapshotID:     c.snapshot,
		SequenceNumber: t.meta.LastSequenceNumber() + 1,
		TimestampMs:    max(t.cfg.Now().UnixMilli(), t.meta.LastUpdatedMillis()),
		ManifestList:   fmt.Sprintf("%s/metadata/snap-%d-%d-%s.avro", t.meta.Location(), c.snapshot, c.attempt, name(t.cfg.Random)),
		Summary:        &icetable.Summary{Operation: icetable.OpAppend, Properties: summarize(c, parent)},
	}
	if parent != nil {
		s.ParentSnapshotID = &parent.SnapshotID
	}
	schemaID := t.meta.CurrentSchema().ID
	s.SchemaID = &schemaID
	if err := t.writeList(ctx, s, manifests); err != nil {
		return nil, fmt.Errorf("write manifest list %s: %w", s.ManifestList, err)
	}
	return s, nil
}

// summarize gives the totals that engines show.
func summarize(c *change, parent *icetable.Snapshot) ice.Properties {
	p := maps.Clone(c.summary)
	if p == nil {
		p = ice.Properties{}
	}
	var rows, bytes int64
	for _, f := range c.files {
		rows += f.Count()
		bytes += f.FileSizeBytes()
	}
	add := func(name string, n int64) {
		p["added-"+name] = strconv.FormatInt(n, 10)
		var before int64
		if parent != nil {
			text, ok := property(parent, "total-"+name)
			var err error
			if before, err = strconv.ParseInt(text, 10, 64); !ok || err != nil {
				return // an outside writer left no total: better none than a wrong one
			}
		}
		p["total-"+name] = strconv.FormatInt(before+n, 10)
	}
	add("records", rows)
	add("data-files", int64(len(c.files)))
	add("files-size", bytes)
	return p
}

// create makes the table unless it exists, with no offsets yet.
func (t *table) create(ctx context.Context, sc *ice.Schema, spec *ice.PartitionSpec) error {
	properties := ice.Properties{
		"format-version":                             "2",
		"write.format.default":                       "parquet",
		"write.parquet.compression-codec":            "zstd",
		"write.metadata.delete-after-commit.enabled": "true",
		"write.metadata.previous-versions-max":       "20",
		PropertyOffsets:                              Offsets{Owners: []Owner{t.cfg.Owner}}.String(),
	}
	_, err := t.cfg.Catalog.CreateTable(ctx, catalog.CreateRequest{Ident: t.ident, Schema: sc, Spec: spec, Properties: properties})
	if err != nil {
		return fmt.Errorf("create table %s: %w", t.ident, err)
	}
	return nil
}

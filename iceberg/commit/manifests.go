package commit

import (
	"bytes"
	"context"
	"fmt"
	"math/bits"

	ice "github.com/apache/iceberg-go"
	icetable "github.com/apache/iceberg-go/table"
)

// name gives a unique name for an object.
func name(random func() uint64) string { return fmt.Sprintf("%016x%016x", random(), random()) }

// manifests gives the manifests of the next snapshot: the present ones, small
// ones merged, and the change's own.
func (t *table) manifests(ctx context.Context, c *change) ([]ice.ManifestFile, error) {
	var have []ice.ManifestFile
	if s := t.meta.CurrentSnapshot(); s != nil {
		var err error
		if have, err = s.Manifests(t.fs.IO(ctx)); err != nil {
			return nil, fmt.Errorf("read manifest list %s: %w", s.ManifestList, err)
		}
	}
	have, err := t.merged(ctx, c, have)
	if err != nil {
		return nil, err
	}
	if len(c.files) == 0 {
		return have, nil
	}
	if c.manifest == nil {
		entries := make([]ice.ManifestEntry, len(c.files))
		for i, f := range c.files {
			entries[i] = ice.NewManifestEntry(ice.EntryStatusADDED, &c.snapshot, nil, nil, f)
		}
		if c.manifest, err = t.writeManifest(ctx, c.snapshot, t.meta.PartitionSpec(), entries); err != nil {
			return nil, err
		}
	}
	return append([]ice.ManifestFile{c.manifest}, have...), nil
}

// tier is the size class of a manifest: how many files it lists, in powers of
// manifestTier; -1 when it is not ours to merge.
func (t *table) tier(m ice.ManifestFile) int {
	if m.ManifestContent() != ice.ManifestContentData || int(m.PartitionSpecID()) != t.meta.DefaultPartitionSpec() || m.Version() != t.meta.Version() {
		return -1
	}
	n := uint(max(m.AddedDataFiles(), 0)) + uint(max(m.ExistingDataFiles(), 0))
	return bits.Len(n) / bits.Len(manifestTier-1)
}

// merged puts the manifests of one tier together when there are manifestTier
// of them; at most one merge per commit keeps the cost even.
func (t *table) merged(ctx context.Context, c *change, have []ice.ManifestFile) ([]ice.ManifestFile, error) {
	count := map[int]int{}
	full := -1
	for _, m := range have {
		k := t.tier(m)
		if count[k]++; k >= 0 && count[k] >= manifestTier && (full < 0 || k < full) {
			full = k
		}
	}
	if full < 0 {
		return have, nil
	}
	var entries []ice.ManifestEntry
	var rest []ice.ManifestFile
	for _, m := range have {
		if t.tier(m) != full {
			rest = append(rest, m)
			continue
		}
		for e, err := range m.Entries(t.fs.IO(ctx), true) {
			if err != nil {
				return nil, fmt.Errorf("read manifest %s: %w", m.FilePath(), err)
			}
			id, seq := e.SnapshotID(), e.SequenceNum()
			entries = append(entries, ice.NewManifestEntry(ice.EntryStatusEXISTING, &id, &seq, e.FileSequenceNum(), e.DataFile()))
		}
	}
	m, err := t.writeManifest(ctx, c.snapshot, t.meta.PartitionSpec(), entries)
	if err != nil {
		return nil, err
	}
	return append([]ice.ManifestFile{m}, rest...), nil
}

func (t *table) writeManifest(ctx context.Context, snapshot int64, spec ice.PartitionSpec, entries []ice.ManifestEntry) (ice.ManifestFile, error) {
	location := fmt.Sprintf("%s/metadata/%s-m.avro", t.meta.Location(), name(t.cfg.Random))
	var body bytes.Buffer
	m, err := ice.WriteManifest(location, &body, t.meta.Version(), spec, t.meta.CurrentSchema(), snapshot, entries)
	if err == nil {
		err = t.fs.Write(ctx, location, body.Bytes())
	}
	if err != nil {
		return nil, fmt.Errorf("write manifest %s: %w", location, err)
	}
	return m, nil
}

func (t *table) writeList(ctx context.Context, s *icetable.Snapshot, manifests []ice.ManifestFile) error {
	var body bytes.Buffer
	err := ice.WriteManifestList(t.meta.Version(), &body, s.SnapshotID, s.ParentSnapshotID, &s.SequenceNumber, 0, manifests)
	if err != nil {
		return err
	}
	return t.fs.Write(ctx, s.ManifestList, body.Bytes())
}

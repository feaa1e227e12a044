package commit

import (
	"context"
	"errors"
	"fmt"

	icetable "github.com/apache/iceberg-go/table"

	"tidewater/catalog"
	"tidewater/iceberg/tablefs"
)

// table is one Iceberg table under commit: the topic's, or its dead letters'.
type table struct {
	cfg   *Config
	ident catalog.Ident
	fs    tablefs.FS

	meta    icetable.Metadata // nil before load
	offsets Offsets
}

// load reads the table and checks that it is ours and that its snapshots and
// its property tell the same story.
func (t *table) load(ctx context.Context) error {
	got, err := t.cfg.Catalog.LoadTable(ctx, t.ident)
	if err != nil {
		return fmt.Errorf("load table %s: %w", t.ident, err)
	}
	return t.set(got.Metadata)
}

// set takes meta as the table's state; on error the state is what it was.
func (t *table) set(meta icetable.Metadata) error {
	text, ok := meta.Properties()[PropertyOffsets]
	if !ok {
		return t.stopped("it exists and was not made by this broker (no property " + PropertyOffsets + "): drop it or give the topic another namespace")
	}
	offsets, err := ParseOffsets(text)
	if err != nil {
		return t.stopped(err.Error())
	}
	if _, err := t.fs.Key(meta.Location() + "/x"); err != nil {
		return t.stopped(err.Error())
	}
	probe := offsets.clone()
	if mine, _ := probe.takeOver(t.cfg.Owner); !mine {
		return t.stopped(fmt.Sprintf("it belongs to %s now, not to %s", offsets.Owner(), t.cfg.Owner))
	}
	t.meta, t.offsets = meta, offsets
	return nil
}

func (t *table) stopped(reason string, choices ...Choice) error {
	return &StoppedError{Table: t.ident, Reason: reason, Choices: choices}
}

// lineage checks that the newest snapshot of ours in main's ancestry is the one
// that set the property.
func (t *table) lineage() error {
	if t.offsets.Seq == 0 {
		return nil
	}
	s := t.meta.CurrentSnapshot()
	for s != nil {
		if seq, ok := property(s, SummarySeq); ok {
			if hash, _ := property(s, SummaryHash); hash != t.offsets.Hash() {
				return t.stopped(fmt.Sprintf("its newest snapshot of ours (%d) is number %s, but its offsets are of number %d: "+
					"somebody rolled the table back or changed the property", s.SnapshotID, seq, t.offsets.Seq), Retranslate, Accept)
			}
			return nil
		}
		if s.ParentSnapshotID == nil {
			s = nil
			break
		}
		parent := t.meta.SnapshotByID(*s.ParentSnapshotID)
		if parent == nil {
			// Somebody expired it. The property outlives snapshots.
			return nil
		}
		s = parent
	}
	return t.stopped(fmt.Sprintf("no snapshot of ours is left on main, but its offsets are of number %d: "+
		"somebody replaced the branch", t.offsets.Seq), Retranslate, Accept)
}

func property(s *icetable.Snapshot, key string) (string, bool) {
	if s.Summary == nil {
		return "", false
	}
	v, ok := s.Summary.Properties[key]
	return v, ok
}

// has reports whether snapshot id is in main's ancestry.
func (t *table) has(id int64) bool {
	for s := t.meta.CurrentSnapshot(); s != nil; s = t.meta.SnapshotByID(*s.ParentSnapshotID) {
		if s.SnapshotID == id {
			return true
		}
		if s.ParentSnapshotID == nil {
			return false
		}
	}
	return false
}

// requirements of every commit.
func (t *table) requirements() []icetable.Requirement {
	var head *int64
	if s := t.meta.CurrentSnapshot(); s != nil {
		head = &s.SnapshotID
	}
	return []icetable.Requirement{
		icetable.AssertTableUUID(t.meta.TableUUID()),
		icetable.AssertRefSnapshotID(icetable.MainBranch, head),
		icetable.AssertCurrentSchemaID(t.meta.CurrentSchema().ID),
	}
}

// send gives one commit to the catalog and takes over what it answers.
func (t *table) send(ctx context.Context, requirements []icetable.Requirement, updates []icetable.Update) error {
	meta, _, err := t.cfg.Catalog.CommitTable(ctx, t.ident, requirements, updates)
	if err != nil {
		return fmt.Errorf("commit table %s: %w", t.ident, err)
	}
	return t.set(meta)
}

// undecided reports whether the table must be loaded again to know what became
// of a commit.
func undecided(err error) bool {
	return errors.Is(err, catalog.ErrConflict) || errors.Is(err, catalog.ErrUnknown)
}

package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/iceberg-go/table"

	"tidewater/catalog"
)

// tableChange is what one commit asks of one table.
type tableChange struct {
	Ident        catalog.Ident
	Requirements []table.Requirement
	Updates      []table.Update
}

// CommitTable applies the updates when every requirement holds.
func (s *Server) CommitTable(ctx context.Context, ident catalog.Ident, requirements []table.Requirement, updates []table.Update) (table.Metadata, string, error) {
	e, before, err := s.commit(ctx, tableChange{ident, requirements, updates})
	if err != nil {
		return nil, "", fmt.Errorf("commit table %s: %w", ident, err)
	}
	if before != nil {
		s.dropOldMetadata(ctx, before, e.metadata)
	}
	return e.metadata, e.record.Metadata, nil
}

// commit gives the table's newest metadata and the one it replaced; nil if it
// replaced none.
func (s *Server) commit(ctx context.Context, c tableChange) (now *entry, before table.Metadata, err error) {
	var last error
	for range attemptsMax {
		old, next, err := s.prepare(ctx, c)
		if err != nil {
			return nil, nil, err
		}
		if next == nil {
			return old, nil, nil // nothing changed
		}
		e, err := s.publish(ctx, c.Ident, old.record, next)
		if err == nil {
			return e, old.metadata, nil
		}
		if !errors.Is(err, catalog.ErrConflict) {
			return nil, nil, err
		}
		last = err
	}
	return nil, nil, last
}

// prepare checks the requirements against the newest metadata and applies the
// updates to it. A nil next means that they change nothing.
func (s *Server) prepare(ctx context.Context, c tableChange) (old *entry, next table.Metadata, err error) {
	if old, err = s.latest(ctx, c.Ident); err != nil {
		return nil, nil, err
	}
	creates := false
	for _, r := range c.Requirements {
		creates = creates || r.GetType() == table.AssertCreate().GetType()
	}
	if old.metadata == nil {
		if !creates {
			return nil, nil, fmt.Errorf("%w: %s", catalog.ErrNoTable, c.Ident)
		}
		if _, err := s.namespace(ctx, c.Ident.Namespace); err != nil {
			return nil, nil, err
		}
		next, err := s.applyToNothing(c)
		return old, next, err
	}
	for _, r := range c.Requirements {
		if err := r.Validate(old.metadata); err != nil {
			return nil, nil, fmt.Errorf("%w: %s: %w", catalog.ErrConflict, r.GetType(), err)
		}
	}
	next, err = s.apply(old, c)
	return old, next, err
}

func (s *Server) apply(old *entry, c tableChange) (table.Metadata, error) {
	builder, err := table.MetadataBuilderFromBase(old.metadata, old.record.Metadata)
	if err != nil {
		return nil, fmt.Errorf("build on metadata of %s: %w", c.Ident, err)
	}
	if err := applyAll(builder, c.Updates); err != nil {
		return nil, err
	}
	if !builder.HasChanges() {
		return nil, nil
	}
	next, err := builder.Build()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	}
	if _, err := s.cfg.key(next.Location()); err != nil {
		return nil, err
	}
	return next, nil
}

// applyToNothing makes the metadata of a table that is created by its first
// commit, as engines do that prepare a table with stage-create.
func (s *Server) applyToNothing(c tableChange) (table.Metadata, error) {
	builder, err := table.NewMetadataBuilder(1)
	if err != nil {
		return nil, err
	}
	versioned := false
	for _, u := range c.Updates {
		versioned = versioned || u.Action() == table.UpdateUpgradeFormatVersion
	}
	if !versioned {
		if builder, err = table.NewMetadataBuilder(table.DefaultFormatVersion); err != nil {
			return nil, err
		}
	}
	if err := applyAll(builder, inBuildOrder(c.Updates)); err != nil {
		return nil, err
	}
	m, err := builder.Build()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	}
	if m.Location() == "" {
		if err := builder.SetLoc(s.defaultLocation(c.Ident, m.TableUUID().String())); err != nil {
			return nil, err
		}
		if m, err = builder.Build(); err != nil {
			return nil, fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
		}
	}
	_, err = s.cfg.key(m.Location())
	return m, err
}

// inBuildOrder puts the updates that make a table in the order the builder
// needs: engines send the partition spec before they make the schema current.
func inBuildOrder(updates []table.Update) []table.Update {
	order := []string{table.UpdateUpgradeFormatVersion, table.UpdateAssignUUID, table.UpdateAddSchema, table.UpdateSetCurrentSchema,
		table.UpdateAddSpec, table.UpdateSetDefaultSpec, table.UpdateAddSortOrder, table.UpdateSetDefaultSortOrder}
	rank := func(u table.Update) int {
		if i := slices.Index(order, u.Action()); i >= 0 {
			return i
		}
		return len(order)
	}
	sorted := slices.Clone(updates)
	slices.SortStableFunc(sorted, func(a, b table.Update) int { return rank(a) - rank(b) })
	return sorted
}

func applyAll(builder *table.MetadataBuilder, updates []table.Update) error {
	for _, u := range updates {
		err := u.Apply(builder)
		if err == nil {
			continue
		}
		kind := catalog.ErrInvalid
		if u.Action() == table.UpdateAddSnapshot && strings.Contains(err.Error(), "sequence number") {
			kind = catalog.ErrConflict // another commit took the number
		}
		return fmt.Errorf("%w: %s: %w", kind, u.Action(), err)
	}
	return nil
}

// commitAll commits changes of several tables: nothing is pointed at before all
// requirements hold and all metadata files are written.
func (s *Server) commitAll(ctx context.Context, changes []tableChange) error {
	type staged struct {
		ident catalog.Ident
		entry *entry
	}
	var all []staged
	for _, c := range changes {
		old, next, err := s.prepare(ctx, c)
		if err != nil {
			return fmt.Errorf("commit table %s: %w", c.Ident, err)
		}
		if next == nil {
			continue
		}
		e, err := s.stage(ctx, old.record, next)
		if err != nil {
			return fmt.Errorf("commit table %s: %w", c.Ident, err)
		}
		all = append(all, staged{c.Ident, e})
	}
	var done []string
	for _, t := range all {
		err := s.point(ctx, t.ident, t.entry)
		if err == nil {
			done = append(done, t.ident.String())
			continue
		}
		if len(done) > 0 {
			return fmt.Errorf("%w: committed %s, then commit table %s: %w",
				catalog.ErrUnknown, strings.Join(done, ", "), t.ident, err)
		}
		return fmt.Errorf("commit table %s: %w", t.ident, err)
	}
	return nil
}

package icebergtest

import (
	"context"
	"fmt"

	ice "github.com/apache/iceberg-go"
	icetable "github.com/apache/iceberg-go/table"

	"tidewater/catalog"
)

// Catalog is a catalog in memory.
type Catalog struct {
	Root   string // location below which tables are made
	tables map[string]*catalog.Table
	writes int

	// Before is called before a method does anything, After when it has; a
	// simulated crash panics there. An error of Before answers the call.
	Before func(method string) error
	// After may replace the answer by an error: a lost reply.
	After func(method string) error
}

var _ catalog.Catalog = (*Catalog)(nil)

// NewCatalog makes an empty catalog.
func NewCatalog(root string) *Catalog {
	return &Catalog{Root: root, tables: map[string]*catalog.Table{}}
}

func (c *Catalog) around(method string, fn func() error) error {
	if c.Before != nil {
		if err := c.Before(method); err != nil {
			return err
		}
	}
	if err := fn(); err != nil {
		return err
	}
	if c.After != nil {
		return c.After(method)
	}
	return nil
}

// LoadTable implements catalog.Catalog.
func (c *Catalog) LoadTable(_ context.Context, ident catalog.Ident) (t *catalog.Table, err error) {
	err = c.around("load", func() error {
		have, ok := c.tables[ident.String()]
		if !ok {
			return fmt.Errorf("load %s: %w", ident, catalog.ErrNoTable)
		}
		copied := *have
		t = &copied
		return nil
	})
	return t, err
}

// CreateTable implements catalog.Catalog.
func (c *Catalog) CreateTable(_ context.Context, r catalog.CreateRequest) (t *catalog.Table, err error) {
	err = c.around("create", func() error {
		if _, ok := c.tables[r.Ident.String()]; ok {
			return fmt.Errorf("create %s: %w", r.Ident, catalog.ErrExists)
		}
		spec := r.Spec
		if spec == nil {
			spec = ice.UnpartitionedSpec
		}
		meta, err := icetable.NewMetadata(r.Schema, spec, icetable.UnsortedSortOrder, c.Root+"/"+r.Ident.Name, r.Properties)
		if err != nil {
			return err
		}
		t = &catalog.Table{Ident: r.Ident, Metadata: meta}
		c.tables[r.Ident.String()] = t
		return nil
	})
	return t, err
}

// CommitTable implements catalog.Catalog.
func (c *Catalog) CommitTable(_ context.Context, ident catalog.Ident, requirements []icetable.Requirement, updates []icetable.Update) (meta icetable.Metadata, location string, err error) {
	err = c.around("commit", func() error {
		t, ok := c.tables[ident.String()]
		if !ok {
			return fmt.Errorf("commit %s: %w", ident, catalog.ErrNoTable)
		}
		for _, r := range requirements {
			if err := r.Validate(t.Metadata); err != nil {
				return fmt.Errorf("commit %s: %w: %w", ident, catalog.ErrConflict, err)
			}
		}
		c.writes++
		location = fmt.Sprintf("%s/metadata/%d.json", t.Metadata.Location(), c.writes)
		if meta, err = icetable.UpdateTableMetadata(t.Metadata, updates, location); err != nil {
			return fmt.Errorf("commit %s: %w: %w", ident, catalog.ErrInvalid, err)
		}
		c.tables[ident.String()] = &catalog.Table{Ident: ident, Metadata: meta, MetadataLocation: location}
		return nil
	})
	return meta, location, err
}

// DropTable implements catalog.Catalog.
func (c *Catalog) DropTable(_ context.Context, ident catalog.Ident, _ bool) error {
	return c.around("drop", func() error { delete(c.tables, ident.String()); return nil })
}

// EnsureNamespace implements catalog.Catalog.
func (c *Catalog) EnsureNamespace(context.Context, catalog.Namespace, map[string]string) error {
	return c.around("namespace", func() error { return nil })
}

// ListTables implements catalog.Catalog.
func (c *Catalog) ListTables(context.Context, catalog.Namespace) ([]catalog.Ident, error) {
	return nil, c.around("list", func() error { return nil })
}

package catalog

import (
	"context"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// Catalog is one Iceberg catalog. All methods are safe for concurrent use.
type Catalog interface {
	// LoadTable gives the current metadata (ErrNoTable).
	LoadTable(ctx context.Context, ident Ident) (*Table, error)
	// CreateTable makes an empty table in an existing namespace
	// (ErrNoNamespace, ErrExists). After ErrUnknown the table may exist: load
	// it and compare the schema.
	CreateTable(ctx context.Context, request CreateRequest) (*Table, error)
	// CommitTable applies the updates when every requirement holds, and gives
	// the new metadata and where it is stored. ErrConflict: a requirement does
	// not hold or another commit came first, nothing was done, load again.
	// ErrUnknown: the commit may have happened or may still happen; load the
	// table and look for the own snapshot before anything else.
	CommitTable(ctx context.Context, ident Ident, requirements []table.Requirement, updates []table.Update) (table.Metadata, string, error)
	// DropTable removes the table from the catalog (ErrNoTable); purge asks
	// the catalog to delete its files too, now or later.
	DropTable(ctx context.Context, ident Ident, purge bool) error
	// EnsureNamespace makes the namespace and its parents unless they exist.
	EnsureNamespace(ctx context.Context, namespace Namespace, properties map[string]string) error
	// ListTables gives the tables right in the namespace, sorted by name
	// (ErrNoNamespace).
	ListTables(ctx context.Context, namespace Namespace) ([]Ident, error)
}

// Table is a table as the catalog had it at one instant.
type Table struct {
	Ident            Ident
	Metadata         table.Metadata
	MetadataLocation string
	// Config is what the catalog tells its clients to reach the table's
	// files: endpoint, credentials, region. It may be empty.
	Config map[string]string
}

// CreateRequest describes a table to be made. The catalog assigns the field
// ids of the schema anew, from 1, in the order of the fields; read them from
// the Table it gives back.
type CreateRequest struct {
	Ident Ident
	// Schema has at least one field; its ids only need to differ.
	Schema *iceberg.Schema
	// Spec nil is unpartitioned.
	Spec *iceberg.PartitionSpec
	// SortOrder nil is unsorted.
	SortOrder *table.SortOrder
	// Location empty lets the catalog choose.
	Location string
	// Properties may hold format-version (2 if absent).
	Properties iceberg.Properties
}

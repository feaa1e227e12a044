// Package catalogtest is the one suite that every catalog.Catalog passes: our
// server in process, our server through package rest, and any real catalog
// that is tried.
package catalogtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"tidewater/catalog"
)

// Run tests the catalog that open gives; each subtest works in a namespace of
// its own, so one catalog serves all.
func Run(t *testing.T, open func(t *testing.T) catalog.Catalog) {
	t.Helper()
	tests := []struct {
		name string
		run  func(*testing.T, catalog.Catalog, catalog.Namespace)
	}{
		{"ATableIsLoadedAsItWasMade", createAndLoad},
		{"MissingThingsHaveTheirErrors", missing},
		{"ACommitIsSeen", commit},
		{"AFailedRequirementChangesNothing", requirement},
		{"OneOfManyRacersWins", race},
		{"CommitsOfDifferentKindsAllLand", independent},
		{"ADroppedNameIsFree", drop},
		{"NamesMayBeAnything", names},
		{"NamespacesNest", nested},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := open(t)
			n := catalog.Namespace{"catalogtest_" + tt.name}
			if err := c.EnsureNamespace(t.Context(), n, map[string]string{"owner": "suite"}); err != nil {
				t.Fatal(err)
			}
			tt.run(t, c, n)
		})
	}
}

// Schema is the schema of the suite's tables.
func Schema() *iceberg.Schema {
	return iceberg.NewSchema(0,
		iceberg.NestedField{ID: 1, Name: "id", Type: iceberg.PrimitiveTypes.Int64, Required: true},
		iceberg.NestedField{ID: 2, Name: "name", Type: iceberg.PrimitiveTypes.String})
}

// Create makes a table with the suite's schema.
func Create(t *testing.T, c catalog.Catalog, ident catalog.Ident) *catalog.Table {
	t.Helper()
	made, err := c.CreateTable(t.Context(), catalog.CreateRequest{Ident: ident, Schema: Schema(), Properties: iceberg.Properties{"a": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// Set is a commit that asserts the table's uuid and sets a property.
func Set(m table.Metadata, key, value string) ([]table.Requirement, []table.Update) {
	return []table.Requirement{table.AssertTableUUID(m.TableUUID())},
		[]table.Update{table.NewSetPropertiesUpdate(iceberg.Properties{key: value})}
}

// Append is a commit that adds a snapshot on top of main as m has it. The
// snapshot's files do not exist; no catalog looks.
func Append(m table.Metadata, id int64) ([]table.Requirement, []table.Update) {
	var parent *int64
	if s := m.CurrentSnapshot(); s != nil {
		parent = &s.SnapshotID
	}
	schema := m.CurrentSchema().ID
	snapshot := &table.Snapshot{SnapshotID: id, ParentSnapshotID: parent, SequenceNumber: m.LastSequenceNumber() + 1,
		TimestampMs: m.LastUpdatedMillis() + 1, ManifestList: fmt.Sprintf("%s/metadata/snap-%d.avro", m.Location(), id),
		Summary: &table.Summary{Operation: table.OpAppend}, SchemaID: &schema}
	return []table.Requirement{table.AssertTableUUID(m.TableUUID()), table.AssertRefSnapshotID(table.MainBranch, parent),
			table.AssertCurrentSchemaID(schema)},
		[]table.Update{table.NewAddSnapshotUpdate(snapshot), table.NewSetSnapshotRefUpdate(table.MainBranch, id, table.BranchRef, 0, 0, 0)}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func load(t *testing.T, c catalog.Catalog, ident catalog.Ident) *catalog.Table {
	t.Helper()
	loaded, err := c.LoadTable(t.Context(), ident)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

func createAndLoad(t *testing.T, c catalog.Catalog, n catalog.Namespace) {
	ident := catalog.Ident{Namespace: n, Name: "t"}
	spec := iceberg.NewPartitionSpec(iceberg.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "bucket", Transform: iceberg.BucketTransform{NumBuckets: 4}})
	made, err := c.CreateTable(t.Context(), catalog.CreateRequest{Ident: ident, Schema: Schema(), Spec: &spec, Properties: iceberg.Properties{"a": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	got := load(t, c, ident)
	if got.Metadata.TableUUID() != made.Metadata.TableUUID() || got.MetadataLocation != made.MetadataLocation || got.MetadataLocation == "" {
		t.Fatalf("loaded %v at %s, made %v at %s", got.Metadata.TableUUID(), got.MetadataLocation, made.Metadata.TableUUID(), made.MetadataLocation)
	}
	if got.Metadata.Version() != 2 || got.Metadata.Properties()["a"] != "1" || got.Metadata.CurrentSchema().NumFields() != 2 {
		t.Fatalf("metadata: %v", got.Metadata)
	}
	if s := got.Metadata.PartitionSpec(); s.NumFields() != 1 {
		t.Fatalf("spec: %v", s)
	}
	_, err = c.CreateTable(t.Context(), catalog.CreateRequest{Ident: ident, Schema: Schema()})
	wantErr(t, err, catalog.ErrExists)
}

func missing(t *testing.T, c catalog.Catalog, n catalog.Namespace) {
	ident := catalog.Ident{Namespace: n, Name: "none"}
	_, err := c.LoadTable(t.Context(), ident)
	wantErr(t, err, catalog.ErrNoTable)
	wantErr(t, c.DropTable(t.Context(), ident, false), catalog.ErrNoTable)
	_, _, err = c.CommitTable(t.Context(), ident, nil, []table.Update{table.NewSetPropertiesUpdate(iceberg.Properties{"a": "b"})})
	wantErr(t, err, catalog.ErrNoTable)
	_, err = c.CreateTable(t.Context(), catalog.CreateRequest{Ident: catalog.Ident{Namespace: catalog.Namespace{"no_such_namespace"}, Name: "t"}, Schema: Schema()})
	wantErr(t, err, catalog.ErrNoNamespace)
	_, err = c.ListTables(t.Context(), catalog.Namespace{"no_such_namespace"})
	wantErr(t, err, catalog.ErrNoNamespace)
	_, err = c.LoadTable(t.Context(), catalog.Ident{Namespace: n})
	wantErr(t, err, catalog.ErrInvalid)
}

func commit(t *testing.T, c catalog.Catalog, n catalog.Namespace) {
	ident := catalog.Ident{Namespace: n, Name: "t"}
	m := Create(t, c, ident).Metadata
	seen := map[string]bool{}
	for id := int64(1); id <= 5; id++ {
		requirements, updates := Append(m, id)
		updates = append(updates, table.NewSetPropertiesUpdate(iceberg.Properties{"end": fmt.Sprint(id)}))
		next, location, err := c.CommitTable(t.Context(), ident, requirements, updates)
		if err != nil {
			t.Fatal(err)
		}
		got := load(t, c, ident)
		if seen[location] || got.MetadataLocation != location || got.Metadata.CurrentSnapshot().SnapshotID != id || got.Metadata.Properties()["end"] != fmt.Sprint(id) {
			t.Fatalf("commit %d: at %s, loaded %s, %v", id, location, got.MetadataLocation, got.Metadata.CurrentSnapshot())
		}
		seen[location] = true
		m = next
	}
	if len(m.Snapshots()) != 5 || m.LastSequenceNumber() != 5 {
		t.Fatalf("%d snapshots, sequence number %d", len(m.Snapshots()), m.LastSequenceNumber())
	}
}

func requirement(t *testing.T, c catalog.Catalog, n catalog.Namespace) {
	ident := catalog.Ident{Namespace: n, Name: "t"}
	base := Create(t, c, ident).Metadata
	first, updates := Append(base, 1)
	if _, _, err := c.CommitTable(t.Context(), ident, first, updates); err != nil {
		t.Fatal(err)
	}
	before := load(t, c, ident)
	requirements, updates := Append(base, 2) // main has moved
	_, _, err := c.CommitTable(t.Context(), ident, requirements, updates)
	wantErr(t, err, catalog.ErrConflict)
	_, _, err = c.CommitTable(t.Context(), ident, []table.Requirement{table.AssertCurrentSchemaID(7)},
		[]table.Update{table.NewSetPropertiesUpdate(iceberg.Properties{"x": "y"})})
	wantErr(t, err, catalog.ErrConflict)
	_, _, err = c.CommitTable(t.Context(), ident, nil, []table.Update{table.NewSetPropertiesUpdate(iceberg.Properties{"x": "y"}), table.NewSetCurrentSchemaUpdate(7)})
	wantErr(t, err, catalog.ErrInvalid)
	if after := load(t, c, ident); after.MetadataLocation != before.MetadataLocation {
		t.Fatalf("moved to %s", after.MetadataLocation)
	}
}

func race(t *testing.T, c catalog.Catalog, n catalog.Namespace) {
	ident := catalog.Ident{Namespace: n, Name: "t"}
	m := Create(t, c, ident).Metadata
	for round := range 5 {
		var won atomic.Int64
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				id := int64(round*100 + w + 1)
				requirements, updates := Append(m, id)
				_, _, err := c.CommitTable(context.Background(), ident, requirements, updates)
				if err == nil {
					won.Add(id)
				} else if !errors.Is(err, catalog.ErrConflict) {
					t.Errorf("loser got %v", err)
				}
			})
		}
		wg.Wait()
		m = load(t, c, ident).Metadata
		if got := m.CurrentSnapshot().SnapshotID; got != won.Load() || len(m.Snapshots()) != round+1 {
			t.Fatalf("winners' ids sum to %d, main is %d, %d snapshots", won.Load(), got, len(m.Snapshots()))
		}
	}
}

func independent(t *testing.T, c catalog.Catalog, n catalog.Namespace) {
	ident := catalog.Ident{Namespace: n, Name: "t"}
	m := Create(t, c, ident).Metadata
	for w := range 4 {
		requirements, updates := Set(m, fmt.Sprintf("k%d", w), "v")
		if _, _, err := c.CommitTable(t.Context(), ident, requirements, updates); err != nil {
			t.Fatal(err)
		}
	}
	properties := load(t, c, ident).Metadata.Properties()
	for w := range 4 {
		if properties[fmt.Sprintf("k%d", w)] != "v" {
			t.Fatalf("properties %v", properties)
		}
	}
}

func drop(t *testing.T, c catalog.Catalog, n catalog.Namespace) {
	ident := catalog.Ident{Namespace: n, Name: "t"}
	old := Create(t, c, ident)
	if err := c.DropTable(t.Context(), ident, true); err != nil {
		t.Fatal(err)
	}
	_, err := c.LoadTable(t.Context(), ident)
	wantErr(t, err, catalog.ErrNoTable)
	requirements, updates := Set(old.Metadata, "a", "b")
	_, _, err = c.CommitTable(t.Context(), ident, requirements, updates)
	wantErr(t, err, catalog.ErrNoTable)
	again := Create(t, c, ident)
	if again.Metadata.TableUUID() == old.Metadata.TableUUID() || again.Metadata.Location() == old.Metadata.Location() {
		t.Fatal("the new table is the old one")
	}
	_, _, err = c.CommitTable(t.Context(), ident, requirements, updates)
	wantErr(t, err, catalog.ErrConflict)
}

func names(t *testing.T, c catalog.Catalog, n catalog.Namespace) {
	want := []string{"UPPER", "a b", "a%2Fb", "a.b", "plain", "semi;colon", "slash/in", "ü日本"}
	for _, name := range want {
		Create(t, c, catalog.Ident{Namespace: n, Name: name})
	}
	idents, err := c.ListTables(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range idents {
		got = append(got, i.Name)
		load(t, c, i)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("listed %q, made %q", got, want)
	}
}

func nested(t *testing.T, c catalog.Catalog, n catalog.Namespace) {
	deep := catalog.Namespace{n[0], "in", "side"}
	for range 2 { // ensuring twice is no error
		if err := c.EnsureNamespace(t.Context(), deep, nil); err != nil {
			t.Fatal(err)
		}
	}
	Create(t, c, catalog.Ident{Namespace: deep, Name: "t"})
	Create(t, c, catalog.Ident{Namespace: n, Name: "in"})
	outer, err := c.ListTables(t.Context(), n)
	if err != nil || len(outer) != 1 || outer[0].Name != "in" {
		t.Fatalf("outer: %v %v", outer, err)
	}
	inner, err := c.ListTables(t.Context(), deep)
	if err != nil || len(inner) != 1 || inner[0].String() != n[0]+".in.side.t" {
		t.Fatalf("inner: %v %v", inner, err)
	}
}

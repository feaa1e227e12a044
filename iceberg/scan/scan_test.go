package scan_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	ice "github.com/apache/iceberg-go"

	"tidewater/catalog"
	"tidewater/iceberg/commit"
	"tidewater/iceberg/icebergtest"
	"tidewater/iceberg/scan"
	"tidewater/iceberg/schema"
	"tidewater/iceberg/tablefs"
	"tidewater/iceberg/translate"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
)

// Count, groups, highest offsets and rows of a table as a committer makes it,
// and of one without a snapshot.
func TestQueries(t *testing.T) {
	ctx := context.Background()
	topic := record.TopicID{1}
	value, err := schema.Compile(`{"type": "object", "properties": {"carrier": {"type": ["string", "null"]}, "delay": {"type": "number"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	parts := []*icebergtest.Partition{icebergtest.NewPartition(topic, 0), icebergtest.NewPartition(topic, 1)}
	clock, n := time.Unix(1_700_000_000, 0), uint64(0)
	fs := tablefs.FS{Store: objstore.NewMem(func() time.Time { return clock }), Root: "s3://lake"}
	cat := icebergtest.NewCatalog("s3://lake/tables")
	ident := catalog.Ident{Namespace: catalog.Namespace{"topics"}, Name: "flights"}
	c, err := commit.New(commit.Config{Catalog: cat, FS: fs, Ident: ident, Owner: commit.Owner{Topic: topic, Incarnation: 1}, Topic: commit.Topic{Value: value},
		Sources:   func() []translate.Source { return []translate.Source{parts[0], parts[1]} },
		BucketEnd: func(id record.PartitionID) record.Offset { return parts[id.Partition].End() },
		Now:       func() time.Time { return clock }, Random: func() uint64 { n += 0x9e3779b97f4a7c15; return n }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.RunOnce(ctx); err != nil {
		t.Fatal(err)
	}
	table, err := scan.Open(ctx, cat, fs, ident)
	if err != nil {
		t.Fatal(err)
	}
	if rows, err := table.Count(ctx, nil); rows != 0 || err != nil {
		t.Fatalf("an empty table has %d rows: %v", rows, err)
	}
	for i, carrier := range []string{`"UA"`, `"AA"`, `"UA"`, `null`, `"null"`} {
		parts[i%2].AppendValues(fmt.Sprintf(`{"carrier": %s, "delay": %d}`, carrier, i))
		if _, err := c.RunOnce(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if table, err = scan.Open(ctx, cat, fs, ident); err != nil {
		t.Fatal(err)
	}
	if rows, err := table.Count(ctx, nil); rows != 5 || err != nil {
		t.Errorf("count is %d, %v", rows, err)
	}
	if rows, err := table.Count(ctx, ice.GreaterThan(ice.Reference("delay"), 2.5)); rows != 2 || err != nil {
		t.Errorf("filtered count is %d, %v", rows, err)
	}
	groups, err := table.CountBy(ctx, "carrier", nil)
	if got := fmt.Sprint(groups); err != nil || got != "[{UA false 2} {AA false 1} {null false 1} {null true 1}]" {
		t.Errorf("groups are %v, %v", got, err)
	}
	if most, err := table.MaxOffsets(ctx); err != nil || most[0] != 2 || most[1] != 1 {
		t.Errorf("highest offsets are %v, %v", most, err)
	}
	var seen []string
	err = table.Rows(ctx, scan.Between(0, 1, 3), []string{"carrier", "delay"}, 1, func(names []string, values []*string) error {
		seen = append(seen, names[0]+"="+*values[0]+" "+names[1]+"="+*values[1])
		return nil
	})
	if err != nil || len(seen) != 1 || seen[0] != "carrier=null delay=4" && seen[0] != "carrier=UA delay=2" {
		t.Errorf("rows are %v, %v", seen, err)
	}
	if _, err := table.CountBy(ctx, "none", nil); err == nil {
		t.Error("a column that does not exist was grouped")
	}
}

package scan

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	ice "github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	icetable "github.com/apache/iceberg-go/table"

	"tidewater/catalog"
	"tidewater/iceberg/schema"
	"tidewater/iceberg/tablefs"
)

// GroupsMax bounds the distinct values of Group; more is an error.
const GroupsMax = 100_000

// Table is a table at its current snapshot.
type Table struct {
	Ident    catalog.Ident
	Metadata icetable.Metadata
	fs       tablefs.FS
}

// Open loads the table from the catalog.
func Open(ctx context.Context, c catalog.Catalog, fs tablefs.FS, ident catalog.Ident) (*Table, error) {
	t, err := c.LoadTable(ctx, ident)
	if err != nil {
		return nil, fmt.Errorf("load table %s: %w", ident, err)
	}
	return At(fs, ident, t.Metadata), nil
}

// At is a table whose metadata the caller has.
func At(fs tablefs.FS, ident catalog.Ident, meta icetable.Metadata) *Table {
	return &Table{Ident: ident, Metadata: meta, fs: fs}
}

// projection gives the columns to read for the wanted ones. iceberg-go 0.7.0
// finds the filter's columns by their place in the whole schema, so that with a
// filter everything up to the last column needed is read, in the schema's order.
func (t *Table) projection(filter ice.BooleanExpression, wanted []string) ([]string, error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	if filter == nil {
		// A file that has none of the columns read is an error of iceberg-go
		// 0.7.0; this column is in every file.
		return append([]string{schema.ColumnPartition}, wanted...), nil
	}
	sc := t.Metadata.CurrentSchema()
	bound, err := ice.BindExpr(sc, filter, true)
	if err != nil {
		return nil, fmt.Errorf("scan %s: filter %s: %w", t.Ident, filter, err)
	}
	ids, err := ice.ExtractFieldIDs(bound)
	if err != nil {
		return nil, fmt.Errorf("scan %s: filter %s: %w", t.Ident, filter, err)
	}
	last := -1
	var names []string
	for i, f := range sc.Fields() {
		names = append(names, f.Name)
		if slices.Contains(wanted, f.Name) || contains(f, ids) {
			last = i
		}
	}
	return names[:last+1], nil
}

// contains reports whether field f or a part of it has one of the ids.
func contains(f ice.NestedField, ids []int) bool {
	inside, err := ice.IndexByID(ice.NewSchema(0, f))
	return err != nil || slices.ContainsFunc(ids, func(id int) bool { _, ok := inside[id]; return ok })
}

// narrow gives the wanted columns of a batch; the caller releases it.
func narrow(b arrow.RecordBatch, wanted []string) (arrow.RecordBatch, error) {
	if len(wanted) == 0 || len(wanted) == int(b.NumCols()) {
		b.Retain()
		return b, nil
	}
	var fields []arrow.Field
	var columns []arrow.Array
	for _, name := range wanted {
		c := column(b, name)
		if c == nil {
			return nil, fmt.Errorf("no column %s", name)
		}
		fields = append(fields, b.Schema().Field(b.Schema().FieldIndices(name)[0]))
		columns = append(columns, c)
	}
	return array.NewRecordBatch(arrow.NewSchema(fields, nil), columns, b.NumRows()), nil
}

func (t *Table) scan(filter ice.BooleanExpression, columns []string) *icetable.Scan {
	open := func(ctx context.Context) (iceio.IO, error) { return t.fs.IO(ctx), nil }
	ident := append(append([]string{}, t.Ident.Namespace...), t.Ident.Name)
	opts := []icetable.ScanOption{icetable.WithMaxConcurrency(1)}
	if len(columns) > 0 {
		opts = append(opts, icetable.WithSelectedFields(columns...))
	}
	if filter != nil {
		opts = append(opts, icetable.WithRowFilter(filter))
	}
	return icetable.New(ident, t.Metadata, "", open, nil).Scan(opts...)
}

// Batches gives the rows that pass filter (nil is all) as Arrow batches of the
// named columns (none is all), file by file: file is the data file's location.
// A batch is valid during the call only.
func (t *Table) Batches(ctx context.Context, filter ice.BooleanExpression, columns []string, fn func(file string, b arrow.RecordBatch) error) error {
	if t.Metadata.CurrentSnapshot() == nil {
		return nil
	}
	read, err := t.projection(filter, columns)
	if err != nil {
		return err
	}
	s := t.scan(filter, read)
	defer s.Close()
	tasks, err := s.PlanFiles(ctx)
	if err != nil {
		return fmt.Errorf("plan scan of %s: %w", t.Ident, err)
	}
	// Planning is concurrent; the order of files must not be.
	slices.SortFunc(tasks, func(a, b icetable.FileScanTask) int { return cmp.Compare(a.File.FilePath(), b.File.FilePath()) })
	for _, task := range tasks {
		if err := t.file(ctx, s, task, columns, fn); err != nil {
			return fmt.Errorf("scan %s: file %s: %w", t.Ident, task.File.FilePath(), err)
		}
	}
	return nil
}

func (t *Table) file(ctx context.Context, s *icetable.Scan, task icetable.FileScanTask, columns []string, fn func(string, arrow.RecordBatch) error) error {
	_, batches, err := s.ReadTasks(ctx, []icetable.FileScanTask{task})
	if err != nil {
		return err
	}
	for b, err := range batches {
		if err != nil {
			return err
		}
		wanted, err := narrow(b, columns)
		if err == nil {
			err = fn(task.File.FilePath(), wanted)
			wanted.Release()
		}
		b.Release()
		if err != nil {
			return err
		}
	}
	return nil
}

// Count is the number of rows that pass filter; without a filter and without
// delete files it is read from the manifests.
func (t *Table) Count(ctx context.Context, filter ice.BooleanExpression) (int64, error) {
	if t.Metadata.CurrentSnapshot() == nil {
		return 0, nil
	}
	if filter == nil {
		if n, ok, err := t.countFiles(ctx); ok || err != nil {
			return n, err
		}
	}
	var n int64
	err := t.Batches(ctx, filter, []string{schema.ColumnOffset}, func(_ string, b arrow.RecordBatch) error {
		n += b.NumRows()
		return nil
	})
	return n, err
}

func (t *Table) countFiles(ctx context.Context) (n int64, ok bool, err error) {
	s := t.scan(nil, nil)
	defer s.Close()
	tasks, err := s.PlanFiles(ctx)
	if err != nil {
		return 0, false, fmt.Errorf("plan scan of %s: %w", t.Ident, err)
	}
	for _, task := range tasks {
		if len(task.DeleteFiles) > 0 || len(task.EqualityDeleteFiles) > 0 {
			return 0, false, nil
		}
		n += task.File.Count()
	}
	return n, true, nil
}

// MaxOffsets gives the highest kafka_offset of each kafka_partition.
func (t *Table) MaxOffsets(ctx context.Context) (map[int32]int64, error) {
	out := map[int32]int64{}
	err := t.Offsets(ctx, nil, func(_ string, partition int32, offset int64) error {
		if have, ok := out[partition]; !ok || offset > have {
			out[partition] = offset
		}
		return nil
	})
	return out, err
}

// Offsets gives partition and offset of each row that passes filter, in the
// order of the files' rows.
func (t *Table) Offsets(ctx context.Context, filter ice.BooleanExpression, fn func(file string, partition int32, offset int64) error) error {
	columns := []string{schema.ColumnPartition, schema.ColumnOffset}
	return t.Batches(ctx, filter, columns, func(file string, b arrow.RecordBatch) error {
		partitions, ok1 := column(b, columns[0]).(*array.Int32)
		offsets, ok2 := column(b, columns[1]).(*array.Int64)
		if !ok1 || !ok2 {
			return fmt.Errorf("columns %v have other types than a topic's table", columns)
		}
		for i := range int(b.NumRows()) {
			if err := fn(file, partitions.Value(i), offsets.Value(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

// Between filters one partition's offsets in [from, to).
func Between(partition int32, from, to int64) ice.BooleanExpression {
	e := ice.NewAnd(
		ice.EqualTo(ice.Reference(schema.ColumnPartition), partition),
		ice.GreaterThanEqual(ice.Reference(schema.ColumnOffset), from))
	if to == math.MaxInt64 {
		return e
	}
	return ice.NewAnd(e, ice.LessThan(ice.Reference(schema.ColumnOffset), to))
}

func column(b arrow.RecordBatch, name string) arrow.Array {
	at := b.Schema().FieldIndices(name)
	if len(at) != 1 {
		return nil
	}
	return b.Column(at[0])
}

// Group is one distinct value and how many rows have it.
type Group struct {
	Value string // as text; "null" for null
	Null  bool
	Count int64
}

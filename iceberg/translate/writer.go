package translate

import (
	"bytes"
	"context"
	"fmt"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"
	ice "github.com/apache/iceberg-go"

	"tidewater/iceberg/schema"
)

// writer writes the rows of one table: rows collects, full row groups go to the
// open file of their table partition.
type writer struct {
	cfg    *Config
	target Target
	value  *schema.Type
	rows   *schema.Builder
	parts  *partitioner // nil when the table is not partitioned
	node   *pqschema.GroupNode
	open   []*dataFile // by group
	files  []ice.DataFile
}

func newWriter(cfg *Config, target Target, value *schema.Type) (*writer, error) {
	w := &writer{cfg: cfg, target: target, value: value}
	var err error
	if w.rows, err = schema.NewBuilder(target.Schema, value); err != nil {
		return nil, err
	}
	if w.node, err = parquetSchema(target.Schema); err != nil {
		return nil, err
	}
	if !target.Spec.IsUnpartitioned() {
		w.parts, err = newPartitioner(target.Spec, target.Schema, w.rows.Leaves(), cfg.PartitionsMax)
	}
	return w, err
}

// flushIfFull encodes the collected rows when there are enough.
func (w *writer) flushIfFull(ctx context.Context) error {
	if w.rows.Bytes() < w.cfg.RowGroupBytes {
		return nil
	}
	return w.flush(ctx)
}

func (w *writer) flush(ctx context.Context) error {
	if w.rows.Rows() == 0 {
		return nil
	}
	if w.parts == nil {
		if err := w.group(ctx, 0, nil, w.rows); err != nil {
			return err
		}
		w.rows.Reset()
		return nil
	}
	groups, err := w.parts.assign(w.rows)
	if err != nil {
		return err
	}
	into := make([]*schema.Builder, len(w.parts.tuples))
	for _, g := range groups {
		if into[g] == nil {
			if into[g], err = schema.NewBuilder(w.target.Schema, w.value); err != nil {
				return err
			}
		}
	}
	w.rows.Split(groups, into)
	for g, b := range into {
		if b == nil {
			continue
		}
		if err := w.group(ctx, g, w.parts.tuples[g], b); err != nil {
			return err
		}
	}
	return nil
}

// group writes a row group to the open file of table partition g.
func (w *writer) group(ctx context.Context, g int, tuple map[int]any, rows *schema.Builder) error {
	for len(w.open) <= g {
		w.open = append(w.open, nil)
	}
	if w.open[g] == nil {
		name := w.target.Location + "/data/" + w.cfg.Name() + ".parquet"
		f, err := newDataFile(name, w.node, tuple, len(rows.Leaves()))
		if err != nil {
			return fmt.Errorf("open data file %s: %w", name, err)
		}
		w.open[g] = f
	}
	if err := w.open[g].write(rows); err != nil {
		return fmt.Errorf("encode data file %s: %w", w.open[g].name, err)
	}
	if w.open[g].body.Len() >= w.cfg.FileBytes {
		return w.finish(ctx, g)
	}
	return nil
}

func (w *writer) finish(ctx context.Context, g int) error {
	f := w.open[g]
	w.open[g] = nil
	df, err := f.close(w)
	if err != nil {
		return fmt.Errorf("encode data file %s: %w", f.name, err)
	}
	if err := w.cfg.FS.Write(ctx, f.name, f.body.Bytes()); err != nil {
		return fmt.Errorf("upload data file: %w", err)
	}
	w.files = append(w.files, df)
	return nil
}

// close uploads what is left and gives all files.
func (w *writer) close(ctx context.Context) ([]ice.DataFile, error) {
	if err := w.flush(ctx); err != nil {
		return nil, err
	}
	for g := range w.open {
		if w.open[g] != nil {
			if err := w.finish(ctx, g); err != nil {
				return nil, err
			}
		}
	}
	return w.files, nil
}

// dataFile is a Parquet file being encoded in memory; a store takes whole
// objects.
type dataFile struct {
	name    string
	tuple   map[int]any
	body    bytes.Buffer
	parquet *file.Writer
	metrics *metrics
	rows    int64
	splits  []int64
	scratch []parquet.ByteArray
}

func newDataFile(name string, node *pqschema.GroupNode, tuple map[int]any, leaves int) (*dataFile, error) {
	f := &dataFile{name: name, tuple: tuple, metrics: newMetrics(leaves)}
	var err error
	f.parquet, err = file.NewParquetWriterWithError(&f.body, node, file.WithWriterProps(properties()))
	return f, err
}

// write adds one row group.
func (f *dataFile) write(rows *schema.Builder) error {
	f.splits = append(f.splits, int64(f.body.Len()))
	group, err := f.parquet.AppendRowGroupChecked()
	if err != nil {
		return err
	}
	for i, c := range rows.Leaves() {
		w, err := group.NextColumn()
		if err != nil {
			return err
		}
		if err := f.column(w, c); err != nil {
			return fmt.Errorf("column %v: %w", c.Path, err)
		}
		f.metrics.add(i, c)
	}
	f.rows += int64(rows.Rows())
	return group.Close()
}

func (f *dataFile) column(w file.ColumnChunkWriter, c *schema.Column) (err error) {
	switch w := w.(type) {
	case *file.BooleanColumnChunkWriter:
		_, err = w.WriteBatch(c.Bools, c.Def, c.Rep)
	case *file.Int32ColumnChunkWriter:
		_, err = w.WriteBatch(c.Ints, c.Def, c.Rep)
	case *file.Int64ColumnChunkWriter:
		_, err = w.WriteBatch(c.Longs, c.Def, c.Rep)
	case *file.Float64ColumnChunkWriter:
		_, err = w.WriteBatch(c.Doubles, c.Def, c.Rep)
	case *file.ByteArrayColumnChunkWriter:
		f.scratch = f.scratch[:0]
		for i := range c.Ends {
			f.scratch = append(f.scratch, c.Value(i))
		}
		_, err = w.WriteBatch(f.scratch, c.Def, c.Rep)
	default:
		err = fmt.Errorf("no writer for %T", w)
	}
	if err != nil {
		return err
	}
	return w.Close()
}

func (f *dataFile) close(w *writer) (ice.DataFile, error) {
	if err := f.parquet.Close(); err != nil {
		return nil, err
	}
	meta, err := f.parquet.FileMetadata()
	if err != nil {
		return nil, err
	}
	leaves := w.rows.Leaves()
	for g := range meta.NumRowGroups() {
		for i, c := range leaves {
			chunk, err := meta.RowGroup(g).ColumnChunk(i)
			if err != nil {
				return nil, err
			}
			f.metrics.sizes[c.FieldID] += chunk.TotalCompressedSize()
		}
	}
	f.metrics.finish(leaves)
	m := f.metrics
	b, err := ice.NewDataFileBuilder(w.target.Spec, ice.EntryContentData, f.name, ice.ParquetFile, f.tuple, nil, nil, f.rows, int64(f.body.Len()))
	if err != nil {
		return nil, err
	}
	return b.ColumnSizes(m.sizes).ValueCounts(m.values).NullValueCounts(m.nulls).NaNValueCounts(m.nans).
		LowerBoundValues(m.lower).UpperBoundValues(m.upper).SplitOffsets(f.splits).Build(), nil
}

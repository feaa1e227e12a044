package verify

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	ice "github.com/apache/iceberg-go"

	"tidewater/catalog"
	"tidewater/iceberg/commit"
	"tidewater/iceberg/scan"
	"tidewater/iceberg/schema"
	"tidewater/iceberg/tablefs"
	"tidewater/iceberg/translate"
	"tidewater/internal/record"
)

// Bounds of a comparison.
const (
	// WindowOffsets is how many offsets share a sum.
	WindowOffsets = 4096
	// windowsExamined is how many windows that differ are looked into.
	windowsExamined = 64
	// DifferencesMax bounds the differences named.
	DifferencesMax = 1000
)

// Config is what to compare.
type Config struct {
	Table *scan.Table
	Dead  *scan.Table // nil when the topic has no dead-letter table
	// Sources are the topic's partitions.
	Sources []translate.Source
	// Value is the type of values in mode json, nil in mode key_value.
	Value   *schema.Type
	Invalid translate.Action
	// Progress is told how many records and rows were looked at; may be nil.
	Progress func(records, rows int64)
}

// Open loads the tables of a topic for a comparison. dead is for mode json
// with the action dlq_table.
func Open(ctx context.Context, c catalog.Catalog, fs tablefs.FS, ident catalog.Ident, topic commit.Topic, sources []translate.Source) (Config, error) {
	// The table first: the dead letters are then at least as far.
	table, err := scan.Open(ctx, c, fs, ident)
	if err != nil {
		return Config{}, err
	}
	cfg := Config{Table: table, Sources: sources, Value: topic.Value, Invalid: topic.Invalid}
	if topic.Value == nil {
		return cfg, nil
	}
	dead, err := scan.Open(ctx, c, fs, catalog.Ident{Namespace: ident.Namespace, Name: ident.Name + commit.DeadSuffix})
	switch {
	case errors.Is(err, catalog.ErrNoTable):
	case err != nil:
		return Config{}, err
	default:
		cfg.Dead = dead
	}
	return cfg, nil
}

// window is the sums of both sides over WindowOffsets offsets.
type window struct {
	log, table sum
	logCount   uint32
	tableCount uint32
}

func (w *window) agrees() bool { return w.log == w.table && w.logCount == w.tableCount }

// part is a partition under comparison.
type part struct {
	Partition
	source  translate.Source
	start   int64 // of the table's range; rows in [start, From) are unchecked
	windows []window
}

func (p *part) window(offset int64) *window { return &p.windows[(offset-p.From)/WindowOffsets] }

type verifier struct {
	cfg    *Config
	rows   *rower
	parts  map[int32]*part
	order  []*part
	report *Report
	read   [2]int64 // records, rows

	file string // being read
	last map[int32]int64
}

// Run compares log and table. An error means that the comparison could not be
// made; what it found is in the report.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	v := &verifier{cfg: &cfg, parts: map[int32]*part{}, report: &Report{Table: cfg.Table.Ident.String()}}
	if s := cfg.Table.Metadata.CurrentSnapshot(); s != nil {
		v.report.Snapshot = s.SnapshotID
	}
	var err error
	if v.rows, err = newRower(&cfg); err != nil {
		return nil, fmt.Errorf("verify table %s: %w", cfg.Table.Ident, err)
	}
	if err := v.ranges(); err != nil {
		return nil, fmt.Errorf("verify table %s: %w", cfg.Table.Ident, err)
	}
	for _, p := range v.order {
		if err := v.log(ctx, p); err != nil {
			return nil, fmt.Errorf("verify table %s: %w", cfg.Table.Ident, err)
		}
	}
	if err := v.tables(ctx, nil, v.sumRow); err != nil {
		return nil, fmt.Errorf("verify table %s: %w", cfg.Table.Ident, err)
	}
	if err := v.examine(ctx); err != nil {
		return nil, fmt.Errorf("verify table %s: %w", cfg.Table.Ident, err)
	}
	for _, p := range v.order {
		v.report.Partitions = append(v.report.Partitions, p.Partition)
	}
	v.report.sort()
	return v.report, nil
}

// ranges reads from the table's property what it claims to hold.
func (v *verifier) ranges() error {
	offsets, err := commit.ParseOffsets(v.cfg.Table.Metadata.Properties()[commit.PropertyOffsets])
	if err != nil {
		return err
	}
	for _, o := range offsets.Owners {
		if o.Topic != offsets.Owner().Topic {
			return fmt.Errorf("it holds rows of an earlier topic of that name (%s), which this log does not have", o.Topic)
		}
	}
	for _, s := range v.cfg.Sources {
		id := s.ID()
		if id.Topic != offsets.Owner().Topic {
			return fmt.Errorf("it is made from topic %s, not from %s", offsets.Owner().Topic, id.Topic)
		}
		m, ok := offsets.Marks[id.Partition]
		if !ok {
			continue
		}
		o, err := s.Offsets()
		if err != nil {
			return fmt.Errorf("read offsets of partition %s: %w", id, err)
		}
		p := &part{source: s, start: int64(m.Start)}
		p.Partition = Partition{Partition: id.Partition, From: int64(max(m.Start, min(o.LogStart, m.End))), To: int64(m.End)}
		p.windows = make([]window, (p.To-p.From+WindowOffsets-1)/WindowOffsets)
		v.parts[id.Partition] = p
		v.order = append(v.order, p)
	}
	return nil
}

// log sums one partition's records.
func (v *verifier) log(ctx context.Context, p *part) error {
	_, err := translate.Records(ctx, p.source, record.Offset(p.From), record.Offset(p.To), func(rec *record.Record) error {
		p.Records++
		v.progress(0)
		where, _ := v.rows.judge(p.Partition.Partition, rec)
		if where == dropped {
			p.Dropped++
			return nil
		}
		w := p.window(int64(rec.Offset))
		w.log.add(v.rows.logSum(where))
		w.logCount++
		return nil
	})
	return err
}

func (v *verifier) progress(side int) {
	const every = 4096
	if v.read[side]++; v.cfg.Progress != nil && v.read[side]%every == 0 {
		v.cfg.Progress(v.read[0], v.read[1])
	}
}

// tables gives each row of both tables that passes filter.
func (v *verifier) tables(ctx context.Context, filter ice.BooleanExpression, fn func(file string, b *batch, i int) error) error {
	for where, t := range []*scan.Table{inTable: v.cfg.Table, inDead: v.cfg.Dead} {
		if t == nil {
			continue
		}
		columns := writable(t.Metadata.CurrentSchema())
		err := t.Batches(ctx, filter, columns, func(file string, rb arrow.RecordBatch) error {
			b := &batch{RecordBatch: rb, place: place(where)}
			for c := range int(rb.NumCols()) {
				switch rb.ColumnName(c) {
				case schema.ColumnPartition:
					b.partitions, _ = rb.Column(c).(*array.Int32)
				case schema.ColumnOffset:
					b.offsets, _ = rb.Column(c).(*array.Int64)
				}
			}
			if b.partitions == nil || b.offsets == nil {
				return errors.New("columns kafka_partition and kafka_offset are not those of a topic's table")
			}
			for i := range int(rb.NumRows()) {
				if err := fn(file, b, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

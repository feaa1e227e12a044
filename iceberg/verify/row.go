package verify

import (
	"encoding/binary"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	ice "github.com/apache/iceberg-go"
	"github.com/cespare/xxhash/v2"

	"tidewater/iceberg/schema"
	"tidewater/iceberg/translate"
	"tidewater/internal/record"
)

// place is where a record is, as a tag in its hash.
type place byte

const (
	inTable place = 1
	inDead  place = 2
	dropped place = 3
)

func (p place) String() string { return [...]string{"", "table", "dead-letter table", "nowhere"}[p] }

// sum is a 128-bit hash of a row; sums add up.
type sum [2]uint64

func (s *sum) add(t sum) { s[0] += t[0]; s[1] += t[1] }

// rower turns records and rows into hashes of their columns. Columns that are
// null are left out, so that a column added later does not change old rows.
type rower struct {
	value   *schema.Type
	invalid translate.Action
	table   *schema.Builder
	dead    *schema.Builder // nil without dead letters
	walk    map[place]*schema.Canonical
	row     []byte
	scratch []byte
	second  *xxhash.Digest
}

func newRower(cfg *Config) (*rower, error) {
	r := &rower{value: cfg.Value, invalid: cfg.Invalid, walk: map[place]*schema.Canonical{}, second: xxhash.New()}
	var err error
	if r.table, err = schema.NewBuilder(cfg.Table.Metadata.CurrentSchema(), cfg.Value); err != nil {
		return nil, err
	}
	r.walk[inTable] = schema.NewCanonical(r.table)
	if cfg.Dead != nil {
		if r.dead, err = schema.NewBuilder(cfg.Dead.Metadata.CurrentSchema(), nil); err != nil {
			return nil, err
		}
		r.walk[inDead] = schema.NewCanonical(r.dead)
	}
	return r, nil
}

// judge gives where the record must be by the schema as it is, and for what
// reason when that is not the table.
func (r *rower) judge(partition int32, rec *record.Record) (place, string) {
	r.table.Reset()
	if r.value == nil {
		r.table.AppendKeyValue(partition, rec)
		return inTable, ""
	}
	reason, ok := r.table.AppendJSON(partition, rec)
	switch {
	case ok:
		return inTable, ""
	case r.dead == nil:
		return dropped, reason
	}
	r.asDead(partition, rec)
	return inDead, reason
}

func (r *rower) asDead(partition int32, rec *record.Record) {
	r.dead.Reset()
	r.dead.AppendDeadLetter(partition, rec, "")
}

// columns walks the row that judge or asDead left for p.
func (r *rower) columns(p place, fn func(name string, v []byte)) {
	w := r.walk[p]
	w.Restart()
	r.scratch = w.Row(r.scratch, func(name string, v []byte) {
		if p == inDead && name == schema.ColumnReason || v[0] == 0 {
			return
		}
		fn(name, v)
	})
}

// logSum is the hash of the row that judge left for p.
func (r *rower) logSum(p place) sum {
	r.row = append(r.row[:0], byte(p))
	r.columns(p, r.column)
	return r.sum()
}

func (r *rower) column(name string, v []byte) {
	r.row = binary.AppendUvarint(r.row, uint64(len(name)))
	r.row = append(r.row, name...)
	r.row = append(r.row, v...)
}

func (r *rower) sum() sum {
	r.second.ResetWithSeed(0x7469646577617465)
	_, _ = r.second.Write(r.row)
	return sum{xxhash.Sum64(r.row), r.second.Sum64()}
}

// batch is an Arrow batch with its two keys found.
type batch struct {
	arrow.RecordBatch
	place      place
	partitions *array.Int32
	offsets    *array.Int64
}

// columnsOf walks row i of a batch.
func (r *rower) columnsOf(b *batch, i int, fn func(name string, v []byte)) error {
	for c := range int(b.NumCols()) {
		name := b.ColumnName(c)
		if b.place == inDead && name == schema.ColumnReason || b.Column(c).IsNull(i) {
			continue
		}
		var err error
		if r.scratch, err = appendArrow(r.scratch[:0], b.Column(c), i); err != nil {
			return err
		}
		fn(name, r.scratch)
	}
	return nil
}

func (r *rower) tableSum(b *batch, i int) (sum, error) {
	r.row = append(r.row[:0], byte(b.place))
	err := r.columnsOf(b, i, r.column)
	return r.sum(), err
}

// writable names the columns of a table that we can compare.
func writable(sc *ice.Schema) []string {
	var names []string
	for _, f := range sc.Fields() {
		if schema.Writable(f.Type) {
			names = append(names, f.Name)
		}
	}
	return names
}

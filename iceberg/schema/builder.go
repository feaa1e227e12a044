package schema

import (
	"fmt"
	"math"

	ice "github.com/apache/iceberg-go"

	"tidewater/internal/record"
)

// Builder collects rows of one table as leaf columns. It is for one caller at
// a time. Rows are appended whole or not at all.
type Builder struct {
	tree  *tree
	rows  int
	value *Type // nil unless mode json
	// values is the struct of all columns but the metadata.
	values *node

	partition, offset, timestamp, key *Column
	headers                           *node
	binary, reason                    *node // kafka_value, reason; nil where the table has none

	json parser
}

// NewBuilder makes a builder for a table of schema sc. With value set (mode
// json) the value's fields are bound to the table's columns by name; what does
// not fit is an error.
func NewBuilder(sc *ice.Schema, value *Type) (*Builder, error) {
	t, err := newTree(sc)
	if err != nil {
		return nil, err
	}
	b := &Builder{tree: t, value: value, values: &node{kind: Struct}}
	b.json.leaves = t.leaves
	if err := b.bindMetadata(); err != nil {
		return nil, err
	}
	for _, f := range t.root.fields {
		if !b.isMetadata(f) {
			b.values.fields = append(b.values.fields, f)
		}
	}
	if value != nil {
		return b, b.values.bind(value, "")
	}
	return b, nil
}

func (b *Builder) bindMetadata() error {
	for _, want := range []struct {
		name string
		kind Kind
		to   **Column
	}{{ColumnPartition, Int, &b.partition}, {ColumnOffset, Long, &b.offset}, {ColumnTimestamp, Timestamp, &b.timestamp}, {ColumnKey, Binary, &b.key}} {
		n := b.field(want.name)
		if n == nil || n.kind != want.kind {
			return fmt.Errorf("the table has no column %s %s: it is not a table of a topic", want.name, want.kind)
		}
		*want.to = n.leaf
	}
	b.headers = b.field(ColumnHeaders)
	if h := b.headers; h == nil || h.kind != List || h.elem.kind != Struct || len(h.elem.fields) != 2 ||
		h.elem.fields[0].kind != String || h.elem.fields[1].kind != Binary {
		return fmt.Errorf("the table has no column %s list<struct<key: string, value: binary>>: it is not a table of a topic", ColumnHeaders)
	}
	if b.value != nil {
		return nil
	}
	b.binary, b.reason = b.field(ColumnValue), b.field(ColumnReason)
	if b.binary == nil || b.binary.kind != Binary {
		return fmt.Errorf("the table has no column %s binary", ColumnValue)
	}
	return nil
}

func (b *Builder) field(name string) *node {
	for _, f := range b.tree.root.fields {
		if f.name == name {
			return f
		}
	}
	return nil
}

// Leaves are the columns in Parquet's order.
func (b *Builder) Leaves() []*Column { return b.tree.leaves }

// Rows is the number of rows, Bytes about what they take.
func (b *Builder) Rows() int { return b.rows }

// Bytes is the memory of the rows' content.
func (b *Builder) Bytes() int {
	n := 0
	for _, c := range b.tree.leaves {
		n += c.bytes()
	}
	return n
}

// Reset empties the builder and keeps its memory.
func (b *Builder) Reset() {
	for _, c := range b.tree.leaves {
		c.reset()
	}
	b.rows = 0
}

// AppendKeyValue adds a row of mode key_value.
func (b *Builder) AppendKeyValue(partition int32, r *record.Record) {
	b.metadata(partition, r)
	b.optional(b.binary, r.Value)
	b.others(b.binary, nil)
	b.rows++
}

// AppendDeadLetter adds a row of a dead-letter table.
func (b *Builder) AppendDeadLetter(partition int32, r *record.Record, reason string) {
	b.metadata(partition, r)
	b.optional(b.binary, r.Value)
	b.reason.leaf.addBytes(0, []byte(reason))
	b.others(b.binary, b.reason)
	b.rows++
}

// AppendJSON adds a row of mode json. When the value does not fit, nothing is
// added and reason says the field and the problem.
func (b *Builder) AppendJSON(partition int32, r *record.Record) (reason string, ok bool) {
	for _, c := range b.tree.leaves {
		c.begin()
	}
	b.metadata(partition, r)
	if r.Value == nil {
		b.tombstone()
	} else if !b.json.parse(b.values, r.Value) {
		for _, c := range b.tree.leaves {
			c.rollback()
		}
		return b.json.reason(), false
	}
	b.rows++
	return "", true
}

// tombstone makes every column but the metadata null.
func (b *Builder) tombstone() {
	for _, f := range b.values.fields {
		b.json.null(f, 0, 0)
	}
}

func (b *Builder) isMetadata(f *node) bool {
	return f == b.headers || f.leaf != nil && (f.leaf == b.partition || f.leaf == b.offset || f.leaf == b.timestamp || f.leaf == b.key)
}

// others makes null the columns that somebody else added to a table without
// value fields.
func (b *Builder) others(value, reason *node) {
	for _, f := range b.values.fields {
		if f != value && f != reason {
			b.json.null(f, 0, 0)
		}
	}
}

func (b *Builder) metadata(partition int32, r *record.Record) {
	b.partition.addInt(0, partition)
	b.offset.addLong(0, int64(r.Offset))
	if micros, ok := Micros(r.Timestamp); ok {
		b.timestamp.addLong(0, micros)
	} else {
		b.timestamp.level(0, b.timestamp.MaxDef-1)
	}
	if r.Key != nil {
		b.key.addBytes(0, r.Key)
	} else {
		b.key.level(0, b.key.MaxDef-1)
	}
	h := b.headers
	name, value := h.elem.fields[0].leaf, h.elem.fields[1].leaf
	if len(r.Headers) == 0 {
		name.level(0, h.def)
		value.level(0, h.def)
		return
	}
	rep := int16(0)
	for _, header := range r.Headers {
		name.Data = appendUTF8(name.Data, header.Key)
		name.endBytes(rep)
		if header.Value != nil {
			value.addBytes(rep, header.Value)
		} else {
			value.level(rep, value.MaxDef-1)
		}
		rep = h.rep
	}
}

func (b *Builder) optional(n *node, v []byte) {
	if v != nil {
		n.leaf.addBytes(0, v)
	} else {
		n.leaf.level(0, n.def-1)
	}
}

// Micros converts Kafka's milliseconds to Iceberg's microseconds. False stands
// for null: -1 is Kafka's "no timestamp", and beyond 64 bits there is no
// microsecond.
func Micros(ms int64) (int64, bool) {
	if ms == -1 || ms > math.MaxInt64/1000 || ms < math.MinInt64/1000 {
		return 0, false
	}
	return ms * 1000, true
}

// Split moves the rows to as many builders of the same table as there are
// groups: row i goes to into[group[i]].
func (b *Builder) Split(group []int, into []*Builder) {
	for i, src := range b.tree.leaves {
		row, value := -1, 0
		for e := range src.entries() {
			if src.MaxRep == 0 || src.Rep[e] == 0 {
				row++
			}
			if into[group[row]].tree.leaves[i].appendFrom(src, e, value) {
				value++
			}
		}
	}
	for _, g := range group {
		into[g].rows++
	}
	b.Reset()
}

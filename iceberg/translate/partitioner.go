package translate

import (
	"fmt"
	"time"

	ice "github.com/apache/iceberg-go"

	"tidewater/iceberg/schema"
)

// partitioner gives each row the table partition it belongs to.
type partitioner struct {
	fields []partitionField
	groups map[string]int
	// tuples holds each group's partition values by partition field id.
	tuples []map[int]any
	max    int
}

type partitionField struct {
	field ice.PartitionField
	typ   ice.Type
	leaf  int
}

func newPartitioner(spec ice.PartitionSpec, sc *ice.Schema, leaves []*schema.Column, groupsMax int) (*partitioner, error) {
	p := &partitioner{groups: map[string]int{}, max: groupsMax}
	for _, f := range spec.Fields() {
		source, ok := sc.FindFieldByID(f.SourceID())
		at := -1
		for i, c := range leaves {
			if c.FieldID == f.SourceID() && c.MaxRep == 0 {
				at = i
			}
		}
		if !ok || at < 0 {
			return nil, fmt.Errorf("partition field %s: its source column is not one we write", f.Name)
		}
		if !f.Transform.CanTransform(source.Type) {
			return nil, fmt.Errorf("partition field %s: %s does not apply to %s", f.Name, f.Transform, source.Type)
		}
		p.fields = append(p.fields, partitionField{field: f, typ: source.Type, leaf: at})
	}
	return p, nil
}

// assign gives the group of every row, making new groups as they come up.
func (p *partitioner) assign(rows *schema.Builder) ([]int, error) {
	columns := make([][]partitionValue, len(p.fields))
	for i, f := range p.fields {
		var err error
		if columns[i], err = f.values(rows.Leaves()[f.leaf], rows.Rows()); err != nil {
			return nil, fmt.Errorf("partition field %s: %w", f.field.Name, err)
		}
	}
	out := make([]int, rows.Rows())
	var key []byte
	for r := range out {
		key = key[:0]
		for i := range columns {
			key = append(key, columns[i][r].key...)
			key = append(key, 0)
		}
		g, ok := p.groups[string(key)]
		if !ok {
			if len(p.tuples) == p.max {
				return nil, fmt.Errorf("rows of one round fall into more than %d table partitions: choose a coarser partition spec", p.max)
			}
			g = len(p.tuples)
			p.groups[string(key)] = g
			tuple := map[int]any{}
			for i, f := range p.fields {
				tuple[f.field.FieldID] = columns[i][r].value
			}
			p.tuples = append(p.tuples, tuple)
		}
		out[r] = g
	}
	return out, nil
}

// partitionValue is a transformed value and its text, which tells values apart.
type partitionValue struct {
	value any
	key   string
}

// values transforms a column; equal neighbours and equal hours are worked out
// once.
func (f partitionField) values(c *schema.Column, rows int) ([]partitionValue, error) {
	out := make([]partitionValue, rows)
	v := 0
	var last partitionValue
	var lastAt int64
	for r := range out {
		if c.MaxDef > 0 && c.Def[r] < c.MaxDef {
			out[r] = partitionValue{key: "null"}
			continue
		}
		if c.Kind == schema.Timestamp {
			hour := floorDiv(c.Longs[v], int64(time.Hour/time.Microsecond))
			_, identity := f.field.Transform.(ice.IdentityTransform)
			_, bucket := f.field.Transform.(ice.BucketTransform)
			if last.key != "" && hour == lastAt && !identity && !bucket {
				out[r] = last
				v++
				continue
			}
			lastAt = hour
		}
		lit, err := literal(c, v)
		if err != nil {
			return nil, err
		}
		v++
		applied := f.field.Transform.Apply(ice.Optional[ice.Literal]{Valid: true, Val: lit})
		if !applied.Valid {
			out[r] = partitionValue{key: "null"}
			continue
		}
		last = partitionValue{value: applied.Val.Any(), key: "=" + applied.Val.String()}
		out[r] = last
	}
	return out, nil
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func literal(c *schema.Column, v int) (ice.Literal, error) {
	switch c.Kind {
	case schema.Bool:
		return ice.NewLiteral(c.Bools[v]), nil
	case schema.Int:
		return ice.NewLiteral(c.Ints[v]), nil
	case schema.Date:
		return ice.NewLiteral(ice.Date(c.Ints[v])), nil
	case schema.Long:
		return ice.NewLiteral(c.Longs[v]), nil
	case schema.Time:
		return ice.NewLiteral(ice.Time(c.Longs[v])), nil
	case schema.Timestamp:
		return ice.NewLiteral(ice.Timestamp(c.Longs[v])), nil
	case schema.Double:
		return ice.NewLiteral(c.Doubles[v]), nil
	case schema.String:
		return ice.NewLiteral(string(c.Value(v))), nil
	case schema.Binary:
		return ice.NewLiteral(append([]byte{}, c.Value(v)...)), nil
	}
	return nil, fmt.Errorf("%s columns do not partition a table", c.Kind)
}

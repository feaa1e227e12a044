package translate

import (
	"fmt"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"
	ice "github.com/apache/iceberg-go"

	"tidewater/iceberg/schema"
)

// properties: zstd at its fastest level, pages of version 1 and plain or
// dictionary encodings only, which every engine reads. Columns whose values do
// not repeat are not tried with a dictionary. Statistics of opaque bytes help
// nobody.
func properties() *parquet.WriterProperties {
	opts := []parquet.WriterProperty{
		parquet.WithCompression(compress.Codecs.Zstd),
		parquet.WithCompressionLevel(1),
		parquet.WithCreatedBy("tidewater"),
		parquet.WithVersion(parquet.V2_LATEST),
		parquet.WithDataPageVersion(parquet.DataPageV1),
		parquet.WithBatchSize(8192),
		parquet.WithStatsFor(schema.ColumnKey, false),
		parquet.WithStatsFor(schema.ColumnValue, false),
		parquet.WithRootName("table"),
		parquet.WithRootRepetition(parquet.Repetitions.Required),
	}
	for _, name := range []string{schema.ColumnOffset, schema.ColumnTimestamp, schema.ColumnKey, schema.ColumnValue} {
		opts = append(opts, parquet.WithDictionaryFor(name, false))
	}
	return parquet.NewWriterProperties(opts...)
}

// parquetSchema makes the Parquet schema of the columns we write, with field
// ids, in the order of schema.Builder's leaves.
func parquetSchema(sc *ice.Schema) (*pqschema.GroupNode, error) {
	var fields pqschema.FieldList
	for _, f := range sc.Fields() {
		if !schema.Writable(f.Type) {
			continue
		}
		n, err := parquetNode(f.Name, f.ID, f.Type, f.Required)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", f.Name, err)
		}
		fields = append(fields, n)
	}
	return pqschema.NewGroupNode("table", parquet.Repetitions.Required, fields, -1)
}

func parquetNode(name string, id int, t ice.Type, required bool) (pqschema.Node, error) {
	rep := parquet.Repetitions.Optional
	if required {
		rep = parquet.Repetitions.Required
	}
	switch t := t.(type) {
	case *ice.StructType:
		var fields pqschema.FieldList
		for _, f := range t.FieldList {
			n, err := parquetNode(f.Name, f.ID, f.Type, f.Required)
			if err != nil {
				return nil, err
			}
			fields = append(fields, n)
		}
		return pqschema.NewGroupNode(name, rep, fields, int32(id))
	case *ice.ListType:
		elem, err := parquetNode("element", t.ElementID, t.Element, t.ElementRequired)
		if err != nil {
			return nil, err
		}
		return repeated(name, "list", rep, id, pqschema.NewListLogicalType(), elem)
	case *ice.MapType:
		key, err := parquetNode("key", t.KeyID, t.KeyType, true)
		if err != nil {
			return nil, err
		}
		value, err := parquetNode("value", t.ValueID, t.ValueType, t.ValueRequired)
		if err != nil {
			return nil, err
		}
		return repeated(name, "key_value", rep, id, pqschema.MapLogicalType{}, key, value)
	}
	return leafNode(name, id, t, rep)
}

func repeated(name, inner string, rep parquet.Repetition, id int, logical pqschema.LogicalType, fields ...pqschema.Node) (pqschema.Node, error) {
	group, err := pqschema.NewGroupNode(inner, parquet.Repetitions.Repeated, fields, -1)
	if err != nil {
		return nil, err
	}
	return pqschema.NewGroupNodeLogical(name, rep, pqschema.FieldList{group}, logical, int32(id))
}

func leafNode(name string, id int, t ice.Type, rep parquet.Repetition) (pqschema.Node, error) {
	var logical pqschema.LogicalType = pqschema.NoLogicalType{}
	var physical parquet.Type
	switch t.(type) {
	case ice.BooleanType:
		physical = parquet.Types.Boolean
	case ice.Int32Type:
		physical = parquet.Types.Int32
	case ice.Int64Type:
		physical = parquet.Types.Int64
	case ice.Float64Type:
		physical = parquet.Types.Double
	case ice.StringType:
		physical, logical = parquet.Types.ByteArray, pqschema.StringLogicalType{}
	case ice.BinaryType:
		physical = parquet.Types.ByteArray
	case ice.DateType:
		physical, logical = parquet.Types.Int32, pqschema.DateLogicalType{}
	case ice.TimeType:
		physical, logical = parquet.Types.Int64, pqschema.NewTimeLogicalType(false, pqschema.TimeUnitMicros)
	case ice.TimestampTzType:
		physical, logical = parquet.Types.Int64, pqschema.NewTimestampLogicalType(true, pqschema.TimeUnitMicros)
	default:
		return nil, fmt.Errorf("type %s is not written", t)
	}
	return pqschema.NewPrimitiveNodeLogical(name, rep, logical, physical, -1, int32(id))
}

package schema

import (
	"fmt"
	"slices"
	"strings"

	ice "github.com/apache/iceberg-go"
)

// Names of the columns every table of ours begins with, of the value in mode
// key_value and in dead letters, and of a dead letter's reason.
const (
	ColumnPartition = "kafka_partition"
	ColumnOffset    = "kafka_offset"
	ColumnTimestamp = "kafka_timestamp"
	ColumnKey       = "kafka_key"
	ColumnHeaders   = "kafka_headers"
	ColumnValue     = "kafka_value"
	ColumnReason    = "reason"
)

func metadataNames() []string {
	return []string{ColumnPartition, ColumnOffset, ColumnTimestamp, ColumnKey, ColumnHeaders}
}

// isMetadata reports whether a value's field would hide a column of ours; SQL
// engines do not tell case apart.
func isMetadata(name string) bool {
	return slices.Contains(append(metadataNames(), ColumnValue), strings.ToLower(name))
}

func counter(from int) func() int {
	n := from - 1
	return func() int { n++; return n }
}

func metadataFields(next func() int) []ice.NestedField {
	headers := func() ice.Type {
		return &ice.ListType{ElementID: next(), ElementRequired: true, Element: &ice.StructType{FieldList: []ice.NestedField{
			{ID: next(), Name: "key", Type: ice.PrimitiveTypes.String, Required: true},
			{ID: next(), Name: "value", Type: ice.PrimitiveTypes.Binary},
		}}}
	}
	return []ice.NestedField{
		{ID: next(), Name: ColumnPartition, Type: ice.PrimitiveTypes.Int32, Required: true},
		{ID: next(), Name: ColumnOffset, Type: ice.PrimitiveTypes.Int64, Required: true},
		{ID: next(), Name: ColumnTimestamp, Type: ice.PrimitiveTypes.TimestampTz},
		{ID: next(), Name: ColumnKey, Type: ice.PrimitiveTypes.Binary},
		{ID: next(), Name: ColumnHeaders, Type: headers()},
	}
}

// KeyValueSchema is the table of mode key_value.
func KeyValueSchema() *ice.Schema {
	next := counter(1)
	fields := append(metadataFields(next), ice.NestedField{ID: next(), Name: ColumnValue, Type: ice.PrimitiveTypes.Binary})
	return ice.NewSchema(0, fields...)
}

// DeadLetterSchema is the table of records that did not fit.
func DeadLetterSchema() *ice.Schema {
	next := counter(1)
	fields := append(metadataFields(next),
		ice.NestedField{ID: next(), Name: ColumnValue, Type: ice.PrimitiveTypes.Binary},
		ice.NestedField{ID: next(), Name: ColumnReason, Type: ice.PrimitiveTypes.String, Required: true})
	return ice.NewSchema(0, fields...)
}

// JSONSchema is the table of mode json for values of type t (a Struct).
func JSONSchema(t *Type) *ice.Schema {
	next := counter(1)
	fields := metadataFields(next)
	for _, f := range t.Fields {
		fields = append(fields, ice.NestedField{ID: next(), Name: f.Name, Type: iceType(f.Type, next)})
	}
	return ice.NewSchema(0, fields...)
}

// Evolve gives the schema that a table of schema current needs for values of
// type t, with new columns (and new fields of structs) at the end under ids
// above lastColumnID; changed is false when current does. Columns that t lacks
// stay and are null from now on. A column whose type t changes is an error.
func Evolve(current *ice.Schema, lastColumnID int, t *Type) (evolved *ice.Schema, changed bool, err error) {
	next := counter(lastColumnID + 1)
	fields, changed, err := evolveFields(current.Fields(), t.Fields, "", next)
	if err != nil || !changed {
		return current, false, err
	}
	id := current.ID + 1
	return ice.NewSchemaWithIdentifiers(id, current.IdentifierFieldIDs, fields...), true, nil
}

func evolveFields(have []ice.NestedField, want []Field, at string, next func() int) ([]ice.NestedField, bool, error) {
	have = slices.Clone(have)
	changed := false
	for _, w := range want {
		i := slices.IndexFunc(have, func(f ice.NestedField) bool { return f.Name == w.Name })
		if i < 0 {
			have = append(have, ice.NestedField{ID: next(), Name: w.Name, Type: iceType(w.Type, next)})
			changed = true
			continue
		}
		t, c, err := evolveType(have[i].Type, w.Type, at+w.Name, next)
		if err != nil {
			return nil, false, err
		}
		have[i].Type = t
		changed = changed || c
	}
	return have, changed, nil
}

func evolveType(have ice.Type, want *Type, at string, next func() int) (ice.Type, bool, error) {
	k, ok := kindOf(have)
	if !ok || k != want.Kind {
		return nil, false, fmt.Errorf("column %s is %s in the table and %s in the JSON Schema: "+
			"keep the old type under this name and give the new one another name", at, have, want.Kind)
	}
	switch h := have.(type) {
	case *ice.StructType:
		fields, changed, err := evolveFields(h.FieldList, want.Fields, at+".", next)
		return &ice.StructType{FieldList: fields}, changed, err
	case *ice.ListType:
		elem, changed, err := evolveType(h.Element, want.Elem, at+"[]", next)
		return &ice.ListType{ElementID: h.ElementID, Element: elem, ElementRequired: h.ElementRequired}, changed, err
	case *ice.MapType:
		value, changed, err := evolveType(h.ValueType, want.Elem, at+"{}", next)
		return &ice.MapType{KeyID: h.KeyID, KeyType: h.KeyType, ValueID: h.ValueID, ValueType: value, ValueRequired: h.ValueRequired}, changed, err
	}
	return have, false, nil
}

package schema

import (
	"fmt"

	ice "github.com/apache/iceberg-go"
)

// Kind is the type of a column or of a part of one.
type Kind uint8

// The kinds a table of ours can have. Time and Timestamp count microseconds,
// Date counts days since the Unix epoch.
const (
	Bool Kind = iota + 1
	Int
	Long
	Double
	String
	Binary
	Date
	Time
	Timestamp
	Struct
	List
	Map
)

func (k Kind) String() string {
	return [...]string{"none", "boolean", "int", "long", "double", "string", "binary", "date", "time", "timestamptz", "struct", "list", "map"}[k]
}

// Type is the type of a JSON value as a JSON Schema states it.
type Type struct {
	Kind Kind
	// Fields of a Struct, in the order of the schema's properties.
	Fields []Field
	// Closed: additionalProperties is false, so an unknown field does not fit.
	Closed bool
	// Elem is a List's element or a Map's value.
	Elem *Type
	// ElemNullable: an element may be null.
	ElemNullable bool
}

// Field is a property of an object.
type Field struct {
	Name string
	// Required: the field must be there.
	Required bool
	// Nullable: the schema allows null. A field that is not required may be
	// null in any case.
	Nullable bool
	Type     *Type
}

// kindOf gives the kind of an Iceberg type; false when we do not write it.
func kindOf(t ice.Type) (Kind, bool) {
	switch t.(type) {
	case ice.BooleanType:
		return Bool, true
	case ice.Int32Type:
		return Int, true
	case ice.Int64Type:
		return Long, true
	case ice.Float64Type:
		return Double, true
	case ice.StringType:
		return String, true
	case ice.BinaryType:
		return Binary, true
	case ice.DateType:
		return Date, true
	case ice.TimeType:
		return Time, true
	case ice.TimestampTzType:
		return Timestamp, true
	case *ice.StructType:
		return Struct, true
	case *ice.ListType:
		return List, true
	case *ice.MapType:
		return Map, true
	}
	return 0, false
}

// Writable reports whether we can write a column of type t, parts included. A
// column that somebody else added with another type is left out of our files,
// and so is null in our rows.
func Writable(t ice.Type) bool {
	k, ok := kindOf(t)
	if !ok {
		return false
	}
	switch k {
	case Struct:
		for _, f := range t.(*ice.StructType).FieldList {
			if !Writable(f.Type) {
				return false
			}
		}
	case List:
		return Writable(t.(*ice.ListType).Element)
	case Map:
		m := t.(*ice.MapType)
		_, plain := m.KeyType.(ice.StringType)
		return plain && Writable(m.ValueType)
	}
	return true
}

func primitive(k Kind) ice.Type {
	switch k {
	case Bool:
		return ice.PrimitiveTypes.Bool
	case Int:
		return ice.PrimitiveTypes.Int32
	case Long:
		return ice.PrimitiveTypes.Int64
	case Double:
		return ice.PrimitiveTypes.Float64
	case String:
		return ice.PrimitiveTypes.String
	case Binary:
		return ice.PrimitiveTypes.Binary
	case Date:
		return ice.PrimitiveTypes.Date
	case Time:
		return ice.PrimitiveTypes.Time
	case Timestamp:
		return ice.PrimitiveTypes.TimestampTz
	}
	panic(fmt.Sprintf("kind %s is not primitive", k))
}

// iceType makes the Iceberg type of t with ids from next. Parts are optional,
// as columns are.
func iceType(t *Type, next func() int) ice.Type {
	switch t.Kind {
	case Struct:
		fields := make([]ice.NestedField, len(t.Fields))
		for i, f := range t.Fields {
			fields[i] = ice.NestedField{ID: next(), Name: f.Name, Type: iceType(f.Type, next)}
		}
		return &ice.StructType{FieldList: fields}
	case List:
		return &ice.ListType{ElementID: next(), Element: iceType(t.Elem, next)}
	case Map:
		return &ice.MapType{KeyID: next(), KeyType: ice.PrimitiveTypes.String, ValueID: next(), ValueType: iceType(t.Elem, next)}
	}
	return primitive(t.Kind)
}

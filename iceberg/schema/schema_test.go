package schema

import (
	"bytes"
	"strings"
	"testing"

	ice "github.com/apache/iceberg-go"

	"tidewater/internal/record"
)

const everything = `{"$schema": "http://json-schema.org/draft-07/schema#", "title": "all", "type": "object",
	"definitions": {"point": {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number"}}, "required": ["x"], "additionalProperties": false}},
	"properties": {
		"b": {"type": "boolean"}, "i": {"type": "integer", "minimum": 3}, "n": {"type": "number"}, "s": {"type": "string", "format": "email"},
		"ts": {"type": "string", "format": "date-time"}, "d": {"type": "string", "format": "date"}, "t": {"type": "string", "format": "time"},
		"list": {"type": "array", "items": {"type": ["integer", "null"]}},
		"deep": {"type": "array", "items": {"type": "array", "items": {"$ref": "#/definitions/point"}}},
		"p": {"oneOf": [{"$ref": "#/definitions/point"}, {"type": "null"}]},
		"m": {"type": "object", "additionalProperties": {"oneOf": [{"type": "null"}, {"type": "string"}]}},
		"mm": {"type": "object", "additionalProperties": {"$ref": "#/definitions/point"}}},
	"required": ["i"]}`

func compile(t testing.TB, text string) *Type {
	t.Helper()
	v, err := Compile(text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Each JSON type becomes the Iceberg type that docs/formats/table.md says.
func TestEveryTypeHasItsColumn(t *testing.T) {
	sc := JSONSchema(compile(t, everything))
	for name, want := range map[string]string{
		"kafka_partition": "int", "kafka_offset": "long", "kafka_timestamp": "timestamptz", "kafka_key": "binary",
		"b": "boolean", "i": "long", "n": "double", "s": "string", "ts": "timestamptz", "d": "date", "t": "time",
		"list": "list<long>", "deep": "list<list<struct<", "p": "struct<", "m": "map<string, string>", "mm": "map<string, struct<"} {
		f, ok := sc.FindFieldByName(name)
		if !ok || !strings.HasPrefix(f.Type.String(), want) {
			t.Errorf("column %s is %v, want %s", name, f.Type, want)
		}
	}
	for _, f := range sc.Fields()[5:] {
		if f.Required {
			t.Errorf("value column %s is required", f.Name)
		}
	}
}

// What has no column is refused with the place and a way out.
func TestRefusals(t *testing.T) {
	wrap := func(s string) string { return `{"type": "object", "properties": {"a": ` + s + `}}` }
	for text, want := range map[string]string{
		`[`:                                                 "not JSON",
		`{"type": "string"}`:                                "at #: the root must be an object",
		`{"$ref": "#"}`:                                     "outside this schema or its root",
		wrap(`{"allOf": []}`):                               "at #/properties/a: allOf has no column: write its properties into one schema",
		wrap(`{"anyOf": []}`):                               "oneOf [{T}",
		wrap(`{"$ref": "http://x/y"}`):                      "outside this schema",
		wrap(`{"$ref": "#/definitions/no"}`):                "points to nothing",
		wrap(`{"$ref": "#/properties/a"}`):                  "refers to itself",
		wrap(`{"type": "string", "default": "x"}`):          "default has no column",
		wrap(`{"type": "object", "patternProperties": {}}`): "patternProperties",
		wrap(`{"type": ["string", "integer"]}`):             "not one type",
		wrap(`{"oneOf": [{"type": "string"}, {"type": "integer"}]}`): "oneOf must be one schema and null",
		wrap(`{"type": "array"}`):                                    "an array needs one schema",
		wrap(`{"type": "array", "items": [{"type": "string"}]}`):     "an array needs one schema",
		wrap(`{"type": "object"}`):                                   "without properties",
		wrap(`{"type": "object", "properties": {}}`):                 "without properties",
		wrap(`{"type": "null"}`):                                     "always null",
		wrap(`{"type": "float"}`):                                    `type "float" is not known`,
		wrap(`{}`):                                                   "no type",
		wrap(`true`):                                                 "must be an object",
		wrap(`{"type": "string", "$dynamicRef": "x"}`):               "not known in Draft-07",
		wrap(`{"type": "object", "properties": {"x": {"type": "string"}}, "required": ["y"]}`): `"y" is not among the properties`,
		`{"type": "object", "properties": {"Kafka_Offset": {"type": "string"}}}`:               "taken by a metadata column",
		`{"type": "object", "properties": {"a": {"type": "string"}, "A": {"type": "string"}}}`: "differs from another only in case",
		`{"type": "object", "properties": {"": {"type": "string"}}}`:                           "a column needs a name",
	} {
		if _, err := Compile(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n gives %v, want %q", text, err, want)
		}
	}
}

func builder(t testing.TB, v *Type) *Builder {
	t.Helper()
	b, err := NewBuilder(JSONSchema(v), v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every way in which a value does not fit has its reason, and leaves the rows
// before and after whole.
func TestReasons(t *testing.T) {
	v := compile(t, everything)
	for text, want := range map[string]string{
		``:                                       "not JSON",
		`{`:                                      "not JSON: at byte 1",
		`{"i": 1} x`:                             "bytes after the value",
		`[1]`:                                    "expected an object, found [1]",
		`{}`:                                     "field i: is required and missing",
		`{"i": null}`:                            "field i: is null",
		`{"i": "1"}`:                             `field i: expected long, found "1"`,
		`{"i": 1.5}`:                             "field i: 1.5} is not an integer",
		`{"i": 9223372036854775808}`:             "is outside long",
		`{"i": 1e19}`:                            "is outside long",
		`{"i": 1, "n": 1e999}`:                   "field n: 1e999} is outside double",
		`{"i": 1, "i": 2}`:                       "field i: is given twice",
		`{"i": 01}`:                              "not JSON",
		`{"i": 1, "ts": "2013-02-29T00:00:00Z"}`: "is not a date-time (RFC 3339)",
		`{"i": 1, "ts": "2013-02-28T00:00:00"}`:  "is not a date-time",
		`{"i": 1, "d": "2013-2-1"}`:              "field d:",
		`{"i": 1, "t": "24:00:00"}`:              "is not a time",
		`{"i": 1, "list": [1, "x"]}`:             `field list[1]: expected long, found "x"`,
		`{"i": 1, "deep": [[{"x": 1}], [{"y": 2}]]}`:      "field deep[1][0].x: is required and missing",
		`{"i": 1, "deep": [null]}`:                        "field deep[0]: is null",
		`{"i": 1, "p": {"x": 1, "z": 2}}`:                 "field p.z: is not in the schema, and additionalProperties is false",
		`{"i": 1, "m": {"k": 1}}`:                         "field m[k]: expected string, found 1",
		`{"i": 1, "m": {"k": "a", "k": "b"}}`:             "field m[k]: is given twice",
		`{"i": 1, "s": "` + "\xff" + `"}`:                 "not UTF-8",
		`{"i": 1, "s": "\ud800"}`:                         "half a surrogate pair",
		`{"i": 1, "x": ` + strings.Repeat("[", 300) + `}`: "nested deeper",
	} {
		b := builder(t, v)
		good := &record.Record{Value: []byte(`{"i": 1, "m": {"a": null, "b": "x"}, "deep": [[{"x": 1}], []]}`)}
		b.AppendJSON(0, good)
		reason, ok := b.AppendJSON(0, &record.Record{Value: []byte(text)})
		if ok || !strings.Contains(reason, want) {
			t.Errorf("%s\n gives %v %q, want %q", text, ok, reason, want)
		}
		b.AppendJSON(0, good)
		checkTwins(t, b)
	}
}

// checkTwins checks that the builder's two rows are equal and all columns whole.
func checkTwins(t *testing.T, b *Builder) {
	t.Helper()
	var rows [2]bytes.Buffer
	c := NewCanonical(b)
	for i := range rows {
		c.Row(nil, func(name string, p []byte) { rows[i].WriteString(name); rows[i].Write(p) })
	}
	if b.Rows() != 2 || !bytes.Equal(rows[0].Bytes(), rows[1].Bytes()) {
		t.Fatal("a row that was taken back left something behind")
	}
	for i, leaf := range b.Leaves() {
		if c.value[i] != leaf.Values() || c.entry[i] != leaf.entries() {
			t.Fatalf("column %v has %d values and %d entries, rows have %d and %d", leaf.Path, leaf.Values(), leaf.entries(), c.value[i], c.entry[i])
		}
	}
}

func TestMoments(t *testing.T) {
	for text, want := range map[string]int64{"00:00:00Z": 0, "00:00:00": 0, "10:00:00.5+01:00": 9*3600e6 + 500_000, "00:30:00+01:00": 23*3600e6 + 1800e6,
		"23:59:59.9999999Z": 24*3600e6 - 1, "12:00:00z": 12 * 3600e6} {
		if got, ok := parseTime([]byte(text)); !ok || got != want {
			t.Errorf("%s is %d %v, want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "1:00:00", "00:00:60Z", "00:00:00.Z", "00:00:00+1:00", "00:00:00Zx", "00-00-00"} {
		if _, ok := parseTime([]byte(text)); ok {
			t.Errorf("%q is a time", text)
		}
	}
	if got, ok := parseDateTime([]byte("1969-12-31T23:59:59.9999999-00:30")); !ok || got != 1800e6-1 {
		t.Errorf("before the epoch: %d %v", got, ok)
	}
	if got, ok := parseDate([]byte("1969-12-31")); !ok || got != -1 {
		t.Errorf("the day before the epoch: %d %v", got, ok)
	}
}

// A tombstone is a row of nulls.
func TestTombstone(t *testing.T) {
	v := compile(t, everything)
	b := builder(t, v)
	if _, ok := b.AppendJSON(3, &record.Record{Offset: 4, Timestamp: -1, Key: []byte("k")}); !ok {
		t.Fatal("a tombstone does not fit")
	}
	for i, f := range builderRow(b, v) {
		if !bytes.Equal(f, []byte{0}) {
			t.Errorf("field %d is %x", i, f)
		}
	}
}

// A schema grows by columns with new ids, keeps what it has, and refuses
// another type under an old name.
func TestEvolve(t *testing.T) {
	old := JSONSchema(compile(t, `{"type": "object", "properties": {"a": {"type": "integer"}, "gone": {"type": "string"}, "s": {"type": "object", "properties": {"x": {"type": "number"}}}}}`))
	last := old.HighestFieldID()
	next := compile(t, `{"type": "object", "properties": {"new": {"type": "boolean"}, "a": {"type": "integer"}, "s": {"type": "object", "properties": {"y": {"type": "string"}, "x": {"type": "number"}}}}}`)
	got, changed, err := Evolve(old, last, next)
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	for _, f := range old.Fields() {
		if g, ok := got.FindFieldByID(f.ID); !ok || g.Name != f.Name {
			t.Errorf("column %s is now %v", f.Name, g)
		}
	}
	for _, name := range []string{"new", "s.y"} {
		if f, ok := got.FindFieldByName(name); !ok || f.ID <= last || f.Required {
			t.Errorf("new column %s is %v", name, f)
		}
	}
	if _, changed, err = Evolve(got, got.HighestFieldID(), next); changed || err != nil {
		t.Errorf("evolving twice: %v %v", changed, err)
	}
	_, _, err = Evolve(old, last, compile(t, `{"type": "object", "properties": {"s": {"type": "object", "properties": {"x": {"type": "string"}}}}}`))
	if err == nil || !strings.Contains(err.Error(), "column s.x is double in the table and string in the JSON Schema") {
		t.Errorf("another type gives %v", err)
	}
	b, err := NewBuilder(got, next)
	if err != nil {
		t.Fatal(err)
	}
	if reason, ok := b.AppendJSON(0, &record.Record{Value: []byte(`{"a": 1, "gone": 5, "new": true, "s": {"y": "z"}}`)}); !ok {
		t.Fatal(reason)
	}
}

// Columns of types that are not written here are left out; required ones are
// an error.
func TestForeignColumns(t *testing.T) {
	v := compile(t, `{"type": "object", "properties": {"a": {"type": "integer"}}}`)
	fields := append(JSONSchema(v).Fields(), ice.NestedField{ID: 90, Name: "more", Type: ice.DecimalTypeOf(9, 2)}, ice.NestedField{ID: 91, Name: "note", Type: ice.PrimitiveTypes.String})
	b, err := NewBuilder(ice.NewSchema(0, fields...), v)
	if err != nil {
		t.Fatal(err)
	}
	if reason, ok := b.AppendJSON(0, &record.Record{Value: []byte(`{"a": 1, "note": "ignored"}`)}); !ok {
		t.Fatal(reason)
	}
	fields[len(fields)-2].Required = true
	if _, err := NewBuilder(ice.NewSchema(0, fields...), v); err == nil {
		t.Fatal("a required column of a foreign type was taken")
	}
}

// FuzzBuilderAgainstEncodingJSON compares decisions and values with a decoder
// over encoding/json and maps.
func FuzzBuilderAgainstEncodingJSON(f *testing.F) {
	for _, s := range []string{
		`{"i": 1}`, `{"i": -0, "n": -0.0}`, `{"i": 1.0e3, "n": 1.7976931348623157e308}`, `{"i": 9223372036854775807, "n": 5e-324}`, `{"i": -9223372036854775808, "n": 0.1}`,
		`{"i": 10.50e1, "b": true, "s": "a\"\\\/\b\f\n\r\té😀é", "ts": "2013-01-01T05:00:00.123456789Z"}`,
		`{"i": 1, "d": "2024-02-29", "list": [1, null, 2], "deep": [[], [{"x": 1}, {"x": 2, "y": null}]], "p": null}`,
		`{"p": {"y": 1, "x": 2}, "i": 7, "m": {"a": null, "b": "", "": "x"}, "mm": {"k": {"x": 1}}, "unknown": [{"a": [true, false, null, "x", 1e5]}]}`,
		`{"i": 1, "n": 123456789012345678901234567890, "s": "` + strings.Repeat("long text ", 20) + `"}`,
		`{"i": 1, "mm": {}, "m": {}, "list": [], "deep": []}`, `{"i":1,"i":2}`, `{"i":1,}`, `[]`, `null`, ` { "i" : 1 } `, `{"i":100000000000000000000e-20}`,
		`{"i":1,"ts":"2013-01-01 05:00:00+05:30","s":null,"b":null}`, `{"i":1,"unknown":1,"unknown":2}`, "{\"i\":1,\"s\":\"\x01\"}",
	} {
		f.Add([]byte(s))
	}
	v := compile(f, everything)
	b := builder(f, v)
	f.Fuzz(func(t *testing.T, text []byte) {
		b.Reset()
		reason, ok := b.AppendJSON(0, &record.Record{Value: text})
		if text == nil {
			return
		}
		var o oracle
		want, wantOK := o.row(v, text)
		if o.unsure || strings.Contains(reason, "surrogate") || strings.Contains(reason, "UTF-8") || strings.Contains(reason, "nested") {
			return // stricter than encoding/json by decision
		}
		if ok != wantOK {
			t.Fatalf("%q: fits %v (%s), encoding/json says %v", text, ok, reason, wantOK)
		}
		if !ok {
			if b.Rows() != 0 || b.Bytes() != 0 {
				t.Fatalf("%q: a row that does not fit left %d bytes", text, b.Bytes())
			}
			return
		}
		for i, got := range builderRow(b, v) {
			if !bytes.Equal(got, want[i]) {
				t.Fatalf("%q: field %s is %x, encoding/json says %x", text, v.Fields[i].Name, got, want[i])
			}
		}
	})
}

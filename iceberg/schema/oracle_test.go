package schema

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// oracle works out the canonical bytes of a value by encoding/json and maps,
// the slow way; ok is false when the value does not fit. unsure marks inputs on
// which encoding/json is laxer or stricter than this package says it is.
type oracle struct{ unsure bool }

// object is a decoded JSON object with its names in order.
type object struct {
	names  []string
	values map[string]any
	twice  bool
}

// decode reads one value, keeping the order of names.
func (o *oracle) decode(d *json.Decoder, depth int) (any, error) {
	if depth > 200 {
		o.unsure = true
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('['):
		var list []any
		for d.More() {
			v, err := o.decode(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	case json.Delim('{'):
		ob := object{values: map[string]any{}}
		for d.More() {
			k, err := d.Token()
			if err != nil {
				return nil, err
			}
			name, ok := k.(string)
			if !ok {
				return nil, errors.New("name is no string")
			}
			v, err := o.decode(d, depth+1)
			if err != nil {
				return nil, err
			}
			if _, there := ob.values[name]; there {
				ob.twice = true
			}
			ob.names = append(ob.names, name)
			ob.values[name] = v
		}
		_, err := d.Token()
		return ob, err
	}
	return t, nil
}

// row gives the canonical bytes of each field of t, in order.
func (o *oracle) row(t *Type, text []byte) (fields [][]byte, ok bool) {
	if !json.Valid(text) {
		return nil, false
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := o.decode(d, 0)
	if err != nil {
		return nil, false
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, false
	}
	ob, ok := v.(object)
	if !ok {
		return nil, false
	}
	return o.fields(t, ob)
}

func (o *oracle) fields(t *Type, ob object) (fields [][]byte, ok bool) {
	known := map[string]bool{}
	for _, f := range t.Fields {
		known[f.Name] = true
		n := 0
		for _, name := range ob.names {
			if name == f.Name {
				n++
			}
		}
		v, there := ob.values[f.Name]
		switch {
		case n > 1, n == 0 && f.Required, there && v == nil && f.Required && !f.Nullable:
			return nil, false
		case v == nil:
			fields = append(fields, []byte{0})
			continue
		}
		b, ok := o.value(f.Type, v)
		if !ok {
			return nil, false
		}
		fields = append(fields, b)
	}
	for _, name := range ob.names {
		if t.Closed && !known[name] {
			return nil, false
		}
	}
	return fields, true
}

func (o *oracle) value(t *Type, v any) ([]byte, bool) {
	out := []byte{1}
	switch t.Kind {
	case Struct:
		ob, ok := v.(object)
		if !ok {
			return nil, false
		}
		fields, ok := o.fields(t, ob)
		for _, f := range fields {
			out = append(out, f...)
		}
		return out, ok
	case List:
		list, ok := v.([]any)
		if v != nil && !ok {
			return nil, false
		}
		for _, e := range list {
			b, ok := o.elem(t, e)
			if !ok {
				return nil, false
			}
			out = append(append(out, 1), b...)
		}
		return append(out, 0), true
	case Map:
		ob, ok := v.(object)
		if !ok || ob.twice {
			return nil, false
		}
		for _, k := range ob.names {
			b, ok := o.elem(t, ob.values[k])
			if !ok {
				return nil, false
			}
			out = AppendBytes(append(out, 1, 1), []byte(k))
			out = append(out, b...)
		}
		return append(out, 0), true
	}
	return o.scalar(t.Kind, v)
}

func (o *oracle) elem(t *Type, v any) ([]byte, bool) {
	if v == nil {
		return []byte{0}, t.ElemNullable
	}
	return o.value(t.Elem, v)
}

func (o *oracle) scalar(k Kind, v any) ([]byte, bool) {
	out := []byte{1}
	u64 := binary.BigEndian.AppendUint64
	switch v := v.(type) {
	case bool:
		return AppendBool(out, v), k == Bool
	case json.Number:
		if k == Double {
			f, err := strconv.ParseFloat(v.String(), 64)
			return u64(out, math.Float64bits(f)), err == nil
		}
		if k != Long {
			return nil, false
		}
		if i := strings.IndexAny(v.String(), "eE"); i >= 0 && len(v.String())-i > 6 {
			o.unsure = true // big.Rat would take all memory
			return nil, false
		}
		r, ok := new(big.Rat).SetString(v.String())
		if !ok || !r.IsInt() || !r.Num().IsInt64() {
			return nil, false
		}
		return u64(out, uint64(r.Num().Int64())), true
	case string:
		if k == String {
			return AppendBytes(out, []byte(v)), true
		}
		return o.moment(k, v)
	}
	return nil, false
}

func (o *oracle) moment(k Kind, v string) ([]byte, bool) {
	out := []byte{1}
	if strings.ContainsAny(v, ",") {
		o.unsure = true // time.Parse takes a comma for a point
	}
	switch k {
	case Date:
		t, err := time.Parse("2006-01-02", v)
		return binary.BigEndian.AppendUint32(out, uint32(t.Unix()/86400)), err == nil
	case Timestamp:
		if len(v) > 10 && (v[10] == 't' || v[10] == ' ') {
			v = v[:10] + "T" + v[11:]
		}
		t, err := time.Parse(time.RFC3339Nano, strings.Replace(v, "z", "Z", 1))
		if err == nil && (len(v) < 20 || v[13] != ':') {
			o.unsure = true // time.Parse takes one digit for an hour
		}
		return binary.BigEndian.AppendUint64(out, uint64(floorMicros(t))), err == nil
	case Time:
		o.unsure = true // no such format in package time; a table test covers it
	}
	return nil, false
}

func floorMicros(t time.Time) int64 { return t.Unix()*1_000_000 + int64(t.Nanosecond()/1000) }

// builderRow gives the builder's value of each field of t, in t's order.
func builderRow(b *Builder, t *Type) [][]byte {
	got := map[string][]byte{}
	NewCanonical(b).Row(nil, func(name string, p []byte) { got[name] = bytes.Clone(p) })
	var out [][]byte
	for _, f := range t.Fields {
		out = append(out, got[f.Name])
	}
	return out
}

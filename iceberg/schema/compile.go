package schema

import (
	"fmt"
	"slices"
	"strings"

	"github.com/valyala/fastjson"
)

// Bounds of a JSON Schema text, so that a topic property cannot ask for a table
// no engine opens.
const (
	textBytesMax = 1 << 20
	columnsMax   = 2000
	depthMax     = 32
)

// restricting keywords narrow the values of a type without changing the type.
// They are accepted and not checked, as annotations are.
var ignoredKeywords = []string{
	"$schema", "$id", "id", "$comment", "title", "description", "examples", "readOnly", "writeOnly", "deprecated",
	"definitions", "$defs", "contentEncoding", "contentMediaType",
	"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
	"minLength", "maxLength", "pattern", "enum", "const",
	"minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "propertyNames",
}

// refused keywords change what a value may be in a way that has no column, with
// what to do instead.
var refusedKeywords = map[string]string{
	"allOf":             "write its properties into one schema",
	"anyOf":             `choose one type, or write oneOf [{T}, {"type": "null"}] for a value that may be null`,
	"not":               "remove it",
	"if":                "remove it; make the fields optional",
	"then":              "remove it; make the fields optional",
	"else":              "remove it; make the fields optional",
	"patternProperties": "use additionalProperties with one schema (a map) or name the properties",
	"dependencies":      "remove it; make the fields optional",
	"additionalItems":   "use one schema for all items",
	"contains":          "remove it",
	"default":           "remove it: a field that is absent is null in the table",
}

// Compile reads a JSON Schema (the Draft-07 subset of docs/formats/table.md).
// The root must be an object with properties. Errors name the place in the
// schema and what to do.
func Compile(text string) (*Type, error) {
	if len(text) > textBytesMax {
		return nil, fmt.Errorf("JSON Schema has %d bytes, the limit is %d", len(text), textBytesMax)
	}
	root, err := fastjson.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("JSON Schema is not JSON: %w", err)
	}
	c := &compiler{root: root}
	t, nullable, err := c.schema(root, "#", nil)
	if err != nil {
		return nil, err
	}
	if t.Kind != Struct || nullable {
		return nil, refuse("#", "the root must be an object with properties", "set type to object and list its properties")
	}
	for _, f := range t.Fields {
		if isMetadata(f.Name) {
			return nil, refuse("#/properties/"+f.Name, "the name is taken by a metadata column", "rename the property")
		}
	}
	return t, nil
}

type compiler struct {
	root    *fastjson.Value
	columns int
}

func refuse(place, problem, remedy string) error {
	return fmt.Errorf("JSON Schema at %s: %s: %s", place, problem, remedy)
}

// schema compiles the schema v found at place; refs are the references being
// followed, outermost first.
func (c *compiler) schema(v *fastjson.Value, place string, refs []string) (t *Type, nullable bool, err error) {
	if strings.Count(place, "/") > 2*depthMax {
		return nil, false, refuse(place, fmt.Sprintf("nested deeper than %d levels", depthMax), "flatten it")
	}
	object, err := v.Object()
	if err != nil {
		return nil, false, refuse(place, "a schema must be an object", "give it a type")
	}
	if ref := object.Get("$ref"); ref != nil {
		return c.ref(ref, place, refs)
	}
	if err := c.keywords(object, place); err != nil {
		return nil, false, err
	}
	if one := object.Get("oneOf"); one != nil {
		return c.oneOf(one, place, refs)
	}
	name, nullable, err := typeName(object, place)
	if err != nil {
		return nil, false, err
	}
	t, err = c.typed(name, object, place, refs)
	return t, nullable, err
}

func (c *compiler) keywords(o *fastjson.Object, place string) (err error) {
	known := []string{"type", "oneOf", "properties", "required", "additionalProperties", "items", "format"}
	o.Visit(func(k []byte, _ *fastjson.Value) {
		key := string(k)
		remedy, refused := refusedKeywords[key]
		switch {
		case err != nil || slices.Contains(known, key) || slices.Contains(ignoredKeywords, key):
		case refused:
			err = refuse(place, key+" has no column", remedy)
		case !strings.HasPrefix(key, "x-"):
			err = refuse(place, fmt.Sprintf("keyword %q is not known in Draft-07", key), "remove it")
		}
	})
	return err
}

func (c *compiler) ref(ref *fastjson.Value, place string, refs []string) (*Type, bool, error) {
	b, err := ref.StringBytes()
	target := string(b)
	if err != nil || !strings.HasPrefix(target, "#/") {
		return nil, false, refuse(place, fmt.Sprintf("$ref %s is outside this schema or its root", ref), "copy the schema under definitions and refer to #/definitions/NAME")
	}
	if slices.Contains(refs, target) {
		return nil, false, refuse(place, "$ref "+target+" refers to itself", "a table has no recursive type: unroll it or make it a string")
	}
	var path []string
	for _, p := range strings.Split(target[2:], "/") {
		path = append(path, strings.NewReplacer("~1", "/", "~0", "~").Replace(p))
	}
	v := c.root.Get(path...)
	if v == nil {
		return nil, false, refuse(place, "$ref "+target+" points to nothing", "define it")
	}
	return c.schema(v, place, append(slices.Clone(refs), target))
}

// oneOf accepts T or null, in either order.
func (c *compiler) oneOf(v *fastjson.Value, place string, refs []string) (*Type, bool, error) {
	remedy := `write oneOf [{T}, {"type": "null"}], or choose one type`
	list, err := v.Array()
	if err != nil || len(list) != 2 {
		return nil, false, refuse(place, "oneOf must be one schema and null", remedy)
	}
	isNull := func(v *fastjson.Value) bool { return string(v.GetStringBytes("type")) == "null" }
	switch {
	case isNull(list[0]) == isNull(list[1]):
		return nil, false, refuse(place, "oneOf must be one schema and null", remedy)
	case isNull(list[0]):
		t, _, err := c.schema(list[1], place+"/oneOf/1", refs)
		return t, true, err
	}
	t, _, err := c.schema(list[0], place+"/oneOf/0", refs)
	return t, true, err
}

// typeName reads "type": a name, or a name and null.
func typeName(o *fastjson.Object, place string) (name string, nullable bool, err error) {
	v := o.Get("type")
	if v == nil {
		if o.Get("properties") != nil {
			return "object", false, nil
		}
		return "", false, refuse(place, "no type", "give it a type")
	}
	if v.Type() == fastjson.TypeString {
		return string(v.GetStringBytes()), false, nil
	}
	list, _ := v.Array()
	var names []string
	for _, n := range list {
		s := string(n.GetStringBytes())
		if s == "null" {
			nullable = true
		} else {
			names = append(names, s)
		}
	}
	if len(names) != 1 {
		return "", false, refuse(place, fmt.Sprintf("type %s is not one type, or one type and null", v), "choose one")
	}
	return names[0], nullable, nil
}

func (c *compiler) typed(name string, o *fastjson.Object, place string, refs []string) (*Type, error) {
	if c.columns++; c.columns > columnsMax {
		return nil, refuse(place, fmt.Sprintf("more than %d columns", columnsMax), "split the topic")
	}
	switch name {
	case "integer":
		return &Type{Kind: Long}, nil
	case "number":
		return &Type{Kind: Double}, nil
	case "boolean":
		return &Type{Kind: Bool}, nil
	case "string":
		return &Type{Kind: stringKind(o)}, nil
	case "array":
		return c.array(o, place, refs)
	case "object":
		return c.object(o, place, refs)
	case "null":
		return nil, refuse(place, "a value that is always null has no column", "remove it")
	}
	return nil, refuse(place, fmt.Sprintf("type %q is not known", name), "use integer, number, boolean, string, array or object")
}

func stringKind(o *fastjson.Object) Kind {
	switch f := o.Get("format"); {
	case f == nil:
		return String
	case string(f.GetStringBytes()) == "date-time":
		return Timestamp
	case string(f.GetStringBytes()) == "date":
		return Date
	case string(f.GetStringBytes()) == "time":
		return Time
	}
	return String
}

func (c *compiler) array(o *fastjson.Object, place string, refs []string) (*Type, error) {
	items := o.Get("items")
	if items == nil || items.Type() != fastjson.TypeObject {
		return nil, refuse(place, "an array needs one schema for its items", "give items a schema")
	}
	elem, nullable, err := c.schema(items, place+"/items", refs)
	if err != nil {
		return nil, err
	}
	return &Type{Kind: List, Elem: elem, ElemNullable: nullable}, nil
}

func (c *compiler) object(o *fastjson.Object, place string, refs []string) (*Type, error) {
	more, properties := o.Get("additionalProperties"), o.Get("properties")
	closed := more != nil && more.Type() == fastjson.TypeFalse
	isMap := more != nil && more.Type() == fastjson.TypeObject
	switch {
	case isMap && properties != nil:
		return nil, refuse(place, "both properties and a schema for additionalProperties", "keep one: properties make a struct, additionalProperties a map")
	case isMap:
		elem, nullable, err := c.schema(more, place+"/additionalProperties", refs)
		if err != nil {
			return nil, err
		}
		return &Type{Kind: Map, Elem: elem, ElemNullable: nullable}, nil
	}
	var list *fastjson.Object
	if properties != nil {
		list, _ = properties.Object()
	}
	if list == nil || list.Len() == 0 {
		return nil, refuse(place, "an object without properties has no columns", "list its properties, or give additionalProperties a schema (a map)")
	}
	t := &Type{Kind: Struct, Closed: closed}
	return t, c.fields(t, o, list, place, refs)
}

func (c *compiler) fields(t *Type, o, properties *fastjson.Object, place string, refs []string) (err error) {
	seen := map[string]bool{}
	properties.Visit(func(k []byte, v *fastjson.Value) {
		if err != nil {
			return
		}
		name := string(k)
		at := place + "/properties/" + name
		if name == "" {
			err = refuse(at, "a column needs a name", "name the property")
			return
		}
		if seen[strings.ToLower(name)] {
			err = refuse(at, "the name differs from another only in case, which SQL engines do not tell apart", "rename one")
			return
		}
		seen[strings.ToLower(name)] = true
		f := Field{Name: name}
		f.Type, f.Nullable, err = c.schema(v, at, refs)
		t.Fields = append(t.Fields, f)
	})
	if err != nil {
		return err
	}
	required := o.Get("required")
	for _, r := range required.GetArray() {
		name := string(r.GetStringBytes())
		i := slices.IndexFunc(t.Fields, func(f Field) bool { return f.Name == name })
		if i < 0 {
			return refuse(place+"/required", fmt.Sprintf("%q is not among the properties", name), "add it there or remove it here")
		}
		t.Fields[i].Required = true
	}
	return nil
}

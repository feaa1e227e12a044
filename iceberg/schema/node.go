package schema

import (
	"fmt"

	ice "github.com/apache/iceberg-go"
)

// node is a part of the table's schema bound to the leaves it fills and, in
// mode json, to the JSON Schema's type of the same name.
type node struct {
	name string
	kind Kind
	id   int
	// def is the definition level when the value is there, rep the repetition
	// level of a list's or map's further entries.
	def, rep int16
	optional bool
	lo, hi   int // leaves[lo:hi] lie below
	leaf     *Column

	fields    []*node // of a Struct
	key, elem *node   // of a Map or List

	// From the JSON Schema. absent: it has no such field, so always null.
	absent           bool
	required, closed bool
	nullable         bool
	index            map[string]*node
	// seen is the instance of the parent in which the field came up last.
	seen uint64
	// keys of the map being read, to find those given twice.
	keys map[string]struct{}
}

// tree builds the nodes and leaves of a table's schema.
type tree struct {
	root   *node
	leaves []*Column
}

func newTree(sc *ice.Schema) (*tree, error) {
	t := &tree{root: &node{kind: Struct}}
	for _, f := range sc.Fields() {
		if !Writable(f.Type) {
			if f.Required {
				return nil, fmt.Errorf("column %s is required and of type %s, which is not written here: make it optional", f.Name, f.Type)
			}
			continue
		}
		t.root.fields = append(t.root.fields, t.node(f.Name, f.ID, f.Type, f.Required, 0, 0, nil))
	}
	t.root.hi = len(t.leaves)
	return t, nil
}

// node builds the node of one field; def and rep are the levels of its parent.
func (t *tree) node(name string, id int, typ ice.Type, required bool, def, rep int16, path []string) *node {
	k, _ := kindOf(typ)
	n := &node{name: name, kind: k, id: id, optional: !required, lo: len(t.leaves), rep: rep, absent: true}
	if n.optional {
		def++
	}
	n.def = def
	path = append(path[:len(path):len(path)], name)
	switch typ := typ.(type) {
	case *ice.StructType:
		for _, f := range typ.FieldList {
			n.fields = append(n.fields, t.node(f.Name, f.ID, f.Type, f.Required, def, rep, path))
		}
	case *ice.ListType:
		n.rep = rep + 1
		n.elem = t.node("element", typ.ElementID, typ.Element, typ.ElementRequired, def+1, n.rep, append(path[:len(path):len(path)], "list"))
	case *ice.MapType:
		n.rep = rep + 1
		path = append(path[:len(path):len(path)], "key_value")
		n.key = t.node("key", typ.KeyID, typ.KeyType, true, def+1, n.rep, path)
		n.elem = t.node("value", typ.ValueID, typ.ValueType, typ.ValueRequired, def+1, n.rep, path)
		n.keys = map[string]struct{}{}
	default:
		n.leaf = &Column{FieldID: id, Kind: k, Path: path, MaxDef: def, MaxRep: rep}
		t.leaves = append(t.leaves, n.leaf)
	}
	n.hi = len(t.leaves)
	return n
}

// bind ties node n to JSON type want.
func (n *node) bind(want *Type, at string) error {
	if n.kind != want.Kind {
		return fmt.Errorf("column %s is %s in the table and %s in the JSON Schema", at, n.kind, want.Kind)
	}
	n.absent = false
	switch n.kind {
	case Struct:
		return n.bindFields(want, at)
	case List, Map:
		n.elem.nullable, n.elem.required = want.ElemNullable, true
		if want.ElemNullable && !n.elem.optional {
			return fmt.Errorf("elements of column %s are required in the table and may be null in the JSON Schema", at)
		}
		return n.elem.bind(want.Elem, at+"[]")
	}
	return nil
}

func (n *node) bindFields(want *Type, at string) error {
	n.closed = want.Closed
	n.index = make(map[string]*node, len(want.Fields))
	for _, f := range want.Fields {
		var child *node
		for _, c := range n.fields {
			if c.name == f.Name {
				child = c
			}
		}
		path := f.Name
		if at != "" {
			path = at + "." + f.Name
		}
		if child == nil {
			return fmt.Errorf("column %s is in the JSON Schema and not in the table", path)
		}
		child.required, child.nullable = f.Required, f.Nullable || !f.Required
		if !child.optional && (child.nullable || !f.Required) {
			return fmt.Errorf("column %s is required in the table and may be null in the JSON Schema", path)
		}
		if err := child.bind(f.Type, path); err != nil {
			return err
		}
		n.index[f.Name] = child
	}
	return nil
}

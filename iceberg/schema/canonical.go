package schema

import (
	"encoding/binary"
	"math"
)

// Canonical walks a builder's rows one by one and gives each column's value as
// canonical bytes, for comparison with the same rows read from elsewhere:
//
//	null         00
//	boolean      01, one byte
//	int, date    01, 4 bytes
//	long, double, time, timestamptz   01, 8 bytes (a double's bits)
//	string, binary                    01, length as uvarint, bytes
//	struct       01, its fields
//	list         01, for each element 01 and the element, then 00
//	map          01, for each entry 01, the key and the value, then 00
type Canonical struct {
	b *Builder
	// entry and value are the next of each leaf.
	entry, value []int
}

// NewCanonical starts at the builder's first row; the builder must not change
// meanwhile.
func NewCanonical(b *Builder) *Canonical {
	return &Canonical{b: b, entry: make([]int, len(b.tree.leaves)), value: make([]int, len(b.tree.leaves))}
}

// Restart goes back to the builder's first row, for rows that replaced others.
func (c *Canonical) Restart() {
	clear(c.entry)
	clear(c.value)
}

// Row calls fn for each column of the next row, in the table's order; p is
// valid until the next call. Call it Builder.Rows times.
func (c *Canonical) Row(scratch []byte, fn func(name string, p []byte)) []byte {
	for _, f := range c.b.tree.root.fields {
		scratch = c.node(scratch[:0], f)
		fn(f.name, scratch)
	}
	return scratch
}

func (c *Canonical) def(leaf int) int16 {
	if l := c.b.tree.leaves[leaf]; l.MaxDef > 0 {
		return l.Def[c.entry[leaf]]
	}
	return 0
}

// null passes over the entry of every leaf below n.
func (c *Canonical) null(n *node) {
	for i := n.lo; i < n.hi; i++ {
		c.entry[i]++
	}
}

func (c *Canonical) node(dst []byte, n *node) []byte {
	if c.def(n.lo) < n.def {
		c.null(n)
		return append(dst, 0)
	}
	dst = append(dst, 1)
	switch n.kind {
	case Struct:
		for _, f := range n.fields {
			dst = c.node(dst, f)
		}
		return dst
	case List, Map:
		return c.repeated(dst, n)
	}
	leaf := c.b.tree.leaves[n.lo]
	v := c.value[n.lo]
	c.value[n.lo]++
	c.entry[n.lo]++
	switch n.kind {
	case Bool:
		return AppendBool(dst, leaf.Bools[v])
	case Int, Date:
		return binary.BigEndian.AppendUint32(dst, uint32(leaf.Ints[v]))
	case Double:
		return binary.BigEndian.AppendUint64(dst, math.Float64bits(leaf.Doubles[v]))
	case String, Binary:
		return AppendBytes(dst, leaf.Value(v))
	}
	return binary.BigEndian.AppendUint64(dst, uint64(leaf.Longs[v]))
}

func (c *Canonical) repeated(dst []byte, n *node) []byte {
	if c.def(n.lo) == n.def {
		c.null(n)
		return append(dst, 0)
	}
	first := c.b.tree.leaves[n.lo]
	for {
		dst = append(dst, 1)
		if n.kind == Map {
			dst = c.node(dst, n.key)
		}
		dst = c.node(dst, n.elem)
		if e := c.entry[n.lo]; e >= len(first.Rep) || first.Rep[e] < n.rep {
			return append(dst, 0)
		}
	}
}

// AppendBool appends a canonical boolean without its mark.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// AppendBytes appends a canonical string or binary without its mark.
func AppendBytes(dst, v []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	return append(dst, v...)
}

package cluster

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// The encoding of every controller format: unsigned numbers and counts are
// uvarints, signed ones zigzag varints, strings and bytes a uvarint length and
// the bytes, ids 16 raw bytes, maps sorted by key. Equal values have equal
// bytes.

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendProps(b []byte, m map[string]string) []byte {
	b = binary.AppendUvarint(b, uint64(len(m)))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b = appendString(appendString(b, k), m[k])
	}
	return b
}

// cursor reads fields off b; err sticks at the first one that does not fit.
type cursor struct {
	b       []byte
	version byte // of what is read; fields that came later are absent in older ones
	err     error
}

func (c *cursor) fail(what string) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s", ErrFormat, what)
	}
	c.b = nil
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 || n > 1 && c.b[n-1] == 0 { // a longer form of the same number is not equal bytes
		c.fail("number is cut short or not in its shortest form")
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) varint() int64 {
	u := c.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// int32 is a varint within 32 bits.
func (c *cursor) int32() int32 {
	v := c.varint()
	if v != int64(int32(v)) {
		c.fail("number is over 32 bits")
	}
	return int32(v)
}

// count is a number of items of at least one byte each, so that a claim
// cannot ask for more memory than a small multiple of the input.
func (c *cursor) count() int {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.fail("count is larger than the rest")
		return 0
	}
	return int(n)
}

func (c *cursor) bytes() []byte {
	n := c.count()
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) string() string { return string(c.bytes()) }

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.fail("byte is missing")
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) bool() bool {
	v := c.byte()
	if v > 1 {
		c.fail("flag is neither 0 nor 1")
	}
	return v == 1
}

func (c *cursor) id() (id [16]byte) {
	if len(c.b) < len(id) {
		c.fail("id is cut short")
		return id
	}
	copy(id[:], c.b)
	c.b = c.b[len(id):]
	return id
}

func (c *cursor) props() map[string]string {
	n := c.count()
	m := make(map[string]string, n)
	last := ""
	for i := range n {
		k := c.string()
		if c.err == nil && i > 0 && k <= last {
			c.fail("properties are not sorted")
		}
		if c.err != nil {
			return nil
		}
		m[k], last = c.string(), k
	}
	return m
}

// end checks that nothing follows.
func (c *cursor) end() error {
	if c.err == nil && len(c.b) != 0 {
		c.fail(fmt.Sprintf("%d bytes after the end", len(c.b)))
	}
	return c.err
}

// list reads count items.
func list[T any](c *cursor, item func(*cursor) T) []T {
	n := c.count()
	var out []T
	for range n {
		out = append(out, item(c))
		if c.err != nil {
			return nil
		}
	}
	return out
}

func appendList[T any](b []byte, items []T, item func([]byte, T) []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(items)))
	for _, it := range items {
		b = item(b, it)
	}
	return b
}

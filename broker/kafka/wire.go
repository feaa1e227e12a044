package kafka

import (
	"encoding/binary"
	"math"
)

// walker reads Kafka's primitive types off b. It never panics and never
// allocates; bad sticks at the first field that does not fit, after which
// every read gives zero. Strings and bytes are views of b.
type walker struct {
	b   []byte
	bad bool
}

func (w *walker) take(n int) []byte {
	if w.bad || n < 0 || n > len(w.b) {
		w.bad, w.b = true, nil
		return nil
	}
	p := w.b[:n:n]
	w.b = w.b[n:]
	return p
}

func (w *walker) int16() int16 {
	if p := w.take(2); p != nil {
		return int16(binary.BigEndian.Uint16(p))
	}
	return 0
}

func (w *walker) int32() int32 {
	if p := w.take(4); p != nil {
		return int32(binary.BigEndian.Uint32(p))
	}
	return 0
}

func (w *walker) uvarint() uint32 {
	v, n := binary.Uvarint(w.b)
	if w.bad || n <= 0 || v > math.MaxUint32 {
		w.bad, w.b = true, nil
		return 0
	}
	w.b = w.b[n:]
	return uint32(v)
}

// compactLen reads a compact length: 0 is null (-1).
func (w *walker) compactLen() int {
	return int(w.uvarint()) - 1
}

// string reads a nullable string; ok is false for null.
func (w *walker) string(flexible bool) (s []byte, ok bool) {
	n := -1
	if flexible {
		n = w.compactLen()
	} else {
		n = int(w.int16())
	}
	if n == -1 {
		return nil, false
	}
	return w.take(n), !w.bad
}

// bytes reads nullable bytes; null is nil.
func (w *walker) bytes(flexible bool) []byte {
	n := -1
	if flexible {
		n = w.compactLen()
	} else {
		n = int(w.int32())
	}
	if n == -1 {
		return nil
	}
	return w.take(n)
}

// array reads an array's length; null is 0. A length of more elements than the
// rest could hold, at elementBytesMin each, is bad.
func (w *walker) array(flexible bool, elementBytesMin int) int {
	n := 0
	if flexible {
		n = w.compactLen()
	} else {
		n = int(w.int32())
	}
	if n == -1 {
		return 0
	}
	if w.bad || n < 0 || n > len(w.b)/max(elementBytesMin, 1) {
		w.bad, w.b = true, nil
		return 0
	}
	return n
}

// tags skips a tag section of a flexible version.
func (w *walker) tags(flexible bool) {
	if !flexible {
		return
	}
	for n := w.uvarint(); n > 0 && !w.bad; n-- {
		w.uvarint()
		w.take(int(w.uvarint()))
	}
}

// The append helpers write the primitive types that answers encoded by hand
// (Produce, Fetch) need.

func appendArrayLen(b []byte, n int, flexible bool) []byte {
	if flexible {
		return binary.AppendUvarint(b, uint64(n)+1)
	}
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

func appendString(b []byte, s string, flexible bool) []byte {
	if flexible {
		b = binary.AppendUvarint(b, uint64(len(s))+1)
	} else {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	}
	return append(b, s...)
}

// appendMessage writes a nullable string; "" is null.
func appendMessage(b []byte, s string, flexible bool) []byte {
	switch {
	case s != "":
		return appendString(b, s[:min(len(s), math.MaxInt16)], flexible)
	case flexible:
		return append(b, 0)
	}
	return append(b, 0xff, 0xff)
}

func appendTags(b []byte, flexible bool) []byte {
	if flexible {
		return append(b, 0)
	}
	return b
}

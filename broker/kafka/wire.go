package kafka

import (
	"encoding/binary"
	"math"
)

// walker reads Kafka's primitive types off b and what follows it in more. It
// never panics, and allocates only for a field that lies across two pieces; bad
// sticks at the first field that does not fit, after which every read gives
// zero. Strings and bytes are views of the pieces.
type walker struct {
	b    []byte
	more [][]byte
	bad  bool
}

// walk begins at the start of a frame, which is the walker's from then on.
func (f frame) walk() walker { return walker{b: f.first, more: f.more} }

// left is how many bytes were not read yet.
func (w *walker) left() int {
	n := len(w.b)
	for _, piece := range w.more {
		n += len(piece)
	}
	return n
}

// join has b hold the next n bytes, if there are so many.
func (w *walker) join(n int) {
	if len(w.b) == 0 && len(w.more) > 0 {
		w.b, w.more = w.more[0], w.more[1:]
	}
	if n <= len(w.b) || n > w.left() {
		return
	}
	b := append(make([]byte, 0, n), w.b...)
	for len(b) < n {
		piece := w.more[0]
		some := min(n-len(b), len(piece))
		b = append(b, piece[:some]...)
		if w.more[0] = piece[some:]; some == len(piece) {
			w.more = w.more[1:]
		}
	}
	w.b = b
}

func (w *walker) fail() { w.bad, w.b, w.more = true, nil, nil }

func (w *walker) take(n int) []byte {
	if n > len(w.b) && len(w.more) > 0 {
		w.join(n)
	}
	if w.bad || n < 0 || n > len(w.b) {
		w.fail()
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
	if len(w.b) < binary.MaxVarintLen64 && len(w.more) > 0 {
		w.join(min(binary.MaxVarintLen64, w.left()))
	}
	v, n := binary.Uvarint(w.b)
	if w.bad || n <= 0 || v > math.MaxUint32 {
		w.fail()
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
	if w.bad || n < 0 || n > w.left()/max(elementBytesMin, 1) {
		w.fail()
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

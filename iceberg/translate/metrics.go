package translate

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"unicode/utf8"

	"tidewater/iceberg/schema"
)

// boundRunes is how much of a string goes into a bound, as Iceberg's default
// metrics mode truncate(16) says.
const boundRunes = 16

// metrics gathers a data file's column metrics by field id.
type metrics struct {
	sizes, values, nulls, nans map[int]int64
	lower, upper               map[int][]byte
	bounds                     []bound // by leaf
}

// bound is the least and greatest value of a leaf seen so far, in the member of
// its kind.
type bound struct {
	set      bool
	loInt    int64
	hiInt    int64
	loF, hiF float64
	loS, hiS []byte
}

func newMetrics(leaves int) *metrics {
	return &metrics{
		sizes: map[int]int64{}, values: map[int]int64{}, nulls: map[int]int64{}, nans: map[int]int64{},
		lower: map[int][]byte{}, upper: map[int][]byte{}, bounds: make([]bound, leaves),
	}
}

// add takes in a row group's leaf.
func (m *metrics) add(i int, c *schema.Column) {
	n := int64(c.Values())
	entries := n
	if c.MaxDef > 0 {
		entries = int64(len(c.Def))
	}
	m.values[c.FieldID] += entries
	m.nulls[c.FieldID] += entries - n
	if c.Kind == schema.Double {
		m.nans[c.FieldID] = 0 // JSON has no NaN
	}
	if c.MaxRep > 0 || n == 0 {
		return // the specification has no bounds inside lists and maps
	}
	b := &m.bounds[i]
	switch c.Kind {
	case schema.Bool:
		for _, v := range c.Bools {
			x := int64(0)
			if v {
				x = 1
			}
			b.int(x, x)
		}
	case schema.Int, schema.Date:
		lo, hi := extremes(c.Ints)
		b.int(int64(lo), int64(hi))
	case schema.Long, schema.Time, schema.Timestamp:
		b.int(extremes(c.Longs))
	case schema.Double:
		b.double(extremes(c.Doubles))
	case schema.String:
		for v := range c.Ends {
			b.bytes(c.Value(v))
		}
	}
}

func extremes[T cmp.Ordered](v []T) (lo, hi T) {
	lo, hi = v[0], v[0]
	for _, x := range v[1:] {
		lo, hi = min(lo, x), max(hi, x)
	}
	return lo, hi
}

func (b *bound) int(lo, hi int64) {
	if !b.set {
		b.loInt, b.hiInt, b.set = lo, hi, true
	}
	b.loInt, b.hiInt = min(b.loInt, lo), max(b.hiInt, hi)
}

func (b *bound) double(lo, hi float64) {
	if !b.set {
		b.loF, b.hiF, b.set = lo, hi, true
	}
	b.loF, b.hiF = min(b.loF, lo), max(b.hiF, hi)
}

func (b *bound) bytes(v []byte) {
	if !b.set {
		b.loS, b.hiS, b.set = bytes.Clone(v), bytes.Clone(v), true
	}
	if bytes.Compare(v, b.loS) < 0 {
		b.loS = append(b.loS[:0], v...)
	}
	if bytes.Compare(v, b.hiS) > 0 {
		b.hiS = append(b.hiS[:0], v...)
	}
}

// finish writes the bounds in Iceberg's single-value form.
func (m *metrics) finish(leaves []*schema.Column) {
	for i, c := range leaves {
		b := &m.bounds[i]
		if !b.set {
			continue
		}
		lower, upper := b.encode(c.Kind)
		m.lower[c.FieldID] = lower
		if upper != nil {
			m.upper[c.FieldID] = upper
		}
	}
}

func (b *bound) encode(k schema.Kind) (lower, upper []byte) {
	switch k {
	case schema.Bool:
		return []byte{byte(b.loInt)}, []byte{byte(b.hiInt)}
	case schema.Int, schema.Date:
		return le32(b.loInt), le32(b.hiInt)
	case schema.Double:
		lo, hi := b.loF, b.hiF
		if lo == 0 {
			lo = math.Copysign(0, -1) // the specification: zero bounds cover both zeros
		}
		if hi == 0 {
			hi = 0
		}
		return le64(math.Float64bits(lo)), le64(math.Float64bits(hi))
	case schema.String:
		return truncate(b.loS), truncateUp(b.hiS)
	}
	return le64(uint64(b.loInt)), le64(uint64(b.hiInt))
}

func le32(v int64) []byte  { return binary.LittleEndian.AppendUint32(nil, uint32(v)) }
func le64(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// truncate cuts UTF-8 text after boundRunes runes; never nil.
func truncate(s []byte) []byte {
	at := 0
	for n := 0; n < boundRunes && at < len(s); n++ {
		_, size := utf8.DecodeRune(s[at:])
		at += size
	}
	return append([]byte{}, s[:at]...)
}

// truncateUp cuts text so that the result is not less than the text, by raising
// the last rune that can be raised; nil when none can.
func truncateUp(s []byte) []byte {
	cut := truncate(s)
	if len(cut) == len(s) {
		return cut
	}
	for len(cut) > 0 {
		r, size := utf8.DecodeLastRune(cut)
		cut = cut[:len(cut)-size]
		next := r + 1
		if next == 0xd800 {
			next = 0xe000 // surrogates are no characters
		}
		if next <= utf8.MaxRune {
			return utf8.AppendRune(cut, next)
		}
	}
	return nil
}

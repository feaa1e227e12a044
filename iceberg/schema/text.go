package schema

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// appendUTF8 appends s with bytes that are not UTF-8 replaced by U+FFFD: a
// header's key is a string by Kafka's protocol, but nobody checks it.
func appendUTF8(dst []byte, s string) []byte {
	if utf8.ValidString(s) {
		return append(dst, s...)
	}
	for _, r := range s {
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plainLen is the length of the run of ASCII at the start of b that needs no
// look in a JSON string: no quote, no backslash, no control character.
func plainLen(b []byte) int {
	i := 0
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		q := x ^ (ones * '"')
		s := x ^ (ones * '\\')
		// A byte's high bit is set where it is zero (q, s), below 0x20, or
		// not ASCII; false hits come only above a true one.
		m := ((q-ones)&^q | (s-ones)&^s | (x-ones*0x20)&^x | x) & highs
		if m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c == '"' || c == '\\' || c < 0x20 || c >= utf8.RuneSelf {
			return i
		}
	}
	return i
}

package group

import (
	"math"
	"unicode/utf16"
)

// Partition is the __consumer_offsets partition of a group, out of n: the
// absolute value of Java's String.hashCode of the group id (0 for the one
// number that has none), modulo n. Kafka's tools reckon the same.
func Partition(group string, n int32) int32 {
	var h int32
	for _, u := range utf16.Encode([]rune(group)) {
		h = 31*h + int32(u)
	}
	switch {
	case h == math.MinInt32:
		h = 0
	case h < 0:
		h = -h
	}
	return h % n
}

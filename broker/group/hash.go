package group

import "unicode/utf16"

// Partition is the __consumer_offsets partition of a group, out of n: Java's
// String.hashCode of the group id, made positive, modulo n. Kafka's tools
// reckon the same.
func Partition(group string, n int32) int32 {
	var h int32
	for _, u := range utf16.Encode([]rune(group)) {
		h = 31*h + int32(u)
	}
	return (h & 0x7fffffff) % n
}

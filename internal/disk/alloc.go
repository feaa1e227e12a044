package disk

import "unsafe"

// Alloc returns n zero bytes whose first byte lies on a block boundary, so
// that direct I/O takes them without a copy. n is rounded up to whole blocks
// in the capacity, not in the length.
func Alloc(n int) []byte {
	whole := int(RoundUp(int64(n)))
	raw := make([]byte, whole+BlockBytes)
	skip := 0
	if rest := int(uintptr(unsafe.Pointer(&raw[0])) % BlockBytes); rest != 0 {
		skip = BlockBytes - rest
	}
	return raw[skip : skip+n : skip+whole]
}

// RoundUp gives the smallest multiple of BlockBytes that is not below n.
func RoundUp(n int64) int64 { return (n + BlockBytes - 1) &^ (BlockBytes - 1) }

// aligned reports whether p can be handed to direct I/O as it is.
func aligned(p []byte) bool {
	return len(p)%BlockBytes == 0 && (len(p) == 0 || uintptr(unsafe.Pointer(&p[0]))%BlockBytes == 0)
}

package record

import "hash/crc32"

// SumAfter extends sum, the CRC-32C of some bytes, by the whole batch, as
// crc32.Update does, but from the CRC in the batch's header: it reads the header
// and not the records. The batch must have passed Check. If its bytes have
// changed since, the sum is that of other bytes, and whoever compares it finds
// out.
func (b Batch) SumAfter(sum uint32) uint32 {
	if len(b) < sumFrom {
		return crc32.Update(sum, castagnoli, b)
	}
	sum = crc32.Update(sum, castagnoli, b[:crcEnd])
	return shiftSum(sum, uint32(len(b)-crcEnd)) ^ b.CRC()
}

const (
	// crcEnd is where the field "CRC" ends: it covers everything behind it.
	crcEnd = 21
	// sumFrom is the size from which a batch's sum is made of its CRC: below it,
	// reading the bytes costs as much.
	sumFrom = 4 << 10
)

// A CRC is a polynomial over GF(2) modulo castagnoliPoly, and that of bytes A
// followed by n bytes B is crc(A)·x^8n + crc(B). Polynomials are written as
// hash/crc32 does: the highest bit is the coefficient of x^0.
const castagnoliPoly = crc32.Castagnoli

// shiftSum gives the CRC sum times x^8n: what it adds to the sum of n bytes more.
func shiftSum(sum, n uint32) uint32 {
	for i := 0; n != 0; i, n = i+1, n>>4 {
		if digit := n & 15; digit != 0 {
			sum = multiply(byteShifts[i][digit], sum)
		}
	}
	return sum
}

// byteShifts[i][d] is x to the power of 8·d·16^i.
var byteShifts = makeByteShifts()

func makeByteShifts() (shifts [8][16]uint32) {
	one := uint32(1 << 31)
	unit := one >> 8 // x^8
	for i := range shifts {
		shifts[i][0] = one
		for d := 1; d < 16; d++ {
			shifts[i][d] = multiply(shifts[i][d-1], unit)
		}
		unit = multiply(shifts[i][15], unit)
	}
	return shifts
}

// multiply gives a·b modulo castagnoliPoly.
func multiply(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 31)
		b = b>>1 ^ castagnoliPoly&-(b&1)
	}
	return product
}

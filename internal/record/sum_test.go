package record

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// sumBatch makes a batch of exactly size bytes whose records are noise, and
// whose CRC is right.
func sumBatch(rnd *rand.ChaCha8, size int) Batch {
	b := make(Batch, size)
	_, _ = rnd.Read(b) // never fails
	b.SetCRC()
	return b
}

// A batch's sum from its header is the sum of its bytes, for every size around
// the bounds, after any sum, with any offset and epoch stamped since.
func TestSumAfterIsTheSumOfTheBytes(t *testing.T) {
	rnd := rand.NewChaCha8([32]byte{7})
	sizes := []int{HeaderBytes, 1 << 20, 1<<20 + 1, 3<<20 - 5}
	for n := range 70 {
		sizes = append(sizes, HeaderBytes+n, sumFrom-35+n, 1<<16-35+n, 1<<17+crcEnd-35+n)
	}
	for _, size := range sizes {
		b := sumBatch(rnd, size)
		b.SetBaseOffset(Offset(rnd.Uint64() >> 1))
		b.SetEpoch(LeaderEpoch(rnd.Uint64() >> 33))
		for _, sum := range []uint32{0, 1, 0xffffffff, uint32(rnd.Uint64())} {
			if got, want := b.SumAfter(sum), crc32.Update(sum, castagnoli, b); got != want {
				t.Fatalf("%d bytes after %08x: got %08x, want %08x", size, sum, got, want)
			}
		}
	}
}

// A sum over several batches and other bytes is the sum of all of them.
func TestSumsFollowEachOther(t *testing.T) {
	rnd := rand.NewChaCha8([32]byte{8})
	var all []byte
	sum := uint32(0)
	for range 200 {
		between := make([]byte, rnd.Uint64()%100)
		_, _ = rnd.Read(between)
		b := sumBatch(rnd, HeaderBytes+int(rnd.Uint64()%20_000))
		sum = b.SumAfter(crc32.Update(sum, castagnoli, between))
		all = append(append(all, between...), b...)
	}
	if want := crc32.Checksum(all, castagnoli); sum != want {
		t.Fatalf("got %08x, want %08x", sum, want)
	}
}

// A batch that changed after its CRC was checked, wherever, has another sum
// than its bytes: it does not pass for sound.
func TestSumAfterOfAChangedBatchIsAnother(t *testing.T) {
	b := sumBatch(rand.NewChaCha8([32]byte{9}), 2*sumFrom)
	for bit := 8 * (crcEnd - 4); bit < 8*len(b); bit += 7 {
		b[bit/8] ^= 1 << (bit % 8)
		if b.SumAfter(0) == crc32.Checksum(b, castagnoli) {
			t.Fatalf("bit %d changed and the sum holds", bit)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
}

func FuzzSumAfter(f *testing.F) {
	f.Add(uint32(0), make([]byte, sumFrom))
	f.Add(uint32(3), make([]byte, HeaderBytes))
	f.Fuzz(func(t *testing.T, sum uint32, p []byte) {
		if len(p) < HeaderBytes {
			return
		}
		b := Batch(p)
		b.SetCRC()
		if got, want := b.SumAfter(sum), crc32.Update(sum, castagnoli, b); got != want {
			t.Fatalf("%d bytes: got %08x, want %08x", len(b), got, want)
		}
	})
}

// BenchmarkSumAfter: what does a batch's sum cost from its header, beside one
// pass over its bytes?
func BenchmarkSumAfter(b *testing.B) {
	for _, size := range []int{4 << 10, 16 << 10, 128 << 10} {
		batch := sumBatch(rand.NewChaCha8([32]byte{}), size+77)
		for name, sum := range map[string]func(uint32) uint32{
			"header": batch.SumAfter,
			"bytes":  func(s uint32) uint32 { return crc32.Update(s, castagnoli, batch) },
		} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, name), func(b *testing.B) {
				s := uint32(0)
				for b.Loop() {
					s = sum(s)
				}
			})
		}
	}
}

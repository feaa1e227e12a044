package segment

import (
	"slices"

	"tidewater/internal/disk"
)

// readBufferBytes takes what a consumer asks of a partition by default, 1 MiB,
// with the way to it from the nearest index point and to whole blocks.
const readBufferBytes = 1<<20 + 2*indexEveryBytes

// readBuffer is a size of buffers for reads of from to bytes. So many of them
// are kept while nobody reads: for one answer with 16 partitions.
type readBuffer struct {
	from, bytes, spareMax int
	huge                  bool // of huge pages: a direct read pins one page, and not hundreds
}

// Other sizes take memory of their own. The smaller buffers are mostly for a
// last batch that ends behind the first buffer.
var readBuffers = [...]readBuffer{{32 << 10, 256 << 10, 16, false}, {256 << 10, readBufferBytes, 16, true}}

// Lease holds the buffers that the batches of one or more reads are views of.
// Release lets other reads use them; without it they are the garbage
// collector's. It belongs to one caller at a time.
type Lease struct {
	cache *Cache
	bufs  [][]byte
}

// Release gives the buffers back: no batch of the reads may be looked at from
// now on.
func (r *Lease) Release() {
	if r.cache == nil {
		return
	}
	r.cache.mu.Lock()
	defer r.cache.mu.Unlock()
	for _, b := range r.bufs {
		size := slices.IndexFunc(readBuffers[:], func(of readBuffer) bool { return len(b) == of.bytes })
		if spare := &r.cache.spareReads[size]; len(*spare) < readBuffers[size].spareMax {
			*spare = append(*spare, b)
		}
	}
	r.bufs = nil
}

// alloc gives n bytes of any content.
func (r *Lease) alloc(n int) []byte {
	size := slices.IndexFunc(readBuffers[:], func(of readBuffer) bool { return n >= of.from && n <= of.bytes })
	if size < 0 {
		return disk.Alloc(n)
	}
	b := r.cache.spareRead(size)
	switch of := readBuffers[size]; {
	case b != nil:
	case of.huge:
		b = disk.AllocHuge(of.bytes)
	default:
		b = disk.Alloc(of.bytes)
	}
	r.bufs = append(r.bufs, b)
	return b[:n]
}

func (c *Cache) spareRead(size int) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	spare := c.spareReads[size]
	last := len(spare) - 1
	if last < 0 {
		return nil
	}
	b := spare[last]
	spare[last] = nil
	c.spareReads[size] = spare[:last]
	return b
}

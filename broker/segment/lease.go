package segment

import "tidewater/internal/disk"

const (
	// readBufferBytes takes what a consumer asks of a partition by default,
	// 1 MiB, with the way to it from the nearest index point and to whole
	// blocks. Reads from readBufferFrom on use such a buffer.
	readBufferBytes = 1<<20 + 2*indexEveryBytes
	readBufferFrom  = 256 << 10
	// spareReadsMax buffers are kept while nobody reads, for the reads of one
	// answer with 16 partitions.
	spareReadsMax = 16
)

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
		if len(r.cache.spareReads) < spareReadsMax {
			r.cache.spareReads = append(r.cache.spareReads, b)
		}
	}
	r.bufs = nil
}

// alloc gives n bytes of any content.
func (r *Lease) alloc(n int) []byte {
	if n < readBufferFrom || n > readBufferBytes {
		return disk.Alloc(n)
	}
	b := r.cache.spareRead()
	if b == nil {
		// In huge pages a direct read pins one page, and not hundreds.
		b = disk.AllocHuge(readBufferBytes)
	}
	r.bufs = append(r.bufs, b)
	return b[:n]
}

func (c *Cache) spareRead() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.spareReads) - 1
	if last < 0 {
		return nil
	}
	b := c.spareReads[last]
	c.spareReads[last] = nil
	c.spareReads = c.spareReads[:last]
	return b
}

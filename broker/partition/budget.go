package partition

import (
	"slices"
	"sync"

	"tidewater/internal/record"
)

// Budget bounds the memory of all partitions of a broker: bytes that are in no
// segment yet (beyond it, appends are refused) and bytes kept as a cache of
// the newest batches (beyond it, the oldest go, whosever they are). Both
// together stay below the greater bound: what waits is as new as what is
// cached, and takes its room. It is safe for concurrent use.
type Budget struct {
	pendingMax, cacheMax int64

	mu      sync.Mutex
	pending int64
	cached  int64
	order   []cached // oldest first
	gone    int      // how many at the front of order are forgotten
}

// cached is a run of batches that one WriteSegments left in memory.
type cached struct {
	owner *Partition
	next  record.Offset // exclusive end
	bytes int64
}

// NewBudget takes the bounds of what waits and of what is cached, in bytes.
func NewBudget(pendingMax, cacheMax int64) *Budget {
	return &Budget{pendingMax: pendingMax, cacheMax: cacheMax}
}

// Use gives the bytes that wait for segments and those cached.
func (b *Budget) Use() (pending, cached int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pending, b.cached
}

// room reports whether n more pending bytes fit.
func (b *Budget) room(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pending+n <= b.pendingMax
}

func (b *Budget) addPending(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending += n
}

// written moves bytes of owner up to next from pending to cached and has the
// oldest cached runs forgotten until the bound holds.
func (b *Budget) written(owner *Partition, next record.Offset, bytes int64) {
	b.mu.Lock()
	b.pending -= bytes
	b.cached += bytes
	b.order = append(b.order, cached{owner, next, bytes})
	room := min(b.cacheMax, max(b.pendingMax, b.cacheMax)-b.pending)
	n := b.gone
	for ; n < len(b.order) && b.cached > room; n++ {
		b.cached -= b.order[n].bytes
	}
	gone := slices.Clone(b.order[b.gone:n])
	b.gone = n
	b.close(len(b.order) / 2)
	b.mu.Unlock()
	for _, c := range gone {
		c.owner.forget(c.next)
	}
}

// close takes the forgotten runs out of order when there are more than most.
// It needs mu.
func (b *Budget) close(most int) {
	if b.gone > most {
		b.order = slices.Delete(b.order, 0, b.gone)
		b.gone = 0
	}
}

// trimmed takes what an owner had cached below next off the account.
func (b *Budget) trimmed(owner *Partition, next record.Offset) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.close(0)
	b.order = slices.DeleteFunc(b.order, func(c cached) bool {
		below := c.owner == owner && c.next <= next
		if below {
			b.cached -= c.bytes
		}
		return below
	})
}

// drop takes everything of owner out; pending is what it had in no segment.
func (b *Budget) drop(owner *Partition, pending int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending -= pending
	b.close(0)
	b.order = slices.DeleteFunc(b.order, func(c cached) bool {
		if c.owner == owner {
			b.cached -= c.bytes
		}
		return c.owner == owner
	})
}

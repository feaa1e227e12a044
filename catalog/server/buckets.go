package server

import (
	"sync"
	"time"
)

// buckets are the token buckets that bound freshening: one per table and one
// for all. A full bucket holds two seconds' worth.
type buckets struct {
	perTable, total float64
	now             func() time.Time

	mu     sync.Mutex
	all    bucket
	tables map[string]*bucket // at most tablesCachedMax; guarded by mu
}

type bucket struct {
	tokens float64
	at     time.Time
}

const burstSeconds = 2

func newBuckets(perTable, total float64, now func() time.Time) *buckets {
	return &buckets{perTable: perTable, total: total, now: now, tables: map[string]*bucket{},
		all: bucket{tokens: burstSeconds * total, at: now()}}
}

func (b *bucket) fill(rate float64, now time.Time) {
	b.tokens = min(burstSeconds*rate, b.tokens+rate*now.Sub(b.at).Seconds())
	b.at = now
}

// take tells whether the table may be freshened now, and counts it if so.
func (b *buckets) take(table string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	t := b.tables[table]
	if t == nil {
		if len(b.tables) >= tablesCachedMax {
			clear(b.tables) // crawlers are still held by the bucket for all
		}
		t = &bucket{tokens: burstSeconds * b.perTable, at: now}
		b.tables[table] = t
	}
	t.fill(b.perTable, now)
	b.all.fill(b.total, now)
	if t.tokens < 1 || b.all.tokens < 1 {
		return false
	}
	t.tokens--
	b.all.tokens--
	return true
}

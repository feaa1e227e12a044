package broker

import (
	"context"
	"fmt"
	"time"

	"tidewater/broker/cluster"
	"tidewater/internal/record"
	"tidewater/tiering/remote"
)

// cacheDir holds chunks of bucket objects; it is emptied at each start.
const cacheDir = "cache"

const (
	// aheadWorkers bounds the requests to the bucket that read ahead.
	aheadWorkers = 4
	// fillWorkers write chunks to the cache on disk.
	fillWorkers = 1
	// cacheShare is the part of Config.Memory for chunks in memory, and the
	// part for those that are being fetched.
	cacheShare = 8
	// sweepEvery is how often readers that went away are looked for.
	sweepEvery = 5 * time.Second
)

// openCache makes the cache of bucket chunks and the loops that read ahead and
// write to the disk beside the reads.
func (b *Broker) openCache() error {
	tokens := [remote.WorkCount]chan struct{}{remote.Ahead: make(chan struct{}, aheadWorkers), remote.Fill: make(chan struct{}, fillWorkers)}
	c, err := remote.OpenCache(remote.CacheConfig{
		FS: b.disk, Dir: cacheDir, BytesMax: b.cfg.CacheBytes,
		FetchBytesMax: b.cfg.Memory / cacheShare, MemoryBytesMax: b.cfg.Memory / cacheShare,
		Now: time.Now, Wake: func(w remote.Work) { wake(tokens[w]) },
	})
	if err != nil {
		return fmt.Errorf("open chunk cache: %w", err)
	}
	for w, token := range tokens {
		for range cap(token) {
			b.loops.Go(func() error { return workCache(b.done, c, remote.Work(w), token) })
		}
	}
	b.loops.Go(func() error { return every(b.done, sweepEvery, c.Sweep) })
	b.tier.cache = c
	return nil
}

// workCache does one kind of the cache's work whenever there is some. A token
// means that there may be work for one more.
func workCache(ctx context.Context, c *remote.Cache, w remote.Work, token <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-token:
		}
		for ctx.Err() == nil && c.Do(ctx, w) {
		}
	}
}

// remote is the part of a partition that is in the bucket.
func (t *tier) remote(topic *cluster.Topic, id record.PartitionID) *remote.Partition {
	return remote.New(remote.Config{Store: t.store, Dir: t.dir(topic.Name, id), Cache: t.cache})
}

package broker

import (
	"fmt"

	"tidewater/broker/cluster"
	"tidewater/internal/record"
	"tidewater/tiering/remote"
)

// cacheDir holds chunks of bucket objects; it is emptied at each start.
const cacheDir = "cache"

// openCache makes the disk cache of bucket chunks.
func (b *Broker) openCache() error {
	c, err := remote.OpenCache(remote.CacheConfig{FS: b.disk, Dir: cacheDir, BytesMax: b.cfg.CacheBytes, FetchBytesMax: b.cfg.Memory / 8})
	if err != nil {
		return fmt.Errorf("open chunk cache: %w", err)
	}
	b.tier.cache = c
	return nil
}

// remote is the part of a partition that is in the bucket.
func (t *tier) remote(topic *cluster.Topic, id record.PartitionID) *remote.Partition {
	return remote.New(remote.Config{Store: t.store, Dir: t.dir(topic.Name, id), Cache: t.cache})
}

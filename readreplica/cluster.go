package readreplica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
	"tidewater/tiering/remote"
)

// Topic is one tiered topic of the source.
type Topic struct {
	Name       string
	ID         record.TopicID
	Partitions int32
}

// Config of a followed cluster.
type Config struct {
	Store objstore.Store // may be read-only
	// Layout names tenant and cluster; its incarnation is found.
	Layout manifest.Layout
	// Topics reads the tiered topics out of the metadata blob.
	Topics func(blob []byte) ([]Topic, error)
	Cache  *remote.Cache
	// Changed, if not nil, is called from RunOnce after the topics changed or
	// the partitions were opened anew.
	Changed func([]Topic)
	// MemoryMax bounds tail bytes in memory, 0 is 256 MiB.
	MemoryMax int64
	// SweepEvery is the pause between looks for a new incarnation, metadata,
	// and series. 0 is 5 s.
	SweepEvery time.Duration
	// ManifestEvery is how often each partition's manifest is looked at although
	// nothing was announced. 0 is five minutes.
	ManifestEvery time.Duration
	Now           func() time.Time
}

const (
	defaultMemory        = 256 << 20
	defaultSweepEvery    = 5 * time.Second
	defaultManifestEvery = 5 * time.Minute
	// tailsPerRunMax bounds how many objects of one series one run reads.
	tailsPerRunMax = 32
)

// Cluster follows one foreign cluster.
type Cluster struct {
	cfg    Config
	layout manifest.Layout // Incarnation 0: nothing found yet
	meta   uint64
	series []*remote.TailReader // sorted as listed
	swept  time.Time

	mu     sync.Mutex
	topics []Topic
	parts  map[record.PartitionID]*follow // looked up by key; ids gives the order
	ids    []record.PartitionID
	heard  time.Time
	polled time.Time
}

// follow is one partition with what RunOnce needs of it.
type follow struct {
	*Partition
	src    *remote.Partition
	wanted uint64 // highest manifest number announced
	looked time.Time
}

// Open makes a cluster; it asks the bucket nothing before RunOnce.
func Open(cfg Config) *Cluster {
	if cfg.MemoryMax == 0 {
		cfg.MemoryMax = defaultMemory
	}
	if cfg.SweepEvery == 0 {
		cfg.SweepEvery = defaultSweepEvery
	}
	if cfg.ManifestEvery == 0 {
		cfg.ManifestEvery = defaultManifestEvery
	}
	return &Cluster{cfg: cfg, parts: map[record.PartitionID]*follow{}}
}

// Topics are those of the newest metadata read.
func (c *Cluster) Topics() []Topic {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.topics
}

// Partition gives one, nil if the source does not have it.
func (c *Cluster) Partition(id record.PartitionID) *Partition {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.parts[id]; f != nil {
		return f.Partition
	}
	return nil
}

// Incarnation is the one followed, 0 before the first.
func (c *Cluster) Incarnation() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.layout.Incarnation
}

// Heard is when the source last wrote a tail object that was read, by its
// clock, and when a poll last found nothing newer, by ours. When the second is
// recent the replica has all there is.
func (c *Cluster) Heard() (source, polled time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heard, c.polled
}

// Close ends all partitions. RunOnce must not run.
func (c *Cluster) Close() { c.reset(nil) }

// RunOnce reads what is new. Call it about twice a second.
func (c *Cluster) RunOnce(ctx context.Context) error {
	now := c.cfg.Now()
	if c.layout.Incarnation == 0 || now.Sub(c.swept) >= c.cfg.SweepEvery {
		if err := c.sweep(ctx); err != nil {
			return err
		}
		c.swept = now
	}
	var faults []error
	// New partitions first: where their manifests end, their tails begin.
	if err := c.readManifests(ctx, now); err != nil {
		faults = append(faults, err)
	}
	for _, r := range c.series {
		if err := c.readTails(ctx, r); err != nil {
			faults = append(faults, err)
		}
	}
	if err := c.readManifests(ctx, now); err != nil {
		faults = append(faults, err)
	}
	if len(faults) == 0 {
		c.mu.Lock()
		c.polled = now
		c.mu.Unlock()
	}
	return errors.Join(faults...)
}

// sweep looks for a newer incarnation, newer metadata, and other series.
func (c *Cluster) sweep(ctx context.Context) error {
	newest, err := newestComplete(ctx, c.cfg.Store, c.cfg.Layout, c.layout.Incarnation)
	if err != nil {
		return err
	}
	if newest != c.layout.Incarnation {
		c.reset(nil)
		c.mu.Lock()
		c.layout = c.cfg.Layout.At(newest)
		c.mu.Unlock()
		c.meta, c.series = 0, nil
	}
	if c.layout.Incarnation == 0 {
		return fmt.Errorf("follow cluster %s: no complete incarnation in the bucket: %w", manifest.ClusterName(c.cfg.Layout.ClusterID), objstore.ErrNotFound)
	}
	if err := c.readMetadata(ctx); err != nil {
		return err
	}
	return c.listSeries(ctx)
}

// newestComplete is the newest incarnation that has metadata.
func newestComplete(ctx context.Context, store objstore.Store, l manifest.Layout, known uint32) (uint32, error) {
	newest, err := manifest.NewestIncarnation(ctx, store, l)
	if err != nil {
		return 0, err
	}
	for n := newest; n > known; n-- {
		found, err := manifest.Newest(ctx, store, l.At(n).MetadataPrefix(), 0)
		if err != nil {
			return 0, err
		}
		if found > 0 {
			return n, nil
		}
	}
	return known, nil
}

func (c *Cluster) readMetadata(ctx context.Context) error {
	n, err := manifest.Newest(ctx, c.cfg.Store, c.layout.MetadataPrefix(), c.meta)
	if err != nil || n <= c.meta {
		return err
	}
	body, err := c.cfg.Store.Get(ctx, c.layout.Metadata(n), 0, -1)
	if errors.Is(err, objstore.ErrNotFound) {
		return nil // collected meanwhile; the next sweep sees a newer one
	}
	if err != nil {
		return fmt.Errorf("read cluster metadata %d: %w", n, err)
	}
	m, err := manifest.DecodeMetadata(body)
	if err != nil {
		return fmt.Errorf("read cluster metadata %d: %w", n, err)
	}
	topics, err := c.cfg.Topics(m.Blob)
	if err != nil {
		return fmt.Errorf("read topics of cluster metadata %d: %w", n, err)
	}
	c.meta = n
	c.reset(topics)
	return nil
}

// reset opens the partitions of topics and closes all others. New ones start
// empty; the series are read again from their oldest objects for them.
func (c *Cluster) reset(topics []Topic) {
	c.mu.Lock()
	old := c.parts
	oldIDs := c.ids
	same := slices.Equal(topics, c.topics)
	c.topics, c.parts, c.ids = topics, map[record.PartitionID]*follow{}, nil
	fresh := false
	for _, t := range topics {
		for n := range t.Partitions {
			id := record.PartitionID{Topic: t.ID, Partition: n}
			f := old[id]
			if f == nil {
				src := remote.New(remote.Config{Store: c.cfg.Store, Cache: c.cfg.Cache, Dir: manifest.Dir{Layout: c.layout, Topic: t.Name, ID: id}})
				f = &follow{Partition: newPartition(src, c.cfg.Layout.ClusterID), src: src}
				fresh = true
			}
			c.parts[id] = f
			c.ids = append(c.ids, id)
		}
	}
	kept := c.parts
	c.mu.Unlock()
	for _, id := range oldIDs {
		if kept[id] == nil {
			old[id].close()
		}
	}
	if fresh {
		c.series = nil
	}
	if c.cfg.Changed != nil && !same {
		c.cfg.Changed(topics)
	}
}

// listSeries follows the series that are there now.
func (c *Cluster) listSeries(ctx context.Context) error {
	list, err := manifest.ListSeries(ctx, c.cfg.Store, c.layout)
	if err != nil {
		return err
	}
	var readers []*remote.TailReader
	for _, s := range list {
		i := slices.IndexFunc(c.series, func(r *remote.TailReader) bool { return r.Series() == s })
		if i >= 0 {
			readers = append(readers, c.series[i])
		} else {
			readers = append(readers, remote.NewTailReader(c.cfg.Store, c.layout, s, c.cfg.Now))
		}
	}
	c.series = readers
	return nil
}

// readTails applies what is new in one series.
func (c *Cluster) readTails(ctx context.Context, r *remote.TailReader) error {
	for range tailsPerRunMax {
		if c.memory() > c.cfg.MemoryMax {
			return nil
		}
		t, err := r.Next(ctx)
		if err != nil || t == nil {
			return err
		}
		created := time.UnixMilli(t.Created)
		c.mu.Lock()
		if created.After(c.heard) {
			c.heard = created
		}
		c.mu.Unlock()
		for i := range t.Extents {
			x := &t.Extents[i]
			f := c.follow(x.Partition)
			if f == nil {
				continue
			}
			batches, err := t.Batches(x)
			if err != nil {
				return err
			}
			f.wanted = max(f.wanted, x.Manifest)
			f.apply(x, batches, created, c.cfg.Now())
		}
	}
	return nil
}

func (c *Cluster) follow(id record.PartitionID) *follow {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.parts[id]
}

func (c *Cluster) follows() []*follow {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*follow, 0, len(c.ids))
	for _, id := range c.ids {
		list = append(list, c.parts[id])
	}
	return list
}

func (c *Cluster) memory() int64 {
	var n int64
	for _, f := range c.follows() {
		n += f.Partition.memory()
	}
	return n
}

// readManifests follows those partitions of which a newer manifest was
// announced, new ones, and each of them now and then.
func (c *Cluster) readManifests(ctx context.Context, now time.Time) error {
	for _, f := range c.follows() {
		announced := f.wanted > f.known()
		if !announced && !f.looked.IsZero() && now.Sub(f.looked) < c.cfg.ManifestEvery {
			continue
		}
		if _, err := f.src.Refresh(ctx); err != nil {
			return err
		}
		f.looked = now
		f.covered(f.src.Manifest(), now)
	}
	return nil
}

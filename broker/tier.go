package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"tidewater/broker/cluster"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/archive"
	"tidewater/tiering/manifest"
	"tidewater/tiering/remote"
)

const (
	// connectTimeout bounds one try to take the bucket into use; connectEvery
	// is the pause after a try that failed.
	connectTimeout = 5 * time.Second
	connectEvery   = 2 * time.Second
	// archiveEvery is how often sealed segments are looked for; archiveWorkers
	// is how many partitions upload at a time.
	archiveEvery   = 200 * time.Millisecond
	archiveWorkers = 4
	rootEvery      = time.Second
	// scrubEvery is how often each partition's objects are compared with its
	// manifest; scrubGrace is how old an orphan must be: far longer than an
	// upload takes until its manifest is written.
	scrubEvery = 6 * time.Hour
	scrubGrace = 24 * time.Hour
	keepEvery  = time.Second
	// houseEvery is how often dead tail series and deleted topics are looked
	// for; sooner when the grace period is shorter.
	houseEvery = 30 * time.Second
)

// tier is this broker's side of the bucket. It can be opened while the bucket
// is unreachable: what needs it waits, everything else goes on.
type tier struct {
	cfg      Config
	store    objstore.Store
	layout   manifest.Layout
	node     int32
	identity identity
	log      *slog.Logger
	archives archive.Set
	passed   atomic.Bool // a newer incarnation owns the bucket

	cache *remote.Cache
	// turn holds a token for the one that may write tail objects.
	turn chan struct{}

	mu     sync.Mutex
	tails  *archive.Tails // nil until the bucket was taken into use
	series manifest.Series
	waits  []*hosted // opened before that
}

// openBucket makes the client and tries the bucket once; when it does not
// answer, a loop goes on trying.
func (b *Broker) openBucket(ctx context.Context) error {
	if b.cfg.Bucket == "" {
		if b.identity.InBucket {
			return fmt.Errorf("cluster %s in %s keeps records in a bucket: name it with --bucket", b.identity.Cluster, b.cfg.DataDir)
		}
		return nil
	}
	store, err := openStore(b.cfg)
	if err != nil {
		return err
	}
	b.tier = &tier{
		cfg: b.cfg, store: store, node: b.cfg.NodeID, identity: b.identity, log: b.log, turn: make(chan struct{}, 1),
		layout: manifest.Layout{ClusterID: b.identity.ClusterID, Incarnation: uint32(b.identity.Incarnation)},
	}
	if err := b.openCache(); err != nil {
		return err
	}
	if b.cfg.Replica {
		return nil // reads another cluster's prefix and writes nothing
	}
	try, stop := context.WithTimeout(ctx, connectTimeout)
	defer stop()
	err = b.tier.connect(try)
	if errors.Is(err, objstore.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		b.log.Warn("the bucket does not answer; tiered topics wait for it", "bucket", b.cfg.Bucket, "error", err)
		return nil
	}
	return err
}

// openStore makes a client for the configured bucket; it asks the store nothing.
func openStore(cfg Config) (objstore.Store, error) {
	s3, err := objstore.Parse(cfg.Bucket)
	if err != nil {
		return nil, fmt.Errorf("bucket: %w", err)
	}
	s3.AccessKey, s3.SecretKey = cfg.BucketAccessKey, cfg.BucketSecretKey
	store, err := objstore.OpenS3(s3)
	if err != nil {
		return nil, fmt.Errorf("bucket: %w", err)
	}
	return store, nil
}

// connect takes the bucket into use: it is fit for conditional writes, this
// incarnation is the newest, and a tail series is claimed for this process.
func (t *tier) connect(ctx context.Context) error {
	newest, err := manifest.NewestIncarnation(ctx, t.store, t.layout)
	if err != nil {
		return fmt.Errorf("look into the bucket: %w", err)
	}
	if newest == 0 && t.identity.InBucket {
		return fmt.Errorf("bucket %s does not know cluster %s, which has used a bucket before: is it the right one?", t.cfg.Bucket, t.identity.Cluster)
	}
	if newest == 0 {
		if newest, err = t.create(ctx); err != nil {
			return err
		}
	}
	if newest != t.layout.Incarnation {
		t.passed.Store(true)
		return fmt.Errorf("%w: the bucket is owned by incarnation %d of this cluster, this data directory is of incarnation %d: it was restored or promoted elsewhere", manifest.ErrFenced, newest, t.layout.Incarnation)
	}
	if !t.identity.InBucket {
		t.identity.InBucket = true
		if err := t.identity.save(t.cfg.DataDir); err != nil {
			return err
		}
	}
	series, err := manifest.ClaimSeries(ctx, t.store, t.layout, t.node, t.identity.Boot, fmt.Sprintf("%d-%016x", t.node, randomUint64()))
	if err != nil {
		return fmt.Errorf("claim a tail series: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.series = series
	t.tails = archive.NewTails(archive.TailsConfig{
		Store: t.store, Layout: t.layout, Series: series, Partitions: t.archives.List, Now: time.Now,
	})
	for _, h := range t.waits {
		t.add(h)
	}
	t.waits = nil
	return nil
}

// create probes a bucket that does not know this cluster and takes its first
// incarnation.
func (t *tier) create(ctx context.Context) (uint32, error) {
	writer := fmt.Sprintf("%016x", randomUint64())
	if err := objstore.Probe(ctx, t.store, writer); err != nil {
		return 0, fmt.Errorf("probe the bucket: %w", err)
	}
	now, err := t.store.Now(ctx)
	if err != nil {
		return 0, fmt.Errorf("take the cluster's first incarnation: %w", err)
	}
	// Found there, it is another broker's of this cluster, which came first.
	first := t.layout.At(1)
	r := manifest.Root{Header: first.Header(), Reason: manifest.ReasonCreate, Writer: writer, Created: now.UnixMilli()}
	if _, err := manifest.Create(ctx, t.store, first.Root(1), r.AppendTo(nil)); err != nil {
		return 0, fmt.Errorf("take the cluster's first incarnation: %w", err)
	}
	return 1, nil
}

// fenced implements partition.Config.Fenced.
func (t *tier) fenced() bool { return t.passed.Load() }

// host begins to archive a partition, now or when the bucket answers.
func (t *tier) host(h *hosted) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tails == nil {
		t.waits = append(t.waits, h)
		return
	}
	t.add(h)
}

// add is host with the lock held and the bucket in use.
func (t *tier) add(h *hosted) {
	source := archiveSource{h.Partition}
	t.archives.Add(archive.Led{Source: source, Archive: archive.NewPartition(archive.Config{
		Store: t.store, Dir: t.dir(h.topic, h.ID()), Source: source, Name: t.series.String(), Grace: t.cfg.DeleteGrace,
	})})
}

// drop ends the archiving of a partition.
func (t *tier) drop(id record.PartitionID) {
	t.archives.Remove(id)
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, h := range t.waits {
		if h.ID() == id {
			t.waits = append(t.waits[:i], t.waits[i+1:]...)
			return
		}
	}
}

func (t *tier) dir(topic string, id record.PartitionID) manifest.Dir {
	return manifest.Dir{Layout: t.layout, Topic: topic, ID: id}
}

// bucketEnd is how far the bucket is known to hold a partition: the bound of
// tables and cuts.
func (t *tier) bucketEnd(id record.PartitionID) record.Offset {
	t.mu.Lock()
	tails := t.tails
	t.mu.Unlock()
	if tails == nil {
		return 0
	}
	return tails.BucketEnd(id)
}

// bucketStart is the log start that the bucket was told: what was deleted below
// it stays deleted after a restore.
func (t *tier) bucketStart(id record.PartitionID) record.Offset {
	t.mu.Lock()
	tails := t.tails
	t.mu.Unlock()
	if tails == nil {
		return 0
	}
	return tails.BucketStart(id)
}

// confirmed is bucketEnd for cuts, where what is not known is not 0.
func (t *tier) confirmed(id record.PartitionID) record.Offset {
	t.mu.Lock()
	tails := t.tails
	t.mu.Unlock()
	if tails != nil {
		if end, ok := tails.Confirmed(id); ok {
			return end
		}
	}
	return archive.EndUnknown
}

// uploadTail has everything that is committed now brought to the bucket.
func (t *tier) uploadTail(ctx context.Context) error {
	t.mu.Lock()
	tails := t.tails
	t.mu.Unlock()
	if tails == nil {
		return errNoBucket
	}
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-t.turn }()
	return tails.RunOnce(ctx)
}

// errNoBucket: the bucket has not answered since the start.
var errNoBucket = errors.New("the bucket was not reached yet")

// openTier runs the loops of the bucket.
func (b *Broker) openTier() {
	t := b.tier
	if t == nil || b.cfg.Replica {
		return
	}
	b.loop("archive", archiveEvery, func(ctx context.Context) error { return t.archives.RunWith(ctx, archiveWorkers) })
	b.loop("tail", b.cfg.TailEvery, func(ctx context.Context) error {
		if !t.connected() {
			return t.connect(ctx)
		}
		return t.uploadTail(ctx)
	})
	watch := &archive.RootWatch{Store: t.store, Layout: t.layout, Passed: func(err error) {
		if !t.passed.Swap(true) {
			b.log.Error("a newer incarnation of this cluster owns the bucket; tiered topics are not acked any more", "error", err)
		}
	}}
	b.loop("root", rootEvery, func(ctx context.Context) error {
		if err := watch.RunOnce(ctx); !errors.Is(err, manifest.ErrFenced) {
			return err
		}
		return nil
	})
	b.loops.Go(func() error { t.scrub(b.done); return nil })
	keeper := archive.NewKeeper(b.keeperConfig())
	b.loop("keeper", keepEvery, func(ctx context.Context) error {
		if !t.connected() {
			return nil
		}
		return keeper.RunOnce(ctx)
	})
}

// scrub compares the bucket with the manifests now and then: it collects
// orphans and tells what is missing.
func (t *tier) scrub(ctx context.Context) {
	tick := time.NewTicker(scrubEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, led := range t.archives.List() {
			if m := led.Source.Marks(); !m.Leading || ctx.Err() != nil {
				continue
			}
			dir := led.Archive.Dir()
			report, err := archive.Scrub(ctx, t.store, dir, scrubGrace, true)
			if err != nil {
				t.log.Warn("a partition's objects could not be scrubbed", "topic", dir.Topic, "partition", dir.ID.Partition, "error", err)
				continue
			}
			for _, key := range report.Missing {
				t.log.Error("the bucket lacks an object that the manifest names", "topic", dir.Topic, "partition", dir.ID.Partition, "object", key)
			}
		}
	}
}

func (t *tier) connected() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tails != nil
}

// loop runs a step again and again until the broker closes.
func (b *Broker) loop(name string, every time.Duration, step func(context.Context) error) *archive.Loop {
	l := archive.NewLoop(name, every, b.log, step)
	b.loops.Go(func() error {
		_ = l.Run(b.done) // ends with the broker, and for no other reason
		return nil
	})
	return l
}

// keeperConfig wires the controller to its part in the bucket.
func (b *Broker) keeperConfig() archive.KeeperConfig {
	t := b.tier
	return archive.KeeperConfig{
		Store: t.store, Layout: t.layout, Now: time.Now, TopicGrace: b.cfg.DeleteGrace,
		HouseEvery: min(houseEvery, max(b.cfg.DeleteGrace, keepEvery)),
		Leading: func() (record.LeaderEpoch, bool) {
			l := b.controller.Leadership()
			return record.LeaderEpoch(l.Term), l.Leading && l.Ready
		},
		State: func() (archive.ClusterState, error) {
			v := b.controller.View()
			return archive.ClusterState{Blob: v.Export(), NextProducerID: v.NextProducerID()}, nil
		},
		Ends: b.cutEnds, Live: b.liveSeries,
		Gone: func(node int32) bool { return b.controller.View().Broker(node) == nil },
	}
}

// topicsChanged follows deletions: groups forget the topic's offsets, the
// bucket keeps its objects for the grace period, the table goes if asked.
func (b *Broker) topicsChanged(ctx context.Context, v *cluster.View) {
	if b.tables != nil {
		b.tables.sync(ctx, v)
	}
	for _, d := range v.Deletions() {
		b.ends.forget(d.Topic)
		if l := b.controller.Leadership(); b.parts.forgotten[d.Topic] || !l.Leading || !l.Ready {
			continue // the controller's leader does it
		}
		if err := b.forgetTopic(ctx, d); err != nil {
			if ctx.Err() == nil {
				b.log.Warn("a deleted topic could not be cleared and will be again", "topic", d.Name, "error", err)
			}
			time.AfterFunc(connectEvery, func() { wake(b.topics) })
			continue
		}
		b.parts.forgotten[d.Topic] = true
	}
}

func (b *Broker) forgetTopic(ctx context.Context, d *cluster.Deletion) error {
	// The newest view: while the bucket was waited for, the name may have been
	// given again, and the offsets be the new topic's.
	if b.controller.View().TopicByName(d.Name) == nil {
		if err := b.forgetOffsets(ctx, []string{d.Name}); err != nil {
			return err
		}
	}
	if b.tables != nil && d.Namespace != "" && !d.KeepTable {
		if err := b.tables.dropTable(ctx, d); err != nil {
			return err
		}
	}
	if b.tier != nil && d.Tiered && !d.KeepObjects {
		if err := archive.MarkDeleted(ctx, b.tier.store, b.tier.layout, d.Name, d.Topic); err != nil {
			return err
		}
	}
	return b.controller.ForgetDeletions(ctx, []record.TopicID{d.Topic})
}

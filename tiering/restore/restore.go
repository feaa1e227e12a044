package restore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tidewater/internal/logio"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// ErrNothing: the bucket holds no complete cluster to restore.
var ErrNothing = errors.New("bucket holds nothing to restore")

// Topic is one topic of the cluster metadata that is tiered.
type Topic struct {
	Name       string
	ID         record.TopicID
	Partitions int32
}

// Config of a restore.
type Config struct {
	Store objstore.Store
	// Tenant and ClusterID say whose log; a zero ClusterID takes the only
	// cluster that the tenant has in the bucket.
	Tenant    string
	ClusterID [16]byte
	// Topics reads the tiered topics out of the metadata blob, whose format
	// belongs to broker/cluster.
	Topics func(blob []byte) ([]Topic, error)
	// Writer is unique to this restore.
	Writer string
	// Reason is manifest.ReasonRestore if zero.
	Reason manifest.Reason
	// Fence, if not nil, is called when the incarnation l is taken and before
	// anything is read of how far the bucket holds the logs. What else may
	// depend on the old cluster's logs (tables) is taken from it there: a
	// broker that still runs must not move it past what is restored. blob is
	// the cluster's metadata.
	Fence func(ctx context.Context, l manifest.Layout, blob []byte) error
	// Progress, if not nil, is told after each partition.
	Progress func(done, all int)
	Now      func() time.Time
}

const (
	// termGap is kept above every epoch seen: the old leaders may have won
	// terms of which nothing reached the bucket.
	termGap = 64
	// idGap is the same for producer and schema ids.
	idGap = 1 << 20
)

// Plan is what package broker applies.
type Plan struct {
	Layout manifest.Layout // of the new incarnation
	Source manifest.Layout // of the one it continues
	// Blob is the controller's state to import.
	Blob []byte
	// Metadata and Cut are what the restore went by; Cut is nil if there was none.
	Metadata *manifest.Metadata
	Cut      *manifest.Cut
	// NextProducerID and NextSchemaID are safe to hand out from.
	NextProducerID, NextSchemaID int64
	// Partitions are sorted as the topics came, then by number.
	Partitions []Partition
	// Unlisted are partitions with tail data whose topic the metadata does not
	// know: made in the last second, or deleted.
	Unlisted []record.PartitionID
	// NewestTail is when the newest tail object was made, by its writer's
	// clock, milliseconds since the Unix epoch: what was acked later is lost.
	NewestTail int64
}

// Partition is how one partition goes on. Its local log starts empty at End;
// everything below is read through Dir by tiering/remote.
type Partition struct {
	Dir      manifest.Dir // in the new incarnation
	LogStart record.Offset
	End      record.Offset
	// Manifest covers everything below End.
	Manifest uint64
	// FloorTerm: the group's first term must be greater.
	FloorTerm record.LeaderEpoch
	Epochs    []logio.EpochStart
	// Snapshot is the producer state before SnapshotAt; the batches from there
	// to End are to be replayed (remote.Partition.Scan). Empty: none, replay
	// from SnapshotAt, which is then the log's start in the bucket.
	Snapshot   []byte
	SnapshotAt record.Offset
	// TailBytes of TailRecords offsets were in tail objects only.
	TailBytes, TailRecords int64
}

// Run makes the plan and takes the new incarnation.
func Run(ctx context.Context, cfg Config) (*Plan, error) {
	if cfg.Reason == 0 {
		cfg.Reason = manifest.ReasonRestore
	}
	source, err := Find(ctx, cfg.Store, cfg.Tenant, cfg.ClusterID)
	if err != nil {
		return nil, err
	}
	layout, err := manifest.TakeIncarnation(ctx, cfg.Store, source, source.Incarnation, cfg.Reason, cfg.Writer)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Layout: layout, Source: source}
	if plan.Metadata, err = manifest.NewestMetadata(ctx, cfg.Store, source); err != nil {
		return nil, err
	}
	plan.Blob = plan.Metadata.Blob
	if cfg.Fence != nil {
		if err := cfg.Fence(ctx, layout, plan.Blob); err != nil {
			return nil, fmt.Errorf("fence what depends on the old cluster: %w", err)
		}
	}
	if plan.Cut, err = manifest.NewestCut(ctx, cfg.Store, source); err != nil && !errors.Is(err, objstore.ErrNotFound) {
		return nil, err
	}
	topics, err := cfg.Topics(plan.Blob)
	if err != nil {
		return nil, fmt.Errorf("read topics of cluster metadata %d: %w", plan.Metadata.Number, err)
	}
	tails, err := readTails(ctx, cfg.Store, source, cfg.Now)
	if err != nil {
		return nil, err
	}
	plan.NewestTail = tails.newest
	if err := plan.partitions(ctx, cfg, topics, tails); err != nil {
		return nil, err
	}
	return plan, plan.complete(ctx, cfg, tails)
}

// Find gives the newest complete incarnation of a cluster, or of the only
// cluster of the tenant.
func Find(ctx context.Context, store objstore.Store, tenant string, id [16]byte) (manifest.Layout, error) {
	l := manifest.Layout{Tenant: tenant, ClusterID: id}
	if id == ([16]byte{}) {
		ids, err := Clusters(ctx, store, tenant)
		switch {
		case err != nil:
			return l, err
		case len(ids) == 0:
			return l, ErrNothing
		case len(ids) > 1:
			var names []string
			for _, id := range ids {
				names = append(names, manifest.ClusterName(id))
			}
			return l, fmt.Errorf("bucket holds %d clusters, name one of: %s", len(ids), strings.Join(names, ", "))
		}
		l.ClusterID = ids[0]
	}
	newest, err := manifest.NewestIncarnation(ctx, store, l)
	if err != nil {
		return l, err
	}
	for n := newest; n > 0; n-- {
		found, err := manifest.Newest(ctx, store, l.At(n).MetadataPrefix(), 0)
		if err != nil {
			return l, err
		}
		if found > 0 {
			return l.At(n), nil
		}
	}
	return l, fmt.Errorf("cluster %s: %w", manifest.ClusterName(l.ClusterID), ErrNothing)
}

// Clusters lists the clusters of a tenant, one request per cluster.
func Clusters(ctx context.Context, store objstore.Store, tenant string) ([][16]byte, error) {
	if tenant == "" {
		tenant = manifest.DefaultTenant
	}
	prefix := tenant + "/"
	var ids [][16]byte
	for after := ""; ; {
		page, err := store.List(ctx, prefix, after, 1)
		if err != nil {
			return nil, fmt.Errorf("list clusters: %w", err)
		}
		if len(page.Objects) == 0 {
			return ids, nil
		}
		name, _, ok := strings.Cut(page.Objects[0].Key[len(prefix):], "/")
		if id, err := manifest.ParseClusterName(name); ok && err == nil {
			ids = append(ids, id)
		}
		// '0' follows '/': the first key after everything of this cluster.
		after = prefix + name + "0"
		if !ok {
			after = page.Objects[0].Key
		}
	}
}

// partitions recovers every partition of every topic.
func (plan *Plan) partitions(ctx context.Context, cfg Config, topics []Topic, tails *tails) error {
	all, done := 0, 0
	for _, t := range topics {
		all += int(t.Partitions)
	}
	for _, t := range topics {
		for n := range t.Partitions {
			r := &recovery{cfg: cfg, plan: plan, dir: manifest.Dir{Layout: plan.Source, Topic: t.Name, ID: record.PartitionID{Topic: t.ID, Partition: n}}}
			p, err := r.run(ctx, tails.take(r.dir.ID))
			if err != nil {
				return fmt.Errorf("restore %s-%d: %w", t.Name, n, err)
			}
			plan.Partitions = append(plan.Partitions, p)
			plan.NextProducerID = max(plan.NextProducerID, r.maxProducer+1)
			if done++; cfg.Progress != nil {
				cfg.Progress(done, all)
			}
		}
	}
	plan.Unlisted = tails.left()
	return nil
}

// complete fixes the counters and makes the incarnation one that a later
// restore can start from.
func (plan *Plan) complete(ctx context.Context, cfg Config, tails *tails) error {
	plan.NextProducerID = max(plan.NextProducerID, plan.Metadata.NextProducerID, tails.maxProducer+1) + idGap
	plan.NextSchemaID = plan.Metadata.NextSchemaID
	m := manifest.Metadata{
		Header: plan.Layout.Header(), Number: 1, Epoch: 0, Created: cfg.Now().UnixMilli(),
		NextProducerID: plan.NextProducerID, NextSchemaID: plan.NextSchemaID, Blob: plan.Blob,
	}
	if err := manifest.PutNew(ctx, cfg.Store, plan.Layout.Metadata(1), m.AppendTo(nil)); err != nil {
		return fmt.Errorf("complete incarnation %d: %w", plan.Layout.Incarnation, err)
	}
	return nil
}

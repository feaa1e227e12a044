package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tidewater/broker/cluster"
	"tidewater/broker/partition"
	"tidewater/broker/segment"
	"tidewater/internal/disk"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/remote"
	"tidewater/tiering/restore"
)

// restoreFile holds what a restore found, until every partition has begun from
// it. It is written before the identity: a data directory without identity is
// empty, whatever else lies in it.
const restoreFile = "restore.json"

// restorePlan is restoreFile: what each partition of a restored cluster begins with.
type restorePlan struct {
	Version        int                `json:"version"`
	Metadata       []byte             `json:"metadata"` // cluster.View as exported
	NextProducerID int64              `json:"next_producer_id"`
	Partitions     []restorePartition `json:"partitions"`

	byID map[record.PartitionID]*partition.Restored
}

type restorePartition struct {
	ID       record.PartitionID
	Restored partition.Restored
}

const restoreVersion = 1

// RestoreReport says what a restore brought back.
type RestoreReport struct {
	ClusterID   string
	Incarnation uint32 // the new one
	Source      uint32 // the one that was continued
	Topics      int
	Partitions  int
	Records     int64 // offsets from the logs' starts to their ends
	TailRecords int64 // of them, in tail objects only
	TailBytes   int64
	// NewestTail is when the source last wrote to the bucket, by its clock;
	// what it acked later is lost. Zero if it never wrote a tail object.
	NewestTail time.Time
	// Unlisted are partitions with data whose topic the metadata lacks.
	Unlisted []string
}

// Restore makes an empty data directory continue the cluster that a bucket
// holds (ReplicaOf's id of it, or the only one). It takes a new incarnation:
// from then on the old cluster is fenced. No segment is copied.
func Restore(ctx context.Context, cfg Config, progress func(done, all int)) (*RestoreReport, error) {
	if cfg.Bucket == "" {
		return nil, errors.New("bucket: a restore needs the bucket to restore from")
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	local, err := disk.NewOS(cfg.DataDir, slog.Default())
	if err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", cfg.DataDir, err)
	}
	if _, found, err := loadIdentity(cfg.DataDir); err != nil || found {
		return nil, errors.Join(err, fmt.Errorf("data directory %s belongs to a cluster already: a restore needs an empty one", cfg.DataDir))
	}
	locked, err := lockDirs(&cfg) // further ones are empty, or it refuses
	if err != nil {
		return nil, err
	}
	defer locked.unlock()
	if err := onlyRestored(cfg.DataDir); err != nil {
		return nil, err
	}
	r := restorer{cfg: cfg, fs: local, disk: locked.identity.Disk}
	if r.store, err = openStore(cfg); err != nil {
		return nil, err
	}
	found, err := r.find(ctx, progress)
	if err != nil {
		return nil, fmt.Errorf("restore from %s: %w", cfg.Bucket, err)
	}
	if err := r.save(ctx, found); err != nil {
		return nil, err
	}
	return r.report(found), nil
}

// onlyRestored refuses a directory that holds what a restore that was cut off
// cannot have left: it is likely not the one that was meant, and a restore
// fences the cluster it continues.
func onlyRestored(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read data directory: %w", err)
	}
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), ".new-") // a file that writeFile was at
		if !slices.Contains([]string{disk.LockFile, cacheDir, restoreFile, identityFile, "lost+found"}, name) {
			return fmt.Errorf("data directory %s is not empty (it holds %s): a restore needs an empty one", dir, e.Name())
		}
	}
	return nil
}

// restorer is one restore under way.
type restorer struct {
	cfg   Config
	fs    disk.FS
	disk  diskID // names the new directory
	store objstore.Store
}

// find reads the bucket and takes the new incarnation.
func (r *restorer) find(ctx context.Context, progress func(done, all int)) (*restore.Plan, error) {
	c := restore.Config{Store: r.store, Topics: tieredTopics, Fence: r.takeTables, Writer: fmt.Sprintf("%016x", randomUint64()), Progress: progress, Now: time.Now}
	if r.cfg.ReplicaOf != "" {
		var err error
		if c.ClusterID, err = parseClusterID(r.cfg.ReplicaOf); err != nil {
			return nil, err
		}
	}
	return restore.Run(ctx, c)
}

// save writes the plan, then the identity that makes it count.
func (r *restorer) save(ctx context.Context, found *restore.Plan) error {
	cache, err := remote.OpenCache(remote.CacheConfig{FS: r.fs, Dir: cacheDir, BytesMax: r.cfg.CacheBytes})
	if err != nil {
		return fmt.Errorf("open chunk cache: %w", err)
	}
	plan := restorePlan{Version: restoreVersion, Metadata: found.Blob, NextProducerID: found.NextProducerID}
	for _, p := range found.Partitions {
		begun, err := r.begin(ctx, cache, &p)
		if err != nil {
			return fmt.Errorf("restore %s-%d: %w", p.Dir.Topic, p.Dir.ID.Partition, err)
		}
		plan.Partitions = append(plan.Partitions, restorePartition{p.Dir.ID, *begun})
	}
	text, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(r.cfg.DataDir, restoreFile), text); err != nil {
		return err
	}
	id := identity{Version: identityVersion, ClusterID: found.Layout.ClusterID, Cluster: clusterName(found.Layout.ClusterID),
		Incarnation: uint64(found.Layout.Incarnation), NodeID: r.cfg.NodeID, Disk: r.disk, InBucket: true}
	return id.save(r.cfg.DataDir)
}

// begin works out what one partition goes on with.
func (r *restorer) begin(ctx context.Context, cache *remote.Cache, p *restore.Partition) (*partition.Restored, error) {
	who := segment.Identity{ClusterID: p.Dir.Layout.ClusterID, Incarnation: uint64(p.Dir.Layout.Incarnation), Partition: p.Dir.ID}
	log := remote.New(remote.Config{Store: r.store, Dir: p.Dir, Cache: cache})
	snapshot, err := partition.ReplaySnapshot(ctx, who, p.Snapshot, p.End, time.Now().UnixMilli(), func(ctx context.Context, fn func(record.Batch) error) error {
		return log.Scan(ctx, p.SnapshotAt, p.End, fn)
	})
	if err != nil {
		return nil, err
	}
	return &partition.Restored{
		Next: p.End, LogStart: p.LogStart, Archived: p.End, Manifest: p.Manifest, Epochs: p.Epochs,
		Producers: snapshot, FloorTerm: uint64(max(p.FloorTerm, 0)),
	}, nil
}

func (r *restorer) report(found *restore.Plan) *RestoreReport {
	out := &RestoreReport{ClusterID: clusterName(found.Layout.ClusterID), Incarnation: found.Layout.Incarnation, Source: found.Source.Incarnation, Partitions: len(found.Partitions)}
	topics := map[record.TopicID]bool{}
	for _, p := range found.Partitions {
		topics[p.Dir.ID.Topic] = true
		out.Records += int64(p.End - p.LogStart)
		out.TailRecords += p.TailRecords
		out.TailBytes += p.TailBytes
	}
	out.Topics = len(topics)
	if found.NewestTail > 0 {
		out.NewestTail = time.UnixMilli(found.NewestTail)
	}
	for _, id := range found.Unlisted {
		out.Unlisted = append(out.Unlisted, id.String())
	}
	return out
}

// loadRestore reads the plan of a restored data directory; nil if there is none.
func loadRestore(dir string) (*restorePlan, error) {
	path := filepath.Join(dir, restoreFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	plan := &restorePlan{byID: map[record.PartitionID]*partition.Restored{}}
	if err := json.Unmarshal(text, plan); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if plan.Version != restoreVersion {
		return nil, fmt.Errorf("%s has version %d, this build reads %d: start with the build that restored", path, plan.Version, restoreVersion)
	}
	for i := range plan.Partitions {
		p := &plan.Partitions[i]
		plan.byID[p.ID] = &p.Restored
	}
	return plan, nil
}

// partition is what a partition begins with, nil for one that was not restored.
func (p *restorePlan) partition(id record.PartitionID) *partition.Restored {
	if p == nil {
		return nil
	}
	return p.byID[id]
}

// finishRestore imports the old life's metadata into a controller that was
// bootstrapped for it; it goes on where a start that was cut off stopped.
func (b *Broker) finishRestore(ctx context.Context) error {
	if !b.controller.View().Restoring() {
		return nil
	}
	if b.restored == nil {
		return fmt.Errorf("the controller of %s waits for a restore, but %s is gone: restore into an empty directory", b.cfg.DataDir, restoreFile)
	}
	from, err := cluster.DecodeView(b.restored.Metadata)
	if err != nil {
		return fmt.Errorf("read restored metadata: %w", err)
	}
	if err := b.register(ctx, b.cfg.KafkaAddr); err != nil { // replicas are placed on brokers that are known
		return err
	}
	return b.controller.Import(ctx, from, cluster.ImportOptions{ProducerIDFloor: b.restored.NextProducerID})
}

// forgetRestore removes the plan once every partition in it has begun: its
// group leads, so its start is in the journal. Before that, groups forget
// their offsets in topics that were not in the bucket and begin anew.
func (b *Broker) forgetRestore() error {
	if b.restored == nil {
		return nil
	}
	for id := range b.restored.byID {
		h, err := b.parts.get(id)
		if err == nil && !h.Leadership().Ready {
			return nil
		}
	}
	if b.offsetsLoaded(b.leadsHere) != nil {
		time.AfterFunc(restoreAgain, b.wakeController)
		return nil
	}
	lost, err := b.restored.lostTopics()
	if err != nil {
		return err
	}
	b.groups.DeleteTopics(lost)
	if err := os.Remove(filepath.Join(b.cfg.DataDir, restoreFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", restoreFile, err)
	}
	b.restored = nil
	return nil
}

// restoreAgain is the pause between looks whether the groups are loaded.
const restoreAgain = 100 * time.Millisecond

// lostTopics are the topics of the old life whose records the bucket did not hold.
func (p *restorePlan) lostTopics() ([]string, error) {
	v, err := cluster.DecodeView(p.Metadata)
	if err != nil {
		return nil, fmt.Errorf("read restored metadata: %w", err)
	}
	var lost []string
	for _, t := range v.Topics() {
		if p.byID[record.PartitionID{Topic: t.ID}] == nil {
			lost = append(lost, t.Name)
		}
	}
	return lost, nil
}

package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidewater/broker/partition"
	"tidewater/broker/segment"
	"tidewater/iceberg/commit"
	"tidewater/internal/disk"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
	"tidewater/tiering/remote"
	"tidewater/tiering/restore"
)

// incarnationTaken is called when a root was stored: whatever runs now is of
// the past, and what it had confirmed must be restored.
func (w *world) incarnationTaken() {
	for _, t := range w.parts {
		t.frozen = t.confirmed
	}
	if w.active != nil {
		w.active.zombie = true
	}
}

// lose gives up the data directory, with the broker on it or, if stays, only
// the directory's right to go on; a restore follows.
func (w *world) lose(stays bool) {
	numbers, err := manifest.Numbers(context.Background(), w.ground.Mem, w.active.layout.MetadataPrefix(), 1)
	if w.restoring || err != nil || len(numbers) == 0 {
		return // without metadata there is nothing to restore, and nobody promised
	}
	w.restoring = true
	w.say("the directory of incarnation %d is lost, its broker stays: %t", w.active.layout.Incarnation, stays)
	if stays {
		w.stats.Zombies++
	} else {
		w.active.lose()
	}
	w.after(w.millis(10, 400), func() { w.tryRestore(context.Background()) })
}

// errDied: the restore was killed.
var errDied = errors.New("the restoring process died")

// tryRestore restores into an empty directory, again after a while if it fails.
func (w *world) tryRestore(ctx context.Context) {
	c, err := w.restore(ctx)
	if w.failed() {
		return
	}
	if err != nil {
		w.say("restore: %v", err)
		w.after(w.millis(200, 800), func() { w.tryRestore(ctx) })
		return
	}
	old := w.active
	w.active, w.restoring = c, false
	w.restores++
	w.stats.Restores++
	w.say("restored as incarnation %d", c.layout.Incarnation)
	w.checkTableHeld(ctx)
	if !old.lost && !w.closing {
		p := w.newProducer(w.rng.IntN(len(w.parts)), false)
		p.cluster = old
	}
	c.boot()
}

// restore is what `tidewater restore` does: the plan, then what each partition
// goes on with. It may die at any call.
func (w *world) restore(ctx context.Context) (c *cluster, err error) {
	fuse := 0
	if !w.closing && w.rng.IntN(3) == 0 {
		fuse = 1 + w.rng.IntN(60)
	}
	store := w.bucketFor(func(objstore.Call, bool) {
		if fuse--; fuse == 0 {
			panic(errDied)
		}
	}, func(d time.Duration) { w.runUntil(w.now.Add(d)) })
	defer func() {
		if r := recover(); r == errDied {
			err = errDied
		} else if r != nil {
			panic(r)
		}
	}()
	plan, err := restore.Run(ctx, restore.Config{
		Store: store, ClusterID: w.ids.cluster, Writer: fmt.Sprintf("restore %016x", w.rng.Uint64()), Now: w.clock,
		Fence: func(ctx context.Context, l manifest.Layout, _ []byte) error {
			tables, err := w.newCatalog(store, l)
			if err != nil {
				return err
			}
			return tables.TakeOver(ctx, tableIdent())
		},
		Topics: func(blob []byte) ([]restore.Topic, error) {
			return []restore.Topic{{Name: string(blob), ID: w.ids.topic, Partitions: int32(len(w.parts))}}, nil
		},
	})
	if err != nil {
		if errors.Is(err, restore.ErrNothing) || errors.Is(err, manifest.ErrCorrupt) {
			w.violate(held, "restore: %v", err)
		}
		return nil, err
	}
	cache, err := remote.OpenCache(remote.CacheConfig{FS: disk.NewMem(diskBytes), Dir: "cache", BytesMax: 64 << 10, FreeBytesMin: 1})
	if err != nil {
		return nil, err
	}
	restored := map[record.PartitionID]*partition.Restored{}
	for i := range plan.Partitions {
		p := &plan.Partitions[i]
		if restored[p.Dir.ID], err = w.beginning(ctx, store, cache, p); err != nil {
			return nil, err
		}
	}
	w.applyPlan(plan)
	return w.newCluster(plan.Layout, restored), nil
}

// beginning works out what one partition goes on with.
func (w *world) beginning(ctx context.Context, store objstore.Store, cache *remote.Cache, p *restore.Partition) (*partition.Restored, error) {
	who := segment.Identity{ClusterID: w.ids.cluster, Incarnation: uint64(p.Dir.Layout.Incarnation), Partition: p.Dir.ID}
	log := remote.New(remote.Config{Store: store, Dir: p.Dir, Cache: cache})
	snapshot, err := partition.ReplaySnapshot(ctx, who, p.Snapshot, p.End, w.now.UnixMilli(), func(ctx context.Context, fn func(record.Batch) error) error {
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

// applyPlan checks a plan against the truth, and makes it the truth.
func (w *world) applyPlan(plan *restore.Plan) {
	if plan.NextProducerID < w.nextPID {
		w.violate(once, "restored producer ids begin at %d, %d were handed out", plan.NextProducerID, w.nextPID)
	}
	w.nextPID = plan.NextProducerID
	for i := range plan.Partitions {
		p := &plan.Partitions[i]
		w.say("partition %d restored as [%d, %d), of it %d offsets from tails", p.Dir.ID.Partition, p.LogStart, p.End, p.TailRecords)
		w.parts[p.Dir.ID.Partition].cut(w, p.LogStart, p.End)
	}
}

// checkTableHeld holds that the table does not pass what the bucket holds of
// the newest incarnation.
func (w *world) checkTableHeld(ctx context.Context) {
	if w.restoring {
		return // which incarnation counts is being decided
	}
	t, err := w.tables.LoadTable(ctx, tableIdent())
	if err != nil {
		return // not made yet
	}
	o, err := commit.ParseOffsets(t.Metadata.Properties()[commit.PropertyOffsets])
	if err != nil {
		w.violate(rows, "read the table's offsets: %v", err)
		return
	}
	for _, p := range w.parts {
		m, ok := o.Marks[p.id.Partition]
		if !ok {
			continue
		}
		if end := w.held(ctx, w.active.layout, p.id); m.End > end {
			w.violateUnlessBlind(past, "%d: the table has come to %d, the bucket holds up to %d", p.id.Partition, m.End, end)
		}
	}
}

package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidewater/broker/partition"
	"tidewater/catalog"
	"tidewater/catalog/server"
	"tidewater/iceberg/commit"
	"tidewater/iceberg/tablefs"
	"tidewater/iceberg/translate"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/archive"
	"tidewater/tiering/manifest"
	"tidewater/tiering/remote"
)

// tier is one life's side of the bucket.
type tier struct {
	cache     *remote.Cache
	passed    bool // a newer incarnation owns the bucket
	series    manifest.Series
	set       archive.Set
	tails     *archive.Tails
	keeper    *archive.Keeper
	committer *commit.Committer
	errs      map[string]error // of each actor's last turn
}

// source is a partition as the archive sees it.
type source struct{ *partition.Partition }

func (s source) Marks() archive.Marks {
	o, leading := s.Partition.Marks()
	return archive.Marks{Offsets: o, Leading: leading}
}

func (s source) Sealed(from record.Offset) []archive.Segment {
	local := s.Partition.Sealed(from)
	out := make([]archive.Segment, len(local))
	for i, l := range local {
		out[i] = archive.Segment(l)
	}
	return out
}

func (s source) History(ctx context.Context, base, end record.Offset) (archive.History, error) {
	h, err := s.Partition.History(ctx, base, end)
	return archive.History(h), err
}

// connect takes the bucket into use, as package broker does at its start.
func (l *life) connect(ctx context.Context) error {
	w, t := l.w, &l.tier
	newest, err := manifest.NewestIncarnation(ctx, l.bucket, l.node.layout)
	if err != nil {
		return err
	}
	if newest != l.node.layout.Incarnation {
		l.pass()
		return nil
	}
	series := l.node.series
	if !w.cfg.Archive.ReuseTailSeries || series == (manifest.Series{}) {
		series, err = manifest.ClaimSeries(ctx, l.bucket, l.node.layout, l.node.id, 1, fmt.Sprintf("writer %016x", w.rng.Uint64()))
		if err != nil {
			return err
		}
		l.node.series = series
	}
	t.series = series
	for _, p := range l.parts {
		s := source{p.Partition}
		t.set.Add(archive.Led{Source: s, Archive: archive.NewPartition(archive.Config{
			Store: l.bucket, Dir: l.dir(p.ID()), Source: s, Name: series.String(), Grace: 3 * time.Second, KeepManifests: 6,
			EntriesMax: 8, Now: w.clock, Faults: w.cfg.Archive,
		})})
	}
	t.keeper = archive.NewKeeper(l.keeperConfig())
	if t.committer, err = l.newCommitter(); err != nil {
		return err
	}
	t.tails = archive.NewTails(archive.TailsConfig{
		Store: l.bucket, Layout: l.node.layout, Series: series, Partitions: t.set.List, Now: w.clock, Faults: w.cfg.Archive,
		PartitionBytesMax: w.shape.TailBytesMax, Grace: 3 * time.Second, TrimEvery: 2 * time.Second, SignOfLife: 4 * time.Second,
	})
	return nil
}

func (l *life) keeperConfig() archive.KeeperConfig {
	w := l.w
	return archive.KeeperConfig{
		Store: l.bucket, Layout: l.node.layout, Now: w.clock, TailGrace: 3 * time.Second, HouseEvery: 5 * time.Second,
		Leading: func() (record.LeaderEpoch, bool) { return record.LeaderEpoch(l.boot), true },
		State: func() (archive.ClusterState, error) {
			return archive.ClusterState{Blob: []byte(topicName), NextProducerID: w.nextPID}, nil
		},
		Ends: func(_ context.Context, class manifest.Class) ([]manifest.CutEnd, error) {
			var ends []manifest.CutEnd
			for _, led := range l.tier.set.List() {
				if d := led.Archive.Dir(); manifest.ClassOf(d.Topic) == class {
					ends = append(ends, manifest.CutEnd{Topic: d.Topic, Partition: d.ID, End: l.bucketEnd(d.ID)})
				}
			}
			return ends, nil
		},
		Live: func() []manifest.Series { return []manifest.Series{l.tier.series} },
	}
}

// bucketEnd is how far the bucket is known to hold a partition; what was once
// told must hold after a restore.
func (l *life) bucketEnd(id record.PartitionID) record.Offset {
	if l.tier.tails == nil {
		return 0
	}
	end := l.tier.tails.BucketEnd(id)
	l.w.parts[id.Partition].confirm(l, end)
	return end
}

func (t *tier) bucketStart(id record.PartitionID) record.Offset {
	if t.tails == nil {
		return 0
	}
	return t.tails.BucketStart(id)
}

// tableIdent names the one table.
func tableIdent() catalog.Ident {
	return catalog.Ident{Namespace: catalog.Namespace{"topics"}, Name: topicName}
}

// newCatalog is our own catalog over a store.
func (w *world) newCatalog(store objstore.Store, l manifest.Layout) (*server.Server, error) {
	return server.New(server.Config{
		Store: store, Root: bucketURI, Prefix: l.Warehouse(), ClusterID: manifest.ClusterName(l.ClusterID),
		Incarnation: uint64(l.Incarnation), Now: w.clock, UUID: w.uuid, Log: w.log,
	})
}

func (l *life) newCommitter() (*commit.Committer, error) {
	w := l.w
	tables, err := w.newCatalog(l.bucket, l.node.layout)
	if err != nil {
		return nil, err
	}
	return commit.New(commit.Config{
		Catalog: tables, FS: tablefs.FS{Store: l.bucket, Root: bucketURI}, Ident: tableIdent(),
		Owner:   commit.Owner{Topic: w.ids.topic, Incarnation: uint64(l.node.layout.Incarnation)},
		Sources: l.sources, BucketEnd: l.bucketEnd, BucketStart: l.tier.bucketStart, Now: w.clock, Random: w.rng.Uint64, Log: w.log,
		SnapshotsMin: 2, SnapshotsMax: 6, SnapshotAge: time.Second, Faults: w.cfg.Commit,
	})
}

func (l *life) sources() []translate.Source {
	var out []translate.Source
	for _, p := range l.parts {
		out = append(out, p.Partition)
	}
	return out
}

// translated is what the table is known to have; retention must not pass it.
func (t *tier) translated(id record.PartitionID) record.Offset {
	if t.committer == nil {
		return 0
	}
	return t.committer.Status().Offsets.Marks[id.Partition].End
}

// pass ends the acks of a broker whose incarnation is over.
func (l *life) pass() {
	if !l.tier.passed {
		l.tier.passed = true
		l.w.say("boot %d of incarnation %d knows that it is passed", l.boot, l.node.layout.Incarnation)
		if l.node.zombie {
			l.w.stats.FencedZombies++
		}
	}
}

// unreached: the bucket was not taken into use yet.
var errUnreached = errors.New("the bucket was not reached yet")

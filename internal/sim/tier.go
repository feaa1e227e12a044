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
	"tidewater/internal/logio"
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
	newest, err := manifest.NewestIncarnation(ctx, l.bucket, l.node.c.layout)
	if err != nil {
		return err
	}
	if newest != l.node.c.layout.Incarnation {
		l.passed()
		return nil
	}
	series := l.node.series
	if !w.cfg.Archive.ReuseTailSeries || series == (manifest.Series{}) {
		series, err = manifest.ClaimSeries(ctx, l.bucket, l.node.c.layout, l.node.id, 1, fmt.Sprintf("writer %016x", w.rng.Uint64()))
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
			EntriesMax: 8, Now: l.node.clock, Faults: w.cfg.Archive,
		})})
	}
	t.keeper = archive.NewKeeper(l.keeperConfig())
	if t.committer, err = l.newCommitter(); err != nil {
		return err
	}
	t.tails = archive.NewTails(archive.TailsConfig{
		Store: l.bucket, Layout: l.node.c.layout, Series: series, Partitions: t.set.List, Now: l.node.clock, Faults: w.cfg.Archive,
		PartitionBytesMax: w.shape.TailBytesMax, Grace: 3 * time.Second, TrimEvery: 2 * time.Second, SignOfLife: 4 * time.Second,
	})
	return nil
}

func (l *life) keeperConfig() archive.KeeperConfig {
	w := l.w
	return archive.KeeperConfig{
		Store: l.bucket, Layout: l.node.c.layout, Now: l.node.clock, TailGrace: 3 * time.Second, HouseEvery: 5 * time.Second,
		Leading: l.leads,
		State: func() (archive.ClusterState, error) {
			return archive.ClusterState{Blob: []byte(topicName), NextProducerID: w.nextPID}, nil
		},
		Ends: func(_ context.Context, class manifest.Class) ([]manifest.CutEnd, error) {
			var ends []manifest.CutEnd
			for _, led := range l.tier.set.List() {
				if d := led.Archive.Dir(); manifest.ClassOf(d.Topic) == class {
					ends = append(ends, manifest.CutEnd{Topic: d.Topic, Partition: d.ID, End: l.confirmed(d.ID)})
				}
			}
			return ends, nil
		},
		Live: l.liveSeries,
	}
}

// liveSeries are the tail series of the brokers that the controller takes for
// alive: one that is cut off or stopped is not.
func (l *life) liveSeries() []manifest.Series {
	var out []manifest.Series
	for _, o := range l.reach() {
		if o.tier.tails != nil {
			out = append(out, o.tier.series)
		}
	}
	return out
}

// bucketEnd is how far the bucket is known to hold a partition, as its leader
// tells; 0 when it is not known. What was once told must hold after a restore.
func (l *life) bucketEnd(id record.PartitionID) record.Offset { return max(l.confirmed(id), 0) }

// confirmed is bucketEnd, and EndUnknown when it is not known.
func (l *life) confirmed(id record.PartitionID) record.Offset {
	p := leaderOf(l.reach(), id.Partition)
	if p == nil || p.life.tier.tails == nil {
		return archive.EndUnknown
	}
	end, ok := p.life.tier.tails.Confirmed(id)
	if !ok {
		return archive.EndUnknown
	}
	p.truth.confirm(l, end)
	return end
}

func (l *life) bucketStart(id record.PartitionID) record.Offset {
	p := leaderOf(l.reach(), id.Partition)
	if p == nil || p.life.tier.tails == nil {
		return 0
	}
	return p.life.tier.tails.BucketStart(id)
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
	tables, err := w.newCatalog(l.bucket, l.node.c.layout)
	if err != nil {
		return nil, err
	}
	return commit.New(commit.Config{
		Catalog: tables, FS: tablefs.FS{Store: l.bucket, Root: bucketURI}, Ident: tableIdent(),
		Owner:   commit.Owner{Topic: w.ids.topic, Incarnation: uint64(l.node.c.layout.Incarnation)},
		Sources: l.sources, BucketEnd: l.bucketEnd, BucketStart: l.bucketStart, Now: l.node.clock, Random: w.rng.Uint64, Log: w.log,
		SnapshotsMin: 2, SnapshotsMax: 6, SnapshotAge: time.Second, Faults: w.cfg.Commit,
	})
}

// sources are the partitions as the table's committer reads them.
func (l *life) sources() []translate.Source {
	reach := l.reach()
	var out []translate.Source
	for i, p := range l.parts {
		if leader := leaderOf(reach, int32(i)); leader == nil || leader == p {
			out = append(out, p.Partition)
		} else {
			out = append(out, far{leader: leader.Partition, here: p.Partition})
		}
	}
	return out
}

// far is a partition that another broker leads: that one tells the marks, the
// records are read from the replica here.
type far struct{ leader, here *partition.Partition }

func (f far) ID() record.PartitionID { return f.here.ID() }

func (f far) Offsets() (logio.Offsets, error) { return f.leader.Offsets() }

func (f far) Read(ctx context.Context, r logio.ReadRequest) (logio.ReadResult, error) {
	r.Follower = true
	return f.here.Read(ctx, r)
}

// commits reports whether the table is this broker's: it leads partition 0.
func (l *life) commits() bool { return l.parts[0].Leadership().Ready }

// translated is what the table is known to have, as the broker that commits
// tells; retention must not pass it.
func (l *life) translated(id record.PartitionID) record.Offset {
	p := leaderOf(l.reach(), 0)
	if p == nil || p.life.tier.committer == nil {
		return 0
	}
	return p.life.tier.committer.Status().Offsets.Marks[id.Partition].End
}

// passed ends the acks of a broker whose incarnation is over.
func (l *life) passed() {
	if !l.tier.passed {
		l.tier.passed = true
		l.w.say("boot %d of incarnation %d knows that it is passed", l.boot, l.node.c.layout.Incarnation)
		if l.node.c.zombie {
			l.w.stats.FencedZombies++
		}
	}
}

// unreached: the bucket was not taken into use yet.
var errUnreached = errors.New("the bucket was not reached yet")

package sim

import (
	"context"
	"errors"
	"time"

	"tidewater/internal/disk"
	"tidewater/internal/logio"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/readreplica"
	"tidewater/tiering/manifest"
	"tidewater/tiering/remote"
)

// replica is another cluster that follows this one by its bucket.
type replica struct {
	w           *world
	source      *readreplica.Cluster
	incarnation uint32
	parts       []followed
	caught      bool // it has everything that was confirmed
}

// followed is what a replica showed of one partition, in one incarnation.
type followed struct {
	truth        *truth
	hw, logStart record.Offset
	// due is what the bucket had confirmed at since; after followMax a replica
	// that reaches the bucket must show it.
	due   record.Offset
	since time.Time
}

const (
	followEvery = 400 * time.Millisecond
	// followMax is a sweep, by which a new series is found, and two turns.
	followMax = 2500 * time.Millisecond
)

func (w *world) newReplica() {
	r := &replica{w: w}
	cache, err := remote.OpenCache(remote.CacheConfig{FS: disk.NewMem(0), Dir: "cache", BytesMax: 32 << 10, FreeBytesMin: 1})
	if err != nil {
		w.violate(sane, "open the replica's cache: %v", err)
		return
	}
	r.source = readreplica.Open(readreplica.Config{
		Store: w.bucketFor(func(objstore.Call, bool) {}, func(d time.Duration) { w.during(nil, w.now.Add(d), nil) }), Cache: cache, Layout: manifest.Layout{ClusterID: w.ids.cluster},
		Topics: func(blob []byte) ([]readreplica.Topic, error) {
			return []readreplica.Topic{{Name: string(blob), ID: w.ids.topic, Partitions: int32(len(w.parts))}}, nil
		},
		SweepEvery: time.Second, Now: w.clock,
	})
	w.replica = r
	r.next()
}

func (r *replica) next() {
	r.w.after(r.w.jitter(followEvery), func() {
		r.turn(context.Background())
		r.next()
	})
}

// turn reads what is new, looks at every partition, and reads from one.
func (r *replica) turn(ctx context.Context) {
	w := r.w
	err := r.source.RunOnce(ctx)
	r.caught = false
	if err != nil {
		w.trace.note("replica", err.Error())
		for i := range r.parts {
			r.parts[i].since = w.now // nothing is asked of it until a while after the fault
		}
		return
	}
	if now := r.source.Incarnation(); now != r.incarnation || r.parts == nil {
		r.incarnation, r.parts = now, nil
		for _, t := range w.parts {
			r.parts = append(r.parts, followed{truth: t, since: w.now})
		}
	}
	if w.restoring || w.active.zombie || r.incarnation != w.active.layout.Incarnation {
		r.parts = nil // it shows a past that the truth has left
		return
	}
	r.caught = true
	for i := range r.parts {
		r.look(&r.parts[i])
	}
	r.read(ctx, &r.parts[w.rng.IntN(len(r.parts))])
}

// look checks one partition's marks.
func (r *replica) look(f *followed) {
	w, t := r.w, f.truth
	p := r.source.Partition(t.id)
	if p == nil {
		r.caught = false
		return
	}
	o, err := p.Offsets()
	if err != nil {
		r.caught = false
		return
	}
	if o.HighWatermark < f.hw || o.LogStart < f.logStart {
		w.violate(offsets, "%d: the replica shows [%d, %d) after [%d, %d)", t.id.Partition, o.LogStart, o.HighWatermark, f.logStart, f.hw)
	}
	f.hw, f.logStart = o.HighWatermark, o.LogStart
	if o.HighWatermark > t.hw {
		w.violate(past, "%d: the replica shows %d, acknowledged is %d", t.id.Partition, o.HighWatermark, t.hw)
	}
	r.caught = r.caught && o.HighWatermark >= t.confirmed
	switch {
	case w.outage != healthy:
		f.since, f.due = w.now, t.confirmed
	case o.HighWatermark >= f.due:
		f.since, f.due = w.now, t.confirmed
	case w.now.Sub(f.since) > followMax:
		w.violate(follows, "%d: the replica shows %d, the bucket had %d for %s", t.id.Partition, o.HighWatermark, f.due, w.now.Sub(f.since))
	}
}

// read reads from a replica somewhere; the bytes are those of the source.
func (r *replica) read(ctx context.Context, f *followed) {
	w := r.w
	p := r.source.Partition(f.truth.id)
	if p == nil || f.hw <= f.logStart {
		return
	}
	at := f.logStart + record.Offset(w.rng.Int64N(int64(f.hw-f.logStart)))
	began := w.now
	res, err := p.Read(ctx, logio.ReadRequest{Offset: at, BytesMax: 1 + w.rng.IntN(8<<10), MinOne: true, CurrentEpoch: -1})
	if err != nil {
		w.trace.note("replica read", err.Error())
		trimmed := errors.Is(err, logio.ErrOffsetOutOfRange) && at < f.truth.logStart
		if !w.disturbedSince(began) && !trimmed && !errors.Is(err, logio.ErrNotAvailable) {
			w.violate(working, "%d: replica read at %d with a healthy bucket: %v", f.truth.id.Partition, at, err)
		}
		return
	}
	w.stats.ReplicaReads++
	for _, b := range res.Batches {
		f.truth.shown(w, same, "the replica", b)
	}
}

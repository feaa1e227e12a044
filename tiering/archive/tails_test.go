package archive_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/archive"
	"tidewater/tiering/archive/archivetest"
	"tidewater/tiering/manifest"
	"tidewater/tiering/remote"
)

// tails is a new life of a broker's tail writer over partitions.
func (w *world) tails(node int32, faults archive.Faults, parts ...archive.Led) *archive.Tails {
	w.t.Helper()
	s := manifest.Series{Node: node, Boot: 1}
	if !faults.ReuseTailSeries {
		var err error
		s, err = manifest.ClaimSeries(w.t.Context(), w.mem, w.dir.Layout, node, 1, w.t.Name()+time.Now().String())
		w.must(err)
	}
	return archive.NewTails(archive.TailsConfig{
		Store: w.store, Layout: w.dir.Layout, Series: s, Partitions: func() []archive.Led { return parts },
		PartitionBytesMax: 64 << 10, Now: w.now, Faults: faults,
	})
}

// readAll gives every tail object of every series.
func (w *world) readAll() []*manifest.Tail {
	w.t.Helper()
	series, err := manifest.ListSeries(w.t.Context(), w.mem, w.dir.Layout)
	w.must(err)
	var out []*manifest.Tail
	for _, s := range series {
		r := remote.NewTailReader(w.mem, w.dir.Layout, s, w.now)
		for {
			t, err := r.Next(w.t.Context())
			w.must(err)
			if t == nil {
				break
			}
			out = append(out, t)
		}
	}
	return out
}

// tailRun joins the extents of a partition behind the manifest's end.
func (w *world) tailRun(from record.Offset) (run []byte, end record.Offset) {
	w.t.Helper()
	end = from
	tails := w.readAll()
	for {
		grew := false
		for _, t := range tails {
			for i := range t.Extents {
				x := &t.Extents[i]
				batches, err := t.Batches(x)
				w.must(err)
				for _, b := range batches {
					if record.Batch(b).BaseOffset() == end {
						run, end, grew = append(run, b...), record.Batch(b).NextOffset(), true
					}
				}
			}
		}
		if !grew {
			return run, end
		}
	}
}

// What is committed reaches the bucket with the next object, once, in order,
// and BucketEnd says so; nothing new makes no object but a sign of life.
func TestTailHoldsWhatSegmentsDoNot(t *testing.T) {
	w := newWorld(t)
	p := w.partition(w.log)
	w.run(p)
	tails := w.tails(1, archive.Faults{}, archive.Led{Source: w.log, Archive: p})
	for range 5 {
		w.fill(w.log, 7)
		w.must(tails.RunOnce(t.Context()))
	}
	if end := tails.BucketEnd(w.dir.ID); end != 105 {
		t.Fatalf("bucket end is %d, want 105", end)
	}
	run, end := w.tailRun(0)
	if end != 105 || !bytes.Equal(run, w.log.Bytes(0, 105)) {
		t.Fatalf("tail objects hold up to %d", end)
	}
	n := count(t, w, "/tail/")
	w.must(tails.RunOnce(t.Context()))
	if got := count(t, w, "/tail/"); got != n {
		t.Fatal("an object was written although nothing was new")
	}
	w.clock = w.clock.Add(10 * time.Second)
	w.must(tails.RunOnce(t.Context()))
	if got := count(t, w, "/tail/"); got != n+1 {
		t.Fatal("no sign of life after ten seconds")
	}
	w.log.Roll()
	w.run(p)
	w.must(tails.RunOnce(t.Context()))
	all := w.readAll()
	last := all[len(all)-1]
	if len(last.Extents) != 1 || last.Extents[0].Manifest != 1 || last.Extents[0].Archived != 105 || last.Extents[0].Length != 0 {
		t.Fatalf("the manifest is not announced: %+v", last.Extents)
	}
}

// A takes over from nobody, archives to 90 and has tails to 120; B wins the
// next term with a log to 150. B's tail begins at the manifest's end, so the
// run from there has no hole (attack 12a).
func TestNewLeaderStartsItsTailAtTheManifestsEnd(t *testing.T) {
	w := newWorld(t)
	a := w.partition(w.log)
	w.fill(w.log, 30)
	w.log.Roll()
	w.run(a)
	tailsA := w.tails(1, archive.Faults{}, archive.Led{Source: w.log, Archive: a})
	w.fill(w.log, 10)
	w.must(tailsA.RunOnce(t.Context()))
	w.fill(w.log, 10) // acked, never in A's tail

	fresh := w.log.Clone()
	fresh.Lead(6, true)
	w.log.Lead(5, false)
	b := w.partition(fresh)
	tailsB := w.tails(2, archive.Faults{}, archive.Led{Source: fresh, Archive: b})
	w.must(tailsB.RunOnce(t.Context()))
	for _, tl := range w.readAll() {
		if tl.Series.Node == 2 && len(tl.Extents) > 0 {
			t.Fatal("B uploaded before it knew where the manifest ends")
		}
	}
	w.run(b)
	w.fill(fresh, 5)
	w.must(tailsB.RunOnce(t.Context()))
	run, end := w.tailRun(90)
	if end != 165 || !bytes.Equal(run, fresh.Bytes(90, 165)) {
		t.Fatalf("the run from the manifest's end reaches %d, want 165", end)
	}
}

// A PUT that fails or loses its reply is tried again with the same bytes under
// the same number, although more was appended meanwhile.
func TestTailNumberIsRetriedWithTheSameBytes(t *testing.T) {
	for _, lost := range []bool{false, true} {
		w := newWorld(t)
		p := w.partition(w.log)
		w.run(p)
		fail := false
		w.store = &objstore.Fault{Store: w.mem, Rule: func(c objstore.Call) objstore.Effect {
			switch {
			case !fail || c.Op != objstore.OpPutIfAbsent:
				return objstore.Effect{}
			case lost:
				return objstore.Effect{LostReply: true}
			}
			return objstore.Effect{Err: objstore.ErrUnavailable}
		}}
		tails := w.tails(1, archive.Faults{}, archive.Led{Source: w.log, Archive: p})
		w.fill(w.log, 4)
		fail = true
		for range 3 {
			if err := tails.RunOnce(t.Context()); !errors.Is(err, objstore.ErrUnavailable) {
				t.Fatal(err)
			}
			w.fill(w.log, 4)
		}
		if tails.BucketEnd(w.dir.ID) != 0 {
			t.Fatal("an unconfirmed object counts")
		}
		fail = false
		w.must(tails.RunOnce(t.Context()))
		run, end := w.tailRun(0)
		if end != 48 || !bytes.Equal(run, w.log.Bytes(0, 48)) || tails.BucketEnd(w.dir.ID) != 48 {
			t.Fatalf("lost reply %v: tail reaches %d, said %d", lost, end, tails.BucketEnd(w.dir.ID))
		}
		for i, tl := range w.readAll() {
			if tl.Number != uint64(i+1) {
				t.Fatalf("object %d has number %d", i+1, tl.Number)
			}
		}
	}
}

// A broker that dies at any call and comes back has another series; nothing of
// the old one is overwritten and the run stays whole.
func TestTailSurvivesACrashAtEveryCall(t *testing.T) {
	for call := int64(1); call < 12; call++ {
		w := newWorld(t)
		p := w.partition(w.log)
		w.run(p)
		w.store = &objstore.Fault{Store: w.mem, Before: func(c objstore.Call) {
			if c.Seq == call {
				panic("crash")
			}
		}}
		tails := w.tails(1, archive.Faults{}, archive.Led{Source: w.log, Archive: p})
		dies(func() {
			for range 6 {
				w.fill(w.log, 3)
				w.must(tails.RunOnce(t.Context()))
			}
		})
		w.store = w.mem
		p = w.partition(w.log)
		w.run(p)
		tails = w.tails(1, archive.Faults{}, archive.Led{Source: w.log, Archive: p})
		w.fill(w.log, 3)
		w.must(tails.RunOnce(t.Context()))
		end := w.log.Marks().HighWatermark
		if run, got := w.tailRun(0); got != end || !bytes.Equal(run, w.log.Bytes(0, end)) {
			t.Fatalf("crash at call %d: tail reaches %d of %d", call, got, end)
		}
	}
}

// With the planted fault a restarted broker writes over the tails of its former
// life: what only they held is gone, which a reader sees as a hole.
func TestPlantedFaultReuseTailSeriesIsVisible(t *testing.T) {
	for _, planted := range []bool{false, true} {
		w := newWorld(t)
		faults := archive.Faults{ReuseTailSeries: planted}
		w.must(w.mem.Put(t.Context(), w.dir.Layout.SeriesKey(manifest.Series{Node: 1, Boot: 1}), nil))
		p := w.partition(w.log)
		w.run(p)
		tails := w.tails(1, faults, archive.Led{Source: w.log, Archive: p})
		for range 5 {
			w.fill(w.log, 3)
			w.must(tails.RunOnce(t.Context()))
		}
		w.log.Roll()
		w.run(p)
		w.fill(w.log, 3)
		p = w.partition(w.log)
		w.run(p)
		w.must(w.tails(1, faults, archive.Led{Source: w.log, Archive: p}).RunOnce(t.Context()))
		if run, _ := w.tailRun(0); bytes.Equal(run, w.log.Bytes(0, 54)) == planted {
			t.Fatalf("planted %v: the tail's run is %d bytes", planted, len(run))
		}
	}
}

// Rot in one partition leaves it out and names it; the other is uploaded.
func TestRotIsNotUploadedAsTail(t *testing.T) {
	w := newWorld(t)
	good := archivetest.New(3)
	p := w.partition(w.log)
	q := w.partition(good, func(c *archive.Config) { c.Dir.ID.Partition = 3 })
	w.run(p)
	w.run(q)
	tails := w.tails(1, archive.Faults{}, archive.Led{Source: w.log, Archive: p}, archive.Led{Source: good, Archive: q})
	w.fill(w.log, 5)
	w.fill(good, 5)
	w.log.Rot(7)
	if err := tails.RunOnce(t.Context()); !errors.Is(err, record.ErrCorrupt) || !strings.Contains(err.Error(), "flights-2") {
		t.Fatalf("rot is answered with %v", err)
	}
	if tails.BucketEnd(w.dir.ID) != 0 || tails.BucketEnd(q.Dir().ID) != 15 {
		t.Fatalf("bucket ends: %d and %d", tails.BucketEnd(w.dir.ID), tails.BucketEnd(q.Dir().ID))
	}
}

// More waiting than an object may hold of one partition asks for a seal.
func TestMuchWaitingAsksForASeal(t *testing.T) {
	w := newWorld(t)
	p := w.partition(w.log)
	w.run(p)
	tails := w.tails(1, archive.Faults{}, archive.Led{Source: w.log, Archive: p})
	w.fill(w.log, 600)
	w.must(tails.RunOnce(t.Context()))
	if !w.log.SealWanted() || tails.BucketEnd(w.dir.ID) >= 1800 {
		t.Fatalf("seal wanted: %v, bucket end %d", w.log.SealWanted(), tails.BucketEnd(w.dir.ID))
	}
}

// Tail objects go when segments cover them: listed as retired, a grace period
// later deleted; the newest stays, and so does what is not covered.
func TestCoveredTailsAreRetiredByList(t *testing.T) {
	w := newWorld(t)
	p := w.partition(w.log)
	w.run(p)
	tails := w.tails(1, archive.Faults{}, archive.Led{Source: w.log, Archive: p})
	for range 6 {
		w.fill(w.log, 3)
		w.must(tails.RunOnce(t.Context()))
	}
	w.log.Roll()
	w.run(p)
	w.fill(w.log, 3)
	w.must(tails.RunOnce(t.Context()))
	w.fill(w.log, 3)
	w.must(tails.RunOnce(t.Context()))
	w.clock = w.clock.Add(20 * time.Second)
	w.must(tails.RunOnce(t.Context())) // retires 1 to 6
	if len(w.readAll()) < 8 {
		t.Fatal("objects went without a grace period")
	}
	w.clock = w.clock.Add(2 * time.Minute)
	w.must(tails.RunOnce(t.Context()))
	all := w.readAll()
	if all[0].Number != 7 {
		t.Fatalf("oldest object is %d, want 7", all[0].Number)
	}
	if run, end := w.tailRun(54); end != 72 || !bytes.Equal(run, w.log.Bytes(54, 72)) {
		t.Fatalf("what is not covered reaches %d, want 72", end)
	}
}

// keeper is the controller's part with two coordinator topics.
func (w *world) keeper(node int32, epoch record.LeaderEpoch, live []manifest.Series, asked *[]manifest.Class) *archive.Keeper {
	return archive.NewKeeper(archive.KeeperConfig{
		Store: w.store, Layout: w.dir.Layout, Now: w.now,
		Leading: func() (record.LeaderEpoch, bool) { return epoch, true },
		State: func() (archive.ClusterState, error) {
			return archive.ClusterState{Blob: []byte("topics"), NextProducerID: 10}, nil
		},
		Ends: func(_ context.Context, c manifest.Class) ([]manifest.CutEnd, error) {
			*asked = append(*asked, c)
			if c != manifest.ClassData {
				return nil, nil
			}
			return []manifest.CutEnd{{Topic: "flights", Partition: w.dir.ID, End: w.log.Marks().HighWatermark}}, nil
		},
		Live: func() []manifest.Series { return live },
	})
}

// Metadata and cut are written when something changed, classes captured in
// order, and a former controller's leader is fenced.
func TestKeeperWritesCutsInOrder(t *testing.T) {
	w := newWorld(t)
	var asked []manifest.Class
	k := w.keeper(1, 4, nil, &asked)
	w.fill(w.log, 2)
	w.must(k.RunOnce(t.Context()))
	w.must(k.RunOnce(t.Context()))
	if want := []manifest.Class{1, 2, 3, 1, 2, 3}; !slices.Equal(asked, want) {
		t.Fatalf("captured %v", asked)
	}
	w.fill(w.log, 2)
	w.must(k.RunOnce(t.Context()))
	cut, err := manifest.NewestCut(t.Context(), w.mem, w.dir.Layout)
	w.must(err)
	meta, err := manifest.NewestMetadata(t.Context(), w.mem, w.dir.Layout)
	w.must(err)
	if cut.Number != 2 || cut.Ends[0].End != 12 || meta.Number != 1 || string(meta.Blob) != "topics" {
		t.Fatalf("cut %+v, metadata %+v", cut, meta)
	}
	newer := w.keeper(2, 5, nil, &asked)
	w.fill(w.log, 2)
	w.must(newer.RunOnce(t.Context()))
	w.fill(w.log, 2)
	if err := k.RunOnce(t.Context()); !errors.Is(err, manifest.ErrConflict) {
		t.Fatalf("the former leader: %v", err)
	}
	if err := k.RunOnce(t.Context()); !errors.Is(err, manifest.ErrFenced) {
		t.Fatalf("the former leader: %v", err)
	}
}

// The tails of a broker that is gone are retired by the controller's leader
// when its successor has archived what they hold, and not before. Its number is
// never taken again.
func TestDeadSeriesAreRetired(t *testing.T) {
	w := newWorld(t)
	a := w.partition(w.log)
	w.run(a)
	dead := w.tails(1, archive.Faults{}, archive.Led{Source: w.log, Archive: a})
	for range 4 {
		w.fill(w.log, 3)
		w.must(dead.RunOnce(t.Context()))
	}
	var asked []manifest.Class
	live := []manifest.Series{{Node: 2, Boot: 1}}
	k := w.keeper(2, 4, live, &asked)
	step := func(d time.Duration) {
		w.clock = w.clock.Add(d)
		w.must(k.RunOnce(t.Context()))
	}
	step(time.Minute)
	step(time.Hour)
	if n := len(w.readAll()); n != 4 {
		t.Fatalf("%d tail objects left although no segment covers them", n)
	}
	fresh := w.log.Clone()
	fresh.Lead(6, true)
	fresh.Roll()
	w.run(w.partition(fresh))
	step(time.Minute)
	if n := len(w.readAll()); n != 4 {
		t.Fatalf("%d tail objects left right after they were covered", n)
	}
	step(time.Hour)
	step(time.Hour)
	if n := count(t, w, "/tail/1-1/0"); n != 0 {
		t.Fatalf("%d objects of the dead series are left", n)
	}
	if n := count(t, w, "/series/"); n != 1 {
		t.Fatalf("%d claims are left, a node's highest stays", n)
	}
	again, err := manifest.ClaimSeries(t.Context(), w.mem, w.dir.Layout, 1, 1, "lost its count")
	w.must(err)
	if again.Boot != 2 {
		t.Fatalf("series %s is taken again", again)
	}
	step(time.Hour)
	if n := count(t, w, "/series/"); n != 1 {
		t.Fatalf("%d claims are left once a higher one stands", n)
	}
}

// A broker that was cut off is taken for dead and its series retired; it comes
// back and goes on with the same series: nothing that is not covered is lost,
// and it trims again.
func TestSeriesTakenForDeadGoesOn(t *testing.T) {
	w := newWorld(t)
	p := w.partition(w.log)
	w.run(p)
	tails := w.tails(1, archive.Faults{}, archive.Led{Source: w.log, Archive: p})
	put := func() {
		w.fill(w.log, 3)
		w.must(tails.RunOnce(t.Context()))
	}
	archived := func() {
		w.log.Roll()
		w.run(p)
	}
	put()
	put()
	archived()
	put()
	var asked []manifest.Class
	k := w.keeper(2, 4, nil, &asked)
	w.must(k.RunOnce(t.Context())) // knows no other broker, retires 1 and 2
	put()
	archived()
	put()
	for range 3 {
		w.clock = w.clock.Add(2 * time.Minute)
		w.must(tails.RunOnce(t.Context()))
	}
	all := w.readAll()
	if all[0].Number != 5 {
		t.Fatalf("oldest object is %d, want 5", all[0].Number)
	}
	if run, end := w.tailRun(36); end != 45 || !bytes.Equal(run, w.log.Bytes(36, 45)) {
		t.Fatalf("what is not covered reaches %d, want 45", end)
	}
}

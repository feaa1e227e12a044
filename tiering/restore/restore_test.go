package restore_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"tidewater/internal/logio"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/archive"
	"tidewater/tiering/archive/archivetest"
	"tidewater/tiering/manifest"
	"tidewater/tiering/remote"
	"tidewater/tiering/restore"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func config(c *archivetest.Cluster, writer string) restore.Config {
	return restore.Config{
		Store: c.Mem, Writer: writer, Now: c.Now,
		Topics: func(blob []byte) ([]restore.Topic, error) {
			return []restore.Topic{{Name: string(blob), ID: c.ID, Partitions: int32(len(c.Logs))}}, nil
		},
	}
}

func run(t *testing.T, c *archivetest.Cluster, writer string) *restore.Plan {
	t.Helper()
	plan, err := restore.Run(t.Context(), config(c, writer))
	must(t, err)
	return plan
}

// read gives what the new incarnation reads of a partition.
func read(t *testing.T, c *archivetest.Cluster, p restore.Partition) []byte {
	t.Helper()
	cache, err := remote.OpenCache(remote.CacheConfig{})
	must(t, err)
	r := remote.New(remote.Config{Store: c.Mem, Dir: p.Dir, Cache: cache})
	_, err = r.Refresh(t.Context())
	must(t, err)
	if r.End() != p.End {
		t.Fatalf("manifest ends at %d, plan at %d", r.End(), p.End)
	}
	var out []byte
	must(t, r.Scan(t.Context(), r.Start(), p.End, func(b record.Batch) error {
		out = append(out, b...)
		return nil
	}))
	return out
}

// grown is a cluster with segments, and tails behind them, in two partitions.
func grown(t *testing.T) *archivetest.Cluster {
	c := archivetest.NewCluster(t, 2)
	for i := range 20 {
		c.Fill(0, 10)
		c.Fill(1, 3)
		if i%6 == 5 {
			c.Logs[0].Roll()
		}
		c.Step()
	}
	return c
}

// What the bucket holds by manifest and tail comes back byte for byte, with
// epochs, producer state, terms and counters above everything seen; the next
// restore of the restored is the same.
func TestRestoreEqualsTheSource(t *testing.T) {
	c := grown(t)
	want := []record.Offset{600, 180}
	plan := run(t, c, "first")
	for round := range 2 {
		if len(plan.Partitions) != 2 || len(plan.Unlisted) != 0 {
			t.Fatalf("plan %+v", plan)
		}
		for n, p := range plan.Partitions {
			if p.End != want[n] || p.LogStart != 0 || !bytes.Equal(read(t, c, p), c.Logs[n].Bytes(0, want[n])) {
				t.Fatalf("round %d: partition %d from %d to %d differs from the source", round, n, p.LogStart, p.End)
			}
			if p.FloorTerm <= 5 || len(p.Epochs) != 1 || p.Epochs[0] != (logio.EpochStart{Epoch: 5, Start: 0}) {
				t.Fatalf("floor %d, epochs %v", p.FloorTerm, p.Epochs)
			}
		}
		p := plan.Partitions[0]
		if p.SnapshotAt != 540 || !bytes.Equal(p.Snapshot, archivetest.Snapshot(540)) {
			t.Fatalf("producer state of %d: %q", p.SnapshotAt, p.Snapshot)
		}
		if plan.NextProducerID <= 1000 || plan.NextSchemaID != 3 || string(plan.Blob) != "flights" {
			t.Fatalf("counters %d, %d, blob %q", plan.NextProducerID, plan.NextSchemaID, plan.Blob)
		}
		if err := manifest.CheckRoot(t.Context(), c.Mem, plan.Source); !errors.Is(err, manifest.ErrFenced) {
			t.Fatalf("the source is not fenced: %v", err)
		}
		plan = run(t, c, "second")
	}
	if plan.Layout.Incarnation != 4 || plan.Source.Incarnation != 3 {
		t.Fatalf("incarnations %d from %d", plan.Layout.Incarnation, plan.Source.Incarnation)
	}
}

// Records were deleted past what the manifest covers, and only a tail object
// says so: the restored log starts there, and its producers are replayed from
// the last snapshot on, over what nobody reads any more. Deleted to its end, the
// log is empty, goes on at its end, and starts without producer state.
func TestRestoreBehindDeletedRecords(t *testing.T) {
	for _, start := range []record.Offset{555, 570, 585, 600} {
		c := grown(t)
		c.Logs[0].Trim(start)
		must(t, c.Tails.RunOnce(t.Context()))
		p := run(t, c, "first").Partitions[0]
		if p.LogStart != start || p.End != 600 {
			t.Fatalf("restored [%d, %d)", p.LogStart, p.End)
		}
		want := record.Offset(540)
		if start == 600 {
			want = 600
		}
		if p.SnapshotAt != want || (p.Snapshot != nil) != (start < 600) {
			t.Fatalf("log start %d: producer state of %d: %q", start, p.SnapshotAt, p.Snapshot)
		}
		cache, err := remote.OpenCache(remote.CacheConfig{})
		must(t, err)
		log := remote.New(remote.Config{Store: c.Mem, Dir: p.Dir, Cache: cache})
		at := p.SnapshotAt
		must(t, log.Scan(t.Context(), p.SnapshotAt, p.End, func(b record.Batch) error {
			if b.BaseOffset() != at {
				t.Fatalf("batch at %d, want %d", b.BaseOffset(), at)
			}
			at = b.NextOffset()
			return nil
		}))
		if at != p.End {
			t.Fatalf("producers are replayed to %d of %d", at, p.End)
		}
		if _, err := log.Read(t.Context(), logio.ReadRequest{Offset: start - 1, BytesMax: 1, MinOne: true}); !errors.Is(err, logio.ErrOffsetOutOfRange) {
			t.Fatalf("read below the log start: %v", err)
		}
	}
}

// No segment is copied: the restore writes little and reads little besides
// tails.
func TestRestoreIsLazy(t *testing.T) {
	c := archivetest.NewCluster(t, 1)
	for range 30 {
		c.Logs[0].Append(2000, c.Clock.UnixMilli())
		c.Logs[0].Roll()
		for range 3 {
			c.Step()
		}
	}
	for range 8 {
		c.Clock = c.Clock.Add(time.Minute)
		c.Step()
	}
	before := c.Mem.Stats()
	plan := run(t, c, "lazy")
	after := c.Mem.Stats()
	data := int64(len(c.Logs[0].Bytes(0, plan.Partitions[0].End)))
	if in, out := after.BytesIn-before.BytesIn, after.BytesOut-before.BytesOut; in > data/20 || out > data/5 {
		t.Fatalf("restore of %d bytes wrote %d and read %d", data, in, out)
	}
}

// A hole between manifest and tails ends the run there; data behind it is not
// taken.
func TestRestoreStopsAtAGap(t *testing.T) {
	c := archivetest.NewCluster(t, 1)
	for range 5 {
		c.Fill(0, 2)
		c.Step()
	}
	must(t, c.Mem.Delete(t.Context(), c.Layout.Tail(manifest.Series{Node: 1, Boot: 1}, 3)))
	p := run(t, c, "gap").Partitions[0]
	if p.End <= 0 || p.End >= 30 || p.End%6 != 0 || !bytes.Equal(read(t, c, p), c.Logs[0].Bytes(0, p.End)) {
		t.Fatalf("restored to %d", p.End)
	}
}

// Where two leaders' tails overlap, the higher epoch's are taken; the run goes
// on through both (attack 12).
func TestRestoreJoinsTwoLeadersTails(t *testing.T) {
	c := archivetest.NewCluster(t, 1)
	for range 4 {
		c.Fill(0, 2)
		c.Step()
	}
	fresh := c.Logs[0].Clone()
	fresh.Lead(9, true)
	c.Logs[0] = fresh
	c.Boot(c.Mem)
	c.Fill(0, 2)
	c.Step()
	c.Fill(0, 2)
	c.Step()
	plan := run(t, c, "two")
	p := plan.Partitions[0]
	if p.End != 36 || !bytes.Equal(read(t, c, p), fresh.Bytes(0, 36)) {
		t.Fatalf("restored to %d, want 36", p.End)
	}
	want := []logio.EpochStart{{Epoch: 5, Start: 0}, {Epoch: 9, Start: 24}}
	if fmt.Sprint(p.Epochs) != fmt.Sprint(want) || p.FloorTerm <= 9 {
		t.Fatalf("epochs %v, floor %d", p.Epochs, p.FloorTerm)
	}
}

// Group offsets stop at the cut, also inside a segment that was archived after
// it, so that they never pass the data they speak of.
func TestGroupOffsetsStopAtTheCut(t *testing.T) {
	for _, archived := range []bool{false, true} {
		c := archivetest.NewCluster(t, 1)
		c.Topic = "__consumer_offsets"
		c.Boot(c.Mem)
		c.Step()
		c.Fill(0, 4)
		c.Step() // the cut says 12
		c.Fill(0, 4)
		if archived {
			c.Logs[0].Roll()
		}
		must(t, c.Set.RunOnce(t.Context()))
		must(t, c.Tails.RunOnce(t.Context()))
		p := run(t, c, "cut").Partitions[0]
		if p.End != 12 || !bytes.Equal(read(t, c, p), c.Logs[0].Bytes(0, 12)) {
			t.Fatalf("archived %v: restored to %d, want 12", archived, p.End)
		}
	}
}

// A restore that dies at any call leaves an incarnation that the next one
// passes over; the next one is complete and right.
func TestRestoreMayDieAnywhere(t *testing.T) {
	for call := int64(1); ; call++ {
		c := archivetest.NewCluster(t, 1)
		for range 3 {
			c.Fill(0, 4)
			c.Logs[0].Roll()
			c.Fill(0, 2)
			c.Step()
		}
		cfg := config(c, "dies")
		cfg.Store = &objstore.Fault{Store: c.Mem, After: func(k objstore.Call) {
			if k.Seq == call {
				panic("crash")
			}
		}}
		died := func() (died bool) {
			defer func() { died = recover() != nil }()
			_, err := restore.Run(t.Context(), cfg)
			must(t, err)
			return false
		}()
		p := run(t, c, "again").Partitions[0]
		if p.End != 54 || !bytes.Equal(read(t, c, p), c.Logs[0].Bytes(0, 54)) {
			t.Fatalf("crash at call %d: restored to %d", call, p.End)
		}
		if !died {
			break
		}
	}
}

// A restored partition goes on being archived under its new prefix, and old
// objects are retired by the new incarnation's list.
func TestRestoredPartitionsGoOn(t *testing.T) {
	c := grown(t)
	p := run(t, c, "on").Partitions[0]
	log := archivetest.NewAt(p.FloorTerm+1, p.End, p.LogStart)
	a := archive.NewPartition(archive.Config{Store: c.Mem, Dir: p.Dir, Source: log, Name: "1-2", Grace: time.Minute})
	for range 5 {
		log.Append(3, 1)
	}
	log.Roll()
	_, err := a.RunOnce(t.Context())
	must(t, err)
	if got, want := read(t, c, restore.Partition{Dir: p.Dir, End: 615}), append(c.Logs[0].Bytes(0, 600), log.Bytes(600, 615)...); !bytes.Equal(got, want) {
		t.Fatal("old and new records do not join")
	}
	log.Trim(400)
	_, err = a.RunOnce(t.Context())
	must(t, err)
	c.Clock = c.Clock.Add(time.Hour)
	_, err = a.RunOnce(t.Context())
	must(t, err)
	rep, err := archive.Scrub(t.Context(), c.Mem, p.Dir, 0, false)
	must(t, err)
	if len(rep.Missing) != 0 {
		t.Fatalf("missing: %v", rep.Missing)
	}
	old := manifest.NewReader(c.Mem, c.Dir(0))
	must(t, old.Load(t.Context()))
	if _, err := c.Mem.Head(t.Context(), old.Current().Entries[0].Key); !errors.Is(err, objstore.ErrNotFound) {
		t.Fatalf("the old incarnation's first segment is still there: %v", err)
	}
}

// An empty bucket, and one with two clusters, are told apart by name.
func TestNothingAndTooMuchAreNamed(t *testing.T) {
	c := archivetest.NewCluster(t, 1)
	if _, err := restore.Run(t.Context(), config(c, "x")); !errors.Is(err, restore.ErrNothing) {
		t.Fatalf("a cluster without metadata: %v", err)
	}
	_, err := manifest.TakeIncarnation(t.Context(), c.Mem, manifest.Layout{ClusterID: [16]byte{9}}, 0, manifest.ReasonCreate, "x")
	must(t, err)
	ids, err := restore.Clusters(t.Context(), c.Mem, "")
	must(t, err)
	if len(ids) != 2 {
		t.Fatalf("clusters: %v", ids)
	}
	if _, err := restore.Run(t.Context(), config(c, "x")); err == nil || errors.Is(err, restore.ErrNothing) {
		t.Fatalf("two clusters: %v", err)
	}
}

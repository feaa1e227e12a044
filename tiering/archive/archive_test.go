package archive_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"tidewater/internal/logio"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/archive"
	"tidewater/tiering/archive/archivetest"
	"tidewater/tiering/manifest"
	"tidewater/tiering/remote"
)

// world is a bucket with a clock and one partition in it.
type world struct {
	t     *testing.T
	clock time.Time
	mem   *objstore.Mem
	store objstore.Store
	dir   manifest.Dir
	log   *archivetest.Log
	lives int
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), log: archivetest.New(5)}
	w.mem = objstore.NewMem(w.now)
	w.store = w.mem
	l := manifest.Layout{ClusterID: [16]byte{1, 2, 3}}
	l, err := manifest.TakeIncarnation(t.Context(), w.mem, l, 0, manifest.ReasonCreate, "test")
	w.must(err)
	w.dir = manifest.Dir{Layout: l, Topic: "flights", ID: record.PartitionID{Topic: record.TopicID{9}, Partition: 2}}
	return w
}

func (w *world) now() time.Time { return w.clock }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// partition is a new life of the archiver over a log.
func (w *world) partition(log archive.Source, change ...func(*archive.Config)) *archive.Partition {
	w.lives++
	cfg := archive.Config{Store: w.store, Dir: w.dir, Source: log, Name: manifest.Series{Node: 1, Boot: uint32(w.lives)}.String(), ObjectBytesMax: 8 << 10}
	for _, c := range change {
		c(&cfg)
	}
	return archive.NewPartition(cfg)
}

// run runs until nothing is left.
func (w *world) run(p *archive.Partition) {
	w.t.Helper()
	for {
		res, err := p.RunOnce(w.t.Context())
		w.must(err)
		if !res.More {
			return
		}
	}
}

// fill appends batches of 3 records.
func (w *world) fill(log *archivetest.Log, batches int) {
	for range batches {
		log.Append(3, w.clock.UnixMilli())
	}
}

// cold reads everything that the bucket has by manifest.
func (w *world) cold() []byte {
	w.t.Helper()
	cache, err := remote.OpenCache(remote.CacheConfig{})
	w.must(err)
	p := remote.New(remote.Config{Store: w.mem, Dir: w.dir, Cache: cache})
	_, err = p.Refresh(w.t.Context())
	w.must(err)
	var out []byte
	w.must(p.Scan(w.t.Context(), p.Start(), p.End(), func(b record.Batch) error {
		out = append(out, b...)
		return nil
	}))
	return out
}

func (w *world) wantCold(log *archivetest.Log, end record.Offset) {
	w.t.Helper()
	if got, want := w.cold(), log.Bytes(0, end); !bytes.Equal(got, want) {
		w.t.Fatalf("bucket gives %d bytes that differ from the %d of the log below %d", len(got), len(want), end)
	}
}

// Sealed segments reach the bucket with the bytes of the log, several objects
// for a long one, and only then does the log hear of it.
func TestSealedSegmentsAreArchivedByteForByte(t *testing.T) {
	w := newWorld(t)
	w.fill(w.log, 200)
	w.log.Roll()
	w.fill(w.log, 50)
	w.log.Roll()
	w.fill(w.log, 10)
	w.run(w.partition(w.log))
	if end, n := w.log.Archived(); end != 750 || n == 0 {
		t.Fatalf("archived to %d by manifest %d, want 750", end, n)
	}
	w.wantCold(w.log, 750)
	rep, err := archive.Scrub(t.Context(), w.mem, w.dir, 0, false)
	w.must(err)
	if len(rep.Orphans) != 0 || len(rep.Missing) != 0 {
		t.Fatalf("scrub finds %+v", rep)
	}
}

// Records deleted before they were uploaded, up to a batch's base, into a batch,
// or past the sealed segment, do not stop the archive: it goes on at the batch
// that holds the log start.
func TestDeletedRecordsAreNotWaitedFor(t *testing.T) {
	for start, base := range map[record.Offset]record.Offset{30: 30, 31: 30, 59: 57, 60: 60, 75: 75} {
		w := newWorld(t)
		w.fill(w.log, 20)
		w.log.Roll()
		w.log.Trim(start)
		a := w.partition(w.log)
		w.run(a)
		w.fill(w.log, 20)
		w.log.Roll()
		w.run(a)
		r := manifest.NewReader(w.mem, w.dir)
		w.must(r.Load(t.Context()))
		m := r.Current()
		if m.Entries[0].Base != base || m.LogStart != start || m.End != 120 {
			t.Errorf("log start %d: the bucket has %d to %d and starts at %d, want it from %d", start, m.Entries[0].Base, m.End, m.LogStart, base)
		}
	}
}

// A flipped bit in a local segment is refused with the place; what lies before
// it in sealed segments stays archived and nothing is announced (attack 15).
func TestRotIsRefused(t *testing.T) {
	w := newWorld(t)
	w.fill(w.log, 10)
	w.log.Roll()
	p := w.partition(w.log)
	w.run(p)
	w.fill(w.log, 10)
	w.log.Roll()
	w.log.Rot(44)
	_, err := p.RunOnce(t.Context())
	if !errors.Is(err, record.ErrCorrupt) || !strings.Contains(err.Error(), "offset 42") {
		t.Fatalf("archiving rot answers %v", err)
	}
	if end, _ := w.log.Archived(); end != 30 {
		t.Fatalf("archived to %d, want 30", end)
	}
}

// The archiver dies before or after each call of the store in turn. The next
// life finishes: no gap, no doubled offset, no missing object; the rest are
// orphans, which a scrub collects. At no time is more announced than covered.
func TestCrashAtEveryCallLeavesOrphansOnly(t *testing.T) {
	for _, after := range []bool{false, true} {
		for call := int64(1); ; call++ {
			w := newWorld(t)
			w.fill(w.log, 60)
			w.log.Roll()
			w.fill(w.log, 60)
			w.log.Roll()
			crash := func(c objstore.Call) {
				if c.Seq == call {
					panic("crash")
				}
			}
			f := &objstore.Fault{Store: w.mem}
			if after {
				f.After = crash
			} else {
				f.Before = crash
			}
			w.store = f
			if !dies(func() { w.run(w.partition(w.log)) }) {
				break
			}
			w.store = w.mem
			end, _ := w.log.Archived()
			if end > 0 {
				w.wantCold(w.log, end)
			}
			w.run(w.partition(w.log))
			w.wantCold(w.log, 360)
			w.clock = w.clock.Add(time.Hour)
			rep, err := archive.Scrub(t.Context(), w.mem, w.dir, time.Minute, true)
			w.must(err)
			if len(rep.Missing) != 0 {
				t.Fatalf("crash at call %d: missing %v", call, rep.Missing)
			}
			w.wantCold(w.log, 360)
		}
	}
}

func dies(f func()) (died bool) {
	defer func() { died = recover() != nil }()
	f()
	return false
}

// Each write in turn is done but its reply is lost. The run fails or not, and
// the next ones finish with the same writer.
func TestLostRepliesAreSettled(t *testing.T) {
	for call := int64(1); call < 20; call++ {
		w := newWorld(t)
		w.fill(w.log, 60)
		w.log.Roll()
		writes := int64(0)
		w.store = &objstore.Fault{Store: w.mem, Rule: func(c objstore.Call) objstore.Effect {
			if c.Write() {
				writes++
			}
			return objstore.Effect{LostReply: c.Write() && writes == call}
		}}
		p := w.partition(w.log)
		for range 4 {
			if _, err := p.RunOnce(t.Context()); err != nil && !errors.Is(err, objstore.ErrUnavailable) {
				t.Fatalf("lost reply of write %d: %v", call, err)
			}
		}
		w.wantCold(w.log, 180)
		if end, _ := w.log.Archived(); end != 180 {
			t.Fatalf("lost reply of write %d: archived to %d", call, end)
		}
	}
}

// A former leader that still believes in itself cannot archive once the new
// one has; the new one goes on in the middle of the old one's segments.
func TestFormerLeaderIsFenced(t *testing.T) {
	w := newWorld(t)
	w.fill(w.log, 40)
	w.log.Roll()
	old := w.partition(w.log)
	w.run(old)
	fresh := w.log.Clone()
	fresh.Lead(6, true)
	w.fill(fresh, 40)
	fresh.Roll()
	w.run(w.partition(fresh))
	w.fill(w.log, 40)
	w.log.Roll()
	if _, err := old.RunOnce(t.Context()); !errors.Is(err, manifest.ErrFenced) {
		t.Fatalf("a former leader's manifest is answered with %v", err)
	}
	w.wantCold(fresh, 240)
	if end, _ := w.log.Archived(); end != 120 {
		t.Fatalf("the former leader was told that %d is archived", end)
	}
}

// Once a newer incarnation is taken, the old cluster archives and deletes
// nothing, whatever epochs it elects (attack 2).
func TestPassedIncarnationIsFenced(t *testing.T) {
	w := newWorld(t)
	w.fill(w.log, 40)
	w.log.Roll()
	p := w.partition(w.log)
	w.run(p)
	_, err := manifest.TakeIncarnation(t.Context(), w.mem, w.dir.Layout, 1, manifest.ReasonRestore, "other")
	w.must(err)
	w.log.Lead(99, true)
	w.fill(w.log, 40)
	w.log.Roll()
	if _, err := p.RunOnce(t.Context()); !errors.Is(err, manifest.ErrFenced) {
		t.Fatalf("a passed incarnation's manifest is answered with %v", err)
	}
	var passed error
	watch := archive.RootWatch{Store: w.mem, Layout: w.dir.Layout, Passed: func(err error) { passed = err }}
	if err := watch.RunOnce(t.Context()); !errors.Is(err, manifest.ErrFenced) || passed == nil {
		t.Fatalf("root watch: %v, %v", err, passed)
	}
}

// Retention drops entries by a new manifest; objects stay through the grace
// period by the store's clock and go then.
func TestRetentionDeletesAfterGraceOnly(t *testing.T) {
	w := newWorld(t)
	p := w.partition(w.log)
	for range 4 {
		w.fill(w.log, 20)
		w.log.Roll()
		w.run(p)
	}
	before := count(t, w, ".segment")
	w.log.Trim(130)
	w.run(p)
	if got := count(t, w, ".segment"); got != before {
		t.Fatalf("%d segments right after retention, %d before", got, before)
	}
	if got := w.cold(); !bytes.Equal(got, w.log.Bytes(129, 240)) {
		t.Fatal("what is left differs from the log")
	}
	w.clock = w.clock.Add(11 * time.Minute)
	w.run(p)
	if got := count(t, w, ".segment"); got != before-2 {
		t.Fatalf("%d segments after grace, want %d", got, before-2)
	}
	w.fill(w.log, 20)
	w.log.Roll()
	w.run(p)
	r := manifest.NewReader(w.mem, w.dir)
	w.must(r.Load(t.Context()))
	if n := len(r.Current().Retired); n != 0 {
		t.Fatalf("%d retired keys left in the manifest", n)
	}
}

func count(t *testing.T, w *world, part string) int {
	t.Helper()
	page, err := w.mem.List(t.Context(), "", "", 0)
	w.must(err)
	n := 0
	for _, o := range page.Objects {
		if strings.Contains(o.Key, part) {
			n++
		}
	}
	return n
}

// Old entries spill to pages; reads go through them; retention drops a page
// with its segments; manifests stay few.
func TestManyEntriesSpillToPages(t *testing.T) {
	w := newWorld(t)
	p := w.partition(w.log, func(c *archive.Config) { c.EntriesMax, c.KeepManifests = 8, 4 })
	for range 40 {
		w.fill(w.log, 2)
		w.log.Roll()
		w.run(p)
	}
	w.wantCold(w.log, 240)
	if n := count(t, w, ".page"); n < 4 {
		t.Fatalf("%d pages", n)
	}
	if n := count(t, w, "/manifest/0"); n > 9 {
		t.Fatalf("%d manifests are kept", n)
	}
	w.log.Trim(200)
	w.run(p)
	w.clock = w.clock.Add(time.Hour)
	w.run(p)
	if n := count(t, w, ".page"); n > 1 {
		t.Fatalf("%d pages after retention", n)
	}
	rep, err := archive.Scrub(t.Context(), w.mem, w.dir, 0, false)
	w.must(err)
	if len(rep.Missing) != 0 {
		t.Fatalf("missing: %v", rep.Missing)
	}
}

// A log that lost what the bucket has (a wiped disk that came back) is named
// and nothing is changed.
func TestLogShorterThanTheBucketIsRefused(t *testing.T) {
	w := newWorld(t)
	w.fill(w.log, 40)
	w.log.Roll()
	w.run(w.partition(w.log))
	short := archivetest.New(7)
	if _, err := w.partition(short).RunOnce(t.Context()); err == nil || !strings.Contains(err.Error(), "lost") {
		t.Fatalf("a log without its records is answered with %v", err)
	}
}

// A commit that fails is made up for by the next run, from the manifest.
func TestFailedCommitIsMadeUpFor(t *testing.T) {
	w := newWorld(t)
	w.fill(w.log, 40)
	w.log.Roll()
	w.log.FailSet = func() error { return logio.ErrBusy }
	p := w.partition(w.log)
	if _, err := p.RunOnce(t.Context()); !errors.Is(err, logio.ErrBusy) {
		t.Fatal(err)
	}
	w.log.FailSet = nil
	w.run(p)
	if end, n := w.log.Archived(); end != 120 || n != 1 {
		t.Fatalf("archived to %d by manifest %d", end, n)
	}
}

// With the planted fault the log hears of a manifest that does not exist; a
// checker that compares the two sees it.
func TestPlantedFaultTrimBeforeCheckedIsVisible(t *testing.T) {
	w := newWorld(t)
	w.fill(w.log, 40)
	w.log.Roll()
	w.store = &objstore.Fault{Store: w.mem, Rule: func(c objstore.Call) objstore.Effect {
		if c.Op == objstore.OpPutIfAbsent && strings.Contains(c.Key, "/manifest/") {
			return objstore.Effect{Err: objstore.ErrUnavailable}
		}
		return objstore.Effect{}
	}}
	for _, planted := range []bool{false, true} {
		p := w.partition(w.log, func(c *archive.Config) { c.Faults.TrimBeforeChecked = planted })
		if _, err := p.RunOnce(t.Context()); !errors.Is(err, objstore.ErrUnavailable) {
			t.Fatal(err)
		}
		if end, _ := w.log.Archived(); (end > 0) != planted {
			t.Fatalf("planted %v: archived to %d without a manifest", planted, end)
		}
	}
}

// A deleted topic's objects stay a grace period and go then, all of them.
func TestDeletedTopicGoesAfterGrace(t *testing.T) {
	w := newWorld(t)
	w.fill(w.log, 40)
	w.log.Roll()
	w.run(w.partition(w.log))
	w.must(archive.MarkDeleted(t.Context(), w.mem, w.dir.Layout, w.dir.Topic, w.dir.ID.Topic))
	gone, err := archive.ReapTopics(t.Context(), w.mem, w.dir.Layout, time.Hour)
	w.must(err)
	if len(gone) != 0 || count(t, w, ".segment") == 0 {
		t.Fatal("objects went before the grace period was over")
	}
	w.clock = w.clock.Add(2 * time.Hour)
	gone, err = archive.ReapTopics(t.Context(), w.mem, w.dir.Layout, time.Hour)
	w.must(err)
	if len(gone) != 1 || count(t, w, "flights") != 0 {
		t.Fatalf("gone: %v, %d objects left", gone, count(t, w, "flights"))
	}
}

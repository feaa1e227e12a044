package manifest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testDir() manifest.Dir {
	return manifest.Dir{
		Layout: manifest.Layout{Tenant: "acme", ClusterID: [16]byte{1, 2, 3, 4}, Incarnation: 3},
		Topic:  "flights", ID: record.PartitionID{Topic: record.TopicID{0xAA, 0xBB}, Partition: 7},
	}
}

func openWriter(t *testing.T, store objstore.Store, epoch record.LeaderEpoch, name string) *manifest.Writer {
	t.Helper()
	w, err := manifest.OpenWriter(t.Context(), manifest.WriterConfig{Store: store, Dir: testDir(), Epoch: epoch, Name: name, Keep: 4})
	must(t, err)
	return w
}

// grow writes a manifest with one more entry of ten offsets.
func grow(ctx context.Context, w *manifest.Writer) error {
	next := w.Current().Clone()
	e := manifest.Entry{
		Kind: manifest.KindSegment, Key: "k", Length: 1, Base: next.End, Last: next.End + 9, MaxTimestamp: -1, MaxProducerID: -1,
	}
	if err := next.Append(e); err != nil {
		return err
	}
	return w.Write(ctx, next, 1)
}

// A writer sleeps at manifest 10 while its successor writes hundreds and
// collects; it wakes and creates 11, which is absent. The write must not count,
// readers must not follow it, and the successor goes on (attack 5).
func TestSleepingWriterIsFencedAfterCollection(t *testing.T) {
	ctx := t.Context()
	mem := objstore.NewMem(time.Now)
	sleeper := openWriter(t, mem, 5, "a")
	for range 10 {
		must(t, grow(ctx, sleeper))
	}
	late := manifest.NewReader(mem, testDir())
	must(t, late.Load(ctx))
	awake := openWriter(t, mem, 6, "b")
	for range 100 {
		must(t, grow(ctx, awake))
		must(t, awake.Collect(ctx))
	}
	if _, err := mem.Head(ctx, testDir().Manifest(10)); !errors.Is(err, objstore.ErrNotFound) {
		t.Fatalf("manifest 10 should be collected: %v", err)
	}
	if err := grow(ctx, sleeper); !errors.Is(err, manifest.ErrFenced) {
		t.Fatalf("the sleeper's manifest 11 is answered with %v", err)
	}
	if _, err := mem.Head(ctx, testDir().Manifest(11)); err != nil {
		t.Fatalf("the scene needs a stray manifest 11: %v", err)
	}
	if err := sleeper.Check(ctx); !errors.Is(err, manifest.ErrFenced) {
		t.Fatalf("the sleeper may delete: %v", err)
	}
	if news, err := late.Poll(ctx); err != nil || !news || late.Current().Number != 110 {
		t.Fatalf("a reader that slept at 10 is at %d, %v", late.Current().Number, err)
	}
	for range 10 {
		must(t, grow(ctx, awake))
		must(t, awake.Collect(ctx))
	}
	if _, err := mem.Head(ctx, testDir().Manifest(11)); !errors.Is(err, objstore.ErrNotFound) {
		t.Fatalf("the stray manifest stays: %v", err)
	}
}

// The stray 11 when the reader polls before anything else changed: 10 is gone,
// so 11 is not news.
func TestReaderDoesNotFollowAStrayManifest(t *testing.T) {
	ctx := t.Context()
	mem := objstore.NewMem(time.Now)
	w := openWriter(t, mem, 5, "a")
	for range 10 {
		must(t, grow(ctx, w))
	}
	r := manifest.NewReader(mem, testDir())
	must(t, r.Load(ctx))
	stray, err := mem.Get(ctx, testDir().Manifest(10), 0, -1)
	must(t, err)
	m, err := manifest.Decode(stray)
	must(t, err)
	for range 50 {
		must(t, grow(ctx, w))
		must(t, w.Collect(ctx))
	}
	m.Number, m.Writer = 11, "ghost"
	must(t, mem.PutIfAbsent(ctx, testDir().Manifest(11), m.AppendTo(nil)))
	_, err = r.Poll(ctx)
	must(t, err)
	if r.Current().Number != 60 {
		t.Fatalf("reader is at %d by %s, want 60", r.Current().Number, r.Current().Writer)
	}
}

// A manifest's reply is lost: the writer finds its own bytes. Another writer's
// bytes under the number are a conflict (older epoch) or the end (newer epoch).
func TestTakenNumberIsOwnConflictOrFence(t *testing.T) {
	ctx := t.Context()
	mem := objstore.NewMem(time.Now)
	lose := false
	f := &objstore.Fault{Store: mem, Rule: func(c objstore.Call) objstore.Effect {
		return objstore.Effect{LostReply: lose && c.Op == objstore.OpPutIfAbsent}
	}}
	w := openWriter(t, f, 5, "a")
	must(t, grow(ctx, w))
	lose = true
	if err := grow(ctx, w); !errors.Is(err, objstore.ErrUnavailable) {
		t.Fatal(err)
	}
	lose = false
	if err := grow(ctx, w); !errors.Is(err, manifest.ErrConflict) || w.Current().Number != 2 {
		t.Fatalf("after a lost reply: %v at %d", err, w.Current().Number)
	}
	must(t, w.ReadBack(ctx))
	next := openWriter(t, mem, 6, "b")
	must(t, grow(ctx, w)) // the former leader is faster
	if err := grow(ctx, next); !errors.Is(err, manifest.ErrConflict) || next.Current().End != 30 {
		t.Fatalf("the new leader meets the old one's manifest: %v, end %d", err, next.Current().End)
	}
	must(t, grow(ctx, next))
	if err := grow(ctx, w); !errors.Is(err, manifest.ErrFenced) {
		t.Fatalf("the old leader: %v", err)
	}
	if _, err := manifest.OpenWriter(ctx, manifest.WriterConfig{Store: mem, Dir: testDir(), Epoch: 5, Name: "c"}); !errors.Is(err, manifest.ErrFenced) {
		t.Fatalf("opening with an older epoch: %v", err)
	}
}

// Collection dies after every call in turn; whatever is left, the numbers that
// exist are an upper run, a new writer goes on, and the sleeper stays fenced.
func TestCollectionMayDieAnywhere(t *testing.T) {
	ctx := t.Context()
	for call := int64(1); ; call++ {
		mem := objstore.NewMem(time.Now)
		sleeper := openWriter(t, mem, 5, "a")
		must(t, grow(ctx, sleeper))
		w := openWriter(t, mem, 6, "b")
		for range 9 {
			must(t, grow(ctx, w))
		}
		f := &objstore.Fault{Store: mem, After: crashAt(call)}
		died := func() (died bool) {
			g, err := manifest.OpenWriter(ctx, manifest.WriterConfig{Store: f, Dir: testDir(), Epoch: 7, Name: "c", Keep: 4})
			must(t, err)
			must(t, grow(ctx, g))
			defer func() { died = recover() != nil }()
			must(t, g.Collect(ctx))
			return false
		}
		if !died() {
			break
		}
		if err := grow(ctx, sleeper); !errors.Is(err, manifest.ErrFenced) {
			t.Fatalf("call %d: sleeper: %v", call, err)
		}
		must(t, grow(ctx, openWriter(t, mem, 8, "d")))
	}
}

// crashAt panics at the given call, counted from the boundary's on: opening and
// growing before it pass.
func crashAt(call int64) func(objstore.Call) {
	seen := int64(0)
	return func(c objstore.Call) {
		if c.Op == objstore.OpPut || seen > 0 {
			if seen++; seen == call {
				panic("crash")
			}
		}
	}
}

// Two takers race for an incarnation: both get one, not the same; the lower is
// fenced from then on.
func TestIncarnationsAreTakenOnce(t *testing.T) {
	ctx := t.Context()
	mem := objstore.NewMem(time.Now)
	l := testDir().Layout.At(0)
	a, err := manifest.TakeIncarnation(ctx, mem, l, 0, manifest.ReasonCreate, "a")
	must(t, err)
	must(t, manifest.CheckRoot(ctx, mem, a))
	b, err := manifest.TakeIncarnation(ctx, mem, l, 1, manifest.ReasonRestore, "b")
	must(t, err)
	if a.Incarnation != 1 || b.Incarnation != 2 {
		t.Fatalf("taken: %d and %d", a.Incarnation, b.Incarnation)
	}
	if err := manifest.CheckRoot(ctx, mem, a); !errors.Is(err, manifest.ErrFenced) {
		t.Fatalf("the first: %v", err)
	}
	must(t, manifest.CheckRoot(ctx, mem, b))
}

// A series is claimed once, also by a node that lost its boot count.
func TestSeriesAreClaimedOnce(t *testing.T) {
	ctx := t.Context()
	mem := objstore.NewMem(time.Now)
	l := testDir().Layout
	for boot := uint32(1); boot < 4; boot++ {
		s, err := manifest.ClaimSeries(ctx, mem, l, 2, 1, string(rune('a'+boot)))
		must(t, err)
		if s != (manifest.Series{Node: 2, Boot: boot}) {
			t.Fatalf("claimed %s, want boot %d", s, boot)
		}
	}
	list, err := manifest.ListSeries(ctx, mem, l)
	must(t, err)
	if len(list) != 3 {
		t.Fatalf("listed %v", list)
	}
}

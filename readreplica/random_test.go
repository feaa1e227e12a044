package readreplica_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"tidewater/internal/logio"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/readreplica"
	"tidewater/tiering/archive/archivetest"
	"tidewater/tiering/restore"
)

// history is one seeded life of a source that dies and comes back, beside a
// replica that sometimes sleeps, over a bucket that refuses and loses replies.
type history struct {
	*archivetest.Cluster
	t     *testing.T
	rng   *rand.Rand
	truth *archivetest.Log
	store *objstore.Fault
	r     *readreplica.Cluster
	last  logio.Offsets
	calm  bool
}

func newHistory(t *testing.T, seed uint64) *history {
	h := &history{Cluster: archivetest.NewCluster(t, 1), t: t, rng: rand.New(rand.NewPCG(seed, 2)), truth: archivetest.New(5)}
	h.Step()
	crash := func(objstore.Call) {
		if !h.calm && h.rng.IntN(80) == 0 {
			panic("crash")
		}
	}
	rule := func(c objstore.Call) objstore.Effect {
		switch n := h.rng.IntN(50); {
		case h.calm:
		case n == 0:
			return objstore.Effect{Err: objstore.ErrUnavailable}
		case n == 1:
			return objstore.Effect{LostReply: true}
		}
		return objstore.Effect{}
	}
	h.store = &objstore.Fault{Store: h.Mem, Before: crash, After: crash, Rule: rule}
	h.Boot(h.store)
	h.r = follow(t, h.Cluster, &objstore.Fault{Store: readOnly(h.Mem), Rule: rule})
	return h
}

func (h *history) step() {
	h.Clock = h.Clock.Add(time.Duration(h.rng.IntN(15)) * time.Second)
	log, ctx := h.Logs[0], h.t.Context()
	switch h.rng.IntN(12) {
	case 0:
		log.Roll()
	case 1, 2, 3:
		for range 1 + h.rng.IntN(5) {
			log.Append(3, h.Clock.UnixMilli())
			h.truth.Append(3, h.Clock.UnixMilli())
		}
	case 4:
		to := log.Marks().LogStart + record.Offset(h.rng.IntN(5)*3)
		if to <= log.Marks().HighWatermark {
			log.Trim(to)
		}
	case 5, 6, 7, 8:
		h.may(func() {
			h.Set.RunOnce(ctx)
			h.Tails.RunOnce(ctx)
			h.Keeper.RunOnce(ctx)
		})
	case 9:
		h.Clock = h.Clock.Add(time.Duration(h.rng.IntN(300)) * time.Second)
	default:
		h.r.RunOnce(ctx)
		h.check()
	}
}

// may runs a step of the source, which may die in it and come back.
func (h *history) may(step func()) {
	defer func() {
		if recover() != nil {
			h.Boot(h.store)
		}
	}()
	step()
}

// check: the replica shows nothing that the source did not commit, with its
// bytes, and its marks do not go back.
func (h *history) check() {
	h.t.Helper()
	p := h.r.Partition(h.Dir(0).ID)
	if p == nil {
		return
	}
	o, err := p.Offsets()
	must(h.t, err)
	if o.HighWatermark > h.Logs[0].Marks().HighWatermark || o.LastStable > o.HighWatermark || o.LogStart > h.Logs[0].Marks().LogStart ||
		o.HighWatermark < h.last.HighWatermark || o.LogStart < h.last.LogStart || o.LastStable < h.last.LastStable {
		h.t.Fatalf("replica shows %+v after %+v, source %+v", o, h.last, h.Logs[0].Marks().Offsets)
	}
	h.last = o
	if o.HighWatermark == o.LogStart {
		return
	}
	at := o.LogStart + record.Offset(h.rng.Int64N(int64(o.HighWatermark-o.LogStart)))
	res, err := p.Read(h.t.Context(), logio.ReadRequest{Offset: at, BytesMax: 1000, MinOne: true, CurrentEpoch: -1})
	if err != nil {
		return // the bucket refuses, or retention was faster; settle insists
	}
	got := bytes.Join(res.Batches, nil)
	if len(got) == 0 || !bytes.HasPrefix(h.truth.Bytes(at/3*3, o.HighWatermark), got) {
		h.t.Fatalf("read at %d of %d: %d bytes that differ", at, o.HighWatermark, len(got))
	}
}

// Whatever happens, a replica shows only what was committed; when the faults
// end it shows everything, and a restore has the same.
func TestRandomHistories(t *testing.T) {
	seeds := uint64(100)
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		h := newHistory(t, seed)
		for range 150 {
			h.step()
		}
		h.settle(seed)
	}
}

func (h *history) settle(seed uint64) {
	h.t.Helper()
	h.calm = true
	for range 60 {
		h.Clock = h.Clock.Add(5 * time.Second)
		h.Step()
		must(h.t, h.r.RunOnce(h.t.Context()))
	}
	h.check()
	want := h.Logs[0].Marks()
	o, err := h.r.Partition(h.Dir(0).ID).Offsets()
	must(h.t, err)
	if o.HighWatermark != want.HighWatermark || o.LogStart != want.LogStart || o.LastStable != want.HighWatermark {
		h.t.Fatalf("seed %d: replica shows %+v, source %+v", seed, o, want.Offsets)
	}
	all := h.truth.Bytes(want.LogStart/3*3, want.HighWatermark)
	if got := consume(h.t, h.r.Partition(h.Dir(0).ID), o.LogStart); !bytes.Equal(got, all) {
		h.t.Fatalf("seed %d: the replica's bytes differ", seed)
	}
	plan, err := restore.Run(h.t.Context(), restore.Config{
		Store: h.Mem, Writer: "w", Now: h.Now,
		Topics: func(blob []byte) ([]restore.Topic, error) {
			return []restore.Topic{{Name: string(blob), ID: h.ID, Partitions: 1}}, nil
		},
	})
	must(h.t, err)
	if p := plan.Partitions[0]; p.End != want.HighWatermark || p.LogStart != want.LogStart {
		h.t.Fatalf("seed %d: restored %d to %d, source has %d to %d", seed, p.LogStart, p.End, want.LogStart, want.HighWatermark)
	}
	for range 3 {
		h.Clock = h.Clock.Add(10 * time.Second)
		must(h.t, h.r.RunOnce(h.t.Context()))
	}
	p := h.r.Partition(h.Dir(0).ID)
	if got := consume(h.t, p, want.LogStart); h.r.Incarnation() != 2 || !bytes.Equal(got, all) {
		h.t.Fatalf("seed %d: the restored log's bytes differ", seed)
	}
}

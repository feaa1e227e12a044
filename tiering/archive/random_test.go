package archive_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/archive"
	"tidewater/tiering/archive/archivetest"
	"tidewater/tiering/manifest"
	"tidewater/tiering/remote"
)

// random is one seeded history: two replicas of a partition that lead in turn,
// the former leader not always knowing, over a bucket that refuses, loses
// replies and sees its writers die.
type random struct {
	*world
	rng   *rand.Rand
	truth *archivetest.Log // everything ever committed, never trimmed
	reps  [2]*archivetest.Log
	parts [2]*archive.Partition
	tails [2]*archive.Tails
	epoch record.LeaderEpoch
	lead  int
	calm  bool
}

func newRandom(t *testing.T, seed uint64) *random {
	r := &random{world: newWorld(t), rng: rand.New(rand.NewPCG(seed, 1)), truth: archivetest.New(1), epoch: 1}
	r.store = &objstore.Fault{Store: r.mem, Before: r.crash, After: r.crash, Rule: func(objstore.Call) objstore.Effect {
		switch n := r.rng.IntN(40); {
		case r.calm:
		case n == 0:
			return objstore.Effect{Err: objstore.ErrUnavailable}
		case n == 1:
			return objstore.Effect{LostReply: true}
		}
		return objstore.Effect{}
	}}
	r.reps[0], r.reps[1] = archivetest.New(1), archivetest.New(1)
	r.reps[1].Lead(1, false)
	r.boot(0)
	r.boot(1)
	return r
}

func (r *random) crash(objstore.Call) {
	if !r.calm && r.rng.IntN(60) == 0 {
		panic("crash")
	}
}

// boot is a new life of one broker: its log is what it was.
func (r *random) boot(n int) {
	calm := r.calm
	r.calm = true
	r.parts[n] = r.partition(r.reps[n], func(c *archive.Config) {
		c.ObjectBytesMax, c.EntriesMax, c.KeepManifests, c.Grace = 2<<10, 6, 3, time.Minute
	})
	r.tails[n] = r.world.tails(int32(n), archive.Faults{}, archive.Led{Source: r.reps[n], Archive: r.parts[n]})
	r.calm = calm
}

func (r *random) step() {
	n := r.rng.IntN(2)
	r.clock = r.clock.Add(time.Duration(r.rng.IntN(20)) * time.Second)
	switch r.rng.IntN(10) {
	case 0: // an election; the loser may go on believing
		r.epoch++
		loser := r.lead
		r.lead = n
		if r.rng.IntN(2) == 0 || loser == n {
			r.reps[loser].Lead(r.epoch-1, false)
		}
		r.reps[n].Lead(r.epoch, true)
		r.truth.Lead(r.epoch, true)
	case 1:
		r.reps[n].Roll()
	case 2, 3, 4:
		for range 1 + r.rng.IntN(4) {
			r.append()
		}
	case 5:
		marks := r.reps[r.lead].Marks()
		to := r.truth.Marks().LogStart + record.Offset(r.rng.IntN(6)*3)
		if to <= marks.HighWatermark {
			r.truth.Trim(to)
			r.reps[0].Trim(to)
			r.reps[1].Trim(to)
		}
	case 6, 7:
		r.may(n, func() { r.parts[n].RunOnce(r.t.Context()) })
	default:
		r.may(n, func() { r.tails[n].RunOnce(r.t.Context()) })
	}
}

// append commits one batch by the leader on all replicas.
func (r *random) append() {
	ms := r.clock.UnixMilli()
	r.truth.Append(3, ms)
	for _, l := range r.reps {
		e := l.Marks()
		l.Lead(r.epoch, e.Leading)
		l.Append(3, ms)
		if e.Epoch != r.epoch {
			l.Lead(e.Epoch, e.Leading) // a former leader does not know the term
		}
	}
}

// may runs a step of a broker, which may die in it and come back.
func (r *random) may(n int, step func()) {
	if dies(step) {
		r.boot(n)
	}
}

// check compares what was announced, and what tails add, with the truth.
func (r *random) check() {
	r.t.Helper()
	cache, err := remote.OpenCache(remote.CacheConfig{})
	r.must(err)
	p := remote.New(remote.Config{Store: r.mem, Dir: r.dir, Cache: cache})
	_, err = p.Refresh(r.t.Context())
	r.must(err)
	for n, l := range r.reps {
		if end, _ := l.Archived(); end > p.End() {
			r.t.Fatalf("replica %d was told that %d is archived, the manifest ends at %d", n, end, p.End())
		}
	}
	var got []byte
	first := record.Offset(-1)
	r.must(p.Scan(r.t.Context(), p.Start(), p.End(), func(b record.Batch) error {
		if first < 0 {
			first = b.BaseOffset()
		}
		got = append(got, b...)
		return nil
	}))
	if first >= 0 && !bytes.Equal(got, r.truth.Bytes(first, p.End())) {
		r.t.Fatalf("the bucket's bytes from %d to %d differ from what was committed", first, p.End())
	}
	rep, err := archive.Scrub(r.t.Context(), r.mem, r.dir, 0, false)
	r.must(err)
	if len(rep.Missing) != 0 {
		r.t.Fatalf("missing: %v", rep.Missing)
	}
}

// Whatever happens, what was announced as archived is in the bucket byte for
// byte and no object of the newest manifest is missing; when the faults end,
// the leader's next steps bring everything committed into manifest and tail.
func TestRandomHistories(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		r := newRandom(t, seed)
		for range 120 {
			r.step()
			if r.rng.IntN(12) == 0 {
				r.check()
			}
		}
		r.settle(seed)
	}
}

func (r *random) settle(seed uint64) {
	r.t.Helper()
	r.calm = true
	r.reps[1-r.lead].Lead(r.epoch, false)
	r.append()
	for range 60 {
		r.clock = r.clock.Add(5 * time.Second)
		_, err := r.parts[r.lead].RunOnce(r.t.Context())
		if err != nil {
			r.t.Fatalf("seed %d: archive: %v", seed, err)
		}
		if err := r.tails[r.lead].RunOnce(r.t.Context()); err != nil {
			r.t.Fatalf("seed %d: tail: %v", seed, err)
		}
	}
	r.check()
	m := manifest.NewReader(r.mem, r.dir)
	r.must(m.Load(r.t.Context()))
	from := max(m.Current().End, r.truth.Marks().LogStart/3*3)
	end := r.truth.Marks().HighWatermark
	if run, got := r.tailRun(from); got != end || !bytes.Equal(run, r.truth.Bytes(from, end)) {
		r.t.Fatalf("seed %d: manifest ends at %d, the tail's run at %d, the log at %d", seed, m.Current().End, got, end)
	}
	if got := r.tails[r.lead].BucketEnd(r.dir.ID); got != end {
		r.t.Fatalf("seed %d: the broker says that the bucket holds up to %d, it holds %d", seed, got, end)
	}
}

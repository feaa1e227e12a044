package partition

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"tidewater/internal/disk"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// powerCut is what a crash is here: a panic out of a disk call.
type powerCut struct{}

// acked is what the producers of a crash run were told.
type acked struct {
	batches map[record.Offset][]byte // as read back before the crash, or as stamped
	sent    []record.Batch           // by sequence, of producer 42
	offsets []record.Offset          // of those acknowledged, by sequence
	trimmed record.Offset
}

// TestAckedSurvivesCrashAtAnyWrite shows that whatever write, sync or rename
// the power fails at, everything acknowledged is there again with the same
// bytes and offsets, and a producer that repeats its last batches is answered
// with their offsets and not appended twice.
func TestAckedSurvivesCrashAtAnyWrite(t *testing.T) {
	calls := crashRun(t, 1, -1, false)
	step := max(calls/120, 1)
	for at := 0; at < calls; at += step {
		crashRun(t, uint64(at), at, false)
	}
}

// TestAckedSurvivesKillThenPowerCut shows the same when the process is killed
// first, comes back on what it finds, writes its segments and only then the
// power fails: what was found was not durable for being readable.
func TestAckedSurvivesKillThenPowerCut(t *testing.T) {
	calls := crashRun(t, 1, -1, true)
	step := max(calls/60, 1)
	for at := 0; at < calls; at += step {
		crashRun(t, uint64(at), at, true)
	}
}

// crashRun plays one history and stops it at the given changing call (-1:
// never), by a power cut, or with kill by the end of the process, another life
// and a power cut; it gives the number of calls.
func crashRun(t *testing.T, seed uint64, at int, kill bool) int {
	t.Helper()
	w := newWorld(t)
	w.settings.SegmentBytes = 12 << 10
	w.fileBytes = 64 << 10
	calls := 0
	faulty := disk.NewFault(w.mem)
	faulty.Before(func(c disk.Call) {
		if c.Changes() {
			if calls == at {
				panic(powerCut{})
			}
			calls++
		}
	})
	w.fs = faulty
	a := &acked{batches: map[record.Offset][]byte{}}
	func() {
		defer func() {
			if r := recover(); r != nil && r != (powerCut{}) {
				panic(r)
			}
		}()
		a.play(w)
	}()
	rng := rand.New(rand.NewPCG(seed, 1))
	if kill {
		w.fs, w.budget = w.mem, NewBudget(1<<30, 1<<20)
		w.open()
		w.write(false)
	}
	w.crash(rng)
	w.crashInOpen(rng)
	w.open()
	a.check(w, fmt.Sprintf("crash at call %d", at))
	return calls
}

// crashInOpen begins to open and cuts the power again at one of the first
// changing calls.
func (w *world) crashInOpen(rng *rand.Rand) {
	left := rng.IntN(8)
	faulty := disk.NewFault(w.mem)
	faulty.Before(func(c disk.Call) {
		if c.Changes() {
			if left == 0 {
				panic(powerCut{})
			}
			left--
		}
	})
	w.fs = faulty
	func() {
		defer func() {
			if r := recover(); r != nil && r != (powerCut{}) {
				panic(r)
			}
		}()
		w.open()
		w.write(true)
	}()
	w.crash(rng)
}

func (a *acked) play(w *world) {
	ctx := context.Background()
	w.open()
	for i := range 40 {
		who := record.Producer{ID: 42, Epoch: 0, Sequence: int32(2 * i)}
		b := w.batch(2, 300+20*(i%7), &who)
		a.sent = append(a.sent, b)
		r := w.send(b, logio.AcksAll)
		if r.Err != nil {
			w.t.Fatal(r.Err)
		}
		a.offsets = append(a.offsets, r.BaseOffset)
		stamped := slices.Clone(b)
		stamped.SetBaseOffset(r.BaseOffset)
		stamped.SetEpoch(record.LeaderEpoch(w.p.Leadership().Term))
		a.batches[r.BaseOffset] = stamped
		w.now = w.now.Add(time.Second)
		if i%5 == 4 {
			w.write(i%10 == 9 || i < 25)
		}
		if i == 25 {
			start, err := w.p.Trim(ctx, 44)
			if err != nil {
				w.t.Fatal(err)
			}
			a.trimmed = start
			w.retain()
		}
	}
	w.write(true)
}

func (a *acked) check(w *world, where string) {
	w.t.Helper()
	o := w.offsets()
	if o.LogStart < a.trimmed {
		w.t.Fatalf("%s: log start went back from %d to %d", where, a.trimmed, o.LogStart)
	}
	got := map[record.Offset][]byte{}
	next := o.LogStart
	for _, b := range w.readAll(o.LogStart) {
		h := record.Batch(b)
		if h.BaseOffset() > next || h.Check() != nil {
			w.t.Fatalf("%s: batch at %d after %d: %v", where, h.BaseOffset(), next, h.Check())
		}
		next = h.NextOffset()
		got[h.BaseOffset()] = b
	}
	if next != o.HighWatermark {
		w.t.Fatalf("%s: read to %d, high watermark is %d", where, next, o.HighWatermark)
	}
	for base, want := range a.batches {
		if base >= o.LogStart && !bytes.Equal(got[base], want) {
			w.t.Fatalf("%s: acked batch at %d is not as it was", where, base)
		}
	}
	// A batch that was on disk without its answer is one of the five known.
	for i := max(len(a.offsets)-recentMax+1, 0); i < len(a.offsets); i++ {
		if base := w.append(a.sent[i]); base != a.offsets[i] {
			w.t.Fatalf("%s: batch %d again is at %d, was at %d", where, i, base, a.offsets[i])
		}
	}
	if end := w.offsets().LogEnd; end != o.LogEnd {
		w.t.Fatalf("%s: duplicates moved the log end from %d to %d", where, o.LogEnd, end)
	}
}

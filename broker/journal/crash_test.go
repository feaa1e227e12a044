package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// errPowerCut is what the fault disk panics with.
var errPowerCut = errors.New("power cut")

// history drives a journal with random writes and power cuts at a random
// write or sync, and checks each time that replay gives the state after some
// write between the last flushed and the last appended one.
type history struct {
	t     testing.TB
	cfg   Config
	mem   *disk.Mem
	fault *disk.Fault
	rng   *rand.Rand
	d     driver

	j      *Journal
	states []model // states[0] is flushed; each later one is one write more
	fulls  int     // times that the disk was full
	// carried counts the times that a group's entries were written again.
	carried int
}

// beside is Config.Beside as a broker gives it.
func beside(fn func()) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	return func() { <-done }
}

func newHistory(t testing.TB, seed uint64) *history {
	rng := rand.New(rand.NewPCG(seed, 1))
	mem := disk.NewMem(0)
	h := &history{t: t, mem: mem, fault: disk.NewFault(mem), rng: rng,
		d: driver{rng: rng, truth: model{}, bytesMax: 3000}, states: []model{{}}}
	h.cfg = small(h.fault)
	// Half of the histories show that nothing but an attack needs the salt.
	if h.cfg.Salt = nil; seed%2 == 0 {
		h.cfg.Salt = rng.Uint64
	}
	if seed%3 == 0 {
		h.cfg.Beside = beside
	}
	return h
}

// cutAfter lets n more changes happen, then cuts the power at the next.
func (h *history) cutAfter(n int) {
	h.fault.Before(func(c disk.Call) {
		if !c.Changes() {
			return
		}
		if n--; n < 0 {
			panic(errPowerCut)
		}
	})
}

// alive runs do until it ends or the power is cut.
func (h *history) alive(do func()) (whole bool) {
	defer func() {
		if p := recover(); p != nil {
			if p != any(errPowerCut) {
				panic(p)
			}
		}
	}()
	do()
	return true
}

// open replays and checks; the power may be cut in it as well.
func (h *history) open() error {
	j, groups, err := Open(h.cfg)
	if err != nil {
		return err
	}
	h.j = j
	diff := ""
	for i := len(h.states) - 1; i >= 0; i-- {
		if diff = h.states[i].equal(groups); diff == "" {
			h.d.truth, h.states = h.states[i].clone(), []model{h.states[i]}
			return nil
		}
	}
	return fmt.Errorf("replay gave none of %d states it could give; against the flushed one: %s", len(h.states), diff)
}

// run writes until the power is cut, at most writes times.
func (h *history) run(writes, groups int) error {
	for range writes {
		w := h.d.write(groups)
		err := h.append(w)
		if errors.Is(err, ErrFull) {
			h.fulls++
			err = h.relieve(groups)
		}
		if err != nil {
			return err
		}
		if h.rng.IntN(5) == 0 {
			if err := h.j.Flush(); err != nil {
				return err
			}
			h.states = h.states[len(h.states)-1:]
		}
		if h.rng.IntN(5) == 0 {
			if err := h.carry(groups); err != nil {
				return err
			}
		}
		if h.rng.IntN(5) == 0 {
			if _, err := h.j.Prepare(); err != nil && !errors.Is(err, ErrFull) {
				return err
			}
		}
	}
	return nil
}

// carry writes the entries of a group that pins the oldest file again, which is
// no new state.
func (h *history) carry(groups int) error {
	ids := append(h.j.Pinning(1), testID(h.rng.IntN(groups)))
	carried, err := h.j.Carry(ids[0], h.d.truth[ids[0]].Entries)
	if carried {
		h.carried++
	}
	return err
}

// append notes the state before it is asked for: the power may be cut after
// the write reached the disk.
func (h *history) append(w Write) error {
	before := h.d.truth.clone()
	h.d.truth.apply(w)
	h.states = append(h.states, h.d.truth.clone())
	err := h.j.Append(w)
	if err != nil {
		h.d.truth, h.states = before, h.states[:len(h.states)-1]
	}
	return err
}

// relieve marks everything, so that a full journal empties.
func (h *history) relieve(groups int) error {
	for n := range groups {
		g := h.d.truth[testID(n)]
		if len(g.Entries) == 0 {
			continue
		}
		last := g.Entries[len(g.Entries)-1]
		hard := g.HardState
		hard.Commit = last.Index
		if err := h.append(Write{Group: g.ID, HardState: &hard, Mark: &Mark{Index: record.Index(last.Index), Term: last.Term}}); err != nil {
			return fmt.Errorf("a mark was refused: %w", err)
		}
	}
	return nil
}

// cut is one life: open, write, lose power or be killed; then the disk
// forgets.
func (h *history) cut(writes, groups, changes int) error {
	var failed error
	h.cutAfter(changes)
	whole := h.alive(func() {
		if failed = h.open(); failed == nil {
			failed = h.run(writes, groups)
		}
	})
	h.fault.Before(nil)
	if whole && failed != nil {
		return failed
	}
	// A kill leaves what was written, synced or not, for the next life to
	// read; a power cut in that life must not take it back.
	if h.rng.IntN(3) > 0 {
		h.mem.Crash(h.rng)
	}
	return nil
}

// A power cut at any write or sync, with any of the unsynced sectors
// surviving: everything flushed is there, nothing is invented, overwritten
// suffixes stay overwritten. Every seed is several lives long, so that torn
// tails are torn again.
func TestPowerCutAtAnyPoint(t *testing.T) {
	seeds := uint64(100)
	if testing.Short() {
		seeds = 40
	}
	carried := 0
	for seed := range seeds {
		h := newHistory(t, seed)
		for life := range 8 {
			changes := h.rng.IntN(60)
			if h.rng.IntN(4) == 0 {
				changes = 400
			}
			if err := h.cut(400, 5, changes); err != nil {
				t.Fatalf("seed %d, life %d, cut after %d changes: %v", seed, life, changes, err)
			}
		}
		carried += h.carried
	}
	if carried < 500 {
		t.Fatalf("entries were carried only %d times", carried)
	}
}

// The same on a disk so small that it is full again and again: marks always go
// through, and nothing flushed is lost.
func TestPowerCutOnAFullDisk(t *testing.T) {
	fulls := 0
	for seed := range uint64(15) {
		h := newHistory(t, seed)
		h.mem.SetCapacity(int64(220+h.rng.IntN(200)) << 10)
		for life := range 6 {
			err := h.cut(600, 5, 50+h.rng.IntN(600))
			if free, _ := h.mem.Free(); errors.Is(err, ErrFull) && free < fileBytesMin {
				h.mem.SetCapacity(500 << 10) // nothing starts on a disk as full as this
				err = nil
			}
			if err != nil {
				t.Fatalf("seed %d, life %d: %v", seed, life, err)
			}
		}
		fulls += h.fulls
	}
	if fulls < 25 {
		t.Fatalf("full only %d times", fulls)
	}
}

// Every point of one fixed history is cut, one after the other.
func TestPowerCutAtEveryPoint(t *testing.T) {
	step := 3
	if testing.Short() {
		step = 13
	}
	for changes := 0; changes < 400; changes += step {
		h := newHistory(t, 7)
		for range 3 {
			if err := h.cut(250, 3, changes); err != nil {
				t.Fatalf("cut after %d changes: %v", changes, err)
			}
		}
	}
}

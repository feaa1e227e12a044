package cluster

import (
	"fmt"
	"sync"
	"sync/atomic"

	"tidewater/internal/record"
)

// Leadership is what the controller's group says of itself.
type Leadership struct {
	Term    uint64
	Leader  int32 // NoLeader if unknown
	Leading bool
	Ready   bool // leading, and everything older is committed
}

// Machine is the controller as a Raft state machine. Append, Truncate, Commit,
// Lead and Stopped are called by the group's loop, one at a time, as tasks of
// Raft.Do are; the rest is safe for concurrent use.
type Machine struct {
	node  int32
	store *store

	// Owned by the group's loop.
	state   *State
	entries []entry // not applied yet, in order
	waiters map[place]func(any, error)
	failure error // set once: nothing is applied any more

	view    atomic.Pointer[View]
	lead    atomic.Pointer[Leadership]
	applied atomic.Pointer[place] // of what the store was told, durable or not

	mu   sync.Mutex // held for the fields below only
	subs []*subscription
}

type entry struct {
	place
	cmd Command // nil for Raft's own
}

// place is an entry of the log; a waiter is keyed by both, because an Index can
// be given to another entry in a later term.
type place struct {
	index record.Index
	term  uint64
}

type subscription struct{ fn func(old, now *View) }

func newMachine(node int32, st *store, state *State) *Machine {
	r := &Machine{node: node, store: st, state: state, waiters: map[place]func(any, error){}}
	r.view.Store(state.View())
	r.lead.Store(&Leadership{Leader: NoLeader})
	r.applied.Store(&place{state.v.applied, state.v.term})
	return r
}

// Append takes an entry into the log, not yet committed. A command that this
// build cannot read is an error, which stops the replica: skipping it would
// part the replicas.
func (r *Machine) Append(index record.Index, term uint64, data []byte) error {
	e := entry{place: place{index, term}}
	if len(data) > 0 {
		cmd, err := DecodeCommand(data)
		if err != nil {
			return fmt.Errorf("read controller command at Index %d: %w", index, err)
		}
		e.cmd = cmd
	}
	if index > r.state.v.applied {
		r.entries = append(r.entries, e)
	}
	return nil
}

// Truncate forgets entries after last; whoever waits for one is told that it
// did not happen.
func (r *Machine) Truncate(last record.Index) {
	for i, e := range r.entries {
		if e.index > last {
			for _, gone := range r.entries[i:] {
				r.answer(gone.place, nil, fmt.Errorf("%w: the command was replaced", ErrNotController))
			}
			r.entries = r.entries[:i]
			return
		}
	}
}

// Commit applies everything up to last, publishes the view, then answers.
func (r *Machine) Commit(last record.Index) {
	if r.failure != nil {
		return
	}
	type answer struct {
		place
		result any
		err    error
	}
	var answers []answer
	n := 0
	for ; n < len(r.entries) && r.entries[n].index <= last; n++ {
		e := r.entries[n]
		if e.cmd == nil {
			r.state.Skip(e.index, e.term)
			continue
		}
		result, err := r.state.Apply(e.index, e.term, e.cmd)
		answers = append(answers, answer{e.place, result, err})
	}
	if n == 0 {
		return
	}
	r.entries = append(r.entries[:0], r.entries[n:]...)
	if err := r.store.write(r.state.Changes()); err != nil {
		r.fail(err)
		return
	}
	r.applied.Store(&place{r.state.v.applied, r.state.v.term})
	r.publish()
	for _, a := range answers {
		r.answer(a.place, a.result, a.err)
	}
}

func (r *Machine) answer(at place, result any, err error) {
	if done := r.waiters[at]; done != nil {
		delete(r.waiters, at)
		done(result, err)
	}
}

// publish swaps the view and tells the subscribers, in the order they came.
func (r *Machine) publish() {
	old, now := r.view.Load(), r.state.View()
	r.view.Store(now)
	r.mu.Lock()
	subs := r.subs
	r.mu.Unlock()
	for _, s := range subs {
		s.fn(old, now)
	}
}

// Lead takes the group's newest leadership. Whoever waits for a command of a
// term that is over cannot know whether it will happen.
func (r *Machine) Lead(l Leadership) {
	r.lead.Store(&l)
	r.abandon(func(p place) bool { return !l.Leading || p.term != l.Term }, ErrUnknownOutcome)
}

// Stopped ends the replica: its disk failed, or it was closed.
func (r *Machine) Stopped(err error) {
	r.lead.Store(&Leadership{Leader: NoLeader})
	if err == nil {
		err = ErrClosed
	}
	r.fail(err)
}

func (r *Machine) fail(err error) {
	if r.failure == nil {
		r.failure = err
	}
	r.abandon(func(place) bool { return true }, fmt.Errorf("%w: %w", ErrUnknownOutcome, err))
}

// abandon answers waiters with err; the order among them does not matter, as
// each is its own caller.
func (r *Machine) abandon(which func(place) bool, err error) {
	for p := range r.waiters {
		if which(p) {
			r.answer(p, nil, err)
		}
	}
}

// propose runs on the group's loop. done is called once, maybe before it
// returns.
func (r *Machine) propose(p Proposer, data []byte, done func(any, error)) {
	if r.failure != nil {
		done(nil, fmt.Errorf("%w: %w", ErrNotController, r.failure))
		return
	}
	term, ok := p.Leading()
	if !ok {
		done(nil, ErrNotController)
		return
	}
	index, err := p.Propose(data)
	if err != nil {
		done(nil, fmt.Errorf("%w: propose: %w", ErrNotController, err))
		return
	}
	r.waiters[place{index, term}] = done
}

// subscribe is Controller.Subscribe.
func (r *Machine) subscribe(fn func(old, now *View)) (cancel func()) {
	s := &subscription{fn}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.subs = append(r.subs[:len(r.subs):len(r.subs)], s)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		kept := make([]*subscription, 0, len(r.subs))
		for _, other := range r.subs {
			if other != s {
				kept = append(kept, other)
			}
		}
		r.subs = kept
	}
}

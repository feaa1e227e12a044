package cluster

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"tidewater/broker/multiraft"
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
	store *store
	// stopped is closed by Stopped: tasks that were not run by then never are.
	stopped chan struct{}
	// removed is set before stopped is closed: the group's members left this
	// replica out.
	removed bool

	// Owned by the group's loop.
	state   *State
	entries []entry // not applied yet, in order
	waiters map[place]func(any, error)
	failure error // set once: nothing is applied any more

	// requests are this broker's own, by their Seq, wherever they were
	// proposed; requestMu guards the map and is held for nothing else.
	requestMu sync.Mutex
	requests  map[RequestID]chan outcome

	view    atomic.Pointer[View]
	lead    atomic.Pointer[Leadership]
	applied atomic.Pointer[place] // of what the store was told, durable or not
	told    atomic.Uint64         // Index up to which requests are answered

	background sync.WaitGroup       // Install's
	installed  atomic.Pointer[View] // waits for Restore

	mu   sync.Mutex // held for the fields below only
	subs []*subscription
	// changed is closed at the next change of view or leadership; nil while
	// nobody waits.
	changed chan struct{}
}

// change gives a channel that is closed at the next change of view or
// leadership.
func (m *Machine) change() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.changed
}

func (m *Machine) tellChange() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

type entry struct {
	place
	id  RequestID
	cmd Command // nil for Raft's own
}

// outcome is what a command came to.
type outcome struct {
	result any
	err    error
}

// place is an entry of the log; a waiter is keyed by both, because an Index can
// be given to another entry in a later term.
type place struct {
	index record.Index
	term  uint64
}

type subscription struct{ fn func(old, now *View) }

func newMachine(st *store, state *State) *Machine {
	m := &Machine{store: st, stopped: make(chan struct{}), state: state, waiters: map[place]func(any, error){},
		requests: map[RequestID]chan outcome{}}
	m.view.Store(state.View())
	m.lead.Store(&Leadership{Leader: NoLeader})
	m.applied.Store(&place{state.v.applied, state.v.term})
	m.told.Store(uint64(state.v.applied))
	return m
}

// Append takes an entry into the log, not yet committed. A command that this
// build cannot read is an error, which stops the replica: skipping it would
// part the replicas.
func (m *Machine) Append(index record.Index, term uint64, data []byte) error {
	if next := m.state.v.applied + record.Index(len(m.entries)) + 1; index > next {
		return fmt.Errorf("%w: the log continues at Index %d, the controller's store at %d", ErrFormat, index, next)
	}
	e := entry{place: place{index, term}}
	if len(data) > 0 {
		var err error
		if e.id, e.cmd, err = DecodeCommand(data); err != nil {
			return fmt.Errorf("read controller command at Index %d: %w", index, err)
		}
	}
	if index > m.state.v.applied {
		m.entries = append(m.entries, e)
	}
	return nil
}

// Truncate forgets entries after last; whoever waits for one is told that it
// did not happen.
func (m *Machine) Truncate(last record.Index) {
	for i, e := range m.entries {
		if e.index > last {
			for _, gone := range m.entries[i:] {
				m.answer(gone.place, nil, fmt.Errorf("%w: the command was replaced", ErrNotController))
			}
			m.entries = m.entries[:i]
			return
		}
	}
}

// Commit applies everything up to last, publishes the view, then answers.
func (m *Machine) Commit(last record.Index) {
	if m.failure != nil {
		return
	}
	type answer struct {
		place
		id RequestID
		outcome
	}
	var answers []answer
	n := 0
	for ; n < len(m.entries) && m.entries[n].index <= last; n++ {
		e := m.entries[n]
		if e.cmd == nil {
			m.state.Skip(e.index, e.term)
			continue
		}
		result, err := m.state.Apply(e.index, e.term, e.id, e.cmd)
		answers = append(answers, answer{e.place, e.id, outcome{result, err}})
	}
	if n == 0 {
		return
	}
	m.entries = append(m.entries[:0], m.entries[n:]...)
	if err := m.store.write(m.state.Changes()); err != nil {
		m.fail(err)
		return
	}
	m.applied.Store(&place{m.state.v.applied, m.state.v.term})
	m.publish()
	for _, a := range answers {
		if a.id.Seq > 0 && a.err != errRepeated {
			m.answerRequest(a.id, a.outcome)
		}
		m.answer(a.place, a.result, a.err)
	}
	m.told.Store(uint64(m.state.v.applied))
	m.tellChange()
}

// await gives a channel that gets the outcome of the request when it is
// applied here; forget ends the waiting.
func (m *Machine) await(id RequestID) (answered <-chan outcome, forget func()) {
	ch := make(chan outcome, 1)
	m.requestMu.Lock()
	defer m.requestMu.Unlock()
	m.requests[id] = ch
	return ch, func() {
		m.requestMu.Lock()
		defer m.requestMu.Unlock()
		delete(m.requests, id)
	}
}

func (m *Machine) answerRequest(id RequestID, o outcome) {
	m.requestMu.Lock()
	defer m.requestMu.Unlock()
	if ch := m.requests[id]; ch != nil {
		delete(m.requests, id)
		ch <- o // room for one, and there is one
	}
}

func (m *Machine) answer(at place, result any, err error) {
	if done := m.waiters[at]; done != nil {
		delete(m.waiters, at)
		done(result, err)
	}
}

// publish swaps the view and tells the subscribers, in the order they came.
func (m *Machine) publish() {
	old, now := m.view.Load(), m.state.View()
	m.view.Store(now)
	m.mu.Lock()
	subs := m.subs
	m.mu.Unlock()
	for _, s := range subs {
		s.fn(old, now)
	}
}

// Lead takes the group's newest leadership. Whoever waits for a command of a
// term that is over cannot know whether it will happen.
func (m *Machine) Lead(l Leadership) {
	m.lead.Store(&l)
	m.tellChange()
	m.abandon(func(p place) bool { return !l.Leading || p.term != l.Term }, ErrUnknownOutcome)
}

// Stopped ends the replica: its disk failed, or it was closed.
func (m *Machine) Stopped(err error) {
	m.lead.Store(&Leadership{Leader: NoLeader})
	m.tellChange()
	if err == nil {
		err = ErrClosed
	}
	m.fail(err)
	m.removed = errors.Is(err, multiraft.ErrRemoved)
	close(m.stopped)
}

func (m *Machine) fail(err error) {
	if m.failure == nil {
		m.failure = err
	}
	m.abandon(func(place) bool { return true }, fmt.Errorf("%w: %w", ErrUnknownOutcome, err))
}

// abandon answers waiters with err; the order among them does not matter, as
// each is its own caller.
func (m *Machine) abandon(which func(place) bool, err error) {
	for p := range m.waiters {
		if which(p) {
			m.answer(p, nil, err)
		}
	}
}

// propose runs on the group's loop. done is called once, maybe before it
// returns.
func (m *Machine) propose(p Proposer, data []byte, done func(any, error)) {
	if m.failure != nil {
		done(nil, fmt.Errorf("%w: %w", ErrNotController, m.failure))
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
	m.waiters[place{index, term}] = done
}

// subscribe is Controller.Subscribe.
func (m *Machine) subscribe(fn func(old, now *View)) (cancel func()) {
	s := &subscription{fn}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.subs = append(m.subs[:len(m.subs):len(m.subs)], s)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		kept := make([]*subscription, 0, len(m.subs))
		for _, other := range m.subs {
			if other != s {
				kept = append(kept, other)
			}
		}
		m.subs = kept
	}
}

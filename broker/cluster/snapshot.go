package cluster

import (
	"fmt"

	"tidewater/broker/multiraft"
	"tidewater/broker/peer"
	"tidewater/internal/record"
)

// A replica whose log ends before the others' begins gets the whole state, as
// Export has it: less than 30 MiB for 160,000 partitions that all move, where one
// message carries 40. It is made durable beside the old state before raft hears of it, and
// takes the old one's place in one step.

// Snapshot gives the state as it is; it is at a committed entry at any time.
func (s stateMachine) Snapshot(least record.Index) (multiraft.Snapshot, error) {
	m := s.Machine
	if at := m.state.v.applied; m.failure != nil || at < least {
		return multiraft.Snapshot{}, fmt.Errorf("%w: the controller has applied %d, wanted is %d", multiraft.ErrNotYet, at, least)
	}
	v := m.view.Load()
	data, err := snapshotOf(v)
	if err != nil {
		return multiraft.Snapshot{}, err
	}
	return multiraft.Snapshot{Index: v.applied, Term: v.term, Data: data}, nil
}

// snapshotBytesMax is what a message between brokers carries, less the rest of
// it: a larger one would be passed over.
const snapshotBytesMax = peer.FrameBytesMaxDefault - 2<<20

// snapshotOf is the state for a message, unless that is too large.
func snapshotOf(v *View) ([]byte, error) {
	data := v.Export()
	if len(data) > snapshotBytesMax {
		return nil, fmt.Errorf("make controller snapshot: state of %d bytes, a message carries %d: %d topics are too many, or their properties too long",
			len(data), snapshotBytesMax, len(v.topics))
	}
	return data, nil
}

// Install reads a state and writes it beside this one.
func (s stateMachine) Install(snap multiraft.Snapshot, done func(error)) {
	s.background.Go(func() { done(s.install(snap)) })
}

func (m *Machine) install(snap multiraft.Snapshot) error {
	v, err := DecodeView(snap.Data)
	if err != nil {
		return fmt.Errorf("read controller snapshot at Index %d: %w", snap.Index, err)
	}
	if err := v.works(); err != nil {
		return err
	}
	if v.applied != snap.Index {
		return fmt.Errorf("%w: controller snapshot at Index %d holds the state at %d", ErrFormat, snap.Index, v.applied)
	}
	if err := m.store.stage(snap.Data); err != nil {
		return err
	}
	m.installed.Store(v)
	return nil
}

// Restore makes the installed state this replica's.
func (s stateMachine) Restore(snap multiraft.Snapshot) (mark []byte) {
	m := s.Machine
	v := m.installed.Swap(nil)
	if v == nil || v.applied != snap.Index {
		m.fail(fmt.Errorf("%w: raft took a snapshot at Index %d that was not installed", ErrFormat, snap.Index))
		return nil
	}
	if v.applied > m.state.v.applied {
		m.state = stateOf(*v)
		if err := m.store.replace(m.state.View()); err != nil {
			m.fail(err)
			return nil
		}
	}
	m.entries = m.entries[:0]
	m.applied.Store(&place{m.state.v.applied, m.state.v.term})
	m.publish()
	m.abandon(func(p place) bool { return p.index <= m.state.v.applied }, ErrUnknownOutcome)
	m.told.Store(uint64(m.state.v.applied))
	m.tellChange()
	return nil
}

// Restored has nothing to do: what was before went with the step that put the
// new state in its place, and a state ahead of the log passes entries by.
func (stateMachine) Restored() {}

// Abandon: the log got there by itself.
func (s stateMachine) Abandon() { s.installed.Store(nil) }

var _ multiraft.Snapshotter = stateMachine{}

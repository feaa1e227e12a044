package multiraft

import (
	"errors"
	"fmt"

	"tidewater/broker/journal"
	"tidewater/internal/record"
)

// committer is the core of the journal's side: it takes batches of all shards,
// appends them in order, flushes once, and answers those that are whole. It
// has one caller.
//
// When the journal is full it keeps what was refused and everything behind it,
// and lets marks and removals pass: they are what makes room. A removal drops
// the group's writes before it.
type committer struct {
	journal Journal
	state   *shared
	stats   *counters
	waiting []*Batch // not yet wholly appended, in order
	dead    error
}

// add queues a batch.
func (c *committer) add(b *Batch) { c.waiting = append(c.waiting, b) }

// stalled reports whether batches wait for room.
func (c *committer) stalled() bool { return len(c.waiting) > 0 }

// preparer is a journal that has work of its own to do while nothing waits.
type preparer interface {
	// Prepare does one bounded step and says whether there is more.
	Prepare() (more bool, err error)
}

// prepare lets the journal do one step of its own work; false when there is no
// more, or no room for it. A journal that died says so at the next commit.
func (c *committer) prepare() bool {
	p, ok := c.journal.(preparer)
	if !ok || c.dead != nil {
		return false
	}
	more, err := p.Prepare()
	return more && err == nil
}

// pinner is a journal that can say who keeps it long.
type pinner interface {
	LiveBytes() int64
	Pinning(limit int) []record.PartitionID
}

// pinning answers Host.Pinning, once for each time that it asked.
func (c *committer) pinning(bytesMax int64) {
	p, ok := c.journal.(pinner)
	if !ok || c.dead != nil || !c.state.askPinning.Swap(false) {
		return
	}
	var ids []record.PartitionID
	if c.state.full.Load() || p.LiveBytes() > bytesMax {
		ids = p.Pinning(pinningMax)
	}
	c.state.pinning.Store(&ids)
}

// pinningMax bounds how many groups Pinning names.
const pinningMax = 1024

// takePinning gives what pinning found since the last call, and asks again.
func (s *shared) takePinning() []record.PartitionID {
	ids := s.pinning.Swap(nil)
	s.askPinning.Store(true)
	if ids == nil {
		return nil
	}
	return *ids
}

// commit appends what it can and flushes. It gives the batches that are now
// durable, in order. An error is final and is about all batches: those given
// and those to come.
func (c *committer) commit() ([]*Batch, error) {
	if c.dead == nil {
		done, err := c.try()
		if err == nil {
			return done, nil
		}
		c.dead = err
		c.waiting = append(done, c.waiting...)
	}
	all := c.waiting
	c.waiting = nil
	return all, c.dead
}

func (c *committer) try() (done []*Batch, err error) {
	appended := 0
	full := false
	for len(c.waiting) > 0 && !full {
		b := c.waiting[0]
		n, err := c.append(b)
		appended += n
		if errors.Is(err, ErrFull) {
			full = true
			break
		}
		if err != nil {
			return done, err
		}
		c.waiting = c.waiting[1:]
		done = append(done, b)
	}
	if full {
		n, err := c.overtake()
		if err != nil {
			return done, err
		}
		appended += n
	}
	c.state.full.Store(full)
	if appended == 0 {
		return done, nil
	}
	c.stats.flushes.Add(1)
	if err := c.journal.Flush(); err != nil {
		return done, fmt.Errorf("flush journal: %w", err)
	}
	return done, nil
}

// append gives the journal the rest of a batch's writes.
func (c *committer) append(b *Batch) (int, error) {
	n := 0
	for ; b.next < len(b.Writes); b.next++ {
		w := &b.Writes[b.next]
		if empty(w) {
			continue
		}
		if err := c.journal.Append(*w); err != nil {
			return n, fmt.Errorf("append to journal: %w", err)
		}
		c.count(w)
		n++
	}
	return n, nil
}

func (c *committer) count(w *journal.Write) {
	c.stats.writes.Add(1)
	c.stats.bytes.Add(dataBytes(w.Entries))
}

// empty reports whether a write has overtaken others or was dropped.
func empty(w *journal.Write) bool {
	return !w.Remove && w.Mark == nil && w.HardState == nil && w.ConfState == nil && len(w.Entries) == 0
}

// overtake lets marks and removals past the writes that found no room. Of a
// write with a mark only the mark goes: hard states keep their order. A
// ConfState that waits for the group goes with the mark that covers it, since
// the entry it came from is not read again; a mark that may or may not cover it
// waits for the next one.
func (c *committer) overtake() (int, error) {
	n := 0
	confs := map[record.PartitionID][]*journal.Write{} // that wait, by group
	for i, b := range c.waiting {
		for k := b.next; k < len(b.Writes); k++ {
			w := &b.Writes[k]
			waiting := confs[w.Group]
			if w.ConfState != nil {
				confs[w.Group] = append(waiting, w)
			}
			pass := journal.Write{Group: w.Group, Mark: w.Mark, Remove: w.Remove}
			// With a ConfState it may be the first that is told of the group.
			if empty(&pass) || len(w.Entries) > 0 || w.ConfState != nil || !covers(w.Mark, waiting) {
				continue
			}
			if w.Mark != nil && len(waiting) > 0 {
				pass.ConfState = waiting[len(waiting)-1].ConfState
			}
			if err := c.journal.Append(pass); errors.Is(err, ErrFull) {
				return n, nil
			} else if err != nil {
				return n, fmt.Errorf("append to journal: %w", err)
			}
			c.count(&pass)
			n++
			if w.Remove {
				c.drop(i, k)
			}
			if pass.ConfState != nil {
				for _, o := range waiting {
					o.ConfState = nil
				}
				delete(confs, w.Group)
			}
			w.Mark, w.Remove = nil, false
		}
	}
	return n, nil
}

// covers reports whether every change of members behind the waiting ConfStates
// lies at or below the mark, if there is one. The hard state beside a ConfState
// has the Index up to which it holds.
func covers(m *journal.Mark, waiting []*journal.Write) bool {
	for _, w := range waiting {
		if m != nil && (w.HardState == nil || w.HardState.Commit > uint64(m.Index)) {
			return false
		}
	}
	return true
}

// drop empties the writes of a removed group that wait before its removal,
// which is write k of waiting batch i.
func (c *committer) drop(i, k int) {
	id := c.waiting[i].Writes[k].Group
	for j := 0; j <= i; j++ {
		b := c.waiting[j]
		for n := b.next; n < len(b.Writes) && (j < i || n < k); n++ {
			if b.Writes[n].Group == id {
				b.Writes[n] = journal.Write{Group: id}
			}
		}
	}
}

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
// When the journal has no room it keeps entries that were refused and what
// depends on them, and lets everything else pass (overtake.go). A removal drops
// the group's writes before it.
type committer struct {
	journal Journal
	state   *shared
	stats   *counters
	waiting []*Batch // not yet wholly appended, in order
	dead    error
}

// add queues a batch.
func (c *committer) add(b *Batch) {
	if c.stalled() {
		c.replace(b)
	}
	c.waiting = append(c.waiting, b)
}

// stalled reports whether batches wait for room.
func (c *committer) stalled() bool { return len(c.waiting) > 0 }

// preparer is a journal that has work of its own to do while nothing waits.
type preparer interface {
	// Prepare does one bounded step and says whether there is more.
	Prepare() (more bool, err error)
}

// fuller is a journal with a bound on what it holds.
type fuller interface {
	// Full reports that no more entries with data are to be accepted; those
	// that were accepted before may still be appended.
	Full() (bool, error)
}

// tellFull has the shards refuse entries, or take them again.
func (c *committer) tellFull(refused bool) error {
	if f, ok := c.journal.(fuller); ok && !refused {
		var err error
		if refused, err = f.Full(); err != nil {
			return fmt.Errorf("ask journal for room: %w", err)
		}
	}
	c.state.full.Store(refused)
	return nil
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
	live := p.LiveBytes()
	c.state.live.Store(live)
	if c.state.full.Load() || live > bytesMax {
		ids = p.Pinning(pinningMax)
	}
	c.state.pinning.Store(&ids)
}

// pinningMax bounds how many groups Pinning names.
const pinningMax = 1024

// commit appends what it can and flushes. It gives the batches that are now
// durable, in order, and what may be said early of those that still wait. An
// error is final and is about all batches: those given
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
	n, err := c.carry(done)
	if err != nil {
		return done, err
	}
	appended += n
	if err := c.tellFull(full); err != nil {
		return done, err
	}
	if appended > 0 {
		c.stats.flushes.Add(1)
		if err := c.journal.Flush(); err != nil {
			return done, fmt.Errorf("flush journal: %w", err)
		}
	}
	if full {
		done = append(done, c.said()...)
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

package partition

import (
	"fmt"
	"hash/crc32"

	"tidewater/broker/multiraft"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// stateMachine is the side of a Partition that its group calls, on the shard
// loop. It is a type of its own because the client's Append is another.
type stateMachine Partition

var (
	_ multiraft.StateMachine = (*stateMachine)(nil)
	_ multiraft.Holder       = (*stateMachine)(nil)
)

// StateMachine is what the group is started with.
func (p *Partition) StateMachine() multiraft.StateMachine { return (*stateMachine)(p) }

// Append takes an entry into the log. A batch whose base offset is not this
// log's end, or whose epoch is not the entry's term, stops the replica before
// it acknowledges anything.
func (m *stateMachine) Append(e multiraft.Entry) error {
	p := (*Partition)(m)
	p.mu.Lock()
	t := tailEntry{Entry: e, base: p.live.next, next: p.live.next, atMs: p.nowMs()}
	before := p.tail.pendingBytes
	err := p.enter(&t)
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("append entry (%d, term %d) to %s: %w", e.Index, e.Term, p.Name(), err)
	}
	size := t.size()
	p.cfg.Budget.addPending(size)
	if before == 0 && size > 0 && p.cfg.Pending != nil {
		p.cfg.Pending()
	}
	return nil
}

// Sum is what a partition's group is started with as multiraft.GroupConfig.Sum.
// It takes a batch's checksum from its header: every batch that comes into a log
// was checked when it came to its leader, and came from there whole.
func Sum(sum uint32, data []byte) uint32 {
	if isBatch(data) {
		return record.Batch(data).SumAfter(sum)
	}
	return crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), data)
}

// enter moves the live state by t and puts it into the tail. It needs mu.
func (p *Partition) enter(t *tailEntry) error {
	if t.Index != p.live.index+1 {
		return fmt.Errorf("%w: the log's last entry is %d", ErrCorrupt, p.live.index)
	}
	switch {
	case isBatch(t.Data):
		b := record.Batch(t.Data)
		if len(b) < record.HeaderBytes || b.Size() != int64(len(b)) || b.LastOffsetDelta() < 0 {
			return fmt.Errorf("%w: %d bytes are no whole batch", ErrCorrupt, len(b))
		}
		if b.BaseOffset() != p.live.next || uint64(uint32(b.Epoch())) != t.Term {
			return fmt.Errorf("%w: batch has base offset %d and epoch %d, the log ends at %d", ErrCorrupt, b.BaseOffset(), b.Epoch(), p.live.next)
		}
		if err := p.live.applyBatch(b, t.Index, t.Term, t.atMs); err != nil {
			return err
		}
		t.next = b.NextOffset()
	case isCommand(t.Data):
		if _, err := decodeCommand(t.Data); err != nil {
			return err
		}
	}
	p.live.index, p.live.term = t.Index, t.Term
	p.tail.add(*t)
	return nil
}

// Truncate rolls the log back to last: the state at the last segment entry,
// and what is left of the tail over it again.
func (m *stateMachine) Truncate(last record.Index) {
	p := (*Partition)(m)
	p.mu.Lock()
	if last < p.committed {
		panic(fmt.Sprintf("partition: %s: entry %d is committed, truncation to %d", p.Name(), p.committed, last))
	}
	before := p.tail.pendingBytes
	p.tail.cutBack(last)
	gone := before - p.tail.pendingBytes
	p.rebuild()
	lost := p.waiters.above(last)
	p.mu.Unlock()
	p.cfg.Budget.addPending(-gone)
	answer(lost, fmt.Errorf("%w: %s: another leader's log replaced the record", logio.ErrNotLeader, p.Name()))
}

// rebuild makes live from stable and the tail. It needs mu.
func (p *Partition) rebuild() {
	live := p.stable.clone()
	for i := range p.tail.entries {
		e := &p.tail.entries[i]
		if e.Index <= live.index {
			continue
		}
		if isBatch(e.Data) {
			// It was applied once, so it applies again.
			if err := live.applyBatch(record.Batch(e.Data), e.Index, e.Term, e.atMs); err != nil {
				panic(fmt.Sprintf("partition: %s: apply entry %d again: %v", p.Name(), e.Index, err))
			}
		}
		live.index, live.term = e.Index, e.Term
	}
	live.producers.txns.commit(p.highWatermark)
	if p.cfg.Fault.KeepProducers {
		live.producers = p.live.producers
	}
	p.live = live
}

// Commit moves the high watermark and the committed marks, and answers who
// waited for it.
func (m *stateMachine) Commit(last record.Index) {
	p := (*Partition)(m)
	fenced := p.fenced()
	p.mu.Lock()
	for i := p.tail.upTo(p.committed); i < p.tail.upTo(last); i++ {
		e := &p.tail.entries[i]
		p.highWatermark = max(p.highWatermark, e.next)
		if isCommand(e.Data) {
			p.applyCommand(e)
		}
	}
	p.committed = max(p.committed, last)
	p.live.producers.txns.commit(p.highWatermark)
	done := p.waiters.upTo(last)
	p.checkTerms(done)
	passed := p.watchers.passed(p.offsets())
	p.mu.Unlock()
	answer(done, fenced)
	call(passed)
}

// Held implements multiraft.Holder: it answers producers of a topic with
// write.caching, and changes nothing else.
func (m *stateMachine) Held(last record.Index) {
	p := (*Partition)(m)
	fenced := p.fenced()
	p.mu.Lock()
	done := p.waiters.heldUpTo(last)
	p.checkTerms(done)
	p.mu.Unlock()
	answer(done, fenced)
}

// applyCommand moves the committed marks. It needs mu.
func (p *Partition) applyCommand(e *tailEntry) {
	c, err := decodeCommand(e.Data)
	if err != nil {
		panic(fmt.Sprintf("partition: %s: entry %d was checked when it came: %v", p.Name(), e.Index, err))
	}
	p.marks.apply(c)
	p.live.producers.txns.forgetBefore(p.marks.logStart)
}

// checkTerms holds the rule that a waiter is answered by the very entry it
// waits for: Truncate has failed all others. It needs mu.
func (p *Partition) checkTerms(ws []waiter) {
	for _, w := range ws {
		if e := p.tail.at(w.index); e != nil && e.Term != w.term {
			panic(fmt.Sprintf("partition: %s: waiter for (%d, term %d) meets term %d", p.Name(), w.index, w.term, e.Term))
		}
	}
}

// Lead notes who leads. Whoever waits on a replica that no longer leads is
// told: the entry may still be committed, and a retry finds out.
func (m *stateMachine) Lead(l multiraft.Leadership) {
	p := (*Partition)(m)
	p.mu.Lock()
	lost := p.lead.Leading && (!l.Leading || l.Term != p.lead.Term)
	other := p.lead.Leading != l.Leading || p.lead.Leader != l.Leader
	p.lead = l
	var watching watchers
	if other && !lost {
		watching, p.watchers = p.watchers, nil
	}
	p.mu.Unlock()
	call(watching)
	if lost {
		p.failAll(fmt.Errorf("%w: %s: broker %d leads term %d", logio.ErrNotLeader, p.Name(), l.Leader, l.Term))
	}
}

// Stopped refuses appends from now on. What is committed stays readable here
// as long as nobody else is known to lead.
func (m *stateMachine) Stopped(err error) {
	p := (*Partition)(m)
	p.mu.Lock()
	p.stopped = fmt.Errorf("%w: %s: replica stopped: %w", logio.ErrStorage, p.Name(), err)
	stopped := p.stopped
	p.mu.Unlock()
	p.abandon()
	p.failAll(stopped)
}

// failAll answers everybody who waits with err and wakes the watchers.
func (p *Partition) failAll(err error) {
	p.mu.Lock()
	waiting, watching := p.waiters, p.watchers
	p.waiters, p.watchers = nil, nil
	p.mu.Unlock()
	answer(waiting, err)
	call(watching)
}

// fenced is the error for acks once a newer incarnation owns the bucket.
func (p *Partition) fenced() error {
	if p.cfg.Fenced != nil && p.cfg.Fenced() {
		return fmt.Errorf("%w: %s", logio.ErrFenced, p.Name())
	}
	return nil
}

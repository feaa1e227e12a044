package partition

import (
	"errors"
	"fmt"

	"tidewater/broker/multiraft"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Append takes one checked batch and answers r.Done. What needs no state
// (bounds, timestamps, recompression) is done on the caller's goroutine; the
// rest is one task on the shard loop.
func (p *Partition) Append(r logio.AppendRequest) {
	p.mu.Lock()
	settings := p.settings
	p.mu.Unlock()
	b, err := admit(r, &settings, p.nowMs())
	if err == nil {
		err = p.checkInSync(r.Acks, settings.MinInsyncReplicas)
	}
	if err != nil {
		r.Done(p.refused(err))
		return
	}
	r.Batch = b
	err = p.cfg.Host.Do(p.cfg.ID, func(g Group) { p.appendBatch(g, r) })
	if err != nil {
		r.Done(p.refused(err))
	}
}

// checkInSync holds min.insync.replicas, before anything is appended: what was
// appended waits for a majority whatever is up.
func (p *Partition) checkInSync(acks logio.Acks, least int) error {
	if acks != logio.AcksAll || least <= 1 || p.cfg.InSync == nil {
		return nil
	}
	if up := p.cfg.InSync(); up < least {
		return fmt.Errorf("%w: %s: %d of %d", logio.ErrNotEnoughReplicas, p.Name(), up, least)
	}
	return nil
}

// appendBatch is one step of the shard loop: check, stamp, propose, move.
func (p *Partition) appendBatch(g Group, r logio.AppendRequest) {
	dup, err := p.checkAppend(g, r.Batch)
	if err != nil {
		p.refuse(g, r, err)
		return
	}
	res := logio.AppendResult{AppendTime: -1}
	if dup != nil {
		p.answerDuplicate(g, r, *dup)
		return
	}
	if r.Batch.LogAppendTime() {
		res.AppendTime = r.Batch.MaxTimestamp()
	}
	l := g.Leadership()
	p.mu.Lock()
	res.BaseOffset = p.live.next
	p.mu.Unlock()
	r.Batch.SetBaseOffset(res.BaseOffset)
	r.Batch.SetEpoch(record.LeaderEpoch(l.Term))
	index, err := g.Propose(r.Batch)
	if err != nil {
		r.Done(p.refused(err))
		return
	}
	if r.Acks != logio.AcksAll {
		r.Done(p.result(res, p.fenced()))
		return
	}
	p.waitProduced(g, &r, index, l.Term, res)
}

// refuse answers a batch that is not appended. That it does not follow its
// producer's last one, or that the producer is fenced, ends the producer: it is
// said only after a majority has confirmed that this replica leads. One that was
// deposed unawares lacks what its successor took, and would say it of a batch
// that is in order.
func (p *Partition) refuse(g Group, r logio.AppendRequest, err error) {
	if !errors.Is(err, logio.ErrOutOfOrderSequence) && !errors.Is(err, logio.ErrInvalidProducerEpoch) && !errors.Is(err, logio.ErrInvalidTxnState) {
		r.Done(p.refused(err))
		return
	}
	g.ReadIndex(func(_ record.Index, lost error) {
		if lost != nil {
			err = lost
		}
		r.Done(p.refused(err))
	})
}

// checkAppend decides whether b may be appended now; dup is its original.
func (p *Partition) checkAppend(g Group, b record.Batch) (dup *recentBatch, err error) {
	if err := p.fenced(); err != nil {
		return nil, err
	}
	if err := p.checkLeader(g); err != nil {
		return nil, err
	}
	size := entryBytes + int64(len(b))
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.storage != nil:
		return nil, fmt.Errorf("%w: %s: %w", logio.ErrStorage, p.Name(), p.storage)
	case p.tail.pendingBytes+size > p.cfg.PendingBytesMax && p.tail.pendingBytes > 0:
		return nil, fmt.Errorf("%w: %s has %d bytes that are in no segment yet", logio.ErrBusy, p.Name(), p.tail.pendingBytes)
	}
	found, err := p.live.producers.check(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name(), err)
	}
	if found != nil {
		copied := *found // live moves on once mu is given back
		return &copied, nil
	}
	if !p.cfg.Budget.room(size) {
		return nil, fmt.Errorf("%w: too many bytes are in no segment yet", logio.ErrBusy)
	}
	return nil, nil
}

// checkLeader says whether this replica may append: it leads, and knows the
// whole of its log, since its term is confirmed.
func (p *Partition) checkLeader(g Group) error {
	l := g.Leadership()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return fmt.Errorf("%w: %s", logio.ErrClosed, p.Name())
	case p.stopped != nil:
		return p.stopped
	case p.cfg.Fault.AppendAnywhere:
		return nil
	case !l.Leading:
		return fmt.Errorf("%w: %s: broker %d does", logio.ErrNotLeader, p.Name(), l.Leader)
	case !l.Ready:
		return fmt.Errorf("%w: %s: term %d is not confirmed yet", logio.ErrNotLeader, p.Name(), l.Term)
	case uint64(record.LeaderEpoch(l.Term)) != l.Term:
		return fmt.Errorf("%w: %s: term %d is no leader epoch", logio.ErrStorage, p.Name(), l.Term)
	}
	return nil
}

// answerDuplicate answers with the original's offset, when the original is.
func (p *Partition) answerDuplicate(g Group, r logio.AppendRequest, dup recentBatch) {
	res := logio.AppendResult{AppendTime: -1, BaseOffset: dup.base}
	if r.Batch.LogAppendTime() {
		res.AppendTime = dup.timestamp
	}
	p.mu.Lock()
	committed := dup.index <= p.committed
	p.mu.Unlock()
	if committed || p.cfg.Fault.AckUncommittedDuplicates || r.Acks != logio.AcksAll {
		r.Done(p.result(res, p.fenced()))
		return
	}
	p.waitProduced(g, &r, dup.index, dup.term, res)
}

// waitProduced answers a producer when (index, term) is committed; with
// write.caching as soon as a majority has it in memory. Coordinators go on from
// their answers as from what lasts, so they wait.
func (p *Partition) waitProduced(g Group, r *logio.AppendRequest, index record.Index, term uint64, res logio.AppendResult) {
	done := r.Done
	p.mu.Lock()
	held := p.settings.WriteCaching && !r.Internal
	p.waiters.add(waiter{index: index, term: term, held: held, done: func(err error) { done(p.result(res, err)) }})
	p.mu.Unlock()
	if held {
		g.AskHeld(index)
	}
}

// wait has done called when (index, term) is committed or lost. It runs on the
// shard loop, so neither has happened yet.
func (p *Partition) wait(index record.Index, term uint64, done func(error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiters.add(waiter{index: index, term: term, done: done})
}

func (p *Partition) result(res logio.AppendResult, err error) logio.AppendResult {
	if err != nil {
		return p.refused(err)
	}
	p.mu.Lock()
	res.LogStart = p.marks.logStart
	p.mu.Unlock()
	return res
}

// refused answers an append that was not made, in the errors of a log.
func (p *Partition) refused(err error) logio.AppendResult {
	return logio.AppendResult{Err: p.asLog(err), BaseOffset: -1, AppendTime: -1, LogStart: -1}
}

// asLog gives a Raft error the log's kind.
func (p *Partition) asLog(err error) error {
	kind := func(k error) error { return fmt.Errorf("%w: %s: %w", k, p.Name(), err) }
	switch {
	case errors.Is(err, multiraft.ErrNotLeader), errors.Is(err, multiraft.ErrDropped):
		return kind(logio.ErrNotLeader)
	case errors.Is(err, multiraft.ErrBusy):
		return kind(logio.ErrBusy)
	case errors.Is(err, multiraft.ErrTooLarge):
		return kind(logio.ErrTooLarge)
	case errors.Is(err, multiraft.ErrFull), errors.Is(err, multiraft.ErrStopped):
		return kind(logio.ErrStorage)
	}
	return err
}

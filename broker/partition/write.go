package partition

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/broker/segment"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// WriteSegments writes what is committed to the active segment, syncs it, and
// lets memory and journal go; it seals the segment when it is full or old
// enough, when Seal asked for it, or with seal. While it fails appends are
// refused with ErrStorage; it is called again until it does not. When another
// step uses the segments it does nothing.
func (p *Partition) WriteSegments(ctx context.Context, seal bool) error {
	if !p.begin() {
		return nil
	}
	p.mu.Lock()
	p.sealWanted = p.sealWanted || seal
	p.writeWanted = false
	held := p.staleHeld
	p.mu.Unlock()
	var err error
	if !held {
		err = p.clearStale()
	}
	if err == nil {
		err = p.writePending(ctx)
	}
	if err == nil {
		err = p.sealIfDue()
	}
	if ctx.Err() == nil { // a step that was called off says nothing of the disk
		p.mu.Lock()
		p.storage = err
		p.mu.Unlock()
	}
	if err = errors.Join(err, p.release(), p.end()); err != nil {
		return fmt.Errorf("write segments of %s: %w", p.Name(), err)
	}
	return nil
}

// writePending writes committed entries chunk by chunk.
func (p *Partition) writePending(ctx context.Context) error {
	if err := p.segments.Dead(); err != nil {
		return err
	}
	for {
		p.mu.Lock()
		chunk := p.tail.pendingTo(p.committed, chunkBytesMax)
		p.mu.Unlock()
		if len(chunk) == 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.writeChunk(chunk); err != nil {
			return err
		}
		p.advance(chunk)
	}
}

func (p *Partition) writeChunk(chunk []tailEntry) error {
	end, _, _ := p.segments.End()
	var entries []segment.Entry
	var size int64
	for i := range chunk {
		// After a crash segments may hold more than the mark says.
		if e := &chunk[i]; e.Index > end {
			entries = append(entries, segment.Entry{Index: e.Index, Term: e.Term, Data: e.Data})
			size += int64(len(e.Data))
		}
	}
	if len(entries) == 0 {
		return p.segments.Sync() // it may have failed the last time
	}
	if p.sealDue(size) {
		if err := p.seal(); err != nil {
			return err
		}
	}
	if _, ok := p.segments.Active(); !ok {
		p.mu.Lock()
		p.activeSinceMs = p.nowMs()
		p.mu.Unlock()
	}
	if err := p.segments.Append(entries); err != nil {
		return err
	}
	return p.segments.Sync()
}

// advance moves the stable state past chunk, whose entries are synced.
func (p *Partition) advance(chunk []tailEntry) {
	p.mu.Lock()
	s := &p.stable
	for i := range chunk {
		e := &chunk[i]
		switch {
		case isBatch(e.Data):
			if err := s.applyBatch(record.Batch(e.Data), e.Index, e.Term, e.atMs); err != nil {
				panic(fmt.Sprintf("partition: %s: apply entry %d again: %v", p.Name(), e.Index, err))
			}
		case isCommand(e.Data):
			c, err := decodeCommand(e.Data)
			if err != nil {
				panic(fmt.Sprintf("partition: %s: entry %d was checked when it came: %v", p.Name(), e.Index, err))
			}
			s.apply(c)
		}
		s.index, s.term = e.Index, e.Term
	}
	s.producers.txns.commit(s.next)
	s.producers.txns.forgetBefore(s.logStart)
	if p.closed {
		p.mu.Unlock()
		return
	}
	bytes, next := p.tail.setWritten(len(chunk)), s.next
	p.mu.Unlock()
	p.cfg.Budget.written(p, next, bytes)
}

// release tells the group what it may let go of. A busy host is asked again by
// the next step.
func (p *Partition) release() error {
	p.mu.Lock()
	if p.stable.index <= p.released || p.stopped != nil || p.closed {
		p.mu.Unlock()
		return nil
	}
	m := journal.Mark{Index: p.stable.index, Term: p.stable.term, Data: p.stable.encodeMark()}
	p.mu.Unlock()
	err := p.cfg.Host.Do(p.cfg.ID, func(g Group) { g.Release(m) })
	if errors.Is(err, multiraft.ErrBusy) {
		return nil
	}
	if err != nil {
		return p.asLog(err)
	}
	p.mu.Lock()
	p.released = max(p.released, m.Index)
	p.mu.Unlock()
	return nil
}

// sealDue reports whether the active segment is to be sealed before more bytes
// come: it is full, old, or Seal asked for it. One without records never is.
func (p *Partition) sealDue(more int64) bool {
	in, ok := p.segments.Active()
	if !ok || in.Base == in.Next {
		return false
	}
	now := p.nowMs()
	p.mu.Lock()
	defer p.mu.Unlock()
	if more == 0 && p.sealWanted {
		return true
	}
	old := p.settings.SegmentAge > 0 && now-p.activeSinceMs >= p.settings.SegmentAge.Milliseconds()
	return old || in.Bytes+more > p.settings.SegmentBytes
}

// sealIfDue seals the active segment, or drops a request to seal when it holds
// nothing.
func (p *Partition) sealIfDue() error {
	if p.sealDue(0) {
		return p.seal()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sealWanted = false
	return nil
}

// seal writes the producers' state at the end of the active segment, then
// seals it. A crash in between leaves a snapshot that is true.
func (p *Partition) seal() error {
	end, _, next := p.segments.End()
	p.mu.Lock()
	if p.stable.index != end {
		p.mu.Unlock()
		return nil // replay has not caught up with the segments yet
	}
	data := encodeSnapshot(p.cfg.Identity, next, &p.stable.producers)
	p.mu.Unlock()
	if err := writeSnapshot(p.cfg.FS, p.cfg.Dir, next, data); err != nil {
		return err
	}
	if err := p.segments.Roll(); err != nil {
		return err
	}
	p.mu.Lock()
	p.sealWanted = false
	p.mu.Unlock()
	return nil
}

// Seal asks that the active segment, and what is committed and pending, be
// sealed by the next WriteSegments. It does not block.
func (p *Partition) Seal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sealWanted = true
}

// Due reports whether a WriteSegments is worth it: that many bytes wait for it,
// the oldest for that long, the active segment is to be sealed, a follower
// waits for a RaftSnapshot, the group was too busy to be told what it may let go
// of, or the segments are dead, which it then says. An entry without records waits for none of these: until somebody
// wants it elsewhere it stays in the journal.
func (p *Partition) Due(bytes int64, age time.Duration) bool {
	pending, oldestMs := p.Pending()
	if pending > 0 && (pending >= bytes || p.nowMs()-oldestMs >= age.Milliseconds()) {
		return true
	}
	p.mu.Lock()
	waits := len(p.tail.entries) > p.tail.written
	wanted := (p.sealWanted && pending > 0 || p.writeWanted && waits) || p.stable.index > p.released && p.stopped == nil ||
		p.stale != nil && !p.staleHeld
	p.mu.Unlock()
	return wanted || p.segments.Dead() != nil || p.sealDue(0)
}

// segmentInfos are the segments with records, oldest first.
func (p *Partition) segmentInfos() []segment.Info {
	var with []segment.Info
	for _, in := range p.segments.Segments() {
		if in.Base < in.Next {
			with = append(with, in)
		}
	}
	return with
}

// SealedSegment is a sealed segment on this disk; every entry in it is committed.
type SealedSegment struct {
	Base         record.Offset // first offset in it
	Next         record.Offset // exclusive end
	Bytes        int64         // of record batches
	MaxTimestamp int64         // ms since the Unix epoch
}

// Sealed lists the sealed segments whose Next is above from, in order.
func (p *Partition) Sealed(from record.Offset) []SealedSegment {
	var out []SealedSegment
	for _, in := range p.segmentInfos() {
		if in.Sealed && in.Next > from {
			out = append(out, SealedSegment{Base: in.Base, Next: in.Next, Bytes: in.PayloadBytes, MaxTimestamp: in.MaxTimestamp})
		}
	}
	return out
}

// Marks gives the offsets and whether they can be relied on: this replica
// leads and its term is confirmed.
func (p *Partition) Marks() (o logio.Offsets, leading bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets(), p.readable(true) == nil && p.stopped == nil
}

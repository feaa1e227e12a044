package partition

import (
	"context"
	"errors"
	"fmt"
	"io"

	"tidewater/broker/multiraft"
	"tidewater/broker/segment"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// A replica whose leader holds no longer what it lacks copies segments. What it
// copies is committed, so it may stand behind the segments that are here
// before the replica's mark says so: the log goes on where the local segments
// end, and a crash leaves the old state with some entries more. Where the
// other has gone on too far for that, the copy begins above a gap: a file
// (copyfile.go) says so before its first segment is made, and decides at the
// next start, by the mark, which of the two logs in the directory counts.

// SegmentSource reaches the segments of other brokers' replicas.
type SegmentSource interface {
	// Segments gives what ServeSegments of the replica on a broker writes for
	// the request; the reader is closed by the caller.
	Segments(ctx context.Context, node int32, id record.PartitionID, request []byte) (io.ReadCloser, error)
}

// copied is a RaftSnapshot whose segments are here.
type copied struct {
	state state
	// log begins above a gap; nil when the copy continued the log.
	log *segment.Log
	// start is the first offset on this disk.
	start record.Offset
}

var _ multiraft.Snapshotter = (*stateMachine)(nil)

// Install copies what s stands for, on a background loop. The segments belong
// to it from its begin to Restore or Abandon.
func (m *stateMachine) Install(s multiraft.Snapshot, done func(error)) {
	p := (*Partition)(m)
	task := func(ctx context.Context) {
		err := p.install(ctx, s)
		if err != nil {
			err = errors.Join(fmt.Errorf("copy %s up to entry %d from broker %d: %w", p.Name(), s.Index, s.Node, err), p.end())
		}
		done(err)
	}
	p.mu.Lock()
	if p.working {
		p.afterWork = task // end starts it
		p.mu.Unlock()
		return
	}
	p.working = true
	p.mu.Unlock()
	p.inBackground(task)
}

func (p *Partition) inBackground(task func(context.Context)) {
	if p.cfg.Background == nil {
		task(context.Background())
		return
	}
	p.cfg.Background(task)
}

func (p *Partition) install(ctx context.Context, s multiraft.Snapshot) error {
	if p.cfg.Source == nil {
		return errors.New("no other broker's segments can be reached")
	}
	id, state, snapshot, err := decodeRaftSnapshot(s.Data)
	if err != nil {
		return err
	}
	if id.ClusterID != p.cfg.Identity.ClusterID || id.Partition != p.cfg.ID {
		return fmt.Errorf("%w: RaftSnapshot of cluster %x, partition %s", ErrCorrupt, id.ClusterID, id.Partition)
	}
	state.index, state.term = s.Index, s.Term
	if err := p.prepare(nil); err != nil {
		return err
	}
	if err := p.clearStale(); err != nil {
		return err
	}
	c, err := p.copySegments(ctx, s.Node, state)
	if err == nil {
		err = p.finishCopy(c, snapshot)
	}
	if err == nil {
		err = p.prepare(c)
	}
	if err != nil && c != nil && c.log != nil {
		p.setStale(c.log, false)
	}
	return err
}

// prepare hands the copy to Restore or Abandon; nil begins one. Either says why
// nothing is to be copied any more.
func (p *Partition) prepare(c *copied) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return fmt.Errorf("%w: %s", logio.ErrClosed, p.Name())
	case p.stopped != nil:
		return p.stopped
	}
	p.prepared = c
	return nil
}

// copySegments brings the entries up to state's to this disk.
func (p *Partition) copySegments(ctx context.Context, node int32, to state) (*copied, error) {
	end, _, _ := p.segments.End()
	p.mu.Lock()
	c := &copied{state: to, start: p.localStart}
	p.mu.Unlock()
	if end >= to.index {
		return c, nil // they are here since a copy before, or a crash
	}
	r := copyRequest{from: end + 1, to: to.index}
	stream, err := p.cfg.Source.Segments(ctx, node, p.cfg.ID, r.encode())
	if err != nil {
		return c, err
	}
	defer stream.Close() // only read
	begin, err := readFrame(stream)
	if err != nil {
		return c, err
	}
	if begin.kind != frameBegin || begin.first < r.from || begin.first > r.to+1 {
		return c, fmt.Errorf("%w: copy of segments begins with frame %d, entry %d; asked for %d to %d", ErrCorrupt, begin.kind, begin.first, r.from, r.to)
	}
	log := p.segments
	if begin.first > r.from {
		if err := p.openAbove(c, &begin); err != nil {
			return c, err
		}
		log = c.log
	}
	return c, p.receive(ctx, log, stream)
}

// openAbove begins a log above a gap.
func (p *Partition) openAbove(c *copied, begin *copyFrame) error {
	c.start = begin.base
	if begin.first > c.state.index {
		c.start = c.state.next // no segment at all: all of it is in the bucket, or deleted
	}
	if err := makeDir(p.cfg.FS, p.cfg.Dir); err != nil {
		return err
	}
	p.mu.Lock()
	p.announced = true
	p.mu.Unlock()
	mark := copyFile{first: begin.first, last: c.state.index}
	if err := mark.write(p.cfg.FS, p.cfg.Dir); err != nil {
		return err
	}
	log, err := segment.Open(segment.Config{
		FS: p.cfg.FS, Dir: p.cfg.Dir, Identity: p.cfg.Identity, Cache: p.cfg.Cache, SegmentBytes: segment.SegmentBytesMax,
		First: begin.first, Start: segment.Position{Index: begin.first - 1, Next: c.start},
	})
	if err == nil {
		c.log = log
	}
	return err
}

// receive appends what the stream gives to log, checking every batch.
func (p *Partition) receive(ctx context.Context, log *segment.Log, stream io.Reader) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := readFrame(stream)
		if err != nil {
			return err
		}
		switch f.kind {
		case frameEntries:
			err = appendCopied(log, f.entries)
		case frameSeal:
			err = p.sealCopied(log, &f)
		case frameEnd:
			return nil
		default:
			err = fmt.Errorf("%w: copy of segments: frame of kind %d in the middle", ErrCorrupt, f.kind)
		}
		if err != nil {
			return err
		}
	}
}

func appendCopied(log *segment.Log, entries []segment.Entry) error {
	for i := range entries {
		if e := &entries[i]; isBatch(e.Data) {
			if len(e.Data) < record.HeaderBytes {
				return fmt.Errorf("%w: copied entry %d of %d bytes", ErrCorrupt, e.Index, len(e.Data))
			}
			if err := record.Batch(e.Data).Check(); err != nil {
				return fmt.Errorf("copied entry %d: %w", e.Index, err)
			}
		}
	}
	if err := log.Append(entries); err != nil {
		return err
	}
	return log.Sync()
}

// sealCopied seals where the other did, with the producers as they were there.
func (p *Partition) sealCopied(log *segment.Log, f *copyFrame) error {
	if _, _, next := log.End(); next != f.next {
		return fmt.Errorf("%w: copied segment ends at offset %d, expected %d", ErrCorrupt, next, f.next)
	}
	if len(f.snapshot) > 0 {
		if _, next, _, err := decodeSnapshot(f.snapshot); err != nil || next != f.next {
			return fmt.Errorf("%w: copied producer snapshot of offset %d at %d: %w", ErrCorrupt, next, f.next, err)
		}
		if err := writeSnapshot(p.cfg.FS, p.cfg.Dir, f.next, f.snapshot); err != nil {
			return err
		}
	}
	return log.Roll()
}

// finishCopy checks that the copy ends where the RaftSnapshot does, and makes
// all of it durable.
func (p *Partition) finishCopy(c *copied, snapshot []byte) error {
	log := p.segments
	if c.log != nil {
		log = c.log
	}
	end, term, next := log.End()
	whole := end == c.state.index && (term == c.state.term || term == 0) && next == c.state.next
	if end < c.state.index || end == c.state.index && !whole {
		return fmt.Errorf("%w: copy ends at (%d, term %d, offset %d), expected (%d, term %d, offset %d)", ErrCorrupt, end, term, next, c.state.index, c.state.term, c.state.next)
	}
	if err := makeDir(p.cfg.FS, p.cfg.Dir); err != nil {
		return err
	}
	if err := writeSnapshot(p.cfg.FS, p.cfg.Dir, c.state.next, snapshot); err != nil {
		return err
	}
	if c.log == nil {
		if infos := p.segmentInfos(); len(infos) > 0 {
			c.start = min(c.start, infos[0].Base)
		}
	}
	return log.Sync()
}

// Restore makes the copy this replica's state.
func (m *stateMachine) Restore(s multiraft.Snapshot) []byte {
	p := (*Partition)(m)
	p.mu.Lock()
	c := p.prepared
	p.prepared = nil
	if c == nil || c.state.index != s.Index {
		panic(fmt.Sprintf("partition: %s: RaftSnapshot at %d was not copied", p.Name(), s.Index))
	}
	if c.log != nil {
		p.segments.Swap(c.log)
		p.stale, p.staleHeld = c.log, true
	}
	pending := p.tail.pendingBytes
	p.tail = tail{}
	p.stable = c.state
	p.stable.producers.txns.forgetBefore(p.stable.logStart)
	p.stable.producers.txns.commit(p.stable.next)
	p.live = p.stable.clone()
	p.marks.logStart = max(p.marks.logStart, p.stable.logStart)
	if p.stable.archived >= p.marks.archived {
		p.marks.archived, p.marks.manifest = p.stable.archived, p.stable.manifest
	}
	p.committed, p.released = s.Index, s.Index
	p.highWatermark = max(p.highWatermark, p.stable.next)
	p.localStart, p.activeSinceMs = c.start, p.nowMs()
	lost := p.waiters
	p.waiters = nil
	passed := p.watchers.passed(p.offsets())
	mark := p.stable.encode()
	p.mu.Unlock()
	p.cfg.Budget.drop(p, pending)
	answer(lost, fmt.Errorf("%w: %s: another leader's log replaced the record", logio.ErrNotLeader, p.Name()))
	call(passed)
	p.endCopy()
	return mark
}

// endCopy gives the segments back.
func (p *Partition) endCopy() {
	if err := p.end(); err != nil {
		p.cfg.Log.Warn("partition was not closed well", "topic", p.cfg.Topic, "partition", p.cfg.ID.Partition, "error", err)
	}
}

// Restored lets go of the segments that the copy replaced.
func (m *stateMachine) Restored() {
	p := (*Partition)(m)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.staleHeld = false
}

// Abandon forgets the copy: this log got there by itself.
func (m *stateMachine) Abandon() { (*Partition)(m).abandon() }

func (p *Partition) abandon() {
	p.mu.Lock()
	c := p.prepared
	p.prepared = nil
	p.mu.Unlock()
	if c == nil {
		return
	}
	if c.log != nil {
		p.setStale(c.log, false)
	}
	p.endCopy()
}

// setStale has the next background step remove a log's files.
func (p *Partition) setStale(log *segment.Log, held bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stale, p.staleHeld = log, held
}

// clearStale removes segments that do not count any more. Before a mark is
// written that the copy file is about, it must be gone.
func (p *Partition) clearStale() error {
	p.mu.Lock()
	stale, held, announced := p.stale, p.staleHeld, p.announced
	p.mu.Unlock()
	if stale == nil && !announced {
		return nil
	}
	if held {
		return fmt.Errorf("%w: %s: the mark of the last copy is not durable yet", logio.ErrBusy, p.Name())
	}
	if stale != nil {
		if err := stale.Drop(); err != nil {
			return err
		}
	}
	if err := removeCopyFile(p.cfg.FS, p.cfg.Dir); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stale, p.staleHeld, p.announced = nil, false, false
	return nil
}

package partition

import (
	"context"
	"fmt"
	"sync"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/broker/segment"
	"tidewater/internal/logio"
	"tidewater/internal/record"
	"tidewater/internal/topicconfig"
)

// Partition is one replica of a partition's log. It implements kafka.Partition;
// StateMachine gives its other side, which the group sees.
type Partition struct {
	cfg      Config
	segments *segment.Log
	first    journal.Mark // where the group starts

	mu       sync.Mutex // guards what follows
	settings topicconfig.Settings
	remote   Remote
	lead     multiraft.Leadership
	stopped  error // the replica stopped; reads of what is committed go on
	closed   bool
	storage  error // the last WriteSegments failed; appends are refused
	tail     tail
	// live is the state at the end of the log, uncommitted entries included;
	// its transactions are decided by the high watermark.
	live state
	// stable is the state at the last entry in synced segments: what a mark
	// says, and where live is built from again after a truncation.
	stable state
	// marks are the committed log start, archived end and manifest; its other
	// fields are not used.
	marks         position
	committed     record.Index
	highWatermark record.Offset
	// localStart is the first offset that this disk holds, or will hold when
	// segments are written.
	localStart record.Offset
	waiters    waiters
	watchers   watchers
	// working: WriteSegments or Retain uses the segments; the one that does
	// shuts them for a Close (removed: a Remove) that came meanwhile.
	working, removed bool
	// afterWork begins when the step that uses the segments ends.
	afterWork func(context.Context)
	// prepared is a copy that waits for raft; it uses the segments until then.
	prepared *copied
	// stale are segments that do not count any more; with staleHeld their
	// successors do not count durably yet.
	stale     *segment.Log
	staleHeld bool
	// announced: a copy file lies in the directory, or may.
	announced bool
	pins      []*pin
	// mended is a segment made anew that waits to take its place; told are the
	// damaged ones, by their first entries, that the log told of.
	mended *mending
	told   map[record.Index]bool
	// scrubbed is where Scrub goes on; its caller's own.
	scrubbed scrubbed
	// writeWanted: a follower waits for what WriteSegments has to write.
	writeWanted bool
	// sealWanted: the next WriteSegments seals the active segment.
	sealWanted bool
	// activeSinceMs is when the first chunk of the active segment was written.
	activeSinceMs int64
	// released is the Index of the last mark given to the group.
	released record.Index
	// proposedLogStart is the highest that Retain has proposed.
	proposedLogStart record.Offset
}

// state is what the log's entries up to (index, term) add up to.
type state struct {
	index record.Index
	term  uint64
	position
	producers producers
}

// applyBatch moves the state by a batch that follows it.
func (s *state) applyBatch(b record.Batch, index record.Index, term uint64, nowMs int64) error {
	if err := s.producers.append(b, index, term, nowMs); err != nil {
		return err
	}
	s.epochs.add(b.Epoch(), b.BaseOffset())
	s.next = b.NextOffset()
	return nil
}

func (s *state) clone() state {
	c := *s
	c.epochs = append(epochHistory(nil), s.epochs...)
	c.producers = s.producers.clone()
	return c
}

// Name is topic-partition, for messages.
func (p *Partition) Name() string { return fmt.Sprintf("%s-%d", p.cfg.Topic, p.cfg.ID.Partition) }

// ID is the partition's identity.
func (p *Partition) ID() record.PartitionID { return p.cfg.ID }

// StartMark is the mark that the group is started with when the journal does
// not know it: of a restored partition; nil for a new one.
func (p *Partition) StartMark() *journal.Mark {
	if p.first.Index == 0 {
		return nil
	}
	m := p.first
	return &m
}

// Configure changes the topic's settings from the next append, write and
// retention step on.
func (p *Partition) Configure(s topicconfig.Settings) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settings = s
}

// SetRemote gives the partition its bucket, or takes it away with nil, when
// tiering is switched on or off.
func (p *Partition) SetRemote(r Remote) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remote = r
}

// bucket is what reads the archived part, nil without tiering.
func (p *Partition) bucket() Remote {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.remote
}

// Leadership is what the group last told.
func (p *Partition) Leadership() multiraft.Leadership {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lead
}

// Offsets gives the marks of the log. Where this replica does not lead, or
// leads and does not know its high watermark yet, the error says so and the
// marks are this replica's own.
func (p *Partition) Offsets() (logio.Offsets, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsets(), p.readable(true)
}

// offsets needs mu.
func (p *Partition) offsets() logio.Offsets {
	return logio.Offsets{
		LogStart:      p.marks.logStart,
		LocalLogStart: max(p.marks.logStart, p.localStart),
		Archived:      p.marks.archived,
		LastStable:    p.live.producers.txns.firstUndecided(p.highWatermark),
		HighWatermark: p.highWatermark,
		LogEnd:        p.live.next,
		Epoch:         record.LeaderEpoch(p.lead.Term),
	}
}

// readable says why a reader cannot be served; ready asks for a leader that
// knows its high watermark. It needs mu.
func (p *Partition) readable(ready bool) error {
	switch {
	case p.closed:
		return fmt.Errorf("%w: %s", logio.ErrClosed, p.Name())
	case !p.lead.Leading:
		return fmt.Errorf("%w: %s: broker %d does", logio.ErrNotLeader, p.Name(), p.lead.Leader)
	case ready && !p.lead.Ready && !p.cfg.Fault.ShowUnconfirmed:
		return fmt.Errorf("%w: %s: term %d is not confirmed yet", logio.ErrNotAvailable, p.Name(), p.lead.Term)
	case ready && p.cfg.Host.Late(p.cfg.ID):
		return fmt.Errorf("%w: %s: this broker stood still and may have been deposed meanwhile", logio.ErrNotAvailable, p.Name())
	}
	return nil
}

// following says whether this replica hears a leader: then what it knows to be
// committed is not long behind what the leader shows. It needs mu.
func (p *Partition) following() bool {
	return !p.closed && p.stopped == nil && !p.lead.Leading && p.lead.Leader >= 0
}

// nowMs is the broker's clock in ms since the Unix epoch.
func (p *Partition) nowMs() int64 { return p.cfg.Now().UnixMilli() }

// EpochEnd answers OffsetForLeaderEpoch.
func (p *Partition) EpochEnd(epoch record.LeaderEpoch) (logio.EpochEnd, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.readable(true); err != nil {
		return logio.EpochEnd{Epoch: -1, End: -1}, err
	}
	return p.live.epochs.endOf(epoch, record.LeaderEpoch(p.lead.Term), p.live.next), nil
}

// Notify calls fn once when the end that iso shows passes after, at once if it
// has, and also when another replica leads, so that nobody waits in vain.
// fn must not block; cancel forgets it.
func (p *Partition) Notify(iso logio.Isolation, after record.Offset, fn func()) (cancel func()) {
	p.mu.Lock()
	if p.readable(false) != nil && !p.following() || p.offsets().End(iso) > after {
		p.mu.Unlock()
		fn()
		return func() {}
	}
	w := &watcher{iso: iso, after: after, fn: fn}
	p.watchers = append(p.watchers, w)
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.watchers.remove(w)
	}
}

// Pending gives the bytes that are in no segment yet and when the oldest of
// them came, in ms since the Unix epoch; 0 bytes when there are none.
func (p *Partition) Pending() (bytes int64, oldestMs int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	oldestMs, ok := p.tail.oldestMs()
	if !ok {
		return 0, 0
	}
	return p.tail.pendingBytes, oldestMs
}

// forget drops cached batches below next; the Budget asks for it.
func (p *Partition) forget(next record.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tail.forget(next)
}

// Close lets go of files and memory. The group must have been stopped first;
// reads under way end well or with an error. A WriteSegments or Retain that is
// under way closes the files when it ends.
func (p *Partition) Close() error { return p.shut(false) }

// Remove closes the partition and removes its files.
func (p *Partition) Remove() error { return p.shut(true) }

func (p *Partition) shut(remove bool) error {
	p.mu.Lock()
	p.removed = p.removed || remove
	again := p.closed && !remove
	pending := p.tail.pendingBytes
	p.closed, p.tail = true, tail{}
	idle := !p.working
	p.mu.Unlock()
	if again {
		return nil
	}
	p.cfg.Budget.drop(p, pending)
	p.failAll(fmt.Errorf("%w: %s", logio.ErrClosed, p.Name()))
	if !idle {
		return nil
	}
	return p.shutFiles()
}

// shutFiles closes the files, or removes them.
func (p *Partition) shutFiles() error {
	p.mu.Lock()
	remove := p.removed
	p.mu.Unlock()
	if remove {
		if err := p.segments.Remove(); err != nil {
			return fmt.Errorf("remove %s: %w", p.Name(), err)
		}
		return nil
	}
	if err := p.segments.Close(); err != nil {
		return fmt.Errorf("close %s: %w", p.Name(), err)
	}
	return nil
}

// begin takes the segments for one step; false when they are taken.
func (p *Partition) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.working {
		return false
	}
	p.working = true
	return true
}

// end gives the segments back, and closes them for a Close that came meanwhile.
func (p *Partition) end() error {
	p.mu.Lock()
	next := p.afterWork
	p.afterWork, p.working = nil, next != nil
	closed := p.closed
	p.mu.Unlock()
	if next != nil {
		p.inBackground(next)
		return nil
	}
	if closed {
		return p.shutFiles()
	}
	return nil
}

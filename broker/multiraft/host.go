package multiraft

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"tidewater/broker/journal"
	"tidewater/internal/record"
)

// Host runs a broker's groups over one journal: a loop for each shard, one for
// the journal, one for the clock. Its methods are safe for concurrent use;
// none but Do may be called from a task or a state machine.
type Host struct {
	cfg    Config
	state  shared
	stats  counters
	loops  []*shardLoop
	commit committer
	// batches feeds the journal's loop, which always takes from it: it waits
	// for no shard.
	batches chan *Batch
	opened  time.Time
	clock   atomic.Int64  // when the clock's loop last came by, since opened
	closing chan struct{} // closed by Close: the journal's loop waits for room no more
	loopsWG sync.WaitGroup
	restWG  sync.WaitGroup
	once    sync.Once

	mu    sync.RWMutex // guards what follows
	known map[record.PartitionID]*journal.Group
	live  map[record.PartitionID]struct{}
}

// shardLoop is one shard and what feeds it.
type shardLoop struct {
	shard    *Shard
	inbox    *inbox
	inFlight int // batches given to the journal and not answered
	// doubted: the pass has put the leaders in doubt.
	doubted bool
}

// Open starts the loops. No group runs until Start.
func Open(cfg Config) (*Host, error) {
	if cfg.Transport == nil {
		cfg.Transport = noTransport{}
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	h := &Host{cfg: cfg, known: byID(cfg.Recovered), live: map[record.PartitionID]struct{}{}, closing: make(chan struct{}), opened: time.Now()}
	h.clock.Store(h.now())
	h.state.gone = h.forget
	h.state.post = func(s *Shard, fn func()) {
		// A closed inbox drops it: the shard's groups are stopped.
		_ = h.loopOf(s).inbox.put(item{call: func(*Shard) { fn() }}, 0)
	}
	h.commit = committer{journal: cfg.Journal, state: &h.state, stats: &h.stats}
	h.batches = make(chan *Batch, cfg.Shards*batchesInFlightMax)
	for range cfg.Shards {
		h.loops = append(h.loops, &shardLoop{shard: newShard(&h.cfg, &h.state, &h.stats), inbox: newInbox(cfg.QueueMax, h.now)})
	}
	for _, l := range h.loops {
		h.loopsWG.Go(func() { h.runShard(l) })
	}
	h.restWG.Go(h.runJournal)
	h.restWG.Go(h.runClock)
	return h, nil
}

// Close stops all replicas once what they have given to the journal is
// durable, and waits for the loops. The journal stays open.
func (h *Host) Close() error {
	h.once.Do(func() {
		close(h.closing)
		for _, l := range h.loops {
			l.inbox.close()
		}
		h.loopsWG.Wait()
		close(h.batches)
		h.restWG.Wait()
	})
	return nil
}

func (h *Host) loop(id record.PartitionID) *shardLoop { return h.loops[shardOf(id, len(h.loops))] }

// Recovered gives what the journal held of a group that was not started yet,
// for the state machine's own opening.
func (h *Host) Recovered(id record.PartitionID) (journal.Group, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	g := h.known[id]
	if g == nil {
		return journal.Group{}, false
	}
	return *g, true
}

// Unstarted gives the groups that the journal held and nobody started, sorted:
// what is no longer in the cluster is to be removed, or it pins the journal.
func (h *Host) Unstarted() []record.PartitionID {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return sortedIDs(h.known)
}

// Start starts a replica and returns when its machine has seen the whole log.
// A replica that is alone is then on its way to lead.
func (h *Host) Start(gc GroupConfig) error { return h.StartAll([]GroupConfig{gc})[0] }

// start starts one replica on the loop of its shard.
func (h *Host) start(s *Shard, gc *GroupConfig) error {
	// Before the start, so that a stop at once is not overlooked.
	h.mu.Lock()
	known := h.known[gc.ID]
	h.live[gc.ID] = struct{}{}
	h.mu.Unlock()
	err := s.start(*gc, known)
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.groups[gc.ID] == nil {
		delete(h.live, gc.ID)
	}
	if err == nil {
		delete(h.known, gc.ID)
	}
	return err
}

// StartAll starts replicas, those of all shards at the same time and those of
// one shard in one task, so that they share their flushes. It returns when
// every machine has seen its log; the answers are in the order of gcs.
func (h *Host) StartAll(gcs []GroupConfig) []error {
	errs := make([]error, len(gcs))
	of := make([][]int, len(h.loops))
	for i := range gcs {
		shard := shardOf(gcs[i].ID, len(h.loops))
		of[shard] = append(of[shard], i)
	}
	var wg sync.WaitGroup
	for shard, mine := range of {
		if len(mine) == 0 {
			continue
		}
		wg.Add(1)
		err := h.loops[shard].inbox.put(item{call: func(s *Shard) {
			defer wg.Done()
			for _, i := range mine {
				errs[i] = h.start(s, &gcs[i])
			}
		}}, 0)
		if err != nil {
			for _, i := range mine {
				errs[i] = fmt.Errorf("%w: group %s", err, gcs[i].ID)
			}
			wg.Done()
		}
	}
	wg.Wait()
	return errs
}

// PeerUp says that a broker answers, and its boot id; PeerDown that it does
// not. They come from the heartbeat between brokers: groups rest on it, and
// look for a new leader when the old one's broker is down.
func (h *Host) PeerUp(node int32, boot uint64) { h.everywhere(func(s *Shard) { s.peerUp(node, boot) }) }

// PeerDown says that a broker does not answer.
func (h *Host) PeerDown(node int32) { h.everywhere(func(s *Shard) { s.peerDown(node) }) }

// everywhere has fn run on every loop; a host that closes runs it no more.
func (h *Host) everywhere(fn func(*Shard)) {
	for _, l := range h.loops {
		_ = l.inbox.put(item{call: fn}, 0)
	}
}

// Remove stops a replica, has the journal forget its group, and returns when
// the machine was told.
func (h *Host) Remove(id record.PartitionID) error {
	h.mu.Lock()
	delete(h.known, id)
	h.mu.Unlock()
	return h.call(id, func(s *Shard) error {
		s.remove(id, ErrStopped)
		return nil
	})
}

// call runs fn on the shard that has id and waits.
func (h *Host) call(id record.PartitionID, fn func(*Shard) error) error {
	done := make(chan error, 1)
	if err := h.loop(id).inbox.put(item{call: func(s *Shard) { done <- fn(s) }}, 0); err != nil {
		return fmt.Errorf("%w: group %s", err, id)
	}
	return <-done
}

func (h *Host) forget(id record.PartitionID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.live, id)
}

// Do runs task on the loop of the group's shard, after the tasks that this
// caller gave before. A task that was taken runs once, even if the replica
// stops meanwhile: its Group then answers ErrStopped. When the queue is full
// Do waits Config.QueueWait and answers ErrBusy; without the group it answers
// ErrStopped.
func (h *Host) Do(id record.PartitionID, task func(*Group)) error {
	h.mu.RLock()
	_, ok := h.live[id]
	h.mu.RUnlock()
	if !ok {
		return fmt.Errorf("%w: group %s", ErrStopped, id)
	}
	if err := h.loop(id).inbox.put(item{nodeTask: nodeTask{id: id, task: task}}, h.cfg.QueueWait); err != nil {
		return fmt.Errorf("%w: group %s", err, id)
	}
	return nil
}

// Receive takes messages from peers. Those that find no room are dropped and
// counted. The slice is the caller's again when it returns.
func (h *Host) Receive(messages []Message) {
	for i, l := range h.loops {
		if dropped := l.inbox.receive(messages, i, len(h.loops)); dropped > 0 {
			h.stats.dropped.Add(int64(dropped))
		}
	}
}

// Stats gives the counters.
func (h *Host) Stats() Stats { return h.stats.stats(h.state.full.Load()) }

// Pinning gives groups whose entries keep more than PinnedBytesMax of the
// journal, or a full one, as of a flush after the last call: they are to be
// released first, whatever their size. What of them is undecided is carried to
// the journal's newest file. Nil most of the time.
func (h *Host) Pinning() []record.PartitionID {
	ids := h.state.takePinning()
	if h.state.carriable(len(ids), h.stats.uncommitted.Load()) {
		h.everywhere(func(s *Shard) { s.carry(ids) })
	}
	return ids
}

// runShard is a shard's loop.
func (h *Host) runShard(l *shardLoop) {
	var w work
	for {
		// A full journal answers no batch; proposals are refused then, and the
		// tasks that release what is in segments must run to make room.
		w = l.inbox.take(w, l.inFlight < batchesInFlightMax || h.state.full.Load())
		if w.empty() {
			if w.closed && l.inFlight == 0 && len(l.shard.dirty) == 0 {
				l.shard.fail(ErrStopped)
				return
			}
			l.inbox.pace.pass.Store(0)
			<-l.inbox.wake
			continue
		}
		l.do(&w)
		if b := l.shard.ready(); b != nil {
			l.inFlight++
			h.batches <- b
		}
		h.ended(l)
	}
}

func (l *shardLoop) do(w *work) {
	for _, a := range w.answers {
		if a.batch != nil && !a.batch.early {
			l.inFlight--
		}
		l.shard.flushed(a.batch, a.err)
	}
	for range w.ticks {
		l.shard.tick()
	}
	for i := range w.messages {
		l.shard.receive(w.messages[i])
	}
	for i := range w.items {
		switch it := &w.items[i]; {
		case it.call != nil:
			it.call(l.shard)
		default:
			l.shard.run(it.id, it.task)
		}
	}
}

// fullRetry is how often a full journal is tried again when nothing else
// comes: a person frees space, or a mark is on its way.
const fullRetry = 100 * time.Millisecond

// runJournal is the journal's loop: everything that waits goes into one flush.
func (h *Host) runJournal() {
	retry := time.NewTicker(fullRetry)
	defer retry.Stop()
	for {
		var b *Batch
		var ok bool
		if h.commit.stalled() {
			select {
			case b, ok = <-h.batches:
			case <-retry.C:
				ok = true
			case <-h.closing:
				h.giveUp()
				continue
			}
		} else {
			b, ok = h.nextBatch()
		}
		if !ok {
			return
		}
		h.gather(b)
		done, err := h.commit.commit()
		h.answer(done, err)
		h.commit.pinning(h.cfg.PinnedBytesMax)
		if h.commit.stalled() {
			for _, l := range h.loops {
				l.inbox.signal()
			}
		}
	}
}

// nextBatch waits for work. While none waits the journal does its own, in
// bounded steps: new files are made ready here and not on the way of an ack.
func (h *Host) nextBatch() (*Batch, bool) {
	for {
		select {
		case b, ok := <-h.batches:
			return b, ok
		default:
		}
		if !h.commit.prepare() {
			b, ok := <-h.batches
			return b, ok
		}
	}
}

// gather queues b, if any, and all that wait behind it.
func (h *Host) gather(b *Batch) {
	for {
		if b != nil {
			h.commit.add(b)
		}
		select {
		case next, ok := <-h.batches:
			if !ok {
				return
			}
			b = next
		default:
			return
		}
	}
}

func (h *Host) answer(done []*Batch, err error) {
	for _, b := range done {
		h.loopOf(b.shard).inbox.answer(answer{b, err})
	}
	if err == nil {
		return
	}
	// A dead disk stops the replicas of shards that wait for nothing, too.
	for _, l := range h.loops {
		l.inbox.answer(answer{nil, err})
	}
}

// giveUp answers what a full journal still refuses when the host closes.
func (h *Host) giveUp() {
	waiting := h.commit.waiting
	h.commit.waiting = nil
	h.commit.dead = ErrStopped
	h.answer(waiting, ErrStopped)
}

func (h *Host) loopOf(s *Shard) *shardLoop {
	for _, l := range h.loops {
		if l.shard == s {
			return l
		}
	}
	panic("multiraft: batch of a shard that is not here")
}

// runClock ticks the shards that have groups in need of a clock.
func (h *Host) runClock() {
	ticker := time.NewTicker(h.cfg.TickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			h.beat()
			if h.stats.ticking.Load() == 0 {
				continue
			}
			for _, l := range h.loops {
				l.inbox.tick()
			}
		case <-h.closing:
			return
		}
	}
}

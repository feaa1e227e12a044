package multiraft

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/journal"
	"tidewater/internal/record"
)

// Shard is the core: some of a broker's groups, stepped by one caller. It has
// no goroutine, clock or disk. Its caller, a Node or a loop of a Host, gives it
// work (start, run, receive, tick, remove), takes a Batch with ready, has it
// flushed, and says so with flushed; batches are flushed and answered in the
// order they were taken.
type Shard struct {
	cfg   *Config
	state *shared
	stats *counters

	groups map[record.PartitionID]*Group
	// order holds the groups by start, for walks that must not follow a map;
	// stopped ones are dropped now and then.
	order   []*Group
	dirty   []*Group // have something ready, in the order they got it
	ticking []*Group
	spare   []*Group // the last dirty, to be used again
	batch   *Batch   // being filled, nil when empty
	out     []Message
	dead    error

	// uncommitted and held are sums over the groups; the bounds are this
	// shard's part of Config's.
	uncommitted, held         int64
	toldUncommitted, toldHeld int64 // what stats have of them
	uncommittedMax, heldMax   int64
	toldTicking               int64

	peers        map[int32]peer
	waking       []*Group // to be woken, some each tick
	wakesPerTick int

	installs                []*Group // their installs wait
	installing, installsMax int
}

// shared is what the shards of one journal see of it.
type shared struct {
	full atomic.Bool // the journal refuses entries
	// pinning are the groups that Host.Pinning gives, askPinning that it wants
	// newer ones.
	pinning    atomic.Pointer[[]record.PartitionID]
	askPinning atomic.Bool
	live       atomic.Int64 // bytes of the journal when pinning was found
	// gone is told of every group that stopped; nil for nobody.
	gone func(record.PartitionID)
	// post has fn run on the shard's loop, from wherever it is called.
	post func(s *Shard, fn func())
}

// Batch is what one step of a shard wants durable, and what follows from it.
type Batch struct {
	// Writes go to the journal in order, all before one Flush.
	Writes []journal.Write

	// carries may be written, too, and nothing depends on that (carry.go).
	carries []carried

	shard  *Shard
	after  []afterFlush
	next   int   // first write not yet appended
	resets []int // writes whose mark is a snapshot's: the log before it is gone
	early  bool  // not a batch of its own: what may be said before the rest of one
}

// afterFlush is delivered to raft or sent to peers after the batch's flush.
type afterFlush struct {
	group     *Group
	responses []raftpb.Message
	writes    int    // those of the batch's writes that are before it
	write     bool   // ends a write of the group
	conf      uint64 // one above the Index at which the ConfState in it holds; 0: none is in it
	restored  bool   // ends the write of a snapshot's mark
}

// newShard makes a core for one of cfg.Shards shards; cfg was validated.
func newShard(cfg *Config, state *shared, stats *counters) *Shard {
	n := int64(cfg.Shards)
	return &Shard{
		cfg: cfg, state: state, stats: stats,
		groups:         map[record.PartitionID]*Group{},
		uncommittedMax: max(cfg.UncommittedBytesMax/n, 1),
		heldMax:        max(cfg.HeldBytesMax/n, 1),
		installsMax:    max(cfg.InstallsMax/cfg.Shards, 1),
		peers:          map[int32]peer{},
	}
}

func (s *Shard) full() bool { return s.state.full.Load() }

// start makes a replica. The machine's Append is called for every entry that
// known holds above its mark, Commit for what was committed. A replica that is
// alone campaigns at once.
func (s *Shard) start(gc GroupConfig, known *journal.Group) error {
	if s.dead != nil {
		return fmt.Errorf("start group %s: %w: %w", gc.ID, ErrStopped, s.dead)
	}
	if s.groups[gc.ID] != nil {
		return fmt.Errorf("start group %s: it is started already", gc.ID)
	}
	g := &Group{id: gc.ID, replica: gc.Replica, shard: s, machine: gc.StateMachine, nodeOf: gc.NodeOf, prompt: gc.Prompt, sum: gc.Sum}
	if err := g.restore(gc, known); err != nil {
		return fmt.Errorf("start group %s: %w", gc.ID, err)
	}
	g.log.snapshot = g.makeSnapshot
	node, err := etcdraft.NewRawNode(&etcdraft.Config{
		ID: gc.Replica, ElectionTick: electionTicks, HeartbeatTick: heartbeatTicks,
		Storage: &g.log, Applied: g.applied, AsyncStorageWrites: true,
		MaxSizePerMsg: messageBytesMax, MaxCommittedSizePerReady: messageBytesMax << 4,
		MaxInflightMsgs: inflightMessages, MaxInflightBytes: inflightBytes, CheckQuorum: true, PreVote: true,
		DisableProposalForwarding: !s.cfg.Fault.Forward, StepDownOnRemoval: true,
		Logger: raftLogger{s.cfg.Log, gc.ID},
	})
	if err != nil {
		return fmt.Errorf("start group %s: %w", gc.ID, err)
	}
	g.node = node
	if err := g.replay(); err != nil {
		return fmt.Errorf("start group %s: %w", gc.ID, err)
	}
	s.groups[gc.ID] = g
	s.order = append(s.order, g)
	s.held += g.log.bytes
	s.uncommitted += g.uncommitted
	s.stats.groups.Add(1)
	if known == nil {
		w := g.write()
		if gc.Mark != nil {
			w.Mark = gc.Mark
		}
		s.emit(g, w, nil)
	}
	s.clock(g)
	if len(g.conf.Voters) == 1 && g.conf.Voters[0] == g.replica && len(g.conf.VotersOutgoing) == 0 {
		if err := node.Campaign(); err != nil {
			g.stop(err)
			return fmt.Errorf("start group %s: campaign: %w", gc.ID, err)
		}
	}
	if known == nil && gc.Origin == Founding && !g.single() {
		// The others are starting, too: nobody need wait for a timeout.
		if rank := g.rank(); rank >= 0 {
			g.campaignAfter(1 + rank*staggerTicks)
		}
	}
	g.unseen = true
	s.touch(g)
	return nil
}

// restore fills in the group's state from the journal or for a new group.
func (g *Group) restore(gc GroupConfig, known *journal.Group) error {
	if gc.Replica == 0 || gc.StateMachine == nil {
		return errors.New("replica id and state machine are needed")
	}
	if gc.FloorTerm >= TermEnd-1 {
		return fmt.Errorf("%w: floor %d", errTerm, gc.FloorTerm)
	}
	if known == nil && gc.Origin == Resuming && !g.shard.cfg.Fault.WipedRejoins {
		return fmt.Errorf("%w: replica %d", ErrMissing, gc.Replica)
	}
	l := &g.log
	if known != nil {
		l.hard, l.conf = known.HardState, known.ConfState
		l.markIndex, l.markTerm = uint64(known.Mark.Index), known.Mark.Term
		l.entries, l.bytes = known.Entries, dataBytes(known.Entries)
		l.hard.Commit = max(l.hard.Commit, l.markIndex)
	} else if gc.Origin != Joining {
		l.conf.Voters = slices.Clone(gc.Voters)
		if len(l.conf.Voters) == 0 {
			l.conf.Voters = []uint64{gc.Replica}
		}
		slices.Sort(l.conf.Voters)
		if gc.Mark != nil {
			l.markIndex, l.markTerm = uint64(gc.Mark.Index), gc.Mark.Term
		}
		l.hard = raftpb.HardState{Term: max(gc.FloorTerm, l.markTerm), Commit: l.markIndex}
	}
	if len(l.conf.Voters) == 0 && l.last() > 0 {
		return fmt.Errorf("%w: %w", journal.ErrCorrupt, errNoMembers)
	}
	if l.hard.Commit > l.last() {
		return fmt.Errorf("%w: entry %d was committed, log ends at %d", journal.ErrCorrupt, l.hard.Commit, l.last())
	}
	g.hard, g.conf, g.confDirty = l.hard, l.conf, known == nil
	g.savedTerm, g.savedVote = l.hard.Term, l.hard.Vote
	g.applied, g.mark = l.hard.Commit, record.Index(l.markIndex)
	for i := range l.entries {
		switch e := &l.entries[i]; {
		case e.Index > g.applied:
			g.noteChange(e)
		case e.Type != raftpb.EntryNormal:
			g.confIndex = e.Index
		}
	}
	g.lead = Leadership{Term: l.hard.Term, Leader: -1}
	return nil
}

// replay tells the machine of the log as the journal had it.
func (g *Group) replay() error {
	for i := range g.log.entries {
		e := &g.log.entries[i]
		if e.Index > g.applied {
			g.uncommitted += int64(len(e.Data))
		}
		if err := g.machine.Append(view(e)); err != nil {
			return fmt.Errorf("replay entry %d: %w", e.Index, err)
		}
	}
	if g.applied > g.log.markIndex {
		g.machine.Commit(record.Index(g.applied))
	}
	return nil
}

// run does a task on a group. Without the group, the task sees a stopped one.
func (s *Shard) run(id record.PartitionID, task func(*Group)) {
	g := s.groups[id]
	if g == nil {
		g = &Group{id: id, shard: s, stopped: ErrStopped, lead: Leadership{Leader: -1}}
	} else if g.unseen {
		g.handle()
	}
	task(g)
}

// receive gives a message from a peer to its group.
func (s *Shard) receive(m Message) {
	g := s.groups[m.Group]
	if g == nil || m.To != g.replica || m.Term >= TermEnd || m.From == 0 || etcdraft.IsLocalMsgTarget(m.From) {
		return
	}
	if s.cfg.Fault.SkipTermCheck && m.Term < g.hard.Term {
		m.Term = g.hard.Term
	}
	if g.receiveRest(&m.Message) {
		return
	}
	switch m.Type {
	case raftpb.MsgProp:
		if !s.cfg.Fault.Forward {
			return
		}
	case raftpb.MsgSnap:
		g.receiveSnapshot(m.Message)
		return
	case raftpb.MsgApp:
		g.askedHeld = g.askedHeld || string(m.Context) == heldContext
		m.Context = nil
		// A joining replica knows no members and so cannot follow their
		// changes from the first entry on: it begins with a snapshot.
		if len(g.conf.Voters) == 0 && m.Index == 0 {
			return
		}
		if len(m.Entries) > 0 && s.crowded() {
			m.Entries = g.small(m.Entries)
		}
	case raftpb.MsgPreVote, raftpb.MsgVote:
		// A leader whose broker is gone protects nobody from an election.
		if g.soft.Lead != 0 && !g.lead.Leading && !s.notDown(g.lead.Leader) {
			_ = g.node.ForgetLeader()
		}
	case raftpb.MsgHeartbeatResp:
		if g.resting { // of a heartbeat before the rest
			g.step(m.Message)
			return
		}
	}
	g.wake()
	g.step(m.Message)
}

// crowded reports whether a follower has no room for more entries with data:
// they are passed over, as if they were lost, and the leader sends them again.
// What comes with a full journal would wait in memory without end.
func (s *Shard) crowded() bool { return s.full() || s.held > s.heldMax+messageBytesMax }

// small gives the first of the entries that need no room: the log has them, or
// they hold none of clients' data. A new leader's first entry is such, and
// without it nothing is committed, so nothing released.
func (g *Group) small(entries []raftpb.Entry) []raftpb.Entry {
	n := slices.IndexFunc(entries, func(e raftpb.Entry) bool { return !g.log.holds(e.Index, e.Term) })
	if n < 0 {
		return entries
	}
	return entries[:n+own(entries[n:])]
}

// tick advances the clocks of the groups that need one.
func (s *Shard) tick() {
	s.wakeSome()
	all := s.ticking
	keep := all[:0]
	for _, g := range all {
		if g.stopped == nil && !g.single() && !g.resting {
			g.tickGroup()
		}
		if g.stopped != nil || g.single() || g.resting {
			g.ticking = false
			continue
		}
		keep = append(keep, g)
	}
	clear(all[len(keep):])
	s.ticking = keep
	s.tellTicking()
}

// tellTicking says how many groups want a tick.
func (s *Shard) tellTicking() {
	n := int64(len(s.ticking) + len(s.waking))
	s.stats.ticking.Add(n - s.toldTicking)
	s.toldTicking = n
}

// clock starts the group's clock if it needs one. A group of one does not: it
// leads from Start on, nobody can take that away, and idle it costs nothing.
func (s *Shard) clock(g *Group) {
	if !g.ticking && !g.single() && !g.resting {
		g.ticking = true
		s.ticking = append(s.ticking, g)
		s.tellTicking()
	}
}

// remove stops a replica and has the journal forget its group.
func (s *Shard) remove(id record.PartitionID, why error) {
	if g := s.groups[id]; g != nil {
		g.stop(fmt.Errorf("%w: group %s", why, id))
	}
	if s.dead != nil {
		return
	}
	s.current().Writes = append(s.current().Writes, journal.Write{Group: id, Remove: true})
}

// touch notes that a group may have something ready.
func (s *Shard) touch(g *Group) {
	if !g.dirty {
		g.dirty = true
		s.dirty = append(s.dirty, g)
	}
}

func (s *Shard) current() *Batch {
	if s.batch == nil {
		s.batch = &Batch{shard: s}
	}
	return s.batch
}

// emit adds a write to the batch, and what to deliver when it is durable.
func (s *Shard) emit(g *Group, w journal.Write, responses []raftpb.Message) {
	b := s.current()
	b.Writes = append(b.Writes, w)
	if s.cfg.Fault.AckBeforeFlush {
		if w.ConfState != nil {
			g.settled(w.HardState.Commit)
		}
		g.respond(responses)
		return
	}
	g.writesInFlight++
	a := afterFlush{group: g, responses: responses, writes: len(b.Writes), write: true}
	if w.ConfState != nil {
		a.conf = w.HardState.Commit + 1
	}
	b.after = append(b.after, a)
}

// after adds what is to be delivered when all writes of the group so far are
// durable.
func (s *Shard) after(g *Group, responses []raftpb.Message) {
	b := s.current()
	b.after = append(b.after, afterFlush{group: g, responses: responses, writes: len(b.Writes)})
}

// restoredAfter tells the machine when a snapshot's mark, the last write, is
// durable.
func (s *Shard) restoredAfter(g *Group) {
	b := s.current()
	b.resets = append(b.resets, len(b.Writes)-1)
	b.after = append(b.after, afterFlush{group: g, writes: len(b.Writes), restored: true})
}

func (s *Shard) send(g *Group, m raftpb.Message) {
	if !g.holdsBack(&m) && !g.putsOff(&m) {
		s.pass(g, m)
	}
}

// pass sends a message that waits for nothing.
func (s *Shard) pass(g *Group, m raftpb.Message) {
	switch m.Type {
	case raftpb.MsgHeartbeat:
		g.sinceBeat = 0
	case raftpb.MsgSnap:
		g.noteSent(m.To)
	case raftpb.MsgApp:
		if m.Index == 0 {
			g.helpJoin(m.To)
		}
		if g.asksHeld() {
			m.Context = []byte(heldContext)
		}
	}
	if node := g.brokerOf(m.To); node >= 0 {
		s.out = append(s.out, Message{Group: g.id, Node: node, Message: m})
	}
}

// ready handles every dirty group, sends what may be sent, and gives what must
// become durable; nil when there is nothing.
func (s *Shard) ready() *Batch {
	for len(s.dirty) > 0 {
		work := s.dirty
		s.dirty = s.spare[:0]
		for _, g := range work {
			g.dirty = false
			if g.stopped == nil {
				g.handle()
				if g.install != nil {
					g.useInstall()
				}
			}
		}
		clear(work)
		s.spare = work[:0]
	}
	s.flushOut()
	s.tellStats()
	b := s.batch
	s.batch = nil
	return b
}

func (s *Shard) tellStats() {
	s.stats.uncommitted.Add(s.uncommitted - s.toldUncommitted)
	s.stats.held.Add(s.held - s.toldHeld)
	s.toldUncommitted, s.toldHeld = s.uncommitted, s.held
}

func (s *Shard) flushOut() {
	if len(s.out) == 0 {
		return
	}
	s.stats.messages.Add(int64(len(s.out)))
	s.cfg.Transport.Send(s.out)
	clear(s.out)
	s.out = s.out[:0]
}

// flushed says that a batch is durable, or with err that the disk failed: then
// every replica stops and nothing that waited is said.
func (s *Shard) flushed(b *Batch, err error) {
	if err != nil {
		s.fail(err)
		return
	}
	for i := range b.after {
		a := &b.after[i]
		if a.group.stopped != nil {
			continue
		}
		if a.write {
			a.group.writesInFlight--
		}
		if a.restored {
			a.group.machine.(Snapshotter).Restored()
		}
		if a.conf > 0 {
			a.group.settled(a.conf - 1)
		}
		a.group.respond(a.responses)
	}
}

// fail stops every replica for good.
func (s *Shard) fail(err error) {
	if s.dead == nil {
		s.dead = err
	}
	s.batch = nil
	clear(s.out)
	s.out = s.out[:0]
	order := s.order
	s.order = nil
	for _, g := range order {
		g.stop(err)
	}
	s.batch = nil
}

// forget takes a stopped group out of the shard's tables.
func (s *Shard) forget(g *Group) {
	delete(s.groups, g.id)
	s.stats.groups.Add(-1)
	if len(s.order) > 2*len(s.groups)+16 {
		s.order = slices.DeleteFunc(s.order, func(g *Group) bool { return g.stopped != nil })
	}
	if s.state.gone != nil {
		s.state.gone(g.id)
	}
}

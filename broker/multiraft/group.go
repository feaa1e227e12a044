package multiraft

import (
	"errors"
	"fmt"
	"slices"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/journal"
	"tidewater/internal/record"
)

// Group is one replica of one Raft group. It belongs to its shard: its methods
// are called from tasks given to Do and from state machines only. On a replica
// that has stopped they answer ErrStopped or nothing.
type Group struct {
	id      record.PartitionID
	replica uint64
	shard   *Shard
	machine StateMachine
	sum     func(sum uint32, data []byte) uint32 // GroupConfig.Sum
	nodeOf  func(uint64) (int32, bool)
	node    *etcdraft.RawNode
	log     storage
	stopped error

	lead Leadership
	soft etcdraft.SoftState // raft's newest; it tells of it only when it changes
	// hard is raft's newest hard state, term and vote of it the newest that
	// were given to the journal.
	hard      raftpb.HardState
	savedTerm uint64
	savedVote uint64
	applied   uint64 // committed, durable here, told to the machine
	// mark is the newest that the journal was given. Memory may hold entries
	// below it; log.markIndex says from where on.
	mark record.Index
	// conf is the membership at applied.
	conf      raftpb.ConfState
	confDirty bool   // conf is newer than what the journal was given
	confIndex uint64 // conf has held since this entry, 0 is since ever
	// unsettled are the changes of members in the log whose ConfState is not
	// durable here, in order; heldBack are messages that tell of their commit.
	unsettled []uint64
	heldBack  []raftpb.Message
	// putOff are appends without entries, at most one to each member, that wait
	// for entries or a tick; busy is whether they do, proposed what counts for it,
	// prompt that they never do.
	putOff   []raftpb.Message
	busy     bool
	prompt   bool
	proposed int

	uncommitted    int64 // bytes of entries above applied
	writesInFlight int   // batches with writes of this group not yet flushed

	dirty   bool // is in shard.dirty
	ticking bool // is in shard.ticking
	// unseen: raft may hold entries or a role that the machine was not told.
	unseen bool
	// handling: raft's Ready is being worked off, so its log is ahead of ours.
	handling bool
	// removed: the membership that was applied last is without this replica.
	removed bool

	transfer *transfer
	reads    []read
	readID   uint64

	// resting: no clock, no heartbeats. idle counts ticks without work,
	// sinceBeat those since the last heartbeat was sent, grace those that a
	// woken leader's clock still waits; campaignIn is when to ask for votes,
	// tries how often that was done since a leader was known.
	resting                                   bool
	idle, sinceBeat, grace, campaignIn, tries int

	// holding is nil unless this replica leads and was asked about memory;
	// askedHeld: an append message of the leader asked this one.
	holding   *holding
	askedHeld bool

	sent     []sent
	stuck    undecided // when it was last named, see carry.go
	install  *install
	restored *journal.Mark // of a snapshot that raft took, until it is written
}

// ID is the group's name.
func (g *Group) ID() record.PartitionID { return g.id }

// Replica is this replica's id in the group.
func (g *Group) Replica() uint64 { return g.replica }

// Leadership is what the last Lead told.
func (g *Group) Leadership() Leadership { return g.lead }

// LastIndex is the last entry in this replica's log, durable or not.
func (g *Group) LastIndex() record.Index { return record.Index(g.log.last()) }

// Committed is what the last Commit told.
func (g *Group) Committed() record.Index { return record.Index(g.applied) }

// Err is why the replica stopped, nil while it runs.
func (g *Group) Err() error { return g.stopped }

// Propose appends data to the log at the index it returns, in the term that
// Leadership shows; StateMachine.Append was called before it returns. Commit
// tells when it lasts; a Truncate below the index, that it never will. After
// an error nothing moved: ErrNotLeader, ErrDropped, ErrBusy, ErrFull,
// ErrTooLarge, ErrStopped. Data belongs to the log from now on. It is for
// tasks: inside a state machine call it answers ErrDropped.
func (g *Group) Propose(data []byte) (record.Index, error) {
	if err := g.admit(len(data)); err != nil {
		return 0, err
	}
	g.wake()
	if g.unseen {
		// A change of membership before it in the same task is in raft's log.
		if g.handle(); g.stopped != nil || !g.lead.Leading {
			return 0, g.admit(len(data))
		}
	}
	if !g.lead.Leading {
		return g.forward(data)
	}
	if err := g.node.Propose(data); err != nil {
		if errors.Is(err, etcdraft.ErrProposalDropped) {
			return 0, fmt.Errorf("%w: group %s, term %d", ErrDropped, g.id, g.lead.Term)
		}
		return 0, fmt.Errorf("propose to group %s: %w", g.id, err)
	}
	index := g.log.last() + 1
	g.proposed++
	g.shard.stats.proposals.Add(1)
	g.shard.touch(g)
	if err := g.enter(raftpb.Entry{Index: index, Term: g.lead.Term, Data: data}); err != nil {
		g.stop(err)
		return 0, fmt.Errorf("%w: %w", ErrStopped, err)
	}
	return record.Index(index), nil
}

// forward is what Fault.Forward does on a follower: the entry goes to the
// leader as it was stamped here.
func (g *Group) forward(data []byte) (record.Index, error) {
	if err := g.node.Propose(data); err != nil {
		return 0, g.notLeader()
	}
	g.unseen = true
	g.shard.touch(g)
	return record.Index(g.log.last() + 1), nil
}

// admit answers whether a proposal of n bytes may be made now.
func (g *Group) admit(n int) error {
	s := g.shard
	switch {
	case g.stopped != nil:
		return fmt.Errorf("%w: group %s", ErrStopped, g.id)
	case !g.lead.Leading && !s.cfg.Fault.Forward:
		return g.notLeader()
	case g.handling:
		return fmt.Errorf("%w: group %s: proposed from inside a state machine call", ErrDropped, g.id)
	case n == 0:
		return fmt.Errorf("propose to group %s: no data", g.id)
	case n > s.cfg.EntryBytesMax:
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, n, s.cfg.EntryBytesMax)
	case s.full():
		return fmt.Errorf("%w: journal takes no entries", ErrFull)
	}
	size := int64(n)
	// A first proposal passes whatever its size, so that a bound below the
	// largest batch cannot stop a group for ever.
	if g.uncommitted > 0 && g.uncommitted+size > s.cfg.GroupBytesMax ||
		s.uncommitted > 0 && s.uncommitted+size > s.uncommittedMax {
		return fmt.Errorf("%w: group %s has %d uncommitted bytes, its shard %d", ErrBusy, g.id, g.uncommitted, s.uncommitted)
	}
	if s.held > 0 && s.held+size > s.heldMax {
		return fmt.Errorf("%w: %d bytes of entries in memory, at most %d", ErrBusy, s.held, s.heldMax)
	}
	return nil
}

// Release says that every entry up to m.Index, which is committed, is in
// synced segments: the journal lets go of them when the mark is written, memory
// now, but for what a follower close behind is about to need. A mark not above
// the last one is ignored.
func (g *Group) Release(m journal.Mark) {
	if g.stopped != nil || m.Index <= g.mark {
		return
	}
	if uint64(m.Index) > g.applied {
		panic(fmt.Sprintf("multiraft: group %s: mark %d is above committed entry %d", g.id, m.Index, g.applied))
	}
	term, err := g.log.Term(uint64(m.Index))
	if err != nil || term != m.Term {
		panic(fmt.Sprintf("multiraft: group %s: mark %d has term %d, the log %d", g.id, m.Index, m.Term, term))
	}
	g.mark = m.Index
	g.drop(false)
	w := g.write()
	w.Mark = &m
	g.shard.emit(g, w, nil)
}

// Entries gives what memory holds of lo <= Index < hi, at least one entry and
// then up to bytesMax. Entries at or below the last mark are gone: nil.
func (g *Group) Entries(lo, hi record.Index, bytesMax int) []Entry {
	if uint64(lo) <= g.log.markIndex {
		return nil
	}
	hi = min(hi, record.Index(g.log.last()+1))
	var out []Entry
	for i, left := lo, bytesMax; i < hi; i++ {
		e := g.log.at(uint64(i))
		if left -= len(e.Data); left < 0 && len(out) > 0 {
			break
		}
		out = append(out, view(e))
	}
	return out
}

// enter puts one entry at the end of the log and tells the machine.
func (g *Group) enter(e raftpb.Entry) error {
	g.idle = 0
	g.log.append(e)
	g.noteChange(&e)
	n := int64(len(e.Data))
	g.uncommitted += n
	g.shard.uncommitted += n
	g.shard.held += n
	return g.machine.Append(view(&e))
}

// cut takes entries above last out of the log and tells the machine.
func (g *Group) cut(last uint64) {
	n := g.log.truncate(last)
	g.unsettled = slices.DeleteFunc(g.unsettled, func(i uint64) bool { return i > last })
	g.uncommitted -= n
	g.shard.uncommitted -= n
	g.shard.held -= n
	g.machine.Truncate(record.Index(last))
}

// write begins what this group gives to the journal: always with the hard
// state, since the journal keeps only the newest, and with the ConfState when
// it changed. The commit index told is the applied one, so that the ConfState
// beside it holds every change up to it.
func (g *Group) write() journal.Write {
	w := journal.Write{Group: g.id, HardState: &raftpb.HardState{Term: g.hard.Term, Vote: g.hard.Vote, Commit: g.applied}, Sum: g.sum}
	if g.confDirty {
		conf := g.conf
		w.ConfState = &conf
		g.confDirty = false
	}
	g.savedTerm, g.savedVote = g.hard.Term, g.hard.Vote
	return w
}

// single reports whether the group has no other member, so that it needs no
// clock: nobody else can lead, and nothing is to be sent.
func (g *Group) single() bool {
	c := &g.conf
	return len(c.Voters) == 1 && c.Voters[0] == g.replica && len(c.Learners)+len(c.VotersOutgoing)+len(c.LearnersNext) == 0
}

// stop ends the replica. Nothing of it is stepped, written or sent any more.
func (g *Group) stop(err error) {
	if g.stopped != nil {
		return
	}
	g.stopped = err
	g.node = nil
	g.lead = Leadership{Term: g.lead.Term, Leader: -1}
	s := g.shard
	s.uncommitted -= g.uncommitted
	s.held -= g.log.bytes
	g.uncommitted, g.log.entries, g.log.bytes = 0, nil, 0
	g.heldBack, g.putOff, g.holding = nil, nil, nil
	g.log.markIndex = max(g.log.markIndex, g.applied)
	if g.resting {
		g.resting = false
		s.stats.resting.Add(-1)
	}
	s.forget(g)
	if !g.single() {
		g.machine.Lead(g.lead) // others go on, and lead
	}
	g.machine.Stopped(err)
	g.endTransfer(fmt.Errorf("%w: group %s", ErrStopped, g.id))
	g.failReads(fmt.Errorf("%w: group %s", ErrStopped, g.id))
}

package multiraft

import (
	"errors"
	"fmt"
	"slices"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"tidewater/broker/journal"
	"tidewater/internal/record"
)

// A replica whose log ends below what its leader has in memory gets there so:
//
//	leader    raft finds the entries gone ▸ Snapshotter.Snapshot ▸ MsgSnap
//	follower  MsgSnap kept back ▸ Install, in the background ▸ MsgSnap stepped into raft
//	          ▸ Restore ▸ mark and ConfState in one journal write ▸ acknowledged
//
// A leader that hears nothing sends a newer MsgSnap every snapshotTicks; a
// follower that is at work takes no notice, so losing any of it costs time only.

// sent is a RaftSnapshot that a follower has not acknowledged.
type sent struct {
	to    uint64
	ticks int
}

// makeSnapshot is raft's Storage.Snapshot.
func (g *Group) makeSnapshot() (raftpb.Snapshot, error) {
	m, ok := g.machine.(Snapshotter)
	if !ok || !g.Settled() {
		return raftpb.Snapshot{}, etcdraft.ErrSnapshotTemporarilyUnavailable
	}
	// The membership known is that at confIndex and after.
	least := record.Index(max(g.confIndex, uint64(g.mark), 1))
	s, err := m.Snapshot(least)
	if err != nil {
		if !errors.Is(err, ErrNotYet) {
			g.shard.cfg.Log.Warn("no snapshot for a follower", "partition", g.id.String(), "error", err)
		}
		return raftpb.Snapshot{}, etcdraft.ErrSnapshotTemporarilyUnavailable
	}
	if s.Index < least || uint64(s.Index) > g.applied {
		panic(fmt.Sprintf("multiraft: group %s: snapshot at entry %d, wanted %d to %d", g.id, s.Index, least, g.applied))
	}
	meta := raftpb.SnapshotMetadata{Index: uint64(s.Index), Term: s.Term, ConfState: g.conf}
	return raftpb.Snapshot{Data: s.Data, Metadata: meta}, nil
}

// helpJoin is for a learner that is being sent the log from entry 1 on. If it
// joined it knows no members and takes no such entry (receive), and raft asks
// for no RaftSnapshot as long as entry 1 is here: the machine is asked, so that
// it releases what it has soon, which it may otherwise put off for ever.
func (g *Group) helpJoin(to uint64) {
	if slices.Contains(g.conf.Learners, to) {
		_, _ = g.makeSnapshot() // none now: it is asked again with the next entries
	}
}

// noteSent remembers a MsgSnap on its way out.
func (g *Group) noteSent(to uint64) {
	for i := range g.sent {
		if g.sent[i].to == to {
			g.sent[i].ticks = 0
			return
		}
	}
	g.sent = append(g.sent, sent{to: to})
}

// tickSent gives up snapshots that were not acknowledged: raft sends another.
func (g *Group) tickSent() {
	keep := g.sent[:0]
	for _, s := range g.sent {
		if s.ticks++; g.lead.Leading && s.ticks >= snapshotTicks {
			g.node.ReportSnapshot(s.to, etcdraft.SnapshotFailure)
			continue
		}
		if g.lead.Leading {
			keep = append(keep, s)
		}
	}
	g.sent = keep
}

// install is a RaftSnapshot that this replica is being brought to.
type install struct {
	message raftpb.Message
	running bool // the machine was told to
	ready   bool // it is done; raft has not taken the message yet
}

// receiveSnapshot keeps a MsgSnap back until the machine has what it stands for.
func (g *Group) receiveSnapshot(m raftpb.Message) {
	if _, ok := g.machine.(Snapshotter); !ok || m.Snapshot == nil || m.Term < g.hard.Term {
		return
	}
	if g.has(m.Snapshot) {
		g.step(m) // raft answers how far this log goes
		return
	}
	if !isMember(&m.Snapshot.Metadata.ConfState, g.replica) || g.brokerOf(m.From) < 0 {
		return
	}
	switch in := g.install; {
	case in == nil:
		g.install = &install{message: m}
		g.shard.queueInstall(g)
	case !in.running && m.Snapshot.Metadata.Index >= in.message.Snapshot.Metadata.Index:
		in.message = m
	}
}

// has reports whether the log reaches a snapshot by itself.
func (g *Group) has(s *raftpb.Snapshot) bool {
	at := &s.Metadata
	return at.Index <= g.hard.Commit || at.Index <= g.log.last() && g.log.holds(at.Index, at.Term)
}

// queueInstall lets a group's install begin when those before it are done.
func (s *Shard) queueInstall(g *Group) {
	s.installs = append(s.installs, g)
	s.beginInstalls()
}

func (s *Shard) beginInstalls() {
	for len(s.installs) > 0 && s.installing < s.installsMax {
		g := s.installs[0]
		s.installs = s.installs[1:]
		if g.stopped == nil && g.install != nil && !g.install.running {
			s.beginInstall(g, g.install)
		}
	}
}

func (s *Shard) beginInstall(g *Group, in *install) {
	in.running = true
	s.installing++
	s.stats.installs.Add(1)
	g.machine.(Snapshotter).Install(g.snapshotOf(&in.message), func(err error) {
		s.state.post(s, func() {
			s.installing--
			g.installed(in, err)
			s.beginInstalls()
		})
	})
}

func (g *Group) snapshotOf(m *raftpb.Message) Snapshot {
	at := &m.Snapshot.Metadata
	return Snapshot{Index: record.Index(at.Index), Term: at.Term, ConfState: at.ConfState, Data: m.Snapshot.Data, Node: g.brokerOf(m.From)}
}

// installed goes on when the machine is there, or is not: then the leader's
// next MsgSnap begins again.
func (g *Group) installed(in *install, err error) {
	if g.stopped != nil {
		return
	}
	if err != nil {
		g.install = nil
		g.shard.cfg.Log.Warn("replica was not brought up to date", "partition", g.id.String(), "index", in.message.Snapshot.Metadata.Index, "error", err)
		return
	}
	in.ready = true
	g.useInstall()
}

// useInstall steps the MsgSnap into raft. What it stands for is committed, so
// it holds whoever leads now; raft wants to hear it from a leader of its term.
func (g *Group) useInstall() {
	g.handle()
	in := g.install
	if g.stopped != nil || in == nil || !in.ready {
		return
	}
	m := in.message
	if m.Term < g.hard.Term {
		if g.soft.Lead == 0 || g.soft.Lead == g.replica {
			return // until a leader is known
		}
		m.Term, m.From = g.hard.Term, g.soft.Lead
	}
	g.install = nil
	g.step(m)
	g.handle()
	if g.stopped == nil && g.log.markIndex < m.Snapshot.Metadata.Index {
		g.machine.(Snapshotter).Abandon()
	}
}

// restoreTo makes the log begin above a snapshot that raft took.
func (g *Group) restoreTo(s *raftpb.Snapshot) {
	at := &s.Metadata
	g.shard.held -= g.log.bytes
	g.shard.uncommitted -= g.uncommitted
	g.uncommitted = 0
	g.log.entries, g.log.bytes = nil, 0
	g.log.markIndex, g.log.markTerm = at.Index, at.Term
	g.applied, g.mark = at.Index, record.Index(at.Index)
	g.conf, g.confDirty, g.confIndex = at.ConfState, true, at.Index
	g.unsettled, g.heldBack = nil, nil
	data := g.machine.(Snapshotter).Restore(Snapshot{Index: record.Index(at.Index), Term: at.Term, ConfState: at.ConfState, Data: s.Data, Node: -1})
	g.restored = &journal.Mark{Index: record.Index(at.Index), Term: at.Term, Data: data}
	g.shard.clock(g)
}

// drop lets memory go of entries up to the mark, but for those that a follower
// who is a little behind is about to need. A group whose first entries are gone
// sends a RaftSnapshot to a replica that has none, so entry 1 is never kept.
func (g *Group) drop(all bool) {
	to := uint64(g.mark)
	if !all && !g.single() {
		to = max(g.keepFrom(to), min(to, 1))
	}
	if to <= g.log.markIndex {
		return
	}
	term, err := g.log.Term(to)
	if err != nil {
		panic(fmt.Sprintf("multiraft: group %s: term of entry %d: %v", g.id, to, err))
	}
	g.shard.held -= g.log.release(to, term)
}

// keepFrom gives the entry that all members in touch have, not above mark and
// not so low that more than keepBytesMax, for one that is copying
// keepForCopyBytesMax, or half of the shard's bound stay.
func (g *Group) keepFrom(mark uint64) uint64 {
	need, keep := mark, int64(keepBytesMax)
	room := g.shard.heldMax/2 - g.shard.held + g.log.bytes
	if g.lead.Leading {
		g.node.WithProgress(func(id uint64, _ etcdraft.ProgressType, pr tracker.Progress) {
			if has := max(pr.Match, pr.PendingSnapshot); id != g.replica && pr.RecentActive && has > 0 {
				need = min(need, has)
				if pr.State == tracker.StateSnapshot {
					keep = keepForCopyBytesMax
				}
			}
		})
		room = min(room, keep)
	} else {
		// Who leads next may have to serve the others.
		need, room = 0, min(room, keep)/8
	}
	at := mark
	for at > max(need, g.log.markIndex) {
		if room -= int64(len(g.log.at(at).Data)); room < 0 {
			break
		}
		at--
	}
	return at
}

package multiraft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/confchange"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"tidewater/internal/record"
)

// readsMax bounds the confirmations of a leader that wait at a time.
const readsMax = 1024

// ConfState is the group's membership as applied here.
func (g *Group) ConfState() raftpb.ConfState { return g.conf }

// Settled reports that ConfState is durable here: what rests on it, as giving
// up a replica that is no member any more, may be done.
func (g *Group) Settled() bool { return len(g.unsettled) == 0 || g.unsettled[0] > g.applied }

// noteChange remembers a change of members that came into the log.
func (g *Group) noteChange(e *raftpb.Entry) {
	if e.Type != raftpb.EntryNormal {
		g.unsettled = append(g.unsettled, e.Index)
	}
}

// settled notes that the ConfState at an Index is durable, and sends what told
// of it.
func (g *Group) settled(at uint64) {
	g.unsettled = slices.DeleteFunc(g.unsettled, func(i uint64) bool { return i <= at })
	back := g.heldBack
	g.heldBack = nil
	for _, m := range back {
		g.shard.send(g, m)
	}
}

// holdsBack reports whether a message is kept until the members it tells of
// are durable here. A replica that hears that it was removed forgets the group,
// so if the others, after a power cut, knew the old members only, nobody could
// lead. Heartbeats go at once and tell less.
func (g *Group) holdsBack(m *raftpb.Message) bool {
	if len(g.unsettled) == 0 || m.Commit < g.unsettled[0] || g.removed || g.shard.cfg.Fault.AckBeforeFlush {
		return false
	}
	switch m.Type {
	case raftpb.MsgHeartbeat:
		m.Commit = g.unsettled[0] - 1
	case raftpb.MsgApp:
		g.heldBack = append(g.heldBack, *m)
		return true
	}
	return false
}

// ProposeConfChangeV2 proposes a change of membership and gives the entry that
// it is in; it holds once that is committed (Commit, then ConfState). Several
// changes at once go through a joint configuration, which raft leaves by
// itself unless the change says otherwise. Errors are as Propose's: ErrDropped
// also while another change is under way, and when a replica is to be a voter
// that is no learner yet or has not caught up; a change that makes no sense is
// refused with none of them.
func (g *Group) ProposeConfChangeV2(cc raftpb.ConfChangeV2) (record.Index, error) {
	if err := g.admit(1); err != nil {
		return 0, err
	}
	g.wake()
	if g.handle(); g.stopped != nil || !g.lead.Leading {
		return 0, g.admit(1)
	}
	if !g.Settled() {
		return 0, fmt.Errorf("%w: group %s: the last change of members is not durable yet", ErrDropped, g.id)
	}
	if err := g.checkChange(cc); err != nil {
		return 0, fmt.Errorf("change members of group %s: %w", g.id, err)
	}
	before := g.log.last()
	if err := g.node.ProposeConfChange(cc); err != nil {
		return 0, fmt.Errorf("%w: group %s: %w", ErrDropped, g.id, err)
	}
	g.unseen = true
	g.shard.touch(g)
	g.handle()
	// Raft puts an empty entry in the place of a change that it refuses.
	if last := g.log.last(); g.stopped != nil || last == before || g.log.at(before+1).Type == raftpb.EntryNormal {
		return 0, fmt.Errorf("%w: group %s: another change of members is under way", ErrDropped, g.id)
	}
	return record.Index(before + 1), nil
}

// checkChange refuses what raft would panic at once it is committed, and
// voters that were no learners.
func (g *Group) checkChange(cc raftpb.ConfChangeV2) error {
	t := tracker.MakeProgressTracker(1, 0)
	cfg, progress, err := confchange.Restore(confchange.Changer{Tracker: t, LastIndex: 1}, g.conf)
	if err != nil {
		return fmt.Errorf("read members %v: %w", g.conf, err)
	}
	t.Config, t.Progress = cfg, progress
	change := confchange.Changer{Tracker: t, LastIndex: 1}
	if autoLeave, joint := cc.EnterJoint(); cc.LeaveJoint() {
		_, _, err = change.LeaveJoint()
	} else if joint {
		_, _, err = change.EnterJoint(autoLeave, cc.Changes...)
	} else {
		_, _, err = change.Simple(cc.Changes...)
	}
	if err != nil {
		return err
	}
	for _, c := range cc.Changes {
		if c.Type == raftpb.ConfChangeAddNode && !slices.Contains(g.conf.Voters, c.NodeID) && !g.caughtUp(c.NodeID) {
			return fmt.Errorf("%w: replica %d is no learner that has caught up", ErrDropped, c.NodeID)
		}
	}
	return nil
}

// caughtUp reports whether a learner gets entries as they come.
func (g *Group) caughtUp(replica uint64) bool {
	caught := false
	g.node.WithProgress(func(id uint64, _ etcdraft.ProgressType, pr tracker.Progress) {
		if id == replica {
			caught = pr.IsLearner && pr.State == tracker.StateReplicate && pr.Match >= uint64(g.mark)
		}
	})
	return caught
}

// Members gives the group's replicas as their leader sees them, by id; nil
// where this replica does not lead.
func (g *Group) Members() []Member {
	if g.stopped != nil || !g.lead.Leading {
		return nil
	}
	var all []Member
	g.node.WithProgress(func(id uint64, _ etcdraft.ProgressType, pr tracker.Progress) {
		all = append(all, Member{
			Replica: id, Voter: !pr.IsLearner, Match: record.Index(pr.Match),
			Active: pr.RecentActive || id == g.replica || g.resting && g.shard.isUp(g.brokerOf(id)), Copying: pr.State == tracker.StateSnapshot,
		})
	})
	return all
}

// transfer is a leadership on its way to another replica.
type transfer struct {
	to    uint64
	ticks int
	done  func(error)
}

// Transfer asks that another replica lead. Proposals are dropped until it does
// or an election timeout has passed. done, which may be nil, is called once, on
// the shard's loop: nil when the other leads, else ErrNotLeader, ErrTransfer
// or ErrStopped.
func (g *Group) Transfer(to uint64, done func(error)) {
	if done == nil {
		done = func(error) {}
	}
	switch {
	case g.stopped != nil:
		done(fmt.Errorf("%w: group %s", ErrStopped, g.id))
		return
	case !g.lead.Leading:
		done(g.notLeader())
		return
	case to == g.replica:
		done(nil)
		return
	case !slices.Contains(g.conf.Voters, to):
		done(fmt.Errorf("%w: group %s: replica %d is no voter", ErrTransfer, g.id, to))
		return
	}
	g.wake()
	g.endTransfer(fmt.Errorf("%w: group %s: another transfer came", ErrTransfer, g.id))
	g.transfer = &transfer{to: to, done: done}
	g.node.TransferLeader(to)
	g.unseen = true
	g.shard.touch(g)
}

// tellTransfer says how a transfer ended, once it did.
func (g *Group) tellTransfer() {
	t := g.transfer
	switch {
	case t == nil:
	case g.soft.Lead == t.to:
		g.endTransfer(nil)
	case g.soft.Lead != 0 && g.soft.Lead != g.replica || t.ticks > 2*electionTicks:
		g.endTransfer(fmt.Errorf("%w: group %s: to replica %d, term %d is led by %d", ErrTransfer, g.id, t.to, g.hard.Term, g.soft.Lead))
	}
}

func (g *Group) endTransfer(err error) {
	if t := g.transfer; t != nil {
		g.transfer = nil
		t.done(err)
	}
}

// read is somebody who waits for the leader to be confirmed.
type read struct {
	id    uint64
	index uint64 // committed when a majority confirmed it, 0 before
	done  func(record.Index, error)
}

// ReadIndex confirms that this replica leads: after the call a majority said
// so. done is called once, on the shard's loop, with an Index that Commit has
// told and that nothing committed before the call lies above; or with
// ErrNotLeader, ErrBusy or ErrStopped.
func (g *Group) ReadIndex(done func(record.Index, error)) {
	switch {
	case g.stopped != nil:
		done(0, fmt.Errorf("%w: group %s", ErrStopped, g.id))
		return
	case !g.lead.Leading:
		done(0, g.notLeader())
		return
	case len(g.reads) >= readsMax:
		done(0, fmt.Errorf("%w: group %s: %d wait for the leader's confirmation", ErrBusy, g.id, len(g.reads)))
		return
	case g.shard.cfg.Fault.StaleReads:
		done(record.Index(g.applied), nil)
		return
	}
	g.wake()
	g.readID++
	g.reads = append(g.reads, read{id: g.readID, done: done})
	g.node.ReadIndex(binary.BigEndian.AppendUint64(nil, g.readID))
	g.unseen = true
	g.shard.touch(g)
}

// confirmed notes what raft says a majority confirmed.
func (g *Group) confirmed(states []etcdraft.ReadState) {
	for _, st := range states {
		id := binary.BigEndian.Uint64(st.RequestCtx)
		for i := range g.reads {
			if g.reads[i].id == id {
				g.reads[i].index = max(st.Index, 1)
			}
		}
	}
	g.tellReads()
}

// tellReads answers those that are confirmed and whose entries are applied.
func (g *Group) tellReads() {
	var done []read
	g.reads = slices.DeleteFunc(g.reads, func(r read) bool {
		ok := r.index > 0 && r.index <= max(g.applied, 1)
		if ok {
			done = append(done, r)
		}
		return ok
	})
	for _, r := range done {
		r.done(record.Index(g.applied), nil)
	}
}

func (g *Group) failReads(err error) {
	reads := g.reads
	g.reads = nil
	for _, r := range reads {
		r.done(0, err)
	}
}

func (g *Group) notLeader() error {
	return &NotLeaderError{Group: g.id, Term: g.lead.Term, Leader: g.lead.Leader}
}

// isMember reports whether a membership names the replica.
func isMember(c *raftpb.ConfState, replica uint64) bool {
	return slices.Contains(c.Voters, replica) || slices.Contains(c.Learners, replica) ||
		slices.Contains(c.VotersOutgoing, replica) || slices.Contains(c.LearnersNext, replica)
}

// members are all replicas that a membership names, each once, in order.
func members(c *raftpb.ConfState) []uint64 {
	all := slices.Concat(c.Voters, c.Learners, c.VotersOutgoing, c.LearnersNext)
	slices.Sort(all)
	return slices.Compact(all)
}

// errNoMembers: the journal holds a group without members that is more than a
// replica that waits to join.
var errNoMembers = errors.New("no ConfState in the journal")

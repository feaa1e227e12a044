package multiraft

import (
	"errors"
	"fmt"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/record"
)

// errTerm stops a replica whose term no longer fits Kafka's leader epoch.
var errTerm = errors.New("term does not fit a leader epoch of 31 bits")

// handle does everything raft has ready: tells the machine, and puts writes
// and messages into the shard's current batch.
func (g *Group) handle() {
	if g.handling {
		return
	}
	g.handling = true
	defer func() { g.handling = false }()
	g.unseen = false
	for g.stopped == nil && g.node.HasReady() {
		rd := g.node.Ready()
		if err := g.handleReady(&rd); err != nil {
			g.stop(err)
			return
		}
		if g.removed && g.stopped == nil {
			g.settled(g.applied) // those who stay are to know
			g.shard.remove(g.id, ErrRemoved)
		}
	}
}

func (g *Group) handleReady(rd *etcdraft.Ready) error {
	if !etcdraft.IsEmptyHardState(rd.HardState) {
		g.hard = rd.HardState
	}
	if g.hard.Term >= TermEnd {
		return fmt.Errorf("%w: group %s, term %d", errTerm, g.id, g.hard.Term)
	}
	g.tellLead(rd.SoftState)
	if !etcdraft.IsEmptySnap(rd.Snapshot) {
		g.restoreTo(&rd.Snapshot)
	}
	if err := g.accept(rd.Entries); err != nil {
		return fmt.Errorf("append to group %s: %w", g.id, err)
	}
	for i := range rd.Messages {
		m := &rd.Messages[i]
		switch m.To {
		case etcdraft.LocalAppendThread:
			g.save(m)
		case etcdraft.LocalApplyThread:
			g.apply(m)
		default:
			g.shard.send(g, *m)
		}
		if g.stopped != nil {
			return nil
		}
	}
	if len(rd.ReadStates) > 0 {
		g.confirmed(rd.ReadStates)
	}
	return nil
}

// tellLead tells the machine of a new role or term.
func (g *Group) tellLead(soft *etcdraft.SoftState) {
	if soft != nil {
		g.soft = *soft
		g.noteCandidacy()
	}
	l := Leadership{Term: g.hard.Term, Leader: g.brokerOf(g.soft.Lead), Leading: g.soft.RaftState == etcdraft.StateLeader}
	l.Ready = g.lead.Ready && l.Leading && l.Term == g.lead.Term
	if l == g.lead {
		return
	}
	lost := g.lead.Leading && (!l.Leading || l.Term != g.lead.Term)
	if lost {
		g.heldBack, g.putOff, g.holding, g.busy = nil, nil, nil, false
	}
	g.lead, g.idle = l, 0
	if g.soft.Lead != 0 {
		g.campaignIn, g.tries = 0, 0
	}
	g.machine.Lead(l)
	if lost {
		g.failReads(g.notLeader())
	}
	g.tellTransfer()
}

// noteCandidacy has a candidate try again soon, by its rank: when votes are
// split, or another still hears the old leader, raft would wait for a timeout.
func (g *Group) noteCandidacy() {
	switch g.soft.RaftState {
	case etcdraft.StateCandidate, etcdraft.StatePreCandidate:
		if rank := g.rank(); rank >= 0 {
			g.campaignAfter((1 + rank) * staggerTicks)
		}
	}
}

// brokerOf gives the broker that holds a replica, -1 if that is not known.
func (g *Group) brokerOf(replica uint64) int32 {
	if replica == g.replica {
		return g.shard.cfg.Node
	}
	if replica == 0 || g.nodeOf == nil {
		return -1
	}
	if node, ok := g.nodeOf(replica); ok {
		return node
	}
	return -1
}

// accept takes entries into the log. Those that Propose put there are passed
// over. Raft gives its log's whole unsaved tail, so what lies beyond the last
// of them is no longer in it.
func (g *Group) accept(entries []raftpb.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	for i := range entries {
		e := &entries[i]
		if g.log.holds(e.Index, e.Term) {
			continue
		}
		if e.Index <= g.log.last() {
			g.cut(e.Index - 1)
		}
		if err := g.enter(*e); err != nil {
			return err
		}
	}
	if last := entries[len(entries)-1].Index; last < g.log.last() {
		g.cut(last)
	}
	return nil
}

// save handles what raft wants durable, and what may be said once it is. A
// commit index alone need not be durable: it is written with what comes next.
func (g *Group) save(m *raftpb.Message) {
	if g.restored != nil {
		// Mark, ConfState and hard state in one record: a crash leaves the old
		// log or the new one.
		w := g.write()
		w.Mark, g.restored = g.restored, nil
		g.shard.emit(g, w, nil)
		g.shard.restoredAfter(g)
		if len(m.Entries) == 0 {
			g.shard.after(g, m.Responses)
			return
		}
	}
	if len(m.Entries) > 0 || g.hard.Term != g.savedTerm || g.hard.Vote != g.savedVote {
		w := g.write()
		w.Entries = m.Entries
		g.shard.emit(g, w, m.Responses)
		g.sayHeld(m.Responses)
		return
	}
	if g.writesInFlight > 0 && !g.shard.cfg.Fault.AckBeforeFlush {
		g.shard.after(g, m.Responses)
		g.sayHeld(m.Responses)
		return
	}
	g.askedHeld = false
	g.respond(m.Responses)
}

// respond delivers responses whose condition holds.
func (g *Group) respond(responses []raftpb.Message) {
	for i := range responses {
		if g.stopped != nil {
			return
		}
		if m := &responses[i]; m.To == g.replica {
			g.step(*m)
		} else {
			g.shard.send(g, *m)
		}
	}
}

// step gives raft a message. Its errors say that the message was of no use.
func (g *Group) step(m raftpb.Message) {
	_ = g.node.Step(m)
	g.unseen = true
	g.shard.touch(g)
}

// apply handles entries that are committed and durable here.
func (g *Group) apply(m *raftpb.Message) {
	ready, conf := false, g.confIndex
	for i := range m.Entries {
		e := &m.Entries[i]
		n := int64(len(e.Data))
		g.uncommitted -= n
		g.shard.uncommitted -= n
		g.applyConf(e)
		ready = ready || e.Term == g.lead.Term
	}
	g.applied = m.Entries[len(m.Entries)-1].Index
	if g.confDirty {
		g.shard.emit(g, g.write(), nil)
	}
	g.machine.Commit(record.Index(g.applied))
	g.tellReads()
	if ready && g.lead.Leading && !g.lead.Ready {
		g.lead.Ready = true
		g.machine.Lead(g.lead)
	}
	g.respond(m.Responses)
	if g.confIndex != conf {
		g.leadAlone()
	}
}

// leadAlone has a replica lead that a change of members left alone: nobody else
// can, and it has no clock to find that out.
func (g *Group) leadAlone() {
	if g.stopped != nil || g.lead.Leading || !g.single() {
		return
	}
	if err := g.node.Campaign(); err == nil {
		g.unseen = true
		g.shard.touch(g)
	}
}

// applyConf makes a change of membership hold. Bytes that raft committed but
// that do not decode are a fault of this program.
func (g *Group) applyConf(e *raftpb.Entry) {
	var cc raftpb.ConfChangeI
	switch e.Type {
	case raftpb.EntryConfChange:
		var c raftpb.ConfChange
		if err := c.Unmarshal(e.Data); err != nil {
			panic(fmt.Sprintf("multiraft: group %s: decode membership change at %d: %v", g.id, e.Index, err))
		}
		cc = c
	case raftpb.EntryConfChangeV2:
		var c raftpb.ConfChangeV2
		if err := c.Unmarshal(e.Data); err != nil {
			panic(fmt.Sprintf("multiraft: group %s: decode membership change at %d: %v", g.id, e.Index, err))
		}
		cc = c
	default:
		return
	}
	was := isMember(&g.conf, g.replica)
	g.conf = *g.node.ApplyConfChange(cc)
	g.confDirty, g.confIndex = true, e.Index
	g.removed = was && !isMember(&g.conf, g.replica)
	g.shard.clock(g)
}

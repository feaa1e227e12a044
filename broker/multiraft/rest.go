package multiraft

import (
	"fmt"
	"slices"

	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"tidewater/internal/record"
)

// A group with nothing to do rests: no replica of it is ticked, and its leader
// sends no heartbeats. What a tick would find out, the brokers' own heartbeats
// find out for all groups at once (Host.PeerUp, Host.PeerDown).
//
// The leader proposes to rest when every entry is committed, all members whose
// brokers are up have them, and nothing has come for quiesceTicks; a member that
// agrees stops its clock, another wakes the leader. Any other message, a
// proposal, or the loss of a broker wakes a replica; a woken leader lets its
// followers know at once.
//
// Lease: a resting leader may answer readers as long as the brokers of a
// majority of the voters are up. PeerDown takes Ready away from a leader that
// has no such majority left, resting or not, and asks the members; Ready comes
// back when a majority confirms the term. A leader that is cut off therefore
// shows old offsets for no longer than the broker heartbeat takes to notice.

// Contexts of the heartbeats that leaders and followers exchange about rest;
// raft never sees them.
const (
	restContext = "rest"
	wakeContext = "wake"
)

// wakeGraceTicks is how long a woken leader waits for answers before its clock
// goes on, so that it does not find that nobody answered while it rested.
const wakeGraceTicks = 4

// restRetryTicks is after how long a leader that could not rest tries again.
const restRetryTicks = 10

// tickGroup lets one tick pass for a group that has a clock.
func (g *Group) tickGroup() {
	g.idle++
	g.sinceBeat++
	g.tickBusy()
	g.tickCampaign()
	if g.transfer != nil {
		g.transfer.ticks++
		g.tellTransfer()
	}
	if len(g.sent) > 0 {
		g.tickSent()
	}
	if g.stopped != nil {
		return
	}
	if g.grace > 0 && g.lead.Leading {
		g.grace--
	} else {
		g.node.Tick()
	}
	g.unseen = true
	g.shard.touch(g)
	// Not near a heartbeat: it, or its answers, would wake who rests.
	calm := g.sinceBeat >= 2 && g.sinceBeat < heartbeatTicks
	if g.idle >= quiesceTicks && g.lead.Leading && calm && !g.tryRest() {
		g.idle = quiesceTicks - restRetryTicks
	}
}

// tryRest proposes to rest, if there is nothing to do.
func (g *Group) tryRest() bool {
	s := g.shard
	if !g.lead.Ready || g.transfer != nil || len(g.reads)+len(g.sent) > 0 || g.writesInFlight > 0 ||
		g.log.last() != g.applied || len(g.conf.VotersOutgoing) > 0 || !g.majorityUp(s.isUp) {
		return false
	}
	rest := true
	g.node.WithProgress(func(id uint64, _ etcdraft.ProgressType, pr tracker.Progress) {
		if id != g.replica && s.isUp(g.brokerOf(id)) && (pr.Match != g.applied || pr.State != tracker.StateReplicate) {
			rest = false
		}
	})
	if !rest {
		return false
	}
	term, err := g.log.Term(g.applied)
	if err != nil {
		return false
	}
	for _, id := range members(&g.conf) {
		if id != g.replica && s.isUp(g.brokerOf(id)) {
			s.send(g, raftpb.Message{Type: raftpb.MsgHeartbeat, From: g.replica, To: id, Term: g.hard.Term,
				Index: g.applied, LogTerm: term, Commit: g.applied, Context: []byte(restContext)})
		}
	}
	g.rest()
	return true
}

// rest stops the clock.
func (g *Group) rest() {
	g.resting = true
	g.shard.stats.resting.Add(1)
	g.drop(true)
}

// receiveRest handles a heartbeat about rest, or about what is held; false when
// m is none.
func (g *Group) receiveRest(m *raftpb.Message) bool {
	if m.Type != raftpb.MsgHeartbeat {
		return false
	}
	switch string(m.Context) {
	case wakeContext:
		if g.lead.Leading && m.Term == g.hard.Term {
			g.wake()
		}
		return true
	case heldContext:
		g.hearHeld(m)
		return true
	case restContext:
		g.handle()
		if g.stopped != nil || m.Term < g.hard.Term || g.resting {
			return true
		}
		last := g.log.last()
		term, err := g.log.Term(last)
		if m.Term == g.hard.Term && m.From == g.soft.Lead && last == m.Index && term == m.LogTerm && err == nil &&
			g.applied == m.Commit && g.install == nil && g.writesInFlight == 0 && g.shard.isUp(g.brokerOf(m.From)) {
			g.rest()
			return true
		}
		g.shard.send(g, raftpb.Message{Type: raftpb.MsgHeartbeat, From: g.replica, To: m.From, Term: m.Term, Context: []byte(wakeContext)})
		return true
	}
	return false
}

// wake starts the clock again; a leader tells its followers.
func (g *Group) wake() {
	if !g.resting || g.stopped != nil {
		return
	}
	g.resting, g.idle = false, 0
	g.shard.stats.resting.Add(-1)
	g.shard.clock(g)
	if !g.lead.Leading {
		return
	}
	g.grace = wakeGraceTicks
	for _, id := range members(&g.conf) {
		if id != g.replica {
			g.shard.send(g, raftpb.Message{Type: raftpb.MsgHeartbeat, From: g.replica, To: id, Term: g.hard.Term})
		}
	}
}

// majorityUp reports whether the brokers of a majority of the voters are up as
// alive says, of both majorities in a joint configuration. This broker is.
func (g *Group) majorityUp(alive func(int32) bool) bool {
	return g.hasMajority(g.conf.Voters, alive) && (len(g.conf.VotersOutgoing) == 0 || g.hasMajority(g.conf.VotersOutgoing, alive))
}

func (g *Group) hasMajority(voters []uint64, alive func(int32) bool) bool {
	n := 0
	for _, id := range voters {
		if id == g.replica || alive(g.brokerOf(id)) {
			n++
		}
	}
	return n > len(voters)/2
}

// losePeer is what the loss of a broker means for a group.
func (g *Group) losePeer(node int32) {
	g.handle()
	if g.stopped != nil {
		return
	}
	if !g.lead.Leading {
		if g.soft.Lead != 0 && g.lead.Leader == node {
			g.loseLeader()
		}
		return
	}
	held := false
	for _, id := range members(&g.conf) {
		if g.brokerOf(id) == node {
			held = true
			g.node.ReportUnreachable(id)
		}
	}
	if !held {
		return
	}
	g.endTransferTo(node)
	if !g.majorityUp(g.shard.notDown) && !g.shard.cfg.Fault.StaleReads {
		g.doubt()
	}
}

func (g *Group) endTransferTo(node int32) {
	if g.transfer != nil && g.brokerOf(g.transfer.to) == node {
		g.endTransfer(fmt.Errorf("%w: group %s: broker %d is down", ErrTransfer, g.id, node))
	}
}

// doubt takes Ready away until a majority has confirmed the term.
func (g *Group) doubt() {
	g.wake()
	if !g.lead.Ready {
		return
	}
	term := g.lead.Term
	g.lead.Ready = false
	g.machine.Lead(g.lead)
	g.ReadIndex(func(_ record.Index, err error) {
		if err == nil && g.lead.Leading && g.lead.Term == term && !g.lead.Ready {
			g.lead.Ready = true
			g.machine.Lead(g.lead)
		}
	})
}

// loseLeader has a follower look for another leader: those of a group one
// after the other, so that they do not split the votes.
func (g *Group) loseLeader() {
	g.wake()
	if err := g.node.ForgetLeader(); err != nil {
		return
	}
	g.unseen = true
	g.shard.touch(g)
	if rank := g.rank(); rank == 0 {
		g.tries++
		g.campaign()
	} else if rank > 0 {
		g.campaignAfter(rank * staggerTicks)
	}
}

// rank is this replica's turn among the voters whose brokers are up, -1 when it
// is none of them. It begins elsewhere in each group, so that the leaders of a
// lost broker are spread.
func (g *Group) rank() int {
	up := slices.DeleteFunc(slices.Clone(g.conf.Voters), func(id uint64) bool {
		return id != g.replica && !g.shard.notDown(g.brokerOf(id))
	})
	slices.Sort(up)
	at := slices.Index(up, g.replica)
	if at < 0 {
		return -1
	}
	return (at + shardOf(g.id, len(up))) % len(up)
}

// earlyTries bounds how often a replica asks for votes before its timeout while
// nobody leads. More of that, at a rhythm that others may share, could split
// votes for ever, and keep those with the longer log from asking at all.
const earlyTries = 2

// campaignAfter has the replica ask for votes in some ticks, before its timeout.
func (g *Group) campaignAfter(ticks int) {
	if g.campaignIn == 0 && g.tries < earlyTries {
		g.tries++
		g.campaignIn = ticks
	}
}

func (g *Group) tickCampaign() {
	if g.campaignIn == 0 {
		return
	}
	if g.campaignIn--; g.campaignIn == 0 {
		g.campaign()
	}
}

// campaign asks for votes, unless somebody leads.
func (g *Group) campaign() {
	if g.soft.Lead != 0 && g.shard.notDown(g.brokerOf(g.soft.Lead)) {
		return
	}
	if err := g.node.Campaign(); err == nil {
		g.unseen = true
		g.shard.touch(g)
	}
}

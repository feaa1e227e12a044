package multiraft

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"
)

// Every append tells how far the log is committed. When that moves, raft sends
// an append without entries besides, which is answered as any other: with three
// replicas half of all messages. In a busy group it waits, since the next
// entries tell the same some milliseconds later; if none come, the next tick
// lets it go. A partition's clients wait for none of it: the leader, who answers
// them, knows already, and followers only bring to segments what they hear is
// committed. Where somebody waits for a follower, GroupConfig says so.

// busyProposals is how many proposals in a tick make a group busy: fewer are
// not worth it, and a log with few entries is told of each at once.
const busyProposals = 2

// putsOff reports whether an append waits for entries to the same member. One
// with entries replaces what waits: it was made later, and tells no less. What
// tells of a change of members does not wait.
func (g *Group) putsOff(m *raftpb.Message) bool {
	if m.Type != raftpb.MsgApp {
		return false
	}
	g.putOff = slices.DeleteFunc(g.putOff, func(o raftpb.Message) bool { return o.To == m.To })
	if len(m.Entries) > 0 || !g.busy || g.removed || len(g.unsettled) > 0 {
		return false
	}
	g.putOff = append(g.putOff, *m)
	return true
}

// tickBusy sends what was put off, and sees whether the group is busy.
func (g *Group) tickBusy() {
	g.busy, g.proposed = g.proposed >= busyProposals && !g.prompt, 0
	for i := range g.putOff {
		g.shard.pass(g, g.putOff[i])
	}
	g.putOff = g.putOff[:0]
}

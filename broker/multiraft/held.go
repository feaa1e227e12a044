package multiraft

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/record"
)

// Held entries: those that the memory of a majority has, before any flush. A
// machine may answer somebody then who does not want to wait for disks; nothing
// else follows from it. Raft hears nothing of it: what is acknowledged, committed
// and shown is flushed as ever, and the flush is under way when a replica says
// that it holds something.
//
// A leader whose machine asked (AskHeld) marks the append messages that are under
// way to its followers. One that took such entries into its log, and into the
// batch that goes to the journal next, says so at once, beside raft's
// acknowledgement, which waits for the flush. A build that does not know of this
// neither asks nor answers: then the machine hears of the commit only.
//
// What is held is lost only with memory: a replica that has an entry in memory
// refuses its vote to one that lacks it, as if it were on disk. So a leader
// without it needs a majority of which each member never had it or died before
// its flush. It is bounded by heldAheadMax.

// heldContext marks the append messages that ask and the heartbeats that answer;
// raft never sees it.
const heldContext = "held"

// heldAheadMax bounds what of a group may be told to be held and is not
// committed, in bytes: what flushes on healthy disks never let come together. A
// disk that is stuck stops the answers there.
const heldAheadMax = 4 << 20

// Holder is a StateMachine that can be told that entries are in the memory of a
// majority.
type Holder interface {
	StateMachine
	// Held follows AskHeld, maybe inside it: every entry up to last is in the
	// memory of a majority, none of them need be durable anywhere. Lead and
	// Truncate tell when that may not last.
	Held(last record.Index)
}

// holding is what a leader knows of its followers' memory, in its term.
type holding struct {
	machine Holder
	wanted  uint64 // newest entry that AskHeld may be answered for
	told    uint64
	said    []heldBy
}

// heldBy is up to where a replica said that it has this log in memory.
type heldBy struct{ replica, index uint64 }

// AskHeld has the machine, if it is a Holder, told when an entry that this
// leader proposed is in the memory of a majority, at once in a group of one. It
// may stay without answer: Commit comes in any case.
func (g *Group) AskHeld(index record.Index) {
	if g.stopped != nil || !g.lead.Leading || g.uncommitted > heldAheadMax {
		return
	}
	if term, err := g.log.Term(uint64(index)); err != nil || term != g.lead.Term {
		return
	}
	if g.holding == nil {
		machine, ok := g.machine.(Holder)
		if !ok {
			return
		}
		g.holding = &holding{machine: machine}
	}
	h := g.holding
	if h.wanted = max(h.wanted, uint64(index)); uint64(index) <= h.told {
		h.machine.Held(index) // asked again, by a duplicate
		return
	}
	g.tellHeld()
}

// asksHeld says whether append messages are to be marked.
func (g *Group) asksHeld() bool {
	return g.holding != nil && g.holding.wanted > max(g.holding.told, g.applied)
}

// sayHeld tells the leader what this replica has in memory, when responses that
// wait for a flush will tell it that it is durable.
func (g *Group) sayHeld(responses []raftpb.Message) {
	if !g.askedHeld {
		return
	}
	g.askedHeld = false
	var last *raftpb.Message
	for i := range responses {
		m := &responses[i]
		if m.Type == raftpb.MsgAppResp && !m.Reject && m.To != g.replica && m.Term == g.hard.Term && (last == nil || m.Index > last.Index) {
			last = m
		}
	}
	if last == nil {
		return
	}
	if term, err := g.log.Term(last.Index); err == nil && term == last.Term {
		g.shard.send(g, raftpb.Message{Type: raftpb.MsgHeartbeat, From: g.replica, To: last.To, Term: last.Term,
			Index: last.Index, LogTerm: term, Context: []byte(heldContext)})
	}
}

// hearHeld notes what a follower has in memory.
func (g *Group) hearHeld(m *raftpb.Message) {
	h := g.holding
	if h == nil || !g.lead.Leading || m.Term != g.lead.Term || m.LogTerm != m.Term {
		return
	}
	i := slices.IndexFunc(h.said, func(s heldBy) bool { return s.replica == m.From })
	if i < 0 {
		i = len(h.said)
		h.said = append(h.said, heldBy{replica: m.From})
	}
	h.said[i].index = max(h.said[i].index, m.Index)
	g.tellHeld()
}

// tellHeld tells the machine when more of what it asked for is held.
func (g *Group) tellHeld() {
	h := g.holding
	end := min(h.heldBy(g, g.conf.Voters), h.wanted)
	if len(g.conf.VotersOutgoing) > 0 {
		end = min(end, h.heldBy(g, g.conf.VotersOutgoing))
	}
	if told := max(h.told, g.applied); end > told {
		g.shard.stats.heldTold.Add(int64(end - told))
		h.told = end
		h.machine.Held(record.Index(end))
	}
}

// heldBy is the last entry that a majority of the voters has in memory.
func (h *holding) heldBy(g *Group, voters []uint64) uint64 {
	if g.shard.cfg.Fault.HeldAlone {
		return g.log.last()
	}
	if len(voters) == 0 {
		return 0
	}
	var few [8]uint64
	ends := few[:0]
	for _, id := range voters {
		end := uint64(0)
		if id == g.replica {
			end = g.log.last()
		} else if i := slices.IndexFunc(h.said, func(s heldBy) bool { return s.replica == id }); i >= 0 {
			end = h.said[i].index
		}
		ends = append(ends, end)
	}
	slices.Sort(ends)
	return ends[len(ends)-(len(ends)/2+1)]
}

package cluster

import (
	"cmp"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/multiraft"
)

// votersMax is how many voters the controller's group has at most: five stand
// the loss of two brokers, and each more is one more to wait for.
const votersMax = 5

// voterChange is what the controller's leader is to do about its own group:
// nothing if both are zero.
type voterChange struct {
	changes  []raftpb.ConfChangeSingle
	transfer uint64 // a replica that is to lead
}

// votersWanted is the number of voters for n brokers: odd, since an even one
// stands no more losses than the odd one below.
func votersWanted(n int) int {
	return max(min(n-(n+1)%2, votersMax), 1)
}

// planVoters compares the members of the controller's group with the brokers
// there are. Every broker has a replica; the first ones vote, spread over the
// racks, and keep the vote until they are gone or away for too long. self is
// the leader's own replica, now its clock.
func planVoters(v *View, m Members, self uint64, now time.Time, away time.Duration) voterChange {
	if len(m.Outgoing) > 0 {
		return voterChange{} // raft leaves the joint configuration by itself
	}
	if cs := missingLearners(v, m); len(cs) > 0 {
		return voterChange{changes: cs}
	}
	want := chooseVoters(v, m, now, away)
	if len(want) == 0 {
		return voterChange{}
	}
	if slices.Contains(m.Voters, self) && !slices.Contains(want, self) {
		return voterChange{transfer: fittestVoter(m, want)}
	}
	return voterChange{changes: changesTo(v, m, want)}
}

// missingLearners brings in brokers that the group does not know.
func missingLearners(v *View, m Members) []raftpb.ConfChangeSingle {
	var cs []raftpb.ConfChangeSingle
	for _, b := range v.Brokers() {
		if b.Controller != 0 && !slices.Contains(m.Voters, b.Controller) && !slices.Contains(m.Learners, b.Controller) {
			cs = append(cs, raftpb.ConfChangeSingle{Type: raftpb.ConfChangeAddLearnerNode, NodeID: b.Controller})
		}
	}
	return cs
}

// chooseVoters gives the replicas that are to vote, as many as are fit.
func chooseVoters(v *View, m Members, now time.Time, away time.Duration) []uint64 {
	brokers := v.Brokers()
	n := 0
	for _, b := range brokers {
		if !b.Draining {
			n++
		}
	}
	want := votersWanted(n)
	chosen := make([]uint64, 0, want)
	racks := map[string]int{}
	take := func(fit func(*Broker) bool) {
		for len(chosen) < want {
			i := bestVoter(brokers, racks, func(b *Broker) bool { return !slices.Contains(chosen, b.Controller) && fit(b) })
			if i < 0 {
				return
			}
			chosen = append(chosen, brokers[i].Controller)
			racks[brokers[i].Rack]++
		}
	}
	votes := func(b *Broker) bool { return slices.Contains(m.Voters, b.Controller) }
	gone := func(b *Broker) bool {
		return b.Offline && b.OfflineSinceMs > 0 && now.Sub(time.UnixMilli(b.OfflineSinceMs)) > away
	}
	take(func(b *Broker) bool { return votes(b) && !b.Draining && !gone(b) })
	take(func(b *Broker) bool { return !b.Draining && !b.Offline && upToDate(m, b.Controller) })
	// Nobody better is there: they stay, and count.
	take(func(b *Broker) bool { return votes(b) && !b.Draining })
	for _, id := range m.Voters {
		if len(chosen) < want && !slices.Contains(chosen, id) {
			chosen = append(chosen, id)
		}
	}
	if len(chosen)%2 == 0 {
		chosen = chosen[:len(chosen)-1]
	}
	return chosen
}

// bestVoter prefers racks with fewer voters, then low node ids.
func bestVoter(brokers []*Broker, racks map[string]int, fit func(*Broker) bool) int {
	best := -1
	for i, b := range brokers {
		if b.Controller != 0 && fit(b) && (best < 0 || racks[b.Rack] < racks[brokers[best].Rack]) {
			best = i
		}
	}
	return best
}

// upToDate reports whether a replica answers and gets entries as they come.
func upToDate(m Members, id uint64) bool {
	return slices.ContainsFunc(m.Replicas, func(r multiraft.Member) bool { return r.Replica == id && r.Active && !r.Copying && r.Match > 0 })
}

// fittestVoter is the one of those that vote and shall vote who has most of
// the log, 0 if none answers.
func fittestVoter(m Members, want []uint64) uint64 {
	rs := slices.DeleteFunc(slices.Clone(m.Replicas), func(r multiraft.Member) bool {
		return !r.Voter || !r.Active || !slices.Contains(want, r.Replica)
	})
	if len(rs) == 0 {
		return 0
	}
	return slices.MaxFunc(rs, func(a, b multiraft.Member) int { return cmp.Compare(a.Match, b.Match) }).Replica
}

// changesTo makes want the voters; who votes no more stays as a learner while
// its broker exists, and any other member goes.
func changesTo(v *View, m Members, want []uint64) []raftpb.ConfChangeSingle {
	exists := func(id uint64) bool {
		return slices.ContainsFunc(v.Brokers(), func(b *Broker) bool { return b.Controller == id })
	}
	var cs []raftpb.ConfChangeSingle
	add := func(t raftpb.ConfChangeType, id uint64) {
		cs = append(cs, raftpb.ConfChangeSingle{Type: t, NodeID: id})
	}
	for _, id := range want {
		if !slices.Contains(m.Voters, id) {
			add(raftpb.ConfChangeAddNode, id)
		}
	}
	for _, id := range m.Voters {
		switch {
		case slices.Contains(want, id):
		case exists(id):
			add(raftpb.ConfChangeAddLearnerNode, id)
		default:
			add(raftpb.ConfChangeRemoveNode, id)
		}
	}
	for _, id := range m.Learners {
		if !exists(id) && !slices.Contains(want, id) {
			add(raftpb.ConfChangeRemoveNode, id)
		}
	}
	return cs
}

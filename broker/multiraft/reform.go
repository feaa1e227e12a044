package multiraft

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/journal"
)

// Reform makes a group of one, under a new replica id and above a term, out of
// what a journal recovered of a replica whose group has lost its majority for
// good. The whole log stays, also what is not known to be committed; changes of
// membership in that part are passed over, since they speak of the old members.
// Messages of these reach it no more: they are addressed to the old id. The
// write is to be durable before the group is started; false says that the
// group was reformed under this id before. g is changed along.
func Reform(g *journal.Group, replica, aboveTerm uint64) (w journal.Write, changed bool, err error) {
	if slices.Contains(members(&g.ConfState), replica) {
		return w, false, nil
	}
	if len(members(&g.ConfState)) == 0 {
		return w, false, fmt.Errorf("%w: group %s: the replica never got its group's log", ErrMissing, g.ID)
	}
	term := max(g.HardState.Term, g.Mark.Term, aboveTerm)
	if term >= TermEnd-1 {
		return w, false, fmt.Errorf("%w: reform group %s above term %d", errTerm, g.ID, term)
	}
	hard := raftpb.HardState{Term: term, Commit: max(g.HardState.Commit, uint64(g.Mark.Index))}
	conf := raftpb.ConfState{Voters: []uint64{replica}}
	w = journal.Write{Group: g.ID, HardState: &hard, ConfState: &conf}
	first := slices.IndexFunc(g.Entries, func(e raftpb.Entry) bool { return e.Index > hard.Commit && e.Type != raftpb.EntryNormal })
	if first >= 0 {
		g.Entries = slices.Clone(g.Entries)
		for i := first; i < len(g.Entries); i++ {
			if e := &g.Entries[i]; e.Type != raftpb.EntryNormal {
				e.Type, e.Data = raftpb.EntryNormal, nil
			}
		}
		w.Entries = g.Entries[first:]
	}
	g.HardState, g.ConfState = hard, conf
	return w, true, nil
}

package multiraft

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/journal"
	"tidewater/internal/disk"
)

// Shows that a replica whose group of three lost the other two, reformed under
// another id, leads alone with its whole log, above the term given, also after
// power cuts; that a change of membership which was under way brings nobody
// back; and that what the old members say, should they come back, changes
// nothing: not their votes, not their entries.
func TestReformedGroupHearsNoOldMembers(t *testing.T) {
	change := raftpb.ConfChangeV2{Changes: []raftpb.ConfChangeSingle{{Type: raftpb.ConfChangeAddNode, NodeID: 3}}}
	data, err := change.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	const floor = 1000
	id := groupID(7)
	fs, rng := disk.NewMem(0), rand.New(rand.NewPCG(1, 3))
	j, _ := openJournal(t, fs)
	write := func(w journal.Write) {
		t.Helper()
		if err := errors.Join(j.Append(w), j.Flush()); err != nil {
			t.Fatal(err)
		}
	}
	write(journal.Write{Group: id, HardState: &raftpb.HardState{Term: 7, Vote: 2, Commit: 1}, ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}},
		Entries: []raftpb.Entry{{Index: 1, Term: 6}, {Index: 2, Term: 7, Type: raftpb.EntryConfChangeV2, Data: data}, {Index: 3, Term: 7, Data: []byte("kept")}}})
	term := uint64(floor)
	for round := range 3 {
		fs.Crash(rng)
		var groups []journal.Group
		j, groups = openJournal(t, fs)
		w, changed, err := Reform(&groups[0], 50, floor)
		if err != nil || changed != (round == 0) {
			t.Fatalf("round %d: changed %v, %v", round, changed, err)
		}
		if changed {
			write(w)
		}
		n, err := NewNode(Config{Node: 1, Journal: j, Recovered: groups, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		m := &tape{}
		if err := n.Start(GroupConfig{ID: id, Replica: 50, Origin: Resuming, StateMachine: m}); err != nil {
			t.Fatal(err)
		}
		rest(n)
		if !m.lead.Ready || m.lead.Term <= term || string(m.at(3).Data) != "kept" || m.committed != m.last() {
			t.Fatalf("round %d: leads %+v, committed %d of %d", round, m.lead, m.committed, m.last())
		}
		term = m.lead.Term
		for _, old := range []raftpb.Message{
			{Type: raftpb.MsgVote, From: 2, To: 1, Term: term + 5, Index: 90, LogTerm: term + 4},
			{Type: raftpb.MsgHeartbeat, From: 2, To: 1, Term: term + 5, Commit: 9},
			{Type: raftpb.MsgApp, From: 2, To: 1, Term: term + 5, Index: 2, LogTerm: 7, Entries: []raftpb.Entry{{Index: 3, Term: term + 5, Data: []byte("other")}}},
		} {
			n.Receive([]Message{{Group: id, Node: 1, Message: old}})
			rest(n)
		}
		if !m.lead.Ready || m.lead.Term != term || string(m.at(3).Data) != "kept" {
			t.Fatalf("round %d: old members were heard: %+v", round, m.lead)
		}
		err = n.Do(id, func(g *Group) {
			if c := g.ConfState(); len(c.Voters) != 1 || c.Voters[0] != 50 || len(c.Learners) > 0 {
				t.Errorf("round %d: members are %+v", round, c)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		rest(n)
		m.check(t)
	}
}

// Shows that there is nothing to reform of a replica that never got its log.
func TestNothingToReform(t *testing.T) {
	if _, _, err := Reform(&journal.Group{ID: groupID(1)}, 50, 1); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
}

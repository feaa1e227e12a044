package sim

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/journal"
	"tidewater/internal/record"
)

// spy stands between the groups and their journal and remembers what the
// journal promised: the states that a Flush which answered made durable.
type spy struct {
	*journal.Journal
	node  *node
	since []journal.Write // appended, not flushed
}

// promise is the newest durable state of one group.
type promise struct {
	hard   raftpb.HardState
	voters []uint64
	index  record.Index // last entry or mark
}

// Append implements multiraft.Journal.
func (s *spy) Append(w journal.Write) error {
	err := s.Journal.Append(w)
	if err == nil {
		s.since = append(s.since, w)
		if w.ConfState != nil {
			s.node.written[w.Group] = append(s.node.written[w.Group], slices.Clone(w.ConfState.Voters))
		}
	}
	return err
}

// Flush implements multiraft.Journal.
func (s *spy) Flush() error {
	if err := s.Journal.Flush(); err != nil {
		return err
	}
	for _, w := range s.since {
		if w.Remove {
			delete(s.node.promised, w.Group)
			continue
		}
		p := s.node.promised[w.Group]
		if w.HardState != nil {
			p.hard = *w.HardState
		}
		if w.ConfState != nil {
			p.voters = slices.Clone(w.ConfState.Voters)
		}
		if n := len(w.Entries); n > 0 {
			p.index = record.Index(w.Entries[n-1].Index)
		}
		if w.Mark != nil {
			p.index = max(p.index, w.Mark.Index)
		}
		s.node.promised[w.Group] = p
		s.node.ran[w.Group] = s.node.replica(w.Group)
	}
	s.since = s.since[:0]
	clear(s.node.written)
	return nil
}

// checkPromises compares what the journal has after a start with what it
// promised before.
func (n *node) checkPromises(found []journal.Group) {
	byID := map[record.PartitionID]journal.Group{}
	for _, g := range found {
		byID[g.ID] = g
	}
	for _, id := range n.c.groupIDs() {
		p, ok := n.promised[id]
		if !ok {
			continue
		}
		g := byID[id]
		have := g.HardState
		switch {
		case have.Term < p.hard.Term, have.Term == p.hard.Term && p.hard.Vote != 0 && have.Vote != p.hard.Vote:
			n.w.violate(votes, "group %s has term %d vote %d, the journal promised term %d vote %d", id, have.Term, have.Vote, p.hard.Term, p.hard.Vote)
		case p.voters != nil && !slices.Equal(g.ConfState.Voters, p.voters) && !n.mayHave(id, g.ConfState.Voters):
			n.w.violate(votes, "group %s has voters %v, the journal promised %v", id, g.ConfState.Voters, p.voters)
		}
		last := g.Mark.Index
		if k := len(g.Entries); k > 0 {
			last = record.Index(g.Entries[k-1].Index)
		}
		if last < p.index {
			n.w.violate(acked, "group %s ends at entry %d, the journal promised %d", id, last, p.index)
		}
	}
}

// mayHave reports members that were written and not promised: they may last.
func (n *node) mayHave(id record.PartitionID, voters []uint64) bool {
	return slices.ContainsFunc(n.written[id], func(w []uint64) bool { return slices.Equal(w, voters) })
}

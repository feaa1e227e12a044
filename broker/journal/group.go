package journal

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/record"
)

// group is what the journal keeps in memory of one Raft group: its newest
// small state, to be rewritten before a file is reused, and where its entries
// lie. Entries themselves are not kept.
type group struct {
	id   record.PartitionID
	hard raftpb.HardState
	conf raftpb.ConfState
	mark Mark

	// The use numbers of the files that hold the newest of each; 0 is none.
	hardUse, confUse, markUse uint64

	// spans are the entries above mark.Index, ascending, without gap.
	spans []span
}

// span is a run of entries of one term in one use of a file; both ends are
// inclusive.
type span struct {
	use         uint64
	term        uint64
	first, last uint64
}

// last is the index of the newest entry, or of the mark.
func (g *group) last() uint64 {
	if n := len(g.spans); n > 0 {
		return g.spans[n-1].last
	}
	return uint64(g.mark.Index)
}

// term gives the term of the entry at index, where the journal holds it.
func (g *group) term(index uint64) (uint64, bool) {
	for i := range g.spans {
		if s := &g.spans[i]; s.first <= index && index <= s.last {
			return s.term, true
		}
	}
	return 0, false
}

// resets reports whether a mark drops the whole log: it lies past the end, or
// names another entry than the one that is there.
func (g *group) resets(m Mark) bool {
	if m.Index <= g.mark.Index {
		return false
	}
	term, in := g.term(uint64(m.Index))
	return !in || term != m.Term
}

// pinner counts how many spans lie in each use of a file.
type pinner interface {
	pin(use uint64, n int)
}

// setMark makes m the newest mark, standing in use.
func (g *group) setMark(m Mark, reset bool, use uint64, pins pinner) {
	g.mark.Index, g.mark.Term = m.Index, m.Term
	g.mark.Data = append(g.mark.Data[:0], m.Data...)
	g.markUse = use
	if reset {
		g.cutFrom(0, pins)
		return
	}
	gone := 0
	for i := range g.spans {
		s := &g.spans[i]
		if s.last <= uint64(m.Index) {
			pins.pin(s.use, -1)
			gone++
			continue
		}
		s.first = max(s.first, uint64(m.Index)+1)
	}
	g.spans = slices.Delete(g.spans, 0, gone)
}

// cutFrom drops every entry at or above index.
func (g *group) cutFrom(index uint64, pins pinner) {
	for n := len(g.spans); n > 0; n = len(g.spans) {
		s := &g.spans[n-1]
		if s.last < index {
			return
		}
		if s.first < index {
			s.last = index - 1
			return
		}
		pins.pin(s.use, -1)
		g.spans = g.spans[:n-1]
	}
}

// add makes entries, which stand in use, the end of the log.
func (g *group) add(entries []raftpb.Entry, use uint64, pins pinner) {
	g.cutFrom(entries[0].Index, pins)
	for i := range entries {
		e := &entries[i]
		if n := len(g.spans); n > 0 {
			if s := &g.spans[n-1]; s.use == use && s.term == e.Term && s.last+1 == e.Index {
				s.last = e.Index
				continue
			}
		}
		g.spans = append(g.spans, span{use: use, term: e.Term, first: e.Index, last: e.Index})
		pins.pin(use, 1)
	}
}

// standsIn reports whether some newest state of the group lies in use.
func (g *group) standsIn(use uint64) bool {
	return g.hardUse == use || g.confUse == use || g.markUse == use
}

// stateBytes is what rewriting the group's small state takes.
func (g *group) stateBytes() int64 {
	return frameBytes + markHeadBytes + int64(len(g.mark.Data)) + confSize(&g.conf) + hardBytes
}

// newGroup is a group that nothing is known of.
func newGroup(id record.PartitionID) *group { return &group{id: id} }

// sortedGroups gives groups that pass keep, by id: the order must not come
// from the map.
func sortedGroups(groups map[record.PartitionID]*group, keep func(*group) bool) []*group {
	var some []*group
	for _, g := range groups {
		if keep(g) {
			some = append(some, g)
		}
	}
	slices.SortFunc(some, func(a, b *group) int { return a.id.Compare(b.id) })
	return some
}

// apply moves the group to what a record in use says.
func (g *group) apply(f *frame, use uint64, pins pinner) {
	if f.mark != nil {
		g.setMark(*f.mark, f.reset, use, pins)
	}
	if f.conf != nil {
		g.conf, g.confUse = cloneConf(f.conf), use
	}
	if len(f.entries) > 0 {
		g.add(f.entries, use, pins)
	}
	if f.hard != nil {
		g.hard, g.hardUse = *f.hard, use
	}
}

func cloneConf(c *raftpb.ConfState) raftpb.ConfState {
	return raftpb.ConfState{
		Voters:         slices.Clone(c.Voters),
		Learners:       slices.Clone(c.Learners),
		VotersOutgoing: slices.Clone(c.VotersOutgoing),
		LearnersNext:   slices.Clone(c.LearnersNext),
		AutoLeave:      c.AutoLeave,
	}
}

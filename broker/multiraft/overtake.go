package multiraft

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/journal"
	"tidewater/internal/record"
)

// A journal without room refuses entries with data. What else waits must not
// wait behind them: marks and removals make room; without votes there is no
// leader, so nothing is committed and nothing can be released. So, of what
// waits,
//
//   - everything of groups that have no such entries before it goes on;
//   - of the others the newest hard state, ConfState and mark go, all in one
//     write, so that the commit index and the members beside it agree. The
//     entries they pass are not acknowledged: to a crash they never came. A
//     vote was given to a candidate whose log reaches them all the same;
//   - what follows from a hard state alone (votes, refusals) is said once it is
//     durable, what follows from entries when these are;
//   - entries that later ones of the group replace are dropped, with what would
//     acknowledge them.

// behind is what waits of a group whose entries found no room.
type behind struct {
	group  record.PartitionID
	newest journal.Write    // states, no entries
	writes []*journal.Write // that they stand in
	// removed: the removal of the group waits, too, and nothing passes that.
	removed bool
}

// overtake appends what may pass, and gives how many writes that took.
func (c *committer) overtake() (int, error) {
	n := 0
	blocked := map[record.PartitionID]*behind{}
	var order []*behind
	for i, b := range c.waiting {
		for k := b.next; k < len(b.Writes); k++ {
			w := &b.Writes[k]
			if empty(w) {
				continue
			}
			g := blocked[w.Group]
			if w.Remove || g == nil && own(w.Entries) == len(w.Entries) {
				passed, err := c.pass(*w)
				if err != nil {
					return n, err
				}
				if passed {
					n++
					if w.Remove {
						c.drop(i, k)
						delete(blocked, w.Group)
						order = slices.DeleteFunc(order, func(o *behind) bool { return o == g })
					}
					*w = journal.Write{Group: w.Group}
					continue
				}
			}
			if g == nil {
				g = &behind{group: w.Group, newest: journal.Write{Group: w.Group}}
				blocked[w.Group] = g
				order = append(order, g)
			}
			g.add(w)
		}
	}
	for _, g := range order {
		if empty(&g.newest) {
			continue
		}
		passed, err := c.pass(g.newest)
		if err != nil {
			return n, err
		}
		if passed {
			n++
			g.passed()
		}
	}
	return n, nil
}

// pass appends a write, unless there is no room for it either.
func (c *committer) pass(w journal.Write) (bool, error) {
	switch err := c.journal.Append(w); {
	case errors.Is(err, ErrFull):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("append to journal: %w", err)
	}
	c.count(&w)
	return true, nil
}

// add takes the states of a write that waits.
func (g *behind) add(w *journal.Write) {
	if g.removed = g.removed || w.Remove; g.removed {
		return
	}
	if w.HardState != nil {
		g.newest.HardState = w.HardState
	}
	if w.ConfState != nil {
		g.newest.ConfState = w.ConfState
	}
	if w.Mark != nil {
		g.newest.Mark = w.Mark
	}
	g.writes = append(g.writes, w)
}

// passed leaves the entries only of what waits.
func (g *behind) passed() {
	for _, w := range g.writes {
		w.HardState, w.ConfState, w.Mark = nil, nil, nil
	}
}

// own gives how many of the first entries hold none of clients' data: raft's
// empty ones and changes of members, for which a journal without room has some.
func own(entries []raftpb.Entry) int {
	i := slices.IndexFunc(entries, func(e raftpb.Entry) bool { return e.Type == raftpb.EntryNormal && len(e.Data) > 0 })
	if i < 0 {
		return len(entries)
	}
	return i
}

// drop empties the writes of a removed group that wait before its removal,
// which is write k of waiting batch i.
func (c *committer) drop(i, k int) {
	id := c.waiting[i].Writes[k].Group
	for j := 0; j <= i; j++ {
		b := c.waiting[j]
		for n := b.next; n < len(b.Writes) && (j < i || n < k); n++ {
			if b.Writes[n].Group == id {
				b.Writes[n] = journal.Write{Group: id}
			}
		}
	}
}

// replace takes out of what waits the entries that a new batch replaces: those
// from its first one on, or all before the mark of a snapshot.
func (c *committer) replace(b *Batch) {
	for k := range b.Writes {
		w := &b.Writes[k]
		switch {
		case slices.Contains(b.resets, k):
			c.cut(w.Group, 0)
		case len(w.Entries) > 0:
			c.cut(w.Group, w.Entries[0].Index)
		}
	}
}

// cut drops a group's waiting entries from an index on, and what would say
// that they are durable here.
func (c *committer) cut(id record.PartitionID, from uint64) {
	cut := false
	for _, b := range c.waiting {
		for k := b.next; k < len(b.Writes); k++ {
			w := &b.Writes[k]
			if n := len(w.Entries); w.Group == id && n > 0 && w.Entries[n-1].Index >= from {
				w.Entries = w.Entries[:max(from, w.Entries[0].Index)-w.Entries[0].Index]
				cut = true
			}
		}
		for i := range b.after {
			if a := &b.after[i]; cut && a.group.id == id {
				a.responses = slices.DeleteFunc(slices.Clone(a.responses), func(m raftpb.Message) bool {
					return m.Type == raftpb.MsgAppResp && !m.Reject && m.Index >= from
				})
			}
		}
	}
}

// said takes out of the batches that still wait what may be said now, a batch
// for each shard; everything that was appended is durable.
func (c *committer) said() []*Batch {
	var out []*Batch
	waits := map[record.PartitionID]bool{}    // with entries
	unstated := map[record.PartitionID]bool{} // with a state
	for _, b := range c.waiting {
		var now, later []afterFlush
		k := b.next
		for _, a := range b.after {
			for ; k < a.writes; k++ {
				if w := &b.Writes[k]; !empty(w) {
					waits[w.Group] = true
					unstated[w.Group] = unstated[w.Group] || w.HardState != nil
				}
			}
			switch {
			case !waits[a.group.id]:
				now = append(now, a)
				continue
			case !unstated[a.group.id]:
				votes, rest := split(a.responses)
				if len(votes) > 0 {
					now = append(now, afterFlush{group: a.group, responses: votes})
					a.responses = rest
				}
			}
			later = append(later, a)
		}
		for ; k < len(b.Writes); k++ {
			if w := &b.Writes[k]; !empty(w) {
				waits[w.Group] = true
				unstated[w.Group] = unstated[w.Group] || w.HardState != nil
			}
		}
		if len(now) > 0 {
			b.after = later
			out = append(out, &Batch{shard: b.shard, after: now, early: true})
		}
	}
	return out
}

// split gives the responses that follow from the hard state alone, and the
// others.
func split(responses []raftpb.Message) (votes, rest []raftpb.Message) {
	for _, m := range responses {
		switch m.Type {
		case raftpb.MsgVoteResp, raftpb.MsgPreVoteResp:
			votes = append(votes, m)
		default:
			if m.Type == raftpb.MsgAppResp && m.Reject {
				votes = append(votes, m)
			} else {
				rest = append(rest, m)
			}
		}
	}
	return votes, rest
}

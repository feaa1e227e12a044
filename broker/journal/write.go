package journal

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/record"
)

// Mark is a group's place up to which its log has left the journal: every
// entry with an index at or below Index is in synced segments, or came in a
// RaftSnapshot. Data is the state machine's own words about that place, at
// most MarkBytesMax.
type Mark struct {
	Index record.Index
	Term  uint64
	Data  []byte
}

// Write is what one group wants to have durable. Empty parts change nothing.
// After a crash either all of it counts or, if it was not flushed, maybe a
// prefix in the order mark and ConfState, entries, hard state.
type Write struct {
	Group record.PartitionID
	// Entries follow each other by index and replace everything in the log
	// from Entries[0].Index on.
	Entries   []raftpb.Entry
	HardState *raftpb.HardState
	ConfState *raftpb.ConfState
	// Mark never goes back. One past the log's end, or whose term differs
	// from that of an uncommitted entry there, drops the whole log before
	// Entries are added (a RaftSnapshot was installed).
	Mark *Mark
	// Remove forgets the group; the other parts must be empty.
	Remove bool
	// Sum extends a CRC-32C by a normal entry's data, as crc32.Update does: a
	// caller who knows a checksum of the data need not have it read. Nil reads
	// it. What it gives goes into the record, so that data which is not what the
	// caller took it for is found at the next start.
	Sum func(sum uint32, data []byte) uint32
}

// Group is what the journal knew of one group when it was opened.
type Group struct {
	ID        record.PartitionID
	HardState raftpb.HardState // Commit is at least Mark.Index
	ConfState raftpb.ConfState
	Mark      Mark
	Entries   []raftpb.Entry // all with an index above Mark.Index, without gap
}

// check refuses a write that no journal could replay, before any of it counts.
func (w *Write) check(g *group) error {
	if w.Remove {
		if len(w.Entries) > 0 || w.HardState != nil || w.ConfState != nil || w.Mark != nil {
			return fmt.Errorf("append to journal: group %s: a removal carries nothing else", w.Group)
		}
		return nil
	}
	if m := w.Mark; m != nil {
		if len(m.Data) > MarkBytesMax {
			return fmt.Errorf("append to journal: group %s: mark of %d bytes, at most %d", w.Group, len(m.Data), MarkBytesMax)
		}
		if m.Index < g.mark.Index {
			return fmt.Errorf("append to journal: group %s: mark %d goes back from %d", w.Group, m.Index, g.mark.Index)
		}
		if term, in := g.term(uint64(m.Index)); in && term != m.Term && uint64(m.Index) <= g.hard.Commit {
			return fmt.Errorf("append to journal: group %s: mark %d has term %d, the committed entry there %d",
				w.Group, m.Index, m.Term, term)
		}
	}
	return w.checkEntries(g)
}

func (w *Write) checkEntries(g *group) error {
	if len(w.Entries) == 0 {
		return nil
	}
	low, high := uint64(g.mark.Index), g.last()
	if w.Mark != nil {
		low = uint64(w.Mark.Index)
		if g.resets(*w.Mark) {
			high = low
		}
	}
	first := w.Entries[0].Index
	if first <= low || first > high+1 {
		return fmt.Errorf("append to journal: group %s: entries begin at %d, expected %d to %d", w.Group, first, low+1, high+1)
	}
	for i := range w.Entries {
		if w.Entries[i].Index != first+uint64(i) {
			return fmt.Errorf("append to journal: group %s: entry %d follows %d", w.Group, w.Entries[i].Index, first+uint64(i)-1)
		}
	}
	return nil
}

package journal

import (
	"errors"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/record"
)

// Carry writes a group's entries again, in the newest file, so that older ones
// can be used again: nobody may decide them for hours, and a file is free only
// when all its entries are in segments. Entries must be all that the journal
// holds of the group, the same index and term one by one; else, and where there
// is no room, or nothing to gain, nothing happens and carried is false.
//
// They go into one record, whatever their size: entries replace all that follow
// in the group's log, so that the first of two records would, after a crash
// between them, take away what the second one brings. Until the record is
// durable the older files stay, since what frees them is a later flush.
func (j *Journal) Carry(id record.PartitionID, entries []raftpb.Entry) (carried bool, err error) {
	if j.dead != nil {
		return false, j.dead
	}
	g := j.groups[id]
	if g == nil || !g.holds(entries) || g.spans[0].use == j.active().use {
		return false, nil
	}
	f := frame{kind: kindWrite, group: id, entries: entries}
	switch err := j.carry(&f); {
	case errors.Is(err, ErrFull):
		return false, nil
	case err != nil:
		return false, err
	}
	g.apply(&f, j.active().use, j)
	return true, nil
}

// carry puts the record into the buffer. A small one may take what is left for
// states: it is what makes room.
func (j *Journal) carry(f *frame) error {
	size := f.size()
	if size > j.entryBytesMax() {
		return ErrFull
	}
	c := classEntries
	if size <= j.active().size/8 {
		c = classState
	}
	return j.write(f, c)
}

// holds reports whether entries are all that the journal holds of the group.
func (g *group) holds(entries []raftpb.Entry) bool {
	if len(entries) == 0 || len(g.spans) == 0 || entries[0].Index != g.spans[0].first || entries[len(entries)-1].Index != g.last() {
		return false
	}
	s := 0
	for i := range entries {
		for entries[i].Index > g.spans[s].last {
			s++
		}
		if entries[i].Index != entries[0].Index+uint64(i) || entries[i].Term != g.spans[s].term {
			return false
		}
	}
	return true
}

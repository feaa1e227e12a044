package partition

import (
	"fmt"

	"tidewater/broker/journal"
	"tidewater/internal/record"
)

// JournalEnds gives the offsets at which a replica's log ends, as its journal
// has it before the partition is opened: of what is known to be committed, and
// of all.
func JournalEnds(g *journal.Group) (committed, end record.Offset, err error) {
	if len(g.Mark.Data) > 0 {
		at, _, err := decodeMark(g.Mark.Data)
		if err != nil {
			return 0, 0, fmt.Errorf("read mark of partition %s: %w", g.ID, err)
		}
		committed, end = at.next, at.next
	}
	for i := range g.Entries {
		e := &g.Entries[i]
		if isBatch(e.Data) && len(e.Data) >= record.HeaderBytes {
			end = record.Batch(e.Data).NextOffset()
		}
		if e.Index <= g.HardState.Commit {
			committed = end
		}
	}
	return committed, end, nil
}

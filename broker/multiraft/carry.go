package multiraft

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/journal"
	"tidewater/internal/record"
)

// Entries that nobody decides keep the journal file in which they stand: those
// of a group whose majority is away, for hours. The journal of a busy broker
// would fill behind them. So, when a group is named again and again that keeps
// too much of the journal and has nothing to release, all its entries are written
// again into the newest file, in one record. Raft is not told: they are the same entries, and
// they were durable before. Whoever writes them is free not to: the journal takes
// them only while they are exactly what it holds of the group.

// carried is what a group asks to have written again.
type carried struct {
	group   record.PartitionID
	entries []raftpb.Entry
}

// carrier is a journal that can write entries again.
type carrier interface {
	Carry(id record.PartitionID, entries []raftpb.Entry) (bool, error)
}

var _ carrier = (*journal.Journal)(nil)

// carryShare: what is undecided is carried while it is at most one part in so
// many of the journal. More would fill the journal with itself.
const carryShare = 4

// carryAfter is how often a group is named, with the same entries undecided,
// until they are carried: most are decided soon.
const carryAfter = 10

// undecided is what a group that was named had undecided, and how often.
type undecided struct {
	applied, last uint64
	times         int
}

// takePinning gives what pinning found since the last call, and asks again.
func (s *shared) takePinning() []record.PartitionID {
	ids := s.pinning.Swap(nil)
	s.askPinning.Store(true)
	if ids == nil {
		return nil
	}
	return *ids
}

// carriable reports whether undecided entries of groups that pin the journal
// are to be carried.
func (s *shared) carriable(groups int, undecided int64) bool {
	return groups > 0 && undecided <= s.live.Load()/carryShare
}

// carry asks for those of the groups that are this shard's, and at rest: what
// they could release is released, and nothing of them is on its way to the
// journal. The others are named again.
func (s *Shard) carry(ids []record.PartitionID) {
	for _, id := range ids {
		g := s.groups[id]
		if g == nil || g.stopped != nil || g.writesInFlight > 0 || uint64(g.mark) != g.applied || g.log.last() <= g.applied {
			continue
		}
		if g.stuck.applied != g.applied || g.stuck.last != g.log.last() {
			g.stuck = undecided{applied: g.applied, last: g.log.last()}
		}
		if g.stuck.times++; g.stuck.times < carryAfter {
			continue
		}
		g.stuck.times = 0
		b := s.current()
		b.carries = append(b.carries, carried{id, g.log.entries[g.applied-g.log.markIndex:]})
	}
}

// carry writes again what the batches that are done ask for, and those that
// wait for room, which it may make.
func (c *committer) carry(done []*Batch) (int, error) {
	n := 0
	for _, batches := range [...][]*Batch{done, c.waiting} {
		for _, b := range batches {
			for _, one := range b.carries {
				j, ok := c.journal.(carrier)
				if !ok {
					break
				}
				wrote, err := j.Carry(one.group, one.entries)
				if err != nil {
					return n, fmt.Errorf("carry entries of group %s: %w", one.group, err)
				}
				if wrote {
					n++
					c.stats.carried.Add(1)
				}
			}
			b.carries = nil
		}
	}
	return n, nil
}

package sim

import (
	"errors"
	"hash/crc32"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

// ledger is what the replicas of one group ever called committed, over all
// their lives: nobody may tell another story.
type ledger struct {
	c       *cluster
	id      record.PartitionID
	entries map[record.Index]entrySum
	leaders map[uint64]int32 // by term

	caching bool // producers are answered from memory
	memory  map[memKey]*memory
	told    map[record.Index]*memory // answered for, and nobody has called it committed
}

// entrySum stands for an entry.
type entrySum struct {
	term uint64
	sum  uint32
}

func newLedger(c *cluster, id record.PartitionID) *ledger {
	return &ledger{
		c: c, id: id, entries: map[record.Index]entrySum{}, leaders: map[uint64]int32{},
		caching: c.w.shape.WriteCaching && id.Topic == c.w.ids.topic, memory: map[memKey]*memory{}, told: map[record.Index]*memory{},
	}
}

// witness stands between a group and its state machine and holds what passes
// against the ledger.
type witness struct {
	multiraft.Snapshotter
	ledger    *ledger
	life      *life
	base      record.Index // below the first of log
	log       []entrySum
	committed record.Index
}

func newWitness(l *life, id record.PartitionID, m multiraft.StateMachine, mark record.Index) *witness {
	l.node.c.ledgers[id].restarts(l.node)
	return &witness{Snapshotter: m.(multiraft.Snapshotter), ledger: l.node.c.ledgers[id], life: l, base: mark, committed: mark}
}

// Append implements multiraft.StateMachine.
func (x *witness) Append(e multiraft.Entry) error {
	if err := x.Snapshotter.Append(e); err != nil {
		return err
	}
	x.log = append(x.log, entrySum{e.Term, crc32.ChecksumIEEE(e.Data)})
	x.ledger.took(x.life.node, e)
	return nil
}

// Truncate implements multiraft.StateMachine.
func (x *witness) Truncate(last record.Index) {
	x.life.w.stats.Truncations++
	x.Snapshotter.Truncate(last)
	x.log = x.log[:last-x.base]
}

// Commit implements multiraft.StateMachine: what this replica commits is what
// every other one did, or will.
func (x *witness) Commit(last record.Index) {
	x.Snapshotter.Commit(last)
	for i := x.committed + 1; i <= last; i++ {
		e := x.log[i-x.base-1]
		was, ok := x.ledger.entries[i]
		if ok && was != e {
			x.life.w.violate(agreed, "group %s entry %d: broker %d commits (term %d, %08x), (term %d, %08x) was committed",
				x.ledger.id, i, x.life.node.id, e.term, e.sum, was.term, was.sum)
		}
		x.ledger.entries[i] = e
		x.ledger.settled(x.life, i, e)
	}
	x.committed = max(x.committed, last)
	x.life.node.told[x.ledger.id] = max(x.life.node.told[x.ledger.id], last)
}

// Install implements multiraft.Snapshotter: the group is stepped when it is done.
func (x *witness) Install(s multiraft.Snapshot, done func(error)) {
	w := x.life.w
	w.say("broker %d copies %s up to entry %d from broker %d", x.life.node.id, x.ledger.id, s.Index, s.Node)
	x.Snapshotter.Install(s, func(err error) {
		if err != nil {
			w.say("broker %d copied %s: %v", x.life.node.id, x.ledger.id, err)
		}
		done(err)
		x.life.stepSoon()
	})
}

// Restore implements multiraft.Snapshotter: what is skipped was committed.
func (x *witness) Restore(s multiraft.Snapshot) []byte {
	mark := x.Snapshotter.Restore(s)
	w := x.life.w
	w.stats.Copies++
	if was, ok := x.ledger.entries[s.Index]; !ok || was.term != s.Term {
		w.violate(agreed, "group %s: broker %d begins above entry %d of term %d, committed is %+v", x.ledger.id, x.life.node.id, s.Index, s.Term, was)
	}
	x.log, x.base, x.committed = nil, s.Index, s.Index
	return mark
}

// Lead implements multiraft.StateMachine: one leader per term.
func (x *witness) Lead(l multiraft.Leadership) {
	x.Snapshotter.Lead(l)
	if !l.Leading {
		return
	}
	w := x.life.w
	was, ok := x.ledger.leaders[l.Term]
	if ok && was != x.life.node.id {
		w.violate(oneLeader, "group %s term %d is led by brokers %d and %d", x.ledger.id, l.Term, was, x.life.node.id)
	}
	if !ok {
		w.stats.Elections++
		w.trace.note("leads", x.ledger.id.String())
	}
	x.ledger.leaders[l.Term] = x.life.node.id
}

// Stopped implements multiraft.StateMachine: a replica stops when its disk has
// failed or its process ends, for nothing else.
func (x *witness) Stopped(err error) {
	x.Snapshotter.Stopped(err)
	if !errors.Is(err, multiraft.ErrStopped) && !errors.Is(err, journal.ErrDead) {
		x.life.w.violate(sane, "group %s: replica of broker %d stopped: %v", x.ledger.id, x.life.node.id, err)
	}
}

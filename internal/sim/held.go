package sim

import (
	"hash/crc32"
	"math/bits"

	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

// With write.caching a producer is answered when the memory of a majority has
// its batch. The ledger of such a group knows which brokers have an entry, in
// memory or on disk, and whether an answer that was given may be lost: when a
// majority had the entry at the answer, and so many brokers came back without it
// since that a majority is without it. In no other case may another entry be
// committed in its place. What was lost is taken out of what is known to be
// true; its producer may find that it lost its place.

// memKey names an entry in some broker's log.
type memKey struct {
	index record.Index
	sum   entrySum
}

// memory is who has an entry.
type memory struct {
	sum       entrySum
	had, has  uint16 // brokers, by bit: ever, and unless they came back without it
	told      bool   // a producer may have been answered for it
	made      bool   // a majority had it then
	doubtful  bool   // a majority was without it since
	batch     bool
	base, end record.Offset
	crc       uint32
	pid       int64
}

func bit(n *node) uint16 { return 1 << n.id }

// took notes that a broker has an entry in its log.
func (g *ledger) took(n *node, e multiraft.Entry) {
	if !g.caching {
		return
	}
	sum := entrySum{e.Term, crc32.ChecksumIEEE(e.Data)}
	key := memKey{e.Index, sum}
	m := g.memory[key]
	if m == nil {
		m = &memory{sum: sum}
		if b := record.Batch(e.Data); len(b) > 0 && b[0]&0x80 == 0 {
			m.batch, m.base, m.end, m.crc, m.pid = true, b.BaseOffset(), b.NextOffset(), b.CRC(), b.ProducerID()
		}
		g.memory[key] = m
	}
	m.had |= bit(n)
	m.has |= bit(n)
}

// restarts notes that a broker's memory is gone; what it reads back it has.
func (g *ledger) restarts(n *node) {
	for _, m := range g.memory {
		m.has &^= bit(n)
	}
}

// restarted judges what was answered from memory when a broker is back.
func (g *ledger) restarted() {
	brokers := len(g.c.nodes)
	for _, m := range g.told {
		m.doubtful = m.doubtful || m.made && bits.OnesCount16(m.has) <= brokers-(brokers/2+1)
	}
}

// Held implements multiraft.Holder.
func (x *witness) Held(last record.Index) {
	g := x.ledger
	for i := x.committed + 1; i <= last; i++ {
		if _, ok := g.entries[i]; ok || g.told[i] != nil {
			continue
		}
		sum := x.log[i-x.base-1]
		m := g.memory[memKey{i, sum}]
		m.told = true
		m.made = bits.OnesCount16(m.had) > len(g.c.nodes)/2
		g.told[i] = m
		x.life.w.stats.Held++
	}
	g.restarted()
	x.Snapshotter.(multiraft.Holder).Held(last)
}

// settled notes that an entry is committed: what was answered from memory for
// another one in its place, or behind it in an older term, is lost.
func (g *ledger) settled(l *life, index record.Index, e entrySum) {
	delete(g.memory, memKey{index, e})
	m := g.told[index]
	if m == nil {
		return
	}
	delete(g.told, index)
	if m.sum == e {
		return
	}
	g.lose(l, index, m)
	for i := index + 1; ; i++ {
		m := g.told[i]
		if m == nil || m.sum.term >= e.term {
			return
		}
		delete(g.told, i)
		g.lose(l, i, m)
	}
}

// lose takes an entry out of the truth.
func (g *ledger) lose(l *life, index record.Index, m *memory) {
	w := l.w
	if !m.doubtful {
		w.violateUnlessBlind(acked, "group %s entry %d of term %d was answered from memory and is lost, a majority of the brokers never lost it", g.id, index, m.sum.term)
		return
	}
	w.stats.HeldLost++
	if m.batch && g.c == w.active && !g.c.zombie {
		w.say("%s entry %d, offsets [%d, %d), was in memory only and is lost", g.id, index, m.base, m.end)
		w.parts[g.id.Partition].forget(m)
	}
}

// lostBatch names a batch that was answered from memory and lost.
type lostBatch struct {
	base record.Offset
	crc  uint32
}

// forget takes a batch out of what is known.
func (t *truth) forget(m *memory) {
	t.losses++
	t.gone[lostBatch{m.base, m.crc}] = true
	t.lostPIDs[m.pid] = true
	t.ackedEnd = min(t.ackedEnd, m.base)
	if f := t.facts[m.base]; f != nil && f.crc == m.crc {
		delete(t.facts, m.base)
	}
}

// cuts counts how often the truth about a partition was cut back.
func (t *truth) cuts(w *world) int { return w.restores + t.losses }

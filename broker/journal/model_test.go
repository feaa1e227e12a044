package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// model is what the journal must know: the truth the tests compare with.
type model map[record.PartitionID]Group

func (m model) clone() model {
	out := model{}
	for id, g := range m {
		g.Entries = slices.Clone(g.Entries)
		out[id] = g
	}
	return out
}

// apply does to the truth what a write does to the journal.
func (m model) apply(w Write) {
	if w.Remove {
		delete(m, w.Group)
		return
	}
	g := m[w.Group]
	g.ID = w.Group
	if w.Mark != nil {
		m.mark(&g, *w.Mark)
	}
	if w.ConfState != nil {
		g.ConfState = cloneConf(w.ConfState)
	}
	if n := len(w.Entries); n > 0 {
		for len(g.Entries) > 0 && g.Entries[len(g.Entries)-1].Index >= w.Entries[0].Index {
			g.Entries = g.Entries[:len(g.Entries)-1]
		}
		g.Entries = append(slices.Clip(g.Entries), w.Entries...)
	}
	if w.HardState != nil {
		g.HardState = *w.HardState
	}
	m[w.Group] = g
}

func (m model) mark(g *Group, mark Mark) {
	keep := false
	for _, e := range g.Entries {
		keep = keep || e.Index == uint64(mark.Index) && e.Term == mark.Term
	}
	if !keep && mark.Index > g.Mark.Index {
		g.Entries = nil
	}
	for len(g.Entries) > 0 && g.Entries[0].Index <= uint64(mark.Index) {
		g.Entries = g.Entries[1:]
	}
	g.Mark = mark
}

// equal says how got differs from the truth; "" is not at all.
func (m model) equal(got []Group) string {
	if len(got) != len(m) {
		return fmt.Sprintf("%d groups, expected %d", len(got), len(m))
	}
	for _, g := range got {
		want, there := m[g.ID]
		if !there {
			return fmt.Sprintf("group %s was invented", g.ID)
		}
		hard := want.HardState
		hard.Commit = max(hard.Commit, uint64(want.Mark.Index))
		if g.HardState != hard {
			return fmt.Sprintf("group %s: hard state %+v, expected %+v", g.ID, g.HardState, hard)
		}
		if fmt.Sprint(g.ConfState) != fmt.Sprint(want.ConfState) {
			return fmt.Sprintf("group %s: ConfState %v, expected %v", g.ID, g.ConfState, want.ConfState)
		}
		if g.Mark.Index != want.Mark.Index || g.Mark.Term != want.Mark.Term || !bytes.Equal(g.Mark.Data, want.Mark.Data) {
			return fmt.Sprintf("group %s: mark %v, expected %v", g.ID, g.Mark, want.Mark)
		}
		if !slices.EqualFunc(g.Entries, want.Entries, sameEntry) {
			return fmt.Sprintf("group %s: entries %s, expected %s", g.ID, run(g.Entries), run(want.Entries))
		}
	}
	return ""
}

func sameEntry(a, b raftpb.Entry) bool {
	return a.Index == b.Index && a.Term == b.Term && a.Type == b.Type && bytes.Equal(a.Data, b.Data)
}

func run(entries []raftpb.Entry) string {
	if len(entries) == 0 {
		return "none"
	}
	return fmt.Sprintf("%d (term %d) to %d (term %d)", entries[0].Index, entries[0].Term,
		entries[len(entries)-1].Index, entries[len(entries)-1].Term)
}

// driver makes random writes as a Raft group could: entries above the mark,
// overwritten suffixes in a higher term, marks at or below the commit index,
// RaftSnapshots past the end, removals.
type driver struct {
	rng   *rand.Rand
	truth model
	// bytesMax bounds an entry's data.
	bytesMax int
}

func testID(n int) record.PartitionID {
	return record.PartitionID{Topic: record.TopicID{0: byte(n >> 8), 1: byte(n)}, Partition: int32(n % 7)}
}

func (d *driver) data(n int) []byte {
	b := bytes.Repeat([]byte{byte(1 + d.rng.IntN(255))}, n)
	if n >= 8 {
		binary.LittleEndian.PutUint64(b, d.rng.Uint64())
	}
	return b
}

func (d *driver) write(groups int) Write {
	id := testID(d.rng.IntN(groups))
	g := d.truth[id]
	w := Write{Group: id}
	if d.rng.IntN(100) == 0 {
		return Write{Group: id, Remove: true}
	}
	hard := g.HardState
	first, last := uint64(g.Mark.Index)+1, uint64(g.Mark.Index)+uint64(len(g.Entries))
	if hard.Term == 0 || d.rng.IntN(8) == 0 {
		hard.Term, hard.Vote = hard.Term+1, uint64(1+d.rng.IntN(3))
	}
	if d.rng.IntN(10) == 0 {
		w.ConfState = &raftpb.ConfState{Voters: []uint64{1, 2, uint64(d.rng.IntN(9))}, AutoLeave: d.rng.IntN(2) == 0}
	}
	switch d.rng.IntN(12) {
	case 0: // a RaftSnapshot past the end
		w.Mark = &Mark{Index: record.Index(last + uint64(1+d.rng.IntN(5))), Term: hard.Term, Data: d.data(d.rng.IntN(50))}
		last = uint64(w.Mark.Index)
		hard.Commit = last
	case 1, 2, 3: // entries went to segments
		if hard.Commit >= first {
			index := first + d.rng.Uint64N(hard.Commit-first+1)
			w.Mark = &Mark{Index: record.Index(index), Term: g.Entries[index-first].Term, Data: d.data(d.rng.IntN(300))}
		}
	}
	if d.rng.IntN(4) > 0 {
		from := last + 1
		if last > hard.Commit && d.rng.IntN(4) == 0 && w.Mark == nil {
			from = hard.Commit + 1 + d.rng.Uint64N(last-hard.Commit)
			hard.Term++
		}
		for i := range uint64(1 + d.rng.IntN(4)) {
			w.Entries = append(w.Entries, raftpb.Entry{Index: from + i, Term: hard.Term,
				Type: raftpb.EntryType(d.rng.IntN(3)), Data: d.data(d.rng.IntN(d.bytesMax))})
			last = from + i
		}
	}
	if last > hard.Commit && d.rng.IntN(2) == 0 {
		hard.Commit += d.rng.Uint64N(last - hard.Commit + 1)
	}
	if hard != g.HardState {
		w.HardState = &hard
	}
	return w
}

// quiet drops log lines: crashes make many.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// small is a configuration whose files are so small that everything happens
// often.
func small(fs disk.FS) Config {
	return Config{FS: fs, Dir: "journal", ClusterID: [16]byte{1, 2, 3}, FileBytes: 64 << 10, FirstBytes: 16 << 10,
		LiveBytesMax: 1 << 20, Log: quiet(), Salt: func() uint64 { return 0x5a17 }}
}

func mustOpen(t testing.TB, cfg Config) (*Journal, []Group) {
	t.Helper()
	j, groups, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return j, groups
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

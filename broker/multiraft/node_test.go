package multiraft

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/journal"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// A group of one leads without a tick, commits what it proposes, and after a
// power cut has every committed entry and a higher term.
func TestGroupOfOneSurvivesPowerCut(t *testing.T) {
	fs := disk.NewMem(0)
	rng := rand.New(rand.NewPCG(1, 1))
	term := uint64(0)
	var want []string
	for round := range 5 {
		n := newNode(t, fs, nil)
		m := startOne(t, n, 7)
		if m.lead.Leading {
			t.Fatal("leads before its vote was flushed")
		}
		rest(n)
		if !m.lead.Ready || m.lead.Leader != 1 || m.lead.Term <= term {
			t.Fatalf("round %d: leadership is %+v after term %d", round, m.lead, term)
		}
		term = m.lead.Term
		for i := range 10 {
			data := fmt.Sprintf("%d/%d", round, i)
			if _, err := propose(t, n, 7, data); err != nil {
				t.Fatal(err)
			}
			want = append(want, data)
		}
		rest(n)
		if m.committed != m.last() {
			t.Fatalf("committed %d of %d", m.committed, m.last())
		}
		var got []string
		for _, e := range m.log {
			if e.Data != nil {
				got = append(got, string(e.Data))
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("log holds %v, want %v", got, want)
		}
		m.check(t)
		fs.Crash(rng)
	}
}

// flushJournal counts flushes and can look at the world before each.
type flushJournal struct {
	Journal
	before func()
}

func (j flushJournal) Flush() error {
	j.before()
	return j.Journal.Flush()
}

// Nothing is committed before the flush that makes it durable has returned;
// with the planted fault it is, and this test sees it.
func TestCommitComesAfterFlush(t *testing.T) {
	for _, fault := range []bool{false, true} {
		m := &tape{}
		early := false
		n := newNode(t, disk.NewMem(0), func(c *Config) {
			c.Fault.AckBeforeFlush = fault
			c.Journal = flushJournal{c.Journal, func() { early = early || m.last() > 0 && m.committed == m.last() }}
		})
		if err := n.Start(GroupConfig{ID: groupID(1), Replica: 1, StateMachine: m}); err != nil {
			t.Fatal(err)
		}
		rest(n)
		if _, err := propose(t, n, 1, "a"); err != nil {
			t.Fatal(err)
		}
		rest(n)
		if early != fault {
			t.Errorf("fault %v: committed before the flush: %v", fault, early)
		}
	}
}

// Release drops entries from memory and journal; after a restart the log
// begins above the mark, whose words come back.
func TestReleaseLetsGo(t *testing.T) {
	fs := disk.NewMem(0)
	n := newNode(t, fs, nil)
	m := startOne(t, n, 1)
	rest(n)
	for i := range 8 {
		if _, err := propose(t, n, 1, fmt.Sprint("entry ", i)); err != nil {
			t.Fatal(err)
		}
	}
	rest(n)
	mark := journal.Mark{Index: 5, Term: m.at(5).Term, Data: []byte("at five")}
	_ = n.Do(groupID(1), func(g *Group) {
		if got := g.Entries(2, 6, 1<<20); len(got) != 4 || got[0].Index != 2 || string(got[0].Data) != "entry 0" {
			t.Errorf("entries 2 to 5: %v", got)
		}
		if got := g.Entries(2, 6, 1); len(got) != 1 {
			t.Errorf("one byte of entries: %v", got)
		}
		g.Release(mark)
		if got := g.Entries(5, 9, 1<<20); got != nil {
			t.Errorf("entry 5 is still there: %v", got)
		}
		if got := g.Entries(6, 100, 1<<20); len(got) != 4 {
			t.Errorf("entries from 6 on: %v", got)
		}
	})
	rest(n)
	fs.Crash(rand.New(rand.NewPCG(1, 2)))
	n = newNode(t, fs, nil)
	known, ok := n.Recovered(groupID(1))
	if !ok || known.Mark.Index != 5 || string(known.Mark.Data) != "at five" {
		t.Fatalf("recovered %+v", known)
	}
	m = startOne(t, n, 1)
	rest(n)
	if m.base != 5 || string(m.at(9).Data) != "entry 7" || !m.lead.Ready {
		t.Fatalf("after restart: base %d, %d entries, %+v", m.base, len(m.log), m.lead)
	}
	m.check(t)
}

// A restored group begins at its mark, above the floor term.
func TestRestoredGroupBeginsAboveFloor(t *testing.T) {
	fs := disk.NewMem(0)
	n := newNode(t, fs, nil)
	m := &tape{base: 900, committed: 900}
	gc := GroupConfig{ID: groupID(3), Replica: 4, StateMachine: m, FloorTerm: 77, Mark: &journal.Mark{Index: 900, Term: 70, Data: []byte("x")}}
	if err := n.Start(gc); err != nil {
		t.Fatal(err)
	}
	rest(n)
	if m.lead.Term <= 77 || !m.lead.Ready || m.last() != 901 {
		t.Fatalf("leadership %+v, last %d", m.lead, m.last())
	}
	m.check(t)
	fs.Crash(rand.New(rand.NewPCG(1, 3)))
	n = newNode(t, fs, nil)
	if known, _ := n.Recovered(groupID(3)); known.Mark.Index != 900 || known.HardState.Term <= 77 {
		t.Fatalf("recovered %+v", known)
	}
	if err := n.Start(GroupConfig{ID: groupID(4), Replica: 1, StateMachine: &tape{}, FloorTerm: TermEnd - 1}); !errors.Is(err, errTerm) {
		t.Fatalf("floor at the end of terms: %v", err)
	}
}

// Ten thousand groups lead after few flushes, and idle need no clock.
func TestElectionsShareFlushes(t *testing.T) {
	n := newNode(t, disk.NewMem(0), nil)
	const groups = 10_000
	tapes := make([]*tape, groups)
	for i := range tapes {
		tapes[i] = startOne(t, n, i)
	}
	rest(n)
	for i, m := range tapes {
		if !m.lead.Ready {
			t.Fatalf("group %d does not lead: %+v", i, m.lead)
		}
	}
	if s := n.Stats(); s.Flushes > 4 || s.Ticking != 0 || s.Groups != groups {
		t.Errorf("stats %+v: want at most 4 flushes and no clock", s)
	}
	n.Tick()
	n.Step()
	if n.Step() {
		t.Error("idle groups had something to do")
	}
}

// A machine that refuses an entry stops its replica; the entry never reaches
// the journal, and later tasks see the reason.
func TestRefusedEntryStopsReplica(t *testing.T) {
	fs := disk.NewMem(0)
	n := newNode(t, fs, nil)
	m := startOne(t, n, 1)
	rest(n)
	m.refuse = func(e Entry) error { return errRefused }
	if _, err := propose(t, n, 1, "poison"); !errors.Is(err, ErrStopped) || !errors.Is(err, errRefused) {
		t.Fatalf("propose: %v", err)
	}
	rest(n)
	if !errors.Is(m.stopped, errRefused) {
		t.Fatalf("stopped with %v", m.stopped)
	}
	if err := n.Do(groupID(1), func(*Group) {}); !errors.Is(err, ErrStopped) {
		t.Fatalf("do: %v", err)
	}
	m.check(t)
	n = newNode(t, fs.CrashClone(rand.New(rand.NewPCG(1, 4))), nil)
	if known, _ := n.Recovered(groupID(1)); len(known.Entries) != 1 {
		t.Fatalf("journal holds %v", known.Entries)
	}
}

// A failed flush stops every replica for good: nothing that waited for it is
// told, tasks see stopped groups, and nothing can be started.
func TestFailedFlushStopsAll(t *testing.T) {
	faulty := disk.NewFault(disk.NewMem(0))
	n := newNode(t, faulty, nil)
	a, b := startOne(t, n, 1), startOne(t, n, 2)
	rest(n)
	faulty.Add(disk.Rule{When: func(c disk.Call) bool { return c.Op == disk.OpSync }, Err: errors.New("medium error")})
	committed := a.committed
	if _, err := propose(t, n, 1, "lost"); err != nil {
		t.Fatal(err)
	}
	rest(n)
	for _, m := range []*tape{a, b} {
		if !errors.Is(m.stopped, journal.ErrDead) || m.committed > committed {
			t.Errorf("stopped with %v, committed %d", m.stopped, m.committed)
		}
		m.check(t)
	}
	if err := n.Do(groupID(2), func(*Group) {}); !errors.Is(err, ErrStopped) {
		t.Errorf("do: %v", err)
	}
	if err := n.Start(GroupConfig{ID: groupID(9), Replica: 1, StateMachine: &tape{}}); !errors.Is(err, ErrStopped) {
		t.Errorf("start: %v", err)
	}
}

// A full disk refuses proposals with ErrFull and keeps what raft holds; when
// marks or an operator make room, all of it commits.
func TestFullJournalRecovers(t *testing.T) {
	fs := disk.NewMem(0)
	n := newNode(t, fs, nil)
	m, other := startOne(t, n, 1), startOne(t, n, 2)
	rest(n)
	free, _ := fs.Free()
	big := strings.Repeat("x", 100<<10)
	if _, err := propose(t, n, 1, big); err != nil {
		t.Fatal(err)
	}
	rest(n)
	after, _ := fs.Free()
	fs.SetCapacity(max(free-after, 1)) // less than is used
	var taken int
	var err error
	for range 100 {
		if _, err = propose(t, n, 1, big); err != nil {
			break
		}
		taken++
		n.Step()
	}
	if !errors.Is(err, ErrFull) || !n.Stats().Full {
		t.Fatalf("after %d proposals: %v", taken, err)
	}
	if m.stopped != nil || other.stopped != nil {
		t.Fatalf("stopped: %v, %v", m.stopped, other.stopped)
	}
	if m.committed == m.last() {
		t.Fatal("nothing waits for room")
	}
	fs.SetCapacity(1 << 30)
	rest(n)
	if m.committed != m.last() || n.Stats().Full {
		t.Fatalf("committed %d of %d after room returned", m.committed, m.last())
	}
	if _, err := propose(t, n, 2, "again"); err != nil {
		t.Fatal(err)
	}
	m.check(t)
	other.check(t)
}

// At LiveBytesMax a mark passes what waits and makes the room it needs.
func TestMarkMakesRoomInFullJournal(t *testing.T) {
	fs := disk.NewMem(0)
	j, _, err := journal.Open(journal.Config{FS: fs, Dir: "journal", FileBytes: 256 << 10, FirstBytes: 256 << 10, LiveBytesMax: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	n, err := NewNode(Config{Node: 1, Journal: j})
	if err != nil {
		t.Fatal(err)
	}
	m := startOne(t, n, 1)
	rest(n)
	big := strings.Repeat("x", 100<<10)
	for range 100 {
		if _, err = propose(t, n, 1, big); err != nil {
			break
		}
		rest(n)
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("journal was never full: %v", err)
	}
	_ = n.Do(groupID(1), func(g *Group) {
		g.Release(journal.Mark{Index: g.Committed(), Term: m.at(g.Committed()).Term})
	})
	rest(n)
	if m.committed != m.last() || n.Stats().Full {
		t.Fatalf("committed %d of %d after the mark", m.committed, m.last())
	}
	m.check(t)
}

// A removal passes a full journal and takes the group's waiting writes along.
func TestRemovePassesFullJournal(t *testing.T) {
	fs := disk.NewMem(0)
	n := newNode(t, fs, nil)
	startOne(t, n, 1)
	m := startOne(t, n, 2)
	rest(n)
	fs.SetCapacity(1)
	for {
		if _, err := propose(t, n, 1, strings.Repeat("x", 100<<10)); err != nil {
			break
		}
	}
	if err := n.Remove(groupID(1)); err != nil {
		t.Fatal(err)
	}
	rest(n)
	fs.SetCapacity(1 << 30)
	rest(n)
	if _, err := propose(t, n, 2, "on"); err != nil {
		t.Fatal(err)
	}
	rest(n)
	m.check(t)
	fs.Crash(rand.New(rand.NewPCG(1, 5)))
	_, groups := openJournal(t, fs)
	if len(groups) != 1 || groups[0].ID != groupID(2) {
		t.Fatalf("recovered %d groups: %v", len(groups), groups)
	}
}

// The bounds on bytes refuse with ErrBusy, and the first proposal always passes.
func TestBoundsRefuse(t *testing.T) {
	n := newNode(t, disk.NewMem(0), func(c *Config) {
		c.Shards, c.GroupBytesMax, c.UncommittedBytesMax, c.HeldBytesMax, c.EntryBytesMax = 1, 100, 150, 1000, 400
	})
	startOne(t, n, 1)
	startOne(t, n, 2)
	rest(n)
	_ = n.Do(groupID(1), func(g *Group) {
		for _, try := range []struct {
			bytes int
			want  error
		}{{401, ErrTooLarge}, {400, nil}, {1, ErrBusy}} {
			if _, err := g.Propose(make([]byte, try.bytes)); !errors.Is(err, try.want) {
				t.Errorf("propose %d bytes: %v, want %v", try.bytes, err, try.want)
			}
		}
	})
	_ = n.Do(groupID(2), func(g *Group) {
		if _, err := g.Propose(make([]byte, 10)); !errors.Is(err, ErrBusy) {
			t.Errorf("all groups' bound: %v", err)
		}
	})
	rest(n)
	for _, want := range []error{nil, ErrBusy} {
		if _, err := propose(t, n, 2, strings.Repeat("x", 350)); !errors.Is(err, want) {
			t.Errorf("bytes in memory: %v, want %v", err, want)
		}
		rest(n)
	}
}

// Bytes that raft never had are refused at Start.
func TestStartRefusesShortLog(t *testing.T) {
	n := newNode(t, disk.NewMem(0), func(c *Config) {
		c.Recovered = []journal.Group{{ID: groupID(1), HardState: raftpb.HardState{Term: 3, Commit: 9}, ConfState: raftpb.ConfState{Voters: []uint64{1}}}}
	})
	err := n.Start(GroupConfig{ID: groupID(1), Replica: 1, StateMachine: &tape{}})
	if !errors.Is(err, journal.ErrCorrupt) {
		t.Fatalf("start: %v", err)
	}
}

// shardOf spreads partitions of one topic, and never goes out of range.
func TestShardsAreEven(t *testing.T) {
	var count [4]int
	for i := range 1000 {
		count[shardOf(record.PartitionID{Partition: int32(i)}, 4)]++
	}
	for s, n := range count {
		if n < 200 || n > 300 {
			t.Errorf("shard %d has %d of 1,000", s, n)
		}
	}
}

// meddler proposes from inside its calls, as no machine should.
type meddler struct {
	tape
	group *Group
	got   []error
}

func (m *meddler) Commit(last record.Index) {
	m.tape.Commit(last)
	if m.group != nil {
		_, err := m.group.Propose([]byte("from inside"))
		m.got = append(m.got, err)
	}
}

// A proposal from inside a state machine call is refused; one behind a change
// of membership in the same task gets the index after it.
func TestProposeInOddPlaces(t *testing.T) {
	n := newNode(t, disk.NewMem(0), nil)
	m := &meddler{}
	if err := n.Start(GroupConfig{ID: groupID(1), Replica: 1, StateMachine: m}); err != nil {
		t.Fatal(err)
	}
	rest(n)
	_ = n.Do(groupID(1), func(g *Group) {
		m.group = g
		if _, err := g.ProposeConfChangeV2(changes(raftpb.ConfChangeAddLearnerNode, 9)); err != nil {
			t.Error(err)
		}
		if i, err := g.Propose([]byte("after")); err != nil || i != 3 {
			t.Errorf("index %d, %v; want 3", i, err)
		}
	})
	rest(n)
	if string(m.at(3).Data) != "after" || m.committed != 3 || len(m.got) == 0 {
		t.Errorf("entry 3 is %+v, committed %d", m.at(3), m.committed)
	}
	for _, err := range m.got {
		if !errors.Is(err, ErrDropped) {
			t.Errorf("from inside: %v", err)
		}
	}
	if got := n.Stats(); got.Ticking != 1 {
		t.Errorf("a group with a learner has no clock: %+v", got)
	}
	m.check(t)
}

// What the journal holds and nobody starts is named, so that it can go.
func TestUnstartedGroupsAreNamed(t *testing.T) {
	fs := disk.NewMem(0)
	n := newNode(t, fs, nil)
	startOne(t, n, 1)
	startOne(t, n, 2)
	rest(n)
	n = newNode(t, fs, nil)
	startOne(t, n, 2)
	if got := n.Unstarted(); len(got) != 1 || got[0] != groupID(1) {
		t.Fatalf("unstarted %v", got)
	}
	if err := n.Remove(groupID(1)); err != nil {
		t.Fatal(err)
	}
	rest(n)
	n = newNode(t, fs, nil)
	if got := n.Unstarted(); len(got) != 1 || got[0] != groupID(2) {
		t.Fatalf("after the removal: %v", got)
	}
}

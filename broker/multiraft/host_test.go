package multiraft

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/journal"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// shared tapes: a Host calls machines from its loops, tests look from theirs.
type safeTape struct {
	mu sync.Mutex
	tape
	ready   chan struct{}
	stop    chan struct{}
	commits chan record.Index
}

func newSafeTape() *safeTape {
	return &safeTape{ready: make(chan struct{}), stop: make(chan struct{}), commits: make(chan record.Index, 1<<16)}
}

func (t *safeTape) Append(e Entry) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tape.Append(e)
}

func (t *safeTape) Truncate(last record.Index) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tape.Truncate(last)
}

func (t *safeTape) Commit(last record.Index) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tape.Commit(last)
	t.commits <- last
}

func (t *safeTape) Lead(l Leadership) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tape.Lead(l)
	if l.Ready {
		close(t.ready)
	}
}

func (t *safeTape) Stopped(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tape.Stopped(err)
	close(t.stop)
}

func openHost(tb testing.TB, fs disk.FS, change func(*Config)) *Host {
	tb.Helper()
	j, groups, err := journal.Open(journal.Config{FS: fs, Dir: "journal"})
	if err != nil {
		tb.Fatal(err)
	}
	cfg := Config{Node: 1, Shards: 2, Journal: j, Recovered: groups}
	if change != nil {
		change(&cfg)
	}
	h, err := Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.Close(); err != nil {
			tb.Error(err)
		}
		if err := j.Close(); err != nil && !errors.Is(err, journal.ErrDead) {
			tb.Error(err)
		}
	})
	return h
}

// Many callers on many groups: every proposal that was taken is committed, in
// the caller's order, and Close tells each machine once.
func TestHostCommitsForManyCallers(t *testing.T) {
	fs := disk.NewMem(0)
	h := openHost(t, fs, nil)
	const groups, each = 20, 50
	tapes := make([]*safeTape, groups)
	var wg sync.WaitGroup
	for i := range tapes {
		tapes[i] = newSafeTape()
		if err := h.Start(GroupConfig{ID: groupID(i), Replica: 1, StateMachine: tapes[i]}); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { callHost(t, h, i, tapes[i], each) })
	}
	wg.Wait()
	if s := h.Stats(); s.Proposals != groups*each || s.Flushes == 0 || s.Flushes > groups*each {
		t.Errorf("stats %+v", s)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for i, m := range tapes {
		<-m.stop
		if !errors.Is(m.stopped, ErrStopped) || m.committed != each+1 {
			t.Errorf("group %d: stopped with %v, committed %d", i, m.stopped, m.committed)
		}
		for k := range each {
			if want := fmt.Sprint(i, "/", k); string(m.at(record.Index(k+2)).Data) != want {
				t.Fatalf("group %d entry %d is %q, want %q", i, k+2, m.at(record.Index(k+2)).Data, want)
			}
		}
		m.check(t)
	}
	if err := h.Do(groupID(0), func(*Group) {}); !errors.Is(err, ErrStopped) {
		t.Errorf("do after close: %v", err)
	}
	if err := h.Start(GroupConfig{ID: groupID(99), Replica: 1, StateMachine: newSafeTape()}); !errors.Is(err, ErrStopped) {
		t.Errorf("start after close: %v", err)
	}
}

func callHost(t *testing.T, h *Host, group int, m *safeTape, each int) {
	<-m.ready
	for k := range each {
		err := h.Do(groupID(group), func(g *Group) {
			if _, err := g.Propose(fmt.Append(nil, group, "/", k)); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Error(err)
			return
		}
	}
	for last := record.Index(0); last < record.Index(each+1); {
		last = <-m.commits
	}
}

// A queue at its bound answers ErrBusy; what was taken runs.
func TestHostQueueIsBounded(t *testing.T) {
	h := openHost(t, disk.NewMem(0), func(c *Config) { c.Shards, c.QueueMax, c.QueueWait = 1, 2, 1 })
	m := newSafeTape()
	if err := h.Start(GroupConfig{ID: groupID(1), Replica: 1, StateMachine: m}); err != nil {
		t.Fatal(err)
	}
	hold, held := make(chan struct{}), make(chan struct{})
	ran := make(chan int, 2)
	if err := h.Do(groupID(1), func(*Group) { close(held); <-hold }); err != nil {
		t.Fatal(err)
	}
	<-held
	for i := range 2 {
		if err := h.Do(groupID(1), func(*Group) { ran <- i }); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Do(groupID(1), func(*Group) {}); !errors.Is(err, ErrBusy) {
		t.Errorf("third task: %v", err)
	}
	close(hold)
	if a, b := <-ran, <-ran; a != 0 || b != 1 {
		t.Errorf("ran %d, then %d", a, b)
	}
}

// What peers send has a bound of its own: many groups' messages wait while the
// loop is busy and tasks are refused, and what is over it is dropped and
// counted.
func TestHostKeepsMessagesWhileBusy(t *testing.T) {
	h := openHost(t, disk.NewMem(0), func(c *Config) { c.Shards, c.QueueMax, c.QueueWait = 1, 1, 1 })
	if err := h.Start(GroupConfig{ID: groupID(1), Replica: 1, Voters: []uint64{1, 2, 3}, StateMachine: &tape{}}); err != nil {
		t.Fatal(err)
	}
	busy, release := make(chan struct{}), make(chan struct{})
	if err := h.Do(groupID(1), func(*Group) { close(busy); <-release }); err != nil {
		t.Fatal(err)
	}
	<-busy
	const more = 10
	messages := make([]Message, messagesMax+more)
	for i := range messages {
		messages[i] = Message{Group: groupID(1), Message: raftpb.Message{Type: raftpb.MsgHeartbeat, From: 2, To: 1}}
	}
	h.Receive(messages[:messagesMax])
	if n := h.Stats().Dropped; n != 0 {
		t.Errorf("%d messages were dropped", n)
	}
	h.Receive(messages[messagesMax:])
	if n := h.Stats().Dropped; n != more {
		t.Errorf("%d messages were dropped, %d were over the bound", n, more)
	}
	close(release)
	term := make(chan uint64, 1)
	for {
		h.Receive([]Message{{Group: groupID(1), Message: raftpb.Message{Type: raftpb.MsgVote, From: 2, To: 1, Term: 5}}})
		if err := h.Do(groupID(1), func(g *Group) { term <- g.Leadership().Term }); errors.Is(err, ErrBusy) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		if <-term == 5 {
			return // what came after the busy time was heard
		}
	}
}

// A removed group is forgotten: tasks are refused, and a task queued before
// the removal still runs, on a stopped group.
func TestHostRemove(t *testing.T) {
	h := openHost(t, disk.NewMem(0), func(c *Config) { c.Shards = 1 })
	m := newSafeTape()
	if err := h.Start(GroupConfig{ID: groupID(1), Replica: 1, StateMachine: m}); err != nil {
		t.Fatal(err)
	}
	<-m.ready
	if err := h.Remove(groupID(1)); err != nil {
		t.Fatal(err)
	}
	<-m.stop
	if err := h.Do(groupID(1), func(*Group) {}); !errors.Is(err, ErrStopped) {
		t.Errorf("do: %v", err)
	}
	again := newSafeTape()
	if err := h.Start(GroupConfig{ID: groupID(1), Replica: 2, StateMachine: again}); err != nil {
		t.Errorf("start under the same id: %v", err)
	}
	<-again.ready
}

// A disk that fails its sync stops replicas on all shards, also idle ones.
func TestHostStopsOnDeadDisk(t *testing.T) {
	faulty := disk.NewFault(disk.NewMem(0))
	h := openHost(t, faulty, func(c *Config) { c.Shards = 4 })
	var tapes []*safeTape
	for i := range 16 {
		m := newSafeTape()
		if err := h.Start(GroupConfig{ID: groupID(i), Replica: 1, StateMachine: m}); err != nil {
			t.Fatal(err)
		}
		<-m.ready
		tapes = append(tapes, m)
	}
	faulty.Add(disk.Rule{When: func(c disk.Call) bool { return c.Op == disk.OpSync }, Err: errors.New("medium error")})
	if err := h.Do(groupID(3), func(g *Group) { _, _ = g.Propose([]byte("x")) }); err != nil {
		t.Fatal(err)
	}
	for i, m := range tapes {
		<-m.stop
		if !errors.Is(m.stopped, journal.ErrDead) || m.committed != 1 {
			t.Errorf("group %d: stopped with %v, committed %d", i, m.stopped, m.committed)
		}
	}
}

// A host closes while a full journal holds writes back; they are not
// acknowledged.
func TestHostClosesWithFullJournal(t *testing.T) {
	fs := disk.NewMem(0)
	h := openHost(t, fs, func(c *Config) { c.Shards = 1 })
	m := newSafeTape()
	if err := h.Start(GroupConfig{ID: groupID(1), Replica: 1, StateMachine: m}); err != nil {
		t.Fatal(err)
	}
	<-m.ready
	fs.SetCapacity(1)
	for full := false; !full; {
		done := make(chan error)
		if err := h.Do(groupID(1), func(g *Group) {
			_, err := g.Propose(make([]byte, 1<<20))
			done <- err
		}); err != nil {
			t.Fatal(err)
		}
		full = errors.Is(<-done, ErrFull)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	<-m.stop
	if m.committed >= m.last() || !errors.Is(m.stopped, ErrStopped) {
		t.Errorf("committed %d of %d, stopped with %v", m.committed, m.last(), m.stopped)
	}
}

// A full journal with every batch of a shard waiting still lets tasks run:
// they release what makes room. Then all that waited commits.
func TestHostReleasesWithFullJournal(t *testing.T) {
	fs := disk.NewMem(0)
	j, _, err := journal.Open(journal.Config{FS: fs, Dir: "journal", FileBytes: 256 << 10, FirstBytes: 256 << 10, LiveBytesMax: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	h, err := Open(Config{Node: 1, Journal: j})
	if err != nil {
		t.Fatal(err)
	}
	m := newSafeTape()
	if err := h.Start(GroupConfig{ID: groupID(1), Replica: 1, StateMachine: m}); err != nil {
		t.Fatal(err)
	}
	<-m.ready
	last := record.Index(0)
	for full := false; !full; {
		done := make(chan error)
		if err := h.Do(groupID(1), func(g *Group) {
			i, err := g.Propose(make([]byte, 50<<10))
			last = max(last, i)
			done <- err
		}); err != nil {
			t.Fatal(err)
		}
		full = errors.Is(<-done, ErrFull)
	}
	for at := record.Index(0); at < last; {
		released := make(chan struct{})
		if err := h.Do(groupID(1), func(g *Group) {
			at = g.Committed()
			term, _ := g.log.Term(uint64(at))
			g.Release(journal.Mark{Index: at, Term: term})
			close(released)
		}); err != nil {
			t.Fatal(err)
		}
		<-released
		if at < last {
			<-m.commits
		}
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	m.check(t)
}

// Start to the first committed entry needs no election timeout.
func TestHostLeadsAtOnce(t *testing.T) {
	h := openHost(t, disk.NewMem(0), func(c *Config) { c.TickEvery = 1 << 40 })
	m := newSafeTape()
	if err := h.Start(GroupConfig{ID: groupID(1), Replica: 1, StateMachine: m}); err != nil {
		t.Fatal(err)
	}
	<-m.ready
}

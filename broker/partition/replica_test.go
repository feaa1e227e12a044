package partition

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/internal/disk"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// fakeGroup is a group whose terms, commits and truncations a test decides.
type fakeGroup struct {
	lead    multiraft.Leadership
	last    record.Index
	machine multiraft.StateMachine
	mark    journal.Mark
	err     error          // what Propose and ReadIndex answer
	busy    error          // what Do answers
	late    bool           // its loop stands still
	asks    []record.Index // what AskHeld was called for
}

func (g *fakeGroup) Do(_ record.PartitionID, task func(Group)) error {
	if g.busy != nil {
		return g.busy
	}
	task(g)
	return nil
}
func (g *fakeGroup) Late(record.PartitionID) bool     { return g.late }
func (g *fakeGroup) Leadership() multiraft.Leadership { return g.lead }
func (g *fakeGroup) Release(m journal.Mark)           { g.mark = m }
func (g *fakeGroup) AskHeld(index record.Index)       { g.asks = append(g.asks, index) }
func (g *fakeGroup) asked(index record.Index) bool    { return slices.Contains(g.asks, index) }
func (g *fakeGroup) ReadIndex(done func(record.Index, error)) {
	done(g.last, g.err)
}
func (g *fakeGroup) Propose(data []byte) (record.Index, error) {
	if g.err != nil {
		return 0, g.err
	}
	err := g.add(data)
	return g.last, err
}

func (g *fakeGroup) add(data []byte) error {
	g.last++
	return g.machine.Append(multiraft.Entry{Index: g.last, Term: g.lead.Term, Data: data})
}

// term begins a new term, led here or not, with its empty entry.
func (g *fakeGroup) term(t testing.TB, term uint64, leading bool) {
	t.Helper()
	g.lead = multiraft.Leadership{Term: term, Leader: 1, Leading: leading, Ready: leading}
	g.machine.Lead(g.lead)
	if err := g.add(nil); err != nil {
		t.Fatal(err)
	}
}

func (g *fakeGroup) truncate(last record.Index) {
	g.last = last
	g.machine.Truncate(last)
}

func newReplica(t testing.TB) (*Partition, *fakeGroup) {
	t.Helper()
	g := &fakeGroup{}
	now := time.UnixMilli(1_700_000_000_000)
	p, err := Open(Config{
		ID: testID, Topic: "t", Host: g, FS: disk.NewMem(0), Dir: "log", Settings: testSettings(),
		Budget: NewBudget(1<<30, 1<<20), Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	g.machine = p.StateMachine()
	return p, g
}

func idempotent(t *testing.T, seq int32) record.Batch {
	return makeBatch(t, record.Builder{Producer: &record.Producer{ID: 5, Sequence: seq}}, 1000, 1, 5)
}

// A leader falls with batches that are not committed, the next one's log
// replaces them, and it leads again: the waiters are told, a retry of a lost
// batch is appended and not taken for a duplicate, and one of a kept batch is
// answered with the kept one's offset.
func TestTruncationRollsBack(t *testing.T) {
	p, g := newReplica(t)
	g.term(t, 1, true)
	var got []logio.AppendResult
	send := func(b record.Batch) {
		p.Append(logio.AppendRequest{Batch: b, Acks: logio.AcksAll, Done: func(r logio.AppendResult) { got = append(got, r) }})
	}
	send(idempotent(t, 0))
	send(idempotent(t, 1)) // entry 3
	g.machine.Commit(2)
	if len(got) != 1 || got[0].Err != nil {
		t.Fatalf("%+v", got)
	}
	g.lead = multiraft.Leadership{Term: 2, Leader: 2}
	g.machine.Lead(g.lead)
	if len(got) != 2 || !errors.Is(got[1].Err, logio.ErrNotLeader) {
		t.Fatalf("%+v", got)
	}
	g.truncate(2)
	if err := g.add(nil); err != nil {
		t.Fatal(err)
	}
	foreign := makeBatch(t, record.Builder{}, 1000, 4, 5)
	foreign.SetBaseOffset(1)
	foreign.SetEpoch(2)
	if err := g.add(foreign); err != nil {
		t.Fatal(err)
	}
	g.machine.Commit(4)
	g.term(t, 3, true)
	g.machine.Commit(5)
	got = nil
	send(idempotent(t, 1))
	send(idempotent(t, 0))
	g.machine.Commit(6)
	if len(got) != 2 || got[0].Err != nil || got[1].Err != nil || got[1].BaseOffset != 5 || got[0].BaseOffset != 0 {
		t.Fatalf("%+v", got)
	}
	if h := p.EpochHistory(); len(h) != 3 || h[1] != (logio.EpochStart{Epoch: 2, Start: 1}) || h[2] != (logio.EpochStart{Epoch: 3, Start: 5}) {
		t.Fatalf("epochs %v", h)
	}
}

// The offset of a proposal that was refused is taken by the next one.
func TestDroppedProposalMovesNothing(t *testing.T) {
	p, g := newReplica(t)
	g.term(t, 1, true)
	var got []logio.AppendResult
	send := func() {
		p.Append(logio.AppendRequest{Batch: idempotent(t, 0), Acks: logio.AcksLeader, Done: func(r logio.AppendResult) { got = append(got, r) }})
	}
	for _, c := range []struct{ propose, want error }{
		{multiraft.ErrDropped, logio.ErrNotLeader}, {multiraft.ErrNotLeader, logio.ErrNotLeader}, {multiraft.ErrBusy, logio.ErrBusy},
		{multiraft.ErrFull, logio.ErrStorage}, {multiraft.ErrTooLarge, logio.ErrTooLarge}, {multiraft.ErrStopped, logio.ErrStorage},
	} {
		g.err = c.propose
		send()
		if r := got[len(got)-1]; !errors.Is(r.Err, c.want) {
			t.Errorf("%v: %+v", c.propose, r)
		}
	}
	g.err = nil
	send()
	if r := got[len(got)-1]; r.Err != nil || r.BaseOffset != 0 {
		t.Fatalf("%+v", r)
	}
}

// A follower refuses an entry that does not continue its log, with another
// offset, another epoch, an index twice or a command it does not know.
func TestForeignEntriesStopTheReplica(t *testing.T) {
	for name, e := range map[string]func() multiraft.Entry{
		"offset":  func() multiraft.Entry { return stamped(t, 2, 7, 1) },
		"epoch":   func() multiraft.Entry { return stamped(t, 2, 0, 2) },
		"index":   func() multiraft.Entry { return stamped(t, 3, 0, 1) },
		"command": func() multiraft.Entry { return multiraft.Entry{Index: 2, Term: 1, Data: []byte{0xff, 1, 1, 0}} },
		"half":    func() multiraft.Entry { e := stamped(t, 2, 0, 1); e.Data = e.Data[:70]; return e },
	} {
		_, g := newReplica(t)
		g.term(t, 1, false)
		if err := g.machine.Append(e()); err == nil {
			t.Errorf("%s: the entry was taken", name)
		}
	}
}

func stamped(t *testing.T, index record.Index, base record.Offset, epoch record.LeaderEpoch) multiraft.Entry {
	b := makeBatch(t, record.Builder{}, 0, 1, 20)
	b.SetBaseOffset(base)
	b.SetEpoch(epoch)
	return multiraft.Entry{Index: index, Term: 1, Data: b}
}

// Only what is committed goes to segments, whatever is asked.
func TestSegmentsGetCommittedOnly(t *testing.T) {
	p, g := newReplica(t)
	g.term(t, 1, true)
	for seq := range int32(3) {
		p.Append(logio.AppendRequest{Batch: idempotent(t, seq), Acks: logio.AcksLeader, Done: func(logio.AppendResult) {}})
	}
	g.machine.Commit(3)
	if err := p.WriteSegments(context.Background(), true); err != nil {
		t.Fatal(err)
	}
	if s := p.Sealed(0); len(s) != 1 || s[0].Next != 2 || g.mark.Index != 3 {
		t.Fatalf("sealed %+v, mark %d", s, g.mark.Index)
	}
	at, _, err := decodeMark(g.mark.Data)
	if err != nil || at.next != 2 {
		t.Fatalf("mark says %+v, %v", at, err)
	}
	g.lead = multiraft.Leadership{Term: 2, Leader: 2}
	g.machine.Lead(g.lead)
	g.truncate(3)
	if next, _ := p.ProducerSnapshot(); next != 2 || p.live.next != 2 {
		t.Fatalf("after the truncation: stable %d, live %d", next, p.live.next)
	}
}

// Readers of committed data stop at an open transaction, and skip an aborted
// one once its marker is committed.
func TestReadCommitted(t *testing.T) {
	p, g := newReplica(t)
	g.term(t, 1, true)
	send := func(b record.Batch) {
		p.Append(logio.AppendRequest{Batch: b, Acks: logio.AcksLeader, Internal: b.Control(), Done: func(r logio.AppendResult) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}})
	}
	read := func() logio.ReadResult {
		res, err := p.Read(context.Background(), logio.ReadRequest{Isolation: logio.ReadCommitted, BytesMax: 1 << 20, MinOne: true, CurrentEpoch: -1})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	passed := 0
	send(makeBatch(t, record.Builder{}, 0, 1, 5))
	send(makeBatch(t, record.Builder{Producer: &record.Producer{ID: 8}, Transactional: true}, 0, 2, 5))
	send(makeBatch(t, record.Builder{}, 0, 1, 5))
	g.machine.Commit(g.last)
	p.Notify(logio.ReadCommitted, 1, func() { passed++ })
	if res := read(); len(res.Batches) != 1 || res.Offsets.LastStable != 1 || res.Offsets.HighWatermark != 4 {
		t.Fatalf("open: %+v", res)
	}
	send(markerBatch(t, 8, 0, false, 1))
	if res := read(); res.Offsets.LastStable != 1 || passed != 0 {
		t.Fatalf("marker not committed: %+v", res.Offsets)
	}
	g.machine.Commit(g.last)
	res := read()
	if len(res.Batches) != 4 || res.Offsets.LastStable != 5 || passed != 1 {
		t.Fatalf("aborted: %+v", res.Offsets)
	}
	if len(res.Aborted) != 1 || res.Aborted[0] != (logio.AbortedTxn{ProducerID: 8, FirstOffset: 1, LastOffset: 4}) {
		t.Fatalf("aborted: %+v", res.Aborted)
	}
}

// closingFS runs a hook at the first sync: something happens in the middle of
// a step.
func closingFS(hook func()) disk.FS {
	f := disk.NewFault(disk.NewMem(0))
	f.Before(func(c disk.Call) {
		if c.Op == disk.OpSync && hook != nil {
			h := hook
			hook = nil
			h()
		}
	})
	return f
}

// A partition removed while a step writes its segments leaves no file behind
// and no byte in the budget.
func TestRemoveDuringWrite(t *testing.T) {
	var p *Partition
	g := &fakeGroup{}
	fs := closingFS(func() {
		if err := p.Remove(); err != nil {
			t.Error(err)
		}
	})
	p, err := Open(Config{
		ID: testID, Topic: "t", Host: g, FS: fs, Dir: "log", Settings: testSettings(),
		Budget: NewBudget(1<<30, 1<<20), Now: func() time.Time { return time.UnixMilli(1_700_000_000_000) }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	g.machine = p.StateMachine()
	g.term(t, 1, true)
	p.Append(logio.AppendRequest{Batch: idempotent(t, 0), Acks: logio.AcksLeader, Done: func(logio.AppendResult) {}})
	g.machine.Commit(2)
	g.machine.Stopped(multiraft.ErrStopped)
	if err := p.WriteSegments(context.Background(), true); err != nil {
		t.Log(err)
	}
	if names, err := fs.List("log"); err == nil && len(names) > 0 {
		t.Errorf("files left: %v", names)
	}
	if pending, cached := p.cfg.Budget.Use(); pending != 0 || cached != 0 {
		t.Errorf("budget: %d, %d", pending, cached)
	}
	if err := p.WriteSegments(context.Background(), true); err != nil {
		t.Error(err)
	}
	if _, err := p.Offsets(); !errors.Is(err, logio.ErrClosed) {
		t.Error(err)
	}
}

// Shows that a replica that follows serves readers who allow it, up to what it
// knows to be committed; that one who waits there is woken by the commit and by
// a change of leaders; and that it serves nobody once it hears no leader.
func TestFollowerServesWhatIsCommitted(t *testing.T) {
	p, g := newReplica(t)
	g.term(t, 1, false)
	for i := range 2 {
		b := makeBatch(t, record.Builder{}, 1000, 1, 5)
		b.SetBaseOffset(record.Offset(i))
		b.SetEpoch(1)
		if err := g.add(b); err != nil {
			t.Fatal(err)
		}
	}
	g.machine.Commit(2)
	read := func(at record.Offset, follower bool) (logio.ReadResult, error) {
		return p.Read(t.Context(), logio.ReadRequest{Offset: at, BytesMax: 1 << 20, CurrentEpoch: -1, Follower: follower})
	}
	if _, err := read(0, false); !errors.Is(err, logio.ErrNotLeader) {
		t.Errorf("a reader who wants the leader gets %v", err)
	}
	if res, err := read(0, true); err != nil || len(res.Batches) != 1 || res.Offsets.HighWatermark != 1 || !res.Followed {
		t.Errorf("%+v, %v", res, err)
	}
	if _, err := read(2, true); !errors.Is(err, logio.ErrNotAvailable) {
		t.Errorf("beyond what is committed: %v", err)
	}
	woken := 0
	wait := func() { p.Notify(logio.ReadUncommitted, 1, func() { woken++ }) }
	wait()
	if g.machine.Commit(2); woken != 0 {
		t.Error("woken for nothing")
	}
	if g.machine.Commit(3); woken != 1 {
		t.Error("not woken by a commit")
	}
	p.Notify(logio.ReadUncommitted, 2, func() { woken++ })
	g.lead = multiraft.Leadership{Term: 1, Leader: -1}
	if g.machine.Lead(g.lead); woken != 2 {
		t.Error("not woken when the leader is lost")
	}
	if _, err := read(0, true); !errors.Is(err, logio.ErrNotLeader) {
		t.Errorf("without a leader: %v", err)
	}
}

// Shows that acks=all is refused, before anything is appended, while fewer
// replicas are up than min.insync.replicas, and that other acks are not.
func TestTooFewReplicasRefuseAcksAll(t *testing.T) {
	p, g := newReplica(t)
	up := 1
	p.cfg.InSync = func() int { return up }
	s := testSettings()
	s.MinInsyncReplicas = 2
	p.Configure(s)
	g.term(t, 1, true)
	send := func(acks logio.Acks) error {
		var got error
		p.Append(logio.AppendRequest{Batch: makeBatch(t, record.Builder{}, 1000, 1, 5), Acks: acks, Done: func(r logio.AppendResult) { got = r.Err }})
		return got
	}
	if err := send(logio.AcksAll); !errors.Is(err, logio.ErrNotEnoughReplicas) || g.last != 1 {
		t.Errorf("%v, the log ends at %d", err, g.last)
	}
	if err := send(logio.AcksLeader); err != nil || g.last != 2 {
		t.Errorf("acks=1: %v, the log ends at %d", err, g.last)
	}
	up = 2
	if err := send(logio.AcksAll); err != nil || g.last != 3 {
		t.Errorf("with two up: %v, the log ends at %d", err, g.last)
	}
}

// A leader that was deposed and does not know it has an older state of a
// producer than the new one: it does not tell the producer that its batch is
// out of order.
func TestDeposedLeaderDoesNotJudgeSequences(t *testing.T) {
	p, g := newReplica(t)
	g.term(t, 1, true)
	var got logio.AppendResult
	send := func(seq int32) error {
		p.Append(logio.AppendRequest{Batch: idempotent(t, seq), Acks: logio.AcksLeader, Done: func(r logio.AppendResult) { got = r }})
		return got.Err
	}
	if err := send(0); err != nil {
		t.Fatal(err)
	}
	if err := send(7); !errors.Is(err, logio.ErrOutOfOrderSequence) {
		t.Errorf("a leader that is confirmed: %v", err)
	}
	g.err = multiraft.ErrNotLeader
	if err := send(7); !errors.Is(err, logio.ErrNotLeader) {
		t.Errorf("a leader that is not: %v", err)
	}
}

// A leader that was deposed unawares lacks what its successor wrote: it calls no
// offset above its own log out of range, which would have a client that names
// no epoch start over. One that a majority confirms does.
func TestDeposedLeaderDoesNotJudgeOffsets(t *testing.T) {
	p, g := newReplica(t)
	g.term(t, 1, true)
	ctx := context.Background()
	read := func(at record.Offset) error {
		_, err := p.Read(ctx, logio.ReadRequest{Offset: at, BytesMax: 100, CurrentEpoch: -1})
		return err
	}
	trim := func(at record.Offset) error {
		_, err := p.Trim(ctx, at)
		return err
	}
	for name, ask := range map[string]func(record.Offset) error{"read": read, "trim": trim} {
		g.err = nil
		if err := ask(7); !errors.Is(err, logio.ErrOffsetOutOfRange) {
			t.Errorf("%s: a leader that is confirmed: %v", name, err)
		}
		g.err = multiraft.ErrNotLeader
		if err := ask(7); !errors.Is(err, logio.ErrNotLeader) {
			t.Errorf("%s: a leader that is not: %v", name, err)
		}
	}
	if err := read(0); err != nil {
		t.Errorf("an offset in range needs no confirmation: %v", err)
	}
}

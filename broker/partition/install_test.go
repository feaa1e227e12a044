package partition

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"testing/cryptotest"

	"tidewater/internal/disk"
	"tidewater/internal/logio"
	"tidewater/internal/record"
	"tidewater/internal/topicconfig"
)

// behind makes a fleet whose second replica has to copy segments; each kind is
// another state of the copier's disk and of the leader's.
func behind(f *fleet, kind string) (seq int32) {
	f.brokers[0].boot()
	f.until("broker 1 leads", func() bool { return f.leader() != nil })
	seq = f.fill(12, 0)
	late := kind == "late" || kind == "late, trimmed"
	if late {
		f.brokers[1].boot()
		f.change("[1] [2] []", learners(2))
		f.same(2)
		f.brokers[1].stop()
	}
	seq = f.fill(30, seq)
	if kind == "trimmed" || kind == "late, trimmed" {
		f.trim(60)
	}
	if kind == "emptied" {
		f.trim(-1)
	}
	return f.fill(6, seq)
}

// trim deletes records on every broker.
func (f *fleet) trim(before record.Offset) {
	f.t.Helper()
	p := f.leader().p
	if err := p.WriteSegments(context.Background(), true); err != nil {
		f.t.Fatal(err)
	}
	if _, err := p.Trim(context.Background(), before); err != nil {
		f.t.Fatal(err)
	}
	for _, b := range f.brokers {
		if !b.down {
			if err := b.p.Retain(context.Background()); err != nil {
				f.t.Fatal(err)
			}
		}
	}
}

// joinAndLead boots the second broker, as a learner and then a voter that leads.
func joinAndLead(f *fleet, kind string, seq int32) {
	f.t.Helper()
	if kind != "late" && kind != "late, trimmed" {
		f.change("[1] [2] []", learners(2))
	}
	f.same(2)
	seq = f.fill(2, seq)
	f.change("[1 2] [] []", voters(2))
	f.lead(2)
	last := f.leader().p.highWatermark - 2
	if at := f.append(f.batch(2, 400, seq-2)); at != last {
		f.t.Fatalf("a batch sent again is at %d, was at %d", at, last)
	}
	seq = f.fill(12, seq)
	f.same(1)
	f.brokers[1].stop()
	f.brokers[1].boot()
	f.until("a leader", func() bool { return f.leader() != nil })
	f.fill(2, seq)
	f.same(1)
	f.same(2)
}

var copyKinds = []string{"new", "trimmed", "emptied", "late", "late, trimmed"}

// A replica that lies behind what its leader has in memory copies segments,
// goes on from there, and can lead: from nothing, from an old state, with or
// without a gap, and where nothing is left to copy.
func TestReplicaCopiesSegments(t *testing.T) {
	for _, kind := range copyKinds {
		t.Run(kind, func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, 1)
			f := newFleet(t, 1, 2)
			seq := behind(f, kind)
			f.copies = 0
			f.brokers[1].boot()
			joinAndLead(f, kind, seq)
			if f.copies == 0 {
				t.Error("nothing was copied: the test tests nothing")
			}
		})
	}
}

// The power of the copier fails at any write, sync, rename or removal: it comes
// back with the old state or the new one, and gets there.
func TestCopySurvivesCrashAtAnyWrite(t *testing.T) {
	for _, kind := range copyKinds {
		t.Run(kind, func(t *testing.T) {
			calls := copyRun(t, kind, -1)
			step := max(calls/10, 1)
			for at := len(kind) % step; at < calls; at += step {
				copyRun(t, kind, at)
			}
		})
	}
}

// copyRun cuts the copier's power at one of its changing calls and gives their
// number.
func copyRun(t *testing.T, kind string, at int) int {
	cryptotest.SetGlobalRandom(t, uint64(at+2))
	f := newFleet(t, uint64(at+2), 2)
	seq := behind(f, kind)
	b := f.brokers[1]
	calls := 0
	faulty := disk.NewFault(b.mem)
	faulty.Before(func(c disk.Call) {
		if c.Changes() {
			if calls == at {
				panic(powerCut{})
			}
			calls++
		}
	})
	b.fs = faulty
	func() {
		defer func() {
			if r := recover(); r != nil && r != (powerCut{}) {
				panic(r)
			} else if r != nil {
				b.stop()
			}
		}()
		b.boot()
		if kind != "late" && kind != "late, trimmed" {
			f.change("[1] [2] []", learners(2))
		}
		for n := 0; n < 40 && !b.down && !f.caughtUp(2)(); n++ {
			f.run(10)
		}
		if !b.down {
			seq = f.fill(4, seq) // its stale segments go meanwhile
			f.run(5)
		}
	}()
	before := calls
	if b.down {
		b.boot()
	}
	joinAndLead(f, kind, seq)
	return before
}

// A stream that ends in the middle, again and again, leads to the end all the
// same, since what came stays.
func TestCopyGoesOnWhereItStopped(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	f := newFleet(t, 3, 2)
	seq := behind(f, "new")
	f.cutCopy = 12 << 10
	f.brokers[1].boot()
	joinAndLead(f, "new", seq)
	if f.copies < 3 {
		t.Errorf("%d copies", f.copies)
	}
}

// Retention on the leader, in the middle of a copy, does not take what is being
// copied; afterwards it goes.
func TestCopiedSegmentsAreHeld(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	f := newFleet(t, 4, 2)
	behind(f, "new")
	p := f.leader().p
	hold := p.hold()
	f.trim(60)
	if p.localStart != 0 {
		t.Errorf("local log start is %d while the segments are copied", p.localStart)
	}
	p.letGo(hold)
	if err := p.Retain(context.Background()); err != nil || p.localStart == 0 {
		t.Errorf("local log start is %d afterwards, %v", p.localStart, err)
	}
}

// Of a tiered topic a new replica copies what local retention keeps, and reads
// the rest from the bucket.
func TestTieredReplicaCopiesLocalTarget(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	f := newFleet(t, 5, 2)
	bucket := &bucket{}
	f.remote = bucket
	f.settings.Tiered = true
	f.settings.LocalRetention, f.settings.LocalRetentionBytes = topicconfig.Unlimited, 4<<10
	seq := behind(f, "new")
	p := f.leader().p
	if err := p.WriteSegments(context.Background(), true); err != nil {
		t.Fatal(err)
	}
	end := p.highWatermark
	bucket.archive(t, p)
	seq = f.fill(3, seq)
	f.brokers[1].boot()
	f.change("[1] [2] []", learners(2))
	f.same(2)
	q := f.brokers[1].p
	if q.localStart == 0 || q.localStart > end {
		t.Errorf("the copy begins at offset %d, archived up to %d", q.localStart, end)
	}
	f.change("[1 2] [] []", voters(2))
	f.lead(2)
	res, err := q.Read(context.Background(), logio.ReadRequest{BytesMax: 1 << 10, MinOne: true, CurrentEpoch: -1})
	if err != nil || len(res.Batches) == 0 || record.Batch(res.Batches[0]).BaseOffset() != 0 {
		t.Errorf("read from the bucket: %d batches, %v", len(res.Batches), err)
	}
	f.fill(2, seq)
	f.same(1)
}

// A replica that was brought up to date knows of a transaction that began below
// what it copied, and of one that was aborted.
func TestCopyCarriesTransactions(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	f := newFleet(t, 6, 2)
	f.brokers[0].boot()
	f.until("a leader", func() bool { return f.leader() != nil })
	txn := func(id int64, seq int32) record.Batch {
		return makeBatch(t, record.Builder{Producer: &record.Producer{ID: id, Sequence: seq}, Transactional: true}, f.now.UnixMilli(), 1, 50)
	}
	f.append(txn(70, 0))
	open := f.append(txn(71, 0))
	var marked *logio.AppendResult
	f.leader().p.Append(logio.AppendRequest{Batch: markerBatch(t, 70, 0, false, 1), Acks: logio.AcksAll, Internal: true, Done: func(r logio.AppendResult) { marked = &r }})
	f.until("the marker is in", func() bool { return marked != nil && marked.Err == nil })
	seq := f.fill(20, 0)
	f.brokers[1].boot()
	f.change("[1] [2] []", learners(2))
	f.same(2)
	f.change("[1 2] [] []", voters(2))
	f.lead(2)
	f.fill(2, seq)
	o, err := f.brokers[1].p.Offsets()
	if err != nil || o.LastStable != open {
		t.Errorf("last stable offset is %d, %v; the transaction began at %d", o.LastStable, err, open)
	}
	if got := f.brokers[1].p.live.producers.txns.aborted; len(got) != 1 || got[0].ProducerID != 70 {
		t.Errorf("aborted: %+v", got)
	}
}

// A leader is confirmed by its majority; one that is cut off is not, and says so
// when it finds out.
func TestConfirm(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	f := newFleet(t, 7, 2)
	seq := behind(f, "new")
	f.brokers[1].boot()
	joinAndLead(f, "new", seq)
	old := f.leader()
	if err := old.p.Confirm(context.Background()); err != nil {
		t.Errorf("leader: %v", err)
	}
	other := f.brokers[2-old.id]
	if err := other.p.Confirm(context.Background()); !errors.Is(err, logio.ErrNotLeader) {
		t.Errorf("follower: %v", err)
	}
	other.stop()
	if err := old.p.Confirm(context.Background()); !errors.Is(err, logio.ErrNotLeader) {
		t.Errorf("without a majority: %v", err)
	}
}

// While a replica copies, its leader takes more than it keeps for followers that
// are a little behind, again each time: the copy is not outrun for ever.
func TestCopyIsNotOutrun(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	f := newFleet(t, 8, 2)
	f.fileBytes = 8 << 20
	f.settings.SegmentBytes = 64 << 20
	behind(f, "new")
	l := f.leader()
	f.inCopy = func() {
		for range 12 {
			l.p.Append(logio.AppendRequest{Batch: makeBatch(t, record.Builder{}, f.now.UnixMilli(), 1, 1_000_000), Acks: logio.AcksAll, Done: func(r logio.AppendResult) {
				if r.Err != nil {
					t.Error(r.Err)
				}
			}})
			for l.node.Step() {
			}
		}
		if err := l.p.WriteSegments(context.Background(), false); err != nil {
			t.Error(err)
		}
		for l.node.Step() {
		}
	}
	f.copies = 0
	f.brokers[1].boot()
	f.change("[1] [2] []", learners(2))
	for n := 0; n < 10 && !f.caughtUp(2)(); n++ {
		f.run(20)
	}
	f.inCopy = nil
	if !f.caughtUp(2)() || f.copies > 2 {
		t.Errorf("caught up %t after %d copies", f.caughtUp(2)(), f.copies)
	}
}

// A tiered topic has fifty times as much history as its local target. A new
// replica, and one that comes back after most of it was written and archived,
// copy the local target and no more; the rest stays in the bucket, and either
// reads all of it when it leads.
func TestColdHistoryIsNotCopied(t *testing.T) {
	const target = 8 << 10
	cryptotest.SetGlobalRandom(t, 1)
	f := newFleet(t, 10, 3)
	f.fileBytes = 1 << 20
	bucket := &bucket{}
	f.remote = bucket
	f.settings.Tiered = true
	f.settings.LocalRetention, f.settings.LocalRetentionBytes = topicconfig.Unlimited, target
	f.brokers[0].boot()
	f.until("broker 1 leads", func() bool { return f.leader() != nil })
	seq := f.fill(4, 0)
	f.brokers[1].boot()
	f.change("[1] [2] []", learners(2))
	f.same(2)
	f.brokers[1].stop() // comes back late
	p := f.leader().p
	for range 10 {
		seq = f.fill(50, seq)
		if err := p.WriteSegments(context.Background(), true); err != nil {
			t.Fatal(err)
		}
		bucket.archive(t, p)
		f.run(2)
		if err := p.Retain(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	seq = f.fill(3, seq)
	history := 0
	for _, b := range batchesOf(t, p, 0) {
		history += len(b)
	}
	for id := 2; id <= 3; id++ {
		f.copiedBytes = 0
		f.brokers[id-1].boot()
		if id == 3 {
			f.change("[1] [2 3] []", learners(3))
		}
		f.same(id)
		// The target, a segment that it ends in, and what is not archived yet.
		if most := target + 3*int(f.settings.SegmentBytes); f.copiedBytes == 0 || f.copiedBytes > most || history < 10*most {
			t.Errorf("broker %d copied %d bytes of %d, at most %d are to be", id, f.copiedBytes, history, most)
		}
	}
	f.change("[1 2 3] [] []", voters(2, 3))
	want := batchesOf(t, p, 0)
	for id := 2; id <= 3; id++ {
		f.lead(id)
		q := f.brokers[id-1].p
		if q.localStart == 0 {
			t.Errorf("broker %d has all of the log on its disk", id)
		}
		if got := batchesOf(t, q, 0); !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("broker %d gives %d batches, %d were there", id, len(got), len(want))
		}
	}
	f.fill(2, seq)
}

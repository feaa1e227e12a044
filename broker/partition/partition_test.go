package partition

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"tidewater/broker/multiraft"
	"tidewater/internal/disk"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// A leader of an empty log answers everything with zero, and a batch goes in
// and comes out as the same bytes but for base offset and epoch.
func TestAppendAndReadBack(t *testing.T) {
	w := newWorld(t).open()
	if o := w.offsets(); o.HighWatermark != 0 || o.LogEnd != 0 || o.Epoch < 1 {
		t.Fatalf("empty log: %+v", o)
	}
	sent := w.batch(3, 10, nil)
	if base := w.append(sent); base != 0 {
		t.Fatalf("base offset %d", base)
	}
	if base := w.append(sent); base != 3 {
		t.Fatalf("second base offset %d: a batch without a producer is never a duplicate", base)
	}
	res := w.read(logio.ReadRequest{BytesMax: 1 << 20})
	if len(res.Batches) != 2 || res.Bytes[logio.FromMemory] != int64(res.Size()) {
		t.Fatalf("read %d batches, bytes %v", len(res.Batches), res.Bytes)
	}
	want := sent
	want.SetBaseOffset(3)
	want.SetEpoch(w.offsets().Epoch)
	if !bytes.Equal(res.Batches[1], want) {
		t.Fatal("bytes differ")
	}
}

// Reads at any offset and with any bound give exactly the batches that were
// appended there, whether they lie in memory, in segments or in both.
func TestReadsEqualAppends(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 2))
		w := newWorld(t)
		w.budget = NewBudget(1<<30, 16<<10)
		w.settings.SegmentBytes = 40 << 10
		w.open()
		var log [][]byte
		for range 150 {
			b := w.batch(1+rng.IntN(5), rng.IntN(800), nil)
			base := w.append(b)
			b.SetBaseOffset(base)
			b.SetEpoch(w.offsets().Epoch)
			log = append(log, b)
			if rng.IntN(6) == 0 {
				w.write(rng.IntN(8) == 0)
			}
			checkRead(t, w, rng, log)
		}
		var seen [logio.SourceCount]int64
		for range 100 {
			for i, n := range checkRead(t, w, rng, log) {
				seen[i] += n
			}
		}
		if seen[logio.FromMemory] == 0 || seen[logio.FromDisk] == 0 {
			t.Fatalf("seed %d: bytes came from %v", seed, seen)
		}
		if _, cached := w.budget.Use(); cached > 16<<10 {
			t.Fatalf("seed %d: %d bytes cached", seed, cached)
		}
	}
}

func checkRead(t *testing.T, w *world, rng *rand.Rand, log [][]byte) [logio.SourceCount]int64 {
	t.Helper()
	end := record.Batch(log[len(log)-1]).NextOffset()
	r := logio.ReadRequest{Offset: record.Offset(rng.Int64N(int64(end))), BytesMax: rng.IntN(20 << 10), MinOne: rng.IntN(2) == 0}
	res := w.read(r)
	i := 0
	for record.Batch(log[i]).NextOffset() <= r.Offset {
		i++
	}
	var want [][]byte
	size := 0
	for ; i < len(log); i++ {
		if size += len(log[i]); size > r.BytesMax && !(r.MinOne && len(want) == 0) {
			break
		}
		want = append(want, log[i])
	}
	if !bytes.Equal(bytes.Join(res.Batches, nil), bytes.Join(want, nil)) {
		t.Fatalf("read %+v: %d batches, want %d", r, len(res.Batches), len(want))
	}
	return res.Bytes
}

// acks=all waits for the commit, acks=1 and 0 for the leader's memory only,
// and no reader sees what is not committed.
func TestAcks(t *testing.T) {
	w := newWorld(t).open()
	var all, leader *logio.AppendResult
	keep := func(to **logio.AppendResult) func(logio.AppendResult) {
		return func(r logio.AppendResult) { *to = &r }
	}
	w.p.Append(logio.AppendRequest{Batch: w.batch(1, 5, nil), Acks: logio.AcksAll, Done: keep(&all)})
	w.p.Append(logio.AppendRequest{Batch: w.batch(1, 5, nil), Acks: logio.AcksLeader, Done: keep(&leader)})
	// The journal takes no flush yet: run the tasks only.
	if err := w.node.Do(testID, func(*multiraft.Group) {
		if all != nil || leader == nil || leader.Err != nil || leader.BaseOffset != 1 {
			t.Errorf("before the flush: all %+v, leader %+v", all, leader)
		}
		if o, err := w.p.Offsets(); err != nil || o.HighWatermark != 0 || o.LogEnd != 2 {
			t.Errorf("before the flush: %+v, %v", o, err)
		}
		if res := w.read(logio.ReadRequest{BytesMax: 1 << 20, MinOne: true}); len(res.Batches) != 0 {
			t.Error("uncommitted batch was read")
		}
	}); err != nil {
		t.Fatal(err)
	}
	w.step()
	if all == nil || all.Err != nil || w.offsets().HighWatermark != 2 {
		t.Fatalf("after the flush: %+v", all)
	}
}

// A duplicate of a batch that is not committed yet waits for it; with the
// planted fault it does not.
func TestDuplicateWaitsForOriginal(t *testing.T) {
	for _, planted := range []bool{false, true} {
		w := newWorld(t)
		w.fault.AckUncommittedDuplicates = planted
		w.open()
		var answers []logio.AppendResult
		b := w.batch(2, 5, &record.Producer{ID: 7, Epoch: 1, Sequence: 0})
		for range 2 {
			w.p.Append(logio.AppendRequest{Batch: append(record.Batch(nil), b...), Acks: logio.AcksAll, Done: func(r logio.AppendResult) { answers = append(answers, r) }})
		}
		early := -1
		if err := w.node.Do(testID, func(*multiraft.Group) { early = len(answers) }); err != nil {
			t.Fatal(err)
		}
		w.step()
		if want := map[bool]int{false: 0, true: 1}[planted]; early != want {
			t.Fatalf("planted %v: %d answered before the commit", planted, early)
		}
		if len(answers) != 2 || answers[0].Err != nil || answers[1].Err != nil || answers[1].BaseOffset != 0 || w.offsets().LogEnd != 2 {
			t.Fatalf("planted %v: %+v", planted, answers)
		}
	}
}

// Bad input is refused by kind, and nothing of it enters the log.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.settings.MaxMessageBytes = 500
	w.open()
	w.refused(w.batch(1, 600, nil), logio.ErrTooLarge)
	late := makeBatch(t, record.Builder{}, w.now.Add(2*time.Hour).UnixMilli(), 1, 5)
	w.refused(late, logio.ErrInvalidTimestamp)
	w.refused(makeBatch(t, record.Builder{Control: true, Producer: &record.Producer{ID: 1}}, 0, 1, 5), logio.ErrInvalidRecord)
	w.refused(makeBatch(t, record.Builder{Producer: &record.Producer{ID: 1, Epoch: 0, Sequence: -1}}, 0, 1, 5), logio.ErrInvalidRecord)
	s := w.settings
	s.TimestampBeforeMax = time.Hour
	w.p.Configure(s)
	w.refused(makeBatch(t, record.Builder{}, w.now.Add(-2*time.Hour).UnixMilli(), 1, 5), logio.ErrInvalidTimestamp)
	s = w.settings
	s.CleanupCompact = true
	w.p.Configure(s)
	var b record.Builder
	b.Add(w.now.UnixMilli(), nil, []byte("v"))
	unkeyed, err := b.Build(0)
	if err != nil {
		t.Fatal(err)
	}
	w.refused(unkeyed, logio.ErrInvalidRecord)
	w.fenced = true
	w.refused(w.batch(1, 5, nil), logio.ErrFenced)
	w.fenced = false
	if end := w.offsets().LogEnd; end != 0 {
		t.Fatalf("log end %d", end)
	}
	w.append(w.batch(1, 5, nil))
}

// LogAppendTime and compression.type change a batch once, before the append.
func TestLeaderChangesBatch(t *testing.T) {
	w := newWorld(t)
	w.settings.LogAppendTime = true
	w.settings.CompressionProducer = false
	w.settings.Compression = record.Zstd
	w.open()
	r := w.send(makeBatch(t, record.Builder{Codec: record.Gzip}, 5, 3, 50), logio.AcksAll)
	if r.Err != nil || r.AppendTime != w.now.UnixMilli() {
		t.Fatalf("%+v", r)
	}
	got := record.Batch(w.readAll(0)[0])
	if err := got.Check(); err != nil {
		t.Fatal(err)
	}
	if got.Codec() != record.Zstd || !got.LogAppendTime() || got.MaxTimestamp() != w.now.UnixMilli() {
		t.Fatalf("codec %s, max timestamp %d", got.Codec(), got.MaxTimestamp())
	}
	var rd record.Reader
	if err := rd.Reset(got, 0); err != nil {
		t.Fatal(err)
	}
	n := 0
	for rd.Next() {
		if len(rd.Record().Value) != 50 {
			t.Fatal("value changed")
		}
		n++
	}
	if rd.Err() != nil || n != 3 {
		t.Fatalf("%d records, %v", n, rd.Err())
	}
}

// A full disk refuses appends with a retriable error, reads go on, and when
// there is room again everything is written and appends are taken.
func TestDiskFull(t *testing.T) {
	w := newWorld(t)
	faulty := disk.NewFault(w.mem)
	w.fs = faulty
	w.open()
	w.append(w.batch(1, 100, nil))
	faulty.Add(disk.Rule{When: func(c disk.Call) bool { return c.Op == disk.OpWrite || c.Op == disk.OpCreate }, Err: disk.ErrFull})
	if err := w.p.WriteSegments(context.Background(), true); !errors.Is(err, disk.ErrFull) {
		t.Fatalf("write: %v", err)
	}
	w.refused(w.batch(1, 100, nil), logio.ErrStorage)
	if len(w.readAll(0)) != 1 {
		t.Fatal("reads stopped")
	}
	faulty.Clear()
	w.write(true)
	w.append(w.batch(1, 100, nil))
	if got := w.p.Sealed(0); len(got) != 1 || got[0].Next != 1 {
		t.Fatalf("sealed %+v", got)
	}
}

// A failed sync is final: appends are refused for ever, reads go on.
func TestSyncFails(t *testing.T) {
	w := newWorld(t)
	faulty := disk.NewFault(w.mem)
	w.fs = faulty
	w.open()
	w.append(w.batch(1, 100, nil))
	faulty.Add(disk.Rule{When: func(c disk.Call) bool { return c.Op == disk.OpSync && c.Name != "" }, Err: errors.New("medium error"), Times: 1})
	for range 2 {
		if err := w.p.WriteSegments(context.Background(), false); err == nil {
			t.Fatal("write after a failed sync")
		}
		w.refused(w.batch(1, 100, nil), logio.ErrStorage)
	}
	if len(w.readAll(0)) != 1 {
		t.Fatal("reads stopped")
	}
}

// When the journal dies the waiting producer gets ErrStorage and later ones
// too; what was committed stays readable.
func TestReplicaStops(t *testing.T) {
	w := newWorld(t)
	faulty := disk.NewFault(w.mem)
	w.fs = faulty
	w.open()
	w.append(w.batch(1, 100, nil))
	faulty.Add(disk.Rule{When: func(c disk.Call) bool { return c.Op == disk.OpSync }, Err: errors.New("medium error")})
	w.refused(w.batch(1, 100, nil), logio.ErrStorage)
	w.refused(w.batch(1, 100, nil), logio.ErrStorage)
	if len(w.readAll(0)) != 1 {
		t.Fatal("reads stopped")
	}
}

// Bytes in no segment are bounded for one partition and for all.
func TestBusy(t *testing.T) {
	w := newWorld(t)
	w.pending = 2000
	w.open()
	w.append(w.batch(1, 1500, nil))
	w.refused(w.batch(1, 1500, nil), logio.ErrBusy)
	w.write(false)
	w.append(w.batch(1, 1500, nil))
	w.write(false)
	if pending, _ := w.p.Pending(); pending != 0 {
		t.Fatalf("%d bytes pending", pending)
	}
	if pending, _ := w.budget.Use(); pending != 0 {
		t.Fatalf("budget counts %d bytes pending", pending)
	}
	w2 := newWorld(t)
	w2.budget = NewBudget(2000, 1<<20)
	w2.open()
	w2.append(w2.batch(1, 1000, nil))
	w2.refused(w2.batch(1, 1000, nil), logio.ErrBusy)
}

// Fetch's checks: range, epochs, and the end of the log.
func TestReadChecks(t *testing.T) {
	w := newWorld(t).open()
	w.append(w.batch(4, 5, nil))
	epoch := w.offsets().Epoch
	ctx := context.Background()
	for _, c := range []struct {
		offset record.Offset
		epoch  record.LeaderEpoch
		want   error
	}{
		{-1, -1, logio.ErrOffsetOutOfRange}, {5, -1, logio.ErrOffsetOutOfRange}, {4, -1, nil}, {0, epoch, nil},
		{0, epoch - 1, logio.ErrFencedEpoch}, {0, epoch + 1, logio.ErrUnknownEpoch},
	} {
		if _, err := w.p.Read(ctx, logio.ReadRequest{Offset: c.offset, BytesMax: 100, CurrentEpoch: c.epoch}); !errors.Is(err, c.want) {
			t.Errorf("read at %d with epoch %d: %v, want %v", c.offset, c.epoch, err, c.want)
		}
	}
	if res := w.read(logio.ReadRequest{BytesMax: 10}); len(res.Batches) != 0 {
		t.Error("a batch that does not fit was given without MinOne")
	}
}

// Trim moves the log start for good: it outlives a crash, and reads below it
// are out of range.
func TestTrim(t *testing.T) {
	w := newWorld(t).open()
	for range 5 {
		w.append(w.batch(2, 5, nil))
	}
	ctx := context.Background()
	if _, err := w.p.Trim(ctx, 11); !errors.Is(err, logio.ErrOffsetOutOfRange) {
		t.Fatalf("trim above the high watermark: %v", err)
	}
	for _, c := range []struct{ before, want record.Offset }{{3, 3}, {2, 3}} {
		if got, err := w.p.Trim(ctx, c.before); err != nil || got != c.want {
			t.Fatalf("trim to %d: %d, %v", c.before, got, err)
		}
	}
	w.write(true)
	w.crash(rand.New(rand.NewPCG(1, 1)))
	w.open()
	if o := w.offsets(); o.LogStart != 3 || o.HighWatermark != 10 {
		t.Fatalf("%+v", o)
	}
	if _, err := w.p.Read(ctx, logio.ReadRequest{Offset: 2, BytesMax: 100, CurrentEpoch: -1}); !errors.Is(err, logio.ErrOffsetOutOfRange) {
		t.Fatal(err)
	}
	if got, err := w.p.Trim(ctx, -1); err != nil || got != 10 {
		t.Fatalf("trim to the end: %d, %v", got, err)
	}
	w.retain()
	if o := w.offsets(); o.LogStart != 10 || o.LocalLogStart != 10 || len(w.p.Sealed(0)) != 0 {
		t.Fatalf("%+v, sealed %v", o, w.p.Sealed(0))
	}
}

// Notify calls once when its end passes, at once if it has, and never after
// cancel.
func TestNotify(t *testing.T) {
	w := newWorld(t).open()
	calls := map[string]int{}
	note := func(name string) func() { return func() { calls[name]++ } }
	w.p.Notify(logio.ReadUncommitted, 0, note("first"))
	w.p.Notify(logio.ReadUncommitted, 2, note("third"))
	w.p.Notify(logio.ReadUncommitted, 0, note("never"))()
	w.append(w.batch(2, 5, nil))
	w.p.Notify(logio.ReadUncommitted, 1, note("at once"))
	if calls["first"] != 1 || calls["third"] != 0 || calls["never"] != 0 || calls["at once"] != 1 {
		t.Fatalf("%v", calls)
	}
	w.append(w.batch(1, 5, nil))
	if calls["first"] != 1 || calls["third"] != 1 || calls["never"] != 0 {
		t.Fatalf("%v", calls)
	}
}

// Look-ups by time give the same record wherever it lies.
func TestFind(t *testing.T) {
	w := newWorld(t)
	w.budget = NewBudget(1<<30, 0)
	w.settings.TimestampAfterMax = math.MaxInt64
	w.open()
	// Times of the records: 1000 1001 | 5000 | 3000 3001 3002 | 9000
	for _, b := range []struct{ ms, n int }{{1000, 2}, {5000, 1}, {3000, 3}, {9000, 1}} {
		w.append(makeBatch(t, record.Builder{}, int64(b.ms), b.n, 5))
	}
	epoch := w.offsets().Epoch
	check := func(where string) {
		t.Helper()
		for _, c := range []struct {
			ts     int64
			offset record.Offset
			at     int64
		}{
			{0, 0, 1000}, {1001, 1, 1001}, {1002, 2, 5000}, {5001, 6, 9000}, {9001, -1, -1},
			{logio.TimeLatest, 7, -1}, {logio.TimeEarliest, 0, -1}, {logio.TimeMaxTimestamp, 6, 9000},
			{logio.TimeEarliestLocal, 0, -1}, {logio.TimeLatestTiered, -1, -1},
		} {
			f, err := w.p.Find(context.Background(), c.ts, logio.ReadUncommitted)
			if err != nil || f.Offset != c.offset || f.Timestamp != c.at || (f.Offset >= 0 && f.Epoch != epoch) {
				t.Errorf("%s: find %d: %+v, %v; want %d at %d", where, c.ts, f, err, c.offset, c.at)
			}
		}
	}
	check("in memory")
	w.write(false)
	check("in the active segment")
	w.write(true)
	check("in a sealed segment")
	if err := w.p.SetArchived(context.Background(), 3, 1); err != nil {
		t.Fatal(err)
	}
	if f, err := w.p.Find(context.Background(), logio.TimeLatestTiered, 0); err != nil || f.Offset != 2 {
		t.Fatalf("latest tiered: %+v, %v", f, err)
	}
}

// The leader-epoch history grows with each term that writes, outlives crashes
// and answers OffsetForLeaderEpoch.
func TestEpochEnd(t *testing.T) {
	w := newWorld(t)
	var epochs []record.LeaderEpoch
	for i := range 3 {
		w.open()
		epochs = append(epochs, w.offsets().Epoch)
		w.append(w.batch(2, 5, nil))
		if i == 1 {
			w.write(true)
		}
		w.crash(rand.New(rand.NewPCG(1, 1)))
	}
	w.open() // a term without records
	for i, epoch := range epochs {
		if got, err := w.p.EpochEnd(epoch); err != nil || got != (logio.EpochEnd{Epoch: epoch, End: record.Offset(2*i + 2)}) {
			t.Errorf("end of epoch %d: %+v, %v", epoch, got, err)
		}
	}
	current := w.offsets().Epoch
	if got, _ := w.p.EpochEnd(current); got != (logio.EpochEnd{Epoch: epochs[2], End: 6}) {
		t.Errorf("end of the current epoch: %+v", got)
	}
	if got, _ := w.p.EpochEnd(current + 1); got.Epoch != -1 {
		t.Errorf("end of a future epoch: %+v", got)
	}
	if h := w.p.EpochHistory(); len(h) != 3 || h[2].Start != 4 {
		t.Errorf("history %v", h)
	}
}

// Before it leads a replica answers ErrNotLeader, before its term is confirmed
// ErrNotAvailable.
func TestNotReady(t *testing.T) {
	w := newWorld(t)
	if err := w.start(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.p.Offsets(); !errors.Is(err, logio.ErrNotLeader) {
		t.Fatalf("follower: %v", err)
	}
	w.p.StateMachine().Lead(multiraft.Leadership{Term: 9, Leader: 1, Leading: true})
	for name, err := range map[string]error{
		"offsets": second(w.p.Offsets()),
		"read":    second(w.p.Read(context.Background(), logio.ReadRequest{CurrentEpoch: -1})),
		"find":    second(w.p.Find(context.Background(), -1, 0)),
		"epoch":   second(w.p.EpochEnd(1)),
		"trim":    second(w.p.Trim(context.Background(), -1)),
	} {
		if !errors.Is(err, logio.ErrNotAvailable) {
			t.Errorf("%s of an unconfirmed leader: %v", name, err)
		}
	}
}

// A leader whose term is not confirmed does not answer below the high watermark
// that it knows either: the leader before it may have shown a higher one, and
// the answer would take it back.
func TestUnconfirmedLeaderShowsNoMarks(t *testing.T) {
	w := newWorld(t).open()
	w.append(w.batch(3, 5, nil))
	term := w.p.Leadership().Term
	w.p.StateMachine().Lead(multiraft.Leadership{Term: term + 1, Leader: 1, Leading: true})
	if res, err := w.p.Read(context.Background(), logio.ReadRequest{BytesMax: 100, MinOne: true, CurrentEpoch: -1}); !errors.Is(err, logio.ErrNotAvailable) {
		t.Errorf("read below the known high watermark: %+v, %v", res, err)
	}
}

func second[T any](_ T, err error) error { return err }

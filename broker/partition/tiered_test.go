package partition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"tidewater/internal/disk"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// bucket is a Remote that holds what a test archived into it.
type bucket struct {
	segments []bucketSegment
	err      error
}

type bucketSegment struct {
	SealedSegment
	batches [][]byte
	history History
}

// archive copies the sealed segments that are not in the bucket yet, and has
// the log commit that.
func (b *bucket) archive(t testing.TB, p *Partition) {
	t.Helper()
	ctx := context.Background()
	o, leading := p.Marks()
	if !leading {
		t.Fatal("archive of a partition that is not led")
	}
	for _, s := range p.Sealed(o.Archived) {
		one := bucketSegment{SealedSegment: s}
		for at := s.Base; at < s.Next; {
			got, err := p.Batches(ctx, at, s.Next, 2000)
			if err != nil || len(got) == 0 {
				t.Fatalf("batches at %d: %d, %v", at, len(got), err)
			}
			one.batches = append(one.batches, got...)
			at = record.Batch(got[len(got)-1]).NextOffset()
		}
		var err error
		if one.history, err = p.History(ctx, s.Base, s.Next); err != nil {
			t.Fatal(err)
		}
		b.segments = append(b.segments, one)
		if err := p.SetArchived(ctx, s.Next, uint64(len(b.segments))); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *bucket) Read(_ context.Context, r logio.ReadRequest) (logio.ReadResult, error) {
	var res logio.ReadResult
	for _, s := range b.segments {
		for _, batch := range s.batches {
			if record.Batch(batch).NextOffset() <= r.Offset {
				continue
			}
			if res.Size()+len(batch) > r.BytesMax && !(r.MinOne && len(res.Batches) == 0) {
				return res, b.err
			}
			res.Batches = append(res.Batches, batch)
			res.Bytes[logio.FromCache] += int64(len(batch))
		}
	}
	return res, b.err
}

func (b *bucket) Find(_ context.Context, ts int64) (logio.FoundOffset, error) {
	for _, s := range b.segments {
		for _, batch := range s.batches {
			if h := record.Batch(batch); h.MaxTimestamp() >= ts {
				return logio.FoundOffset{Offset: h.BaseOffset(), Timestamp: h.MaxTimestamp(), Epoch: h.Epoch()}, b.err
			}
		}
	}
	return logio.FoundOffset{Offset: -1}, b.err
}

func (b *bucket) FindMax(_ context.Context, from, end record.Offset, atLeast int64) (logio.FoundOffset, error) {
	var all []record.Batch
	for _, s := range b.segments {
		for _, batch := range s.batches {
			all = append(all, batch)
		}
	}
	at, ms, epoch, err := record.Newest(all, from, end)
	if err != nil || ms < atLeast {
		return logio.FoundOffset{Offset: -1, Timestamp: -1, Epoch: -1}, err
	}
	return logio.FoundOffset{Offset: at, Timestamp: ms, Epoch: epoch}, b.err
}

func (b *bucket) Keep(_ context.Context, olderThan, bytesMax int64) (record.Offset, error) {
	total := int64(0)
	for _, s := range b.segments {
		total += s.Bytes
	}
	keep := record.Offset(0)
	for _, s := range b.segments {
		if !(olderThan >= 0 && s.MaxTimestamp < olderThan) && !(bytesMax >= 0 && total-s.Bytes >= bytesMax) {
			return s.Base, b.err
		}
		total -= s.Bytes
		keep = s.Next
	}
	return keep, b.err
}

// restored is what a restore would find in the bucket.
func (b *bucket) restored(logStart record.Offset, term uint64) *Restored {
	last := b.segments[len(b.segments)-1]
	return &Restored{
		Next: last.Next, LogStart: logStart, Archived: last.Next, Manifest: uint64(len(b.segments)),
		Epochs: last.history.Epochs, Producers: last.history.ProducersAtEnd, FloorTerm: term,
	}
}

// TestRetentionHistories plays the scripts of testdata/retention.
func TestRetentionHistories(t *testing.T) {
	datadriven.Walk(t, "testdata/retention", func(t *testing.T, path string) {
		w := newWorld(t)
		b := &bucket{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return retentionStep(t, w, b, d) })
	})
}

func retentionStep(t *testing.T, w *world, b *bucket, d *datadriven.TestData) string {
	switch d.Cmd {
	case "open":
		if d.HasArg("tiered") {
			w.settings.Tiered = true
			w.remote = b
		}
		w.fault.TrimBeforeArchived = d.HasArg("trim-before-archived")
		w.open()
	case "configure":
		for _, a := range d.CmdArgs {
			var n int64
			a.Scan(t, 0, &n)
			switch a.Key {
			case "retention-ms":
				w.settings.Retention = time.Duration(n) * time.Millisecond
			case "retention-bytes":
				w.settings.RetentionBytes = n
			case "local-ms":
				w.settings.LocalRetention = time.Duration(n) * time.Millisecond
			case "local-bytes":
				w.settings.LocalRetentionBytes = n
			}
		}
		w.p.Configure(w.settings)
	case "segments":
		// One sealed segment of one batch of about 1,000 bytes each.
		var n int
		d.ScanArgs(t, "n", &n)
		for range n {
			w.append(w.batch(2, 450, nil))
			w.write(true)
		}
	case "append":
		w.append(w.batch(2, 450, nil))
	case "write":
		w.write(d.HasArg("seal"))
	case "pass":
		var n int
		d.ScanArgs(t, "ms", &n)
		w.now = w.now.Add(time.Duration(n) * time.Millisecond)
	case "archive":
		b.archive(t, w.p)
	case "pin":
		var n int
		d.ScanArgs(t, "at", &n)
		w.pin = record.Offset(n)
	case "retain":
		w.retain()
	case "crash":
		w.crash(rand.New(rand.NewPCG(1, 1)))
		w.open()
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	return showLog(w)
}

func showLog(w *world) string {
	o := w.offsets()
	var s strings.Builder
	fmt.Fprintf(&s, "log [%d, %d) local from %d archived %d; sealed", o.LogStart, o.HighWatermark, o.LocalLogStart, o.Archived)
	for _, in := range w.p.Sealed(0) {
		fmt.Fprintf(&s, " %d-%d", in.Base, in.Next)
	}
	names, err := listSnapshots(w.fs, "log/t-4")
	if err != nil {
		w.t.Fatal(err)
	}
	fmt.Fprintf(&s, "; producer snapshots %v\n", names)
	return s.String()
}

// The whole log of a tiered topic reads as the same bytes wherever they are,
// and the answer says where: bucket, disk, memory.
func TestTieredReads(t *testing.T) {
	w := newWorld(t)
	b := &bucket{}
	w.remote, w.settings.Tiered = b, true
	w.budget = NewBudget(1<<30, 0)
	w.open()
	for range 6 {
		w.append(w.batch(2, 450, nil))
		w.write(true)
	}
	before := bytes.Join(w.readAll(0), nil)
	b.archive(t, w.p)
	w.settings.LocalRetentionBytes = 2500
	w.p.Configure(w.settings)
	w.retain()
	w.append(w.batch(2, 450, nil))
	o := w.offsets()
	if o.LocalLogStart != 6 || o.LogStart != 0 || o.Archived != 12 {
		t.Fatalf("%+v", o)
	}
	var from [logio.SourceCount]int64
	var got [][]byte
	for at := record.Offset(0); at < o.HighWatermark; {
		res := w.read(logio.ReadRequest{Offset: at, BytesMax: 3000, MinOne: true})
		for i, n := range res.Bytes {
			from[i] += n
		}
		got = append(got, res.Batches...)
		at = record.Batch(got[len(got)-1]).NextOffset()
	}
	if all := bytes.Join(got, nil); !bytes.Equal(all[:len(before)], before) {
		t.Fatal("bytes differ")
	}
	if from[logio.FromCache] == 0 || from[logio.FromDisk] == 0 || from[logio.FromMemory] == 0 {
		t.Fatalf("bytes came from %v", from)
	}
	f, err := w.p.Find(context.Background(), 0, logio.ReadUncommitted)
	if err != nil || f.Offset != 0 {
		t.Fatalf("find in the bucket: %+v, %v", f, err)
	}
	b.err = errors.New("bucket is away")
	if _, err := w.p.Read(context.Background(), logio.ReadRequest{BytesMax: 100, MinOne: true, CurrentEpoch: -1}); !errors.Is(err, logio.ErrStorage) {
		t.Fatalf("read without the bucket: %v", err)
	}
	b.err, b.segments = nil, b.segments[3:]
	if _, err := w.p.Read(context.Background(), logio.ReadRequest{BytesMax: 100, MinOne: true, CurrentEpoch: -1}); errors.Is(err, logio.ErrOffsetOutOfRange) || err == nil {
		t.Fatalf("read of what the bucket lost: %v", err)
	}
	if res := w.read(logio.ReadRequest{Offset: 8, BytesMax: 100, MinOne: true}); len(res.Batches) != 1 {
		t.Fatal("the hot part needs the bucket")
	}
}

// The newest record is the same one wherever it and the others lie: first of
// its timestamp, not below the log start, not past what the isolation shows.
func TestNewestOverAllTiers(t *testing.T) {
	times := []int64{3000, 9000, 1000, 9000, 8000, 2000, 8000}
	newest := func(from int) (record.Offset, int64) {
		at, ms := record.Offset(-1), int64(-1)
		for i := from; i < len(times); i++ {
			if times[i] > ms {
				at, ms = record.Offset(i), times[i]
			}
		}
		return at, ms
	}
	for cold := range len(times) + 1 { // so many segments only in the bucket
		for _, warm := range []int{len(times), 5} { // written to segments, the others in memory
			w := newWorld(t)
			b := &bucket{}
			w.remote, w.settings.Tiered = b, true
			w.settings.TimestampAfterMax = math.MaxInt64
			w.budget = NewBudget(1<<30, 0)
			w.open()
			check := func(from int) {
				t.Helper()
				at, ms := newest(from)
				f, err := w.p.Find(context.Background(), logio.TimeMaxTimestamp, logio.ReadUncommitted)
				if err != nil || f.Offset != at || f.Timestamp != ms || (f.Epoch < 0) != (at < 0) {
					t.Fatalf("%d cold, %d in segments, log starts at %d: %+v, %v; want %d at %d", cold, warm, from, f, err, at, ms)
				}
			}
			if f, err := w.p.Find(context.Background(), logio.TimeMaxTimestamp, logio.ReadUncommitted); err != nil || f.Offset != -1 || f.Timestamp != -1 {
				t.Fatalf("newest of nothing: %+v, %v", f, err)
			}
			for i, ms := range times {
				w.append(makeBatch(t, record.Builder{}, ms, 1, 5))
				if i < warm {
					w.write(i%2 == 1 || i < cold)
				}
			}
			b.archive(t, w.p)
			w.settings.LocalRetentionBytes = int64(max(warm-cold, 0) * len(makeBatch(t, record.Builder{}, 0, 1, 5)))
			w.p.Configure(w.settings)
			w.retain()
			if o := w.offsets(); o.LocalLogStart != record.Offset(min(cold, warm)) {
				t.Fatalf("%d of %d are to be cold: %+v", cold, warm, o)
			}
			check(0)
			for from := range len(times) + 1 {
				if _, err := w.p.Trim(context.Background(), record.Offset(from)); err != nil {
					t.Fatal(err)
				}
				check(from)
			}
		}
	}
}

// A partition restored from a bucket onto an empty disk goes on at the
// bucket's end, knows the old producers, epochs and log start, reads the old
// part from the bucket, has a higher epoch than any before, and keeps all that
// over a crash before and after its first segment.
func TestRestored(t *testing.T) {
	w := newWorld(t)
	b := &bucket{}
	w.remote, w.settings.Tiered = b, true
	w.open()
	who := record.Producer{ID: 42, Epoch: 3, Sequence: 10}
	sent := w.batch(2, 100, &who)
	w.append(w.batch(3, 100, nil))
	w.append(sent)
	w.write(true)
	old := w.readAll(0)
	epoch := w.offsets().Epoch
	b.archive(t, w.p)

	w.mem = disk.NewMem(0)
	w.fs = w.mem
	w.restored = b.restored(1, 90)
	for round := range 3 {
		w.open()
		o := w.offsets()
		if o.LogStart != 1 || o.HighWatermark < 5 || o.LocalLogStart != 5 || o.Archived != 5 || o.Epoch <= 90 {
			t.Fatalf("round %d: %+v", round, o)
		}
		if base := w.append(sent); base != 3 {
			t.Fatalf("round %d: duplicate from before the restore is at %d", round, base)
		}
		w.refused(w.batch(1, 5, &record.Producer{ID: 42, Epoch: 2}), logio.ErrInvalidProducerEpoch)
		if got := w.readAll(1); !bytes.Equal(bytes.Join(got[:2], nil), bytes.Join(old, nil)) {
			t.Fatalf("round %d: the old part differs", round)
		}
		if end, err := w.p.EpochEnd(epoch); err != nil || end.End != 5 {
			t.Fatalf("round %d: end of the old epoch: %+v, %v", round, end, err)
		}
		w.append(w.batch(1, 100, nil))
		if round > 0 {
			w.write(true)
		}
		w.crash(rand.New(rand.NewPCG(uint64(round), 1)))
	}
	w.restored.Producers = w.restored.Producers[:20]
	w.mem = disk.NewMem(0)
	w.fs = w.mem
	if err := w.start(); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("restore from a broken producer snapshot: %v", err)
	}
}

// What the archive gets beside a segment is the producers' state at its two
// ends and the epochs below its end.
func TestHistory(t *testing.T) {
	w := newWorld(t).open()
	for seq := range int32(3) {
		w.append(w.batch(1, 10, &record.Producer{ID: 5, Sequence: seq}))
		w.write(true)
	}
	h, err := w.p.History(context.Background(), 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	for at, data := range map[record.Offset][]byte{1: h.ProducersAtBase, 2: h.ProducersAtEnd} {
		_, next, s, err := decodeSnapshot(data)
		if err != nil || next != at || s.byID[5].recent[len(s.byID[5].recent)-1].base != at-1 {
			t.Errorf("producers at %d: offset %d, %v", at, next, err)
		}
	}
	if len(h.Epochs) != 1 {
		t.Errorf("epochs %v", h.Epochs)
	}
	if h, err := w.p.History(context.Background(), 0, 99); err != nil || h.ProducersAtBase == nil || h.ProducersAtEnd != nil {
		t.Errorf("history at an offset without snapshot: %+v, %v", h, err)
	}
}

// A damaged producer snapshot is passed over; the state is built from batches.
// The producers are too many for the mark.
func TestDamagedSnapshot(t *testing.T) {
	w := newWorld(t).open()
	b := w.batch(1, 10, &record.Producer{ID: 5, Sequence: 0})
	w.append(b)
	for id := range int64(50) {
		w.append(w.batch(1, 10, &record.Producer{ID: 100 + id, Sequence: 0}))
	}
	w.write(true)
	w.close()
	if err := writeSnapshot(w.fs, "log/t-4", 51, []byte("not a snapshot")); err != nil {
		t.Fatal(err)
	}
	w.open()
	if base := w.append(b); base != 0 || w.offsets().LogEnd != 51 {
		t.Fatalf("duplicate is at %d", base)
	}
}

// Few producers stand in the mark: a start reads neither snapshots nor batches
// for them, whether the segment is sealed or not.
func TestProducersComeWithTheMark(t *testing.T) {
	w := newWorld(t).open()
	var sent []record.Batch
	for seq := range int32(5) {
		sent = append(sent, w.batch(1, 200<<10, &record.Producer{ID: 5, Sequence: seq}))
		w.append(sent[seq])
		w.write(seq == 3)
	}
	w.close()
	if err := w.fs.Remove(snapshotName("log/t-4", 4)); err != nil {
		t.Fatal(err)
	}
	var read int64
	fault := disk.NewFault(w.mem)
	fault.Before(func(c disk.Call) {
		if c.Op == disk.OpRead && strings.HasPrefix(c.Name, "log/") {
			read += int64(c.Bytes)
		}
	})
	w.fs = fault
	w.open()
	if read > 400<<10 { // the active segment's last chunk is checked
		t.Errorf("the start read %d bytes of segments and snapshots", read)
	}
	for i, b := range sent {
		if base := w.append(b); base != record.Offset(i) || w.offsets().LogEnd != 5 {
			t.Errorf("duplicate of %d is at %d", i, base)
		}
	}
}

package partition

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/broker/segment"
	"tidewater/internal/disk"
	"tidewater/internal/logio"
	"tidewater/internal/record"
	"tidewater/internal/topicconfig"
)

// world is one partition over a real journal, a real group of one and real
// segments on a disk in memory, in one goroutine: step lets everything that
// waits happen.
type world struct {
	t         testing.TB
	mem       *disk.Mem
	fs        disk.FS // mem, perhaps with faults
	now       time.Time
	settings  topicconfig.Settings
	remote    Remote
	restored  *Restored
	budget    *Budget
	pending   int64
	fault     Fault
	fenced    bool
	pin       record.Offset
	node      *multiraft.Node
	journal   *journal.Journal
	p         *Partition
	fileBytes int64
}

var testID = record.PartitionID{Topic: record.TopicID{1, 2, 3}, Partition: 4}

func testSettings() topicconfig.Settings {
	s := topicconfig.Defaults()
	s.Retention, s.RetentionBytes = topicconfig.Unlimited, topicconfig.Unlimited
	s.LocalRetention, s.LocalRetentionBytes = topicconfig.Unlimited, topicconfig.Unlimited
	return s
}

func testIdentity() segment.Identity {
	return segment.Identity{ClusterID: [16]byte{9, 9}, Incarnation: 7, Partition: testID}
}

func newWorld(t testing.TB) *world {
	w := &world{
		t: t, mem: disk.NewMem(0), now: time.UnixMilli(1_700_000_000_000), settings: testSettings(),
		budget: NewBudget(1<<30, 1<<20), pin: -1, fileBytes: 1 << 20,
	}
	w.fs = w.mem
	return w
}

// open starts the partition on what the disk holds, until it leads.
func (w *world) open() *world {
	w.t.Helper()
	if err := w.start(); err != nil {
		w.t.Fatal(err)
	}
	w.step()
	if l := w.p.Leadership(); !l.Ready {
		w.t.Fatalf("leadership is %+v", l)
	}
	return w
}

func (w *world) start() error {
	quiet := slog.New(slog.DiscardHandler)
	j, groups, err := journal.Open(journal.Config{FS: w.fs, Dir: "journal", ClusterID: testIdentity().ClusterID, FileBytes: w.fileBytes, FirstBytes: w.fileBytes, Log: quiet})
	if err != nil {
		return err
	}
	w.journal = j
	if w.node, err = multiraft.NewNode(multiraft.Config{Node: 1, Journal: j, Recovered: groups, Log: quiet}); err != nil {
		return err
	}
	cfg := Config{
		ID: testID, Topic: "t", Identity: testIdentity(), Host: OnNode(w.node), FS: w.fs, Dir: "log/t-4",
		Restored: w.restored, Remote: w.remote, Settings: w.settings, Budget: w.budget, PendingBytesMax: w.pending,
		Now: func() time.Time { return w.now }, Fenced: func() bool { return w.fenced }, Fault: w.fault, Log: quiet,
		Pin: func() (record.Offset, bool) { return w.pin, w.pin >= 0 },
		Wait: func(ctx context.Context, done <-chan struct{}) error {
			w.step()
			<-done
			return ctx.Err()
		},
	}
	if g, ok := w.node.Recovered(testID); ok {
		cfg.Mark = &g.Mark
	}
	if w.p, err = Open(cfg); err != nil {
		return err
	}
	gc := multiraft.GroupConfig{ID: testID, Replica: 1, StateMachine: w.p.StateMachine(), Mark: w.p.StartMark()}
	if w.restored != nil {
		gc.FloorTerm = w.restored.FloorTerm
	}
	return w.node.Start(gc)
}

func (w *world) step() {
	for w.node.Step() {
	}
}

// close ends the partition and its group, as a clean stop does.
func (w *world) close() {
	w.t.Helper()
	w.node.Close()
	if err := errors.Join(w.p.Close(), w.journal.Close()); err != nil {
		w.t.Fatal(err)
	}
}

// crash cuts the power and leaves a disk that may be opened again.
func (w *world) crash(rng *rand.Rand) {
	w.mem.Crash(rng)
	w.fs = w.mem
	w.budget = NewBudget(1<<30, 1<<20)
}

// batch makes one of n records, each with a value of size bytes.
func (w *world) batch(n, size int, who *record.Producer) record.Batch {
	w.t.Helper()
	return makeBatch(w.t, record.Builder{Producer: who}, w.now.UnixMilli(), n, size)
}

func makeBatch(t testing.TB, b record.Builder, ms int64, n, size int) record.Batch {
	t.Helper()
	for i := range n {
		b.Add(ms+int64(i), []byte{byte(i)}, slices.Repeat([]byte{byte('a' + i%26)}, size))
	}
	batch, err := b.Build(0)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// send appends and answers what the log answered; nil when it did not yet.
func (w *world) send(b record.Batch, acks logio.Acks) *logio.AppendResult {
	var got *logio.AppendResult
	w.p.Append(logio.AppendRequest{Batch: slices.Clone(b), Acks: acks, Done: func(r logio.AppendResult) {
		if got != nil {
			w.t.Error("Done was called twice")
		}
		got = &r
	}})
	w.step()
	return got
}

// append wants success and gives the base offset.
func (w *world) append(b record.Batch) record.Offset {
	w.t.Helper()
	r := w.send(b, logio.AcksAll)
	if r == nil || r.Err != nil {
		w.t.Fatalf("append: %+v", r)
	}
	return r.BaseOffset
}

func (w *world) refused(b record.Batch, want error) {
	w.t.Helper()
	if r := w.send(b, logio.AcksAll); r == nil || !errors.Is(r.Err, want) {
		w.t.Fatalf("append: %+v, want %v", r, want)
	}
}

func (w *world) write(seal bool) {
	w.t.Helper()
	if err := w.p.WriteSegments(context.Background(), seal); err != nil {
		w.t.Fatal(err)
	}
	w.step()
}

func (w *world) retain() {
	w.t.Helper()
	if err := w.p.Retain(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.step()
	if err := w.p.Retain(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(r logio.ReadRequest) logio.ReadResult {
	w.t.Helper()
	r.CurrentEpoch = -1
	res, err := w.p.Read(context.Background(), r)
	if err != nil {
		w.t.Fatalf("read %+v: %v", r, err)
	}
	return res
}

// readAll gives everything from an offset on.
func (w *world) readAll(from record.Offset) [][]byte {
	w.t.Helper()
	var out [][]byte
	for {
		res := w.read(logio.ReadRequest{Offset: from, BytesMax: 64 << 10, MinOne: true})
		if len(res.Batches) == 0 {
			return out
		}
		out = append(out, res.Batches...)
		from = record.Batch(out[len(out)-1]).NextOffset()
	}
}

func (w *world) offsets() logio.Offsets {
	w.t.Helper()
	o, err := w.p.Offsets()
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

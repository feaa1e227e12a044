package partition

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/internal/disk"
	"tidewater/internal/logio"
	"tidewater/internal/record"
	"tidewater/internal/topicconfig"
)

// fleet is one partition on several brokers, each with a real journal, group
// and segments on its own disk in memory, over a network that loses nothing, in
// one goroutine. Replica ids are the brokers'.
type fleet struct {
	t           testing.TB
	rng         *rand.Rand
	now         time.Time
	settings    topicconfig.Settings
	remote      Remote
	brokers     []*station
	net         []multiraft.Message
	fileBytes   int64 // of a journal file
	copies      int   // streams of segments that were begun
	copiedBytes int   // of these streams
	// cutCopy ends each stream after that many bytes, 0: none.
	cutCopy int
	// inCopy is called in the middle of each stream.
	inCopy func()
}

// station is one broker of a fleet.
type station struct {
	f      *fleet
	id     int
	mem    *disk.Mem
	fs     disk.FS
	boots  uint64
	budget *Budget
	node   *multiraft.Node
	p      *Partition
	origin multiraft.Origin
	down   bool
}

func newFleet(t testing.TB, seed uint64, n int) *fleet {
	f := &fleet{t: t, rng: rand.New(rand.NewPCG(seed, 4)), now: time.UnixMilli(1_700_000_000_000), settings: testSettings(), fileBytes: 64 << 10}
	f.settings.SegmentBytes = 8 << 10
	for id := 1; id <= n; id++ {
		b := &station{f: f, id: id, mem: disk.NewMem(0), down: true, origin: multiraft.Joining}
		b.fs = b.mem
		f.brokers = append(f.brokers, b)
	}
	f.brokers[0].origin = multiraft.Founding
	return f
}

// Send implements multiraft.Transport.
func (b *station) Send(messages []multiraft.Message) { b.f.net = append(b.f.net, messages...) }

// Segments implements SegmentSource.
func (b *station) Segments(ctx context.Context, node int32, _ record.PartitionID, request []byte) (io.ReadCloser, error) {
	from := b.f.brokers[node-1]
	if from.down || from == b {
		return nil, errors.New("unreachable")
	}
	b.f.copies++
	var stream bytes.Buffer
	if err := from.p.ServeSegments(ctx, request, &stream); err != nil {
		return nil, err
	}
	b.f.copiedBytes += stream.Len()
	if b.f.inCopy != nil {
		b.f.inCopy()
	}
	if n := b.f.cutCopy; n > 0 && n < stream.Len() {
		stream.Truncate(n)
	}
	return io.NopCloser(&stream), nil
}

// others are the brokers that may mend a segment.
func (b *station) others() (ids []int32) {
	for _, o := range b.f.brokers {
		if o != b && !o.down {
			ids = append(ids, int32(o.id))
		}
	}
	return ids
}

func (b *station) boot() {
	b.f.t.Helper()
	if err := b.start(); err != nil {
		b.f.t.Fatalf("broker %d: %v", b.id, err)
	}
}

func (b *station) start() error {
	f, quiet := b.f, slog.New(slog.DiscardHandler)
	j, groups, err := journal.Open(journal.Config{FS: b.fs, Dir: "journal", ClusterID: testIdentity().ClusterID, FileBytes: f.fileBytes, FirstBytes: f.fileBytes, Log: quiet})
	if err != nil {
		return err
	}
	b.boots++
	b.budget = NewBudget(1<<30, 1<<20)
	if b.node, err = multiraft.NewNode(multiraft.Config{Node: int32(b.id), Journal: j, Recovered: groups, Transport: b, Log: quiet}); err != nil {
		return err
	}
	cfg := Config{
		ID: testID, Topic: "t", Identity: testIdentity(), Host: OnNode(b.node), FS: b.fs, Dir: "log/t-4",
		Remote: f.remote, Settings: f.settings, Budget: b.budget, Now: func() time.Time { return f.now }, Log: quiet, Source: b,
		Wait: f.wait, Replicas: b.others,
	}
	if g, ok := b.node.Recovered(testID); ok {
		cfg.Mark = &g.Mark
	}
	if b.p, err = Open(cfg); err != nil {
		return err
	}
	b.down = false
	for _, o := range f.brokers {
		if o != b && !o.down {
			o.node.PeerUp(int32(b.id), b.boots)
			b.node.PeerUp(int32(o.id), o.boots)
		}
	}
	return b.node.Start(multiraft.GroupConfig{
		ID: testID, Replica: uint64(b.id), Origin: b.origin, StateMachine: b.p.StateMachine(), Mark: b.p.StartMark(),
		NodeOf: func(r uint64) (int32, bool) { return int32(r), true },
	})
}

// stop takes a broker away; its disk keeps what is durable.
func (b *station) stop() {
	b.down = true
	b.mem.Crash(b.f.rng)
	b.fs = b.mem
	for _, o := range b.f.brokers {
		if o != b && !o.down {
			o.node.PeerDown(int32(b.id))
		}
	}
}

// turn lets a broker do what waits; false when the power went meanwhile.
func (b *station) turn(segments bool) (ok bool) {
	defer func() {
		if r := recover(); r != nil && r != (powerCut{}) {
			panic(r)
		} else if r != nil {
			b.stop()
		}
	}()
	for b.node.Step() {
	}
	if segments {
		if err := b.p.WriteSegments(context.Background(), false); err != nil && !errors.Is(err, logio.ErrBusy) {
			b.f.t.Fatalf("broker %d: %v", b.id, err)
		}
	}
	for b.node.Step() {
	}
	return true
}

// run lets ticks pass, with all that follows from them.
func (f *fleet) run(ticks int) {
	for range ticks {
		for _, b := range f.brokers {
			if !b.down {
				b.node.Tick()
				b.turn(true)
			}
		}
		for len(f.net) > 0 {
			m := f.net[0]
			f.net = f.net[1:]
			if to := f.brokers[m.Node-1]; !to.down {
				to.node.Receive([]multiraft.Message{m})
				to.turn(false)
			}
		}
	}
}

// wait is Config.Wait: the world goes on meanwhile.
func (f *fleet) wait(ctx context.Context, done <-chan struct{}) error {
	for range 400 {
		select {
		case <-done:
			return ctx.Err()
		default:
			f.run(1)
		}
	}
	return errors.New("nobody answers")
}

// until runs until fn holds.
func (f *fleet) until(what string, fn func() bool) {
	f.t.Helper()
	for range 40 {
		if fn() {
			return
		}
		f.run(10)
	}
	f.t.Fatalf("never: %s", what)
}

func (f *fleet) leader() *station {
	for _, b := range f.brokers {
		if !b.down && b.p.Leadership().Ready {
			return b
		}
	}
	return nil
}

// append wants success on the leader and gives the base offset.
func (f *fleet) append(batch record.Batch) record.Offset {
	f.t.Helper()
	var got *logio.AppendResult
	f.until("append is answered", func() bool {
		if b := f.leader(); got == nil && b != nil {
			b.p.Append(logio.AppendRequest{Batch: slices.Clone(batch), Acks: logio.AcksAll, Done: func(r logio.AppendResult) { got = &r }})
			f.run(1)
		}
		if got != nil && errors.Is(got.Err, logio.ErrNotLeader) {
			got = nil
		}
		return got != nil
	})
	if got.Err != nil {
		f.t.Fatal(got.Err)
	}
	return got.BaseOffset
}

func (f *fleet) batch(n, size int, seq int32) record.Batch {
	return makeBatch(f.t, record.Builder{Producer: &record.Producer{ID: 7, Sequence: seq}}, f.now.UnixMilli(), n, size)
}

// fill appends n batches of two records from sequence seq on.
func (f *fleet) fill(n int, seq int32) int32 {
	f.t.Helper()
	for range n {
		f.append(f.batch(2, 400, seq))
		seq += 2
	}
	return seq
}

// change proposes a change of members until it holds.
func (f *fleet) change(want string, cc raftpb.ConfChangeV2) {
	f.t.Helper()
	f.until("members "+want, func() bool {
		b, conf := f.leader(), raftpb.ConfState{}
		if b == nil {
			return false
		}
		_ = b.node.Do(testID, func(g *multiraft.Group) {
			if conf = g.ConfState(); members(&conf) != want {
				_, _ = g.ProposeConfChangeV2(cc)
			}
		})
		b.turn(false)
		return members(&conf) == want
	})
}

func members(c *raftpb.ConfState) string {
	return fmt.Sprint(c.Voters, c.Learners, c.VotersOutgoing)
}

func learners(ids ...uint64) raftpb.ConfChangeV2 {
	return confChange(raftpb.ConfChangeAddLearnerNode, ids)
}
func voters(ids ...uint64) raftpb.ConfChangeV2 { return confChange(raftpb.ConfChangeAddNode, ids) }

func confChange(kind raftpb.ConfChangeType, ids []uint64) (cc raftpb.ConfChangeV2) {
	for _, id := range ids {
		cc.Changes = append(cc.Changes, raftpb.ConfChangeSingle{Type: kind, NodeID: id})
	}
	return cc
}

// lead brings leadership to a broker.
func (f *fleet) lead(id int) {
	f.t.Helper()
	f.until(fmt.Sprint("broker ", id, " leads"), func() bool {
		if b := f.leader(); b != nil && b.id != id {
			_ = b.node.Do(testID, func(g *multiraft.Group) { g.Transfer(uint64(id), nil) })
		}
		f.run(3)
		return f.brokers[id-1].p.Leadership().Ready
	})
}

// caughtUp reports whether a broker knows everything the leader knows to be
// committed.
func (f *fleet) caughtUp(id int) func() bool {
	return func() bool {
		b, l := f.brokers[id-1], f.leader()
		if l == nil || b.down {
			return false
		}
		return b.p.highWatermark == l.p.highWatermark && b.p.committed == l.p.committed
	}
}

// same checks that a broker's replica says what the leader's says, from where
// its disk begins.
func (f *fleet) same(id int) {
	f.t.Helper()
	f.until(fmt.Sprint("broker ", id, " has caught up"), f.caughtUp(id))
	a, b := f.leader().p, f.brokers[id-1].p
	from := max(a.localStart, b.localStart, a.marks.logStart)
	if x, y := batchesOf(f.t, a, from), batchesOf(f.t, b, from); !slices.EqualFunc(x, y, bytes.Equal) {
		f.t.Fatalf("broker %d: %d batches from %d on differ from the leader's %d", id, len(y), from, len(x))
	}
	if a.marks.logStart != b.marks.logStart || a.marks.archived != b.marks.archived {
		f.t.Fatalf("broker %d: marks %+v, the leader's %+v", id, b.marks, a.marks)
	}
	if !slices.Equal(a.live.epochs, b.live.epochs) {
		f.t.Fatalf("broker %d: epochs %v, the leader's %v", id, b.live.epochs, a.live.epochs)
	}
	x, y := encodeSnapshot(testIdentity(), a.live.next, &a.live.producers), encodeSnapshot(testIdentity(), b.live.next, &b.live.producers)
	if !bytes.Equal(x, y) {
		f.t.Fatalf("broker %d: producers %+v, the leader's %+v", id, b.live.producers, a.live.producers)
	}
}

func batchesOf(t testing.TB, p *Partition, from record.Offset) [][]byte {
	t.Helper()
	var all [][]byte
	for from < p.highWatermark {
		some, err := p.Batches(context.Background(), from, p.highWatermark, 64<<10)
		if err != nil || len(some) == 0 {
			t.Fatalf("read %s from %d: %d batches, %v", p.Name(), from, len(some), err)
		}
		all = append(all, some...)
		from = record.Batch(some[len(some)-1]).NextOffset()
	}
	return all
}

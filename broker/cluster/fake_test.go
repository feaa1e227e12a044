package cluster

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/record"
)

// fakeRaft is a group of one: what is proposed is committed when the task
// ends, unless held. Its log survives a crash of the store.
type fakeRaft struct {
	m        *Machine
	term     uint64
	leading  bool
	hold     bool
	entries  []fakeEntry
	released record.Index
}

type fakeEntry struct {
	term uint64
	data []byte
}

func (f *fakeRaft) Do(task func(Proposer)) error {
	task(f)
	f.commit()
	return nil
}

func (f *fakeRaft) commit() {
	if !f.hold {
		f.m.Commit(record.Index(len(f.entries)))
	}
}

func (f *fakeRaft) Leading() (uint64, bool) { return f.term, f.leading }

func (f *fakeRaft) Propose(data []byte) (record.Index, error) {
	f.entries = append(f.entries, fakeEntry{f.term, data})
	return record.Index(len(f.entries)), f.m.Append(record.Index(len(f.entries)), f.term, data)
}

func (f *fakeRaft) ReadIndex(done func(record.Index, error)) { done(record.Index(len(f.entries)), nil) }

func (f *fakeRaft) Members() Members { return Members{Voters: []uint64{1}} }

func (f *fakeRaft) Change(raftpb.ConfChangeV2) error { panic("a group of one changes no members") }

func (f *fakeRaft) Transfer(uint64) { panic("a group of one transfers nothing") }

func (f *fakeRaft) Release(at record.Index, term uint64) {
	if f.entries[at-1].term != term || at > f.m.state.v.applied {
		panic("released what is not applied")
	}
	f.released = max(f.released, at)
}

// start replays the log above what was released, as multiraft does, and wins
// the next term.
func (f *fakeRaft) start(t testing.TB, m *Machine) {
	t.Helper()
	f.m = m
	for i := f.released; i < record.Index(len(f.entries)); i++ {
		if err := m.Append(i+1, f.entries[i].term, f.entries[i].data); err != nil {
			t.Fatal(err)
		}
	}
	f.term++
	f.leading = true
	if _, err := f.Propose(nil); err != nil { // the term's empty entry
		t.Fatal(err)
	}
	f.commit()
	m.Lead(Leadership{Term: f.term, Leader: 1, Leading: true, Ready: true})
}

// counting is a source of random bytes that never repeats itself.
type counting struct{ n byte }

func (c *counting) Read(p []byte) (int, error) {
	c.n++
	for i := range p {
		p[i] = c.n
	}
	return len(p), nil
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func open(t testing.TB, fs vfs.FS, raft *fakeRaft) *Controller {
	t.Helper()
	c, err := Open(Config{Node: 1, Raft: raft, FS: fs, Dir: "controller", Log: quiet(),
		Now: func() time.Time { return time.UnixMilli(1_700_000_000_000) }, Random: &counting{byte(8 * raft.term)}})
	if err != nil {
		t.Fatal(err)
	}
	raft.start(t, c.Machine())
	return c
}

var testIdentity = Identity{ClusterID: [16]byte{0xc1}, Incarnation: 1}

// cluster is a bootstrapped controller with the given brokers.
func cluster(t testing.TB, brokers ...int32) (*Controller, *fakeRaft, *vfs.MemFS) {
	t.Helper()
	fs, raft := vfs.NewCrashableMem(), &fakeRaft{}
	c := open(t, fs, raft)
	t.Cleanup(func() { _ = c.Close() })
	bootstrap(t, c, brokers...)
	return c, raft, fs
}

func bootstrap(t testing.TB, c *Controller, brokers ...int32) {
	t.Helper()
	ctx := context.Background()
	if err := c.Bootstrap(ctx, testIdentity, false); err != nil {
		t.Fatal(err)
	}
	for _, b := range brokers {
		if _, err := c.RegisterBroker(ctx, Registration{ID: b, Boot: [16]byte{byte(b)},
			Listeners: []Listener{{Name: "kafka", Host: "127.0.0.1", Port: 9092}}}); err != nil {
			t.Fatal(err)
		}
	}
}

func mustCreate(t testing.TB, c *Controller, name string, partitions int32) *Topic {
	t.Helper()
	topic, err := c.CreateTopic(context.Background(), TopicSpec{Name: name, Partitions: partitions, ReplicationFactor: 1}, false)
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

func equalExports(a, b *View) bool { return bytes.Equal(a.Export(), b.Export()) }

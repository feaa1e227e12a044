package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

// patience bounds how long a test waits for what must happen.
const patience = time.Minute

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// inboxOf collects raft messages and events of a network.
type inboxOf struct {
	mu       sync.Mutex
	messages []multiraft.Message
	events   []string
	wake     chan struct{}
}

func newInboxOf() *inboxOf { return &inboxOf{wake: make(chan struct{}, 1)} }

func (i *inboxOf) signal() {
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

func (i *inboxOf) receive(ms []multiraft.Message) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.messages = append(i.messages, ms...)
	i.signal()
}

func (i *inboxOf) watch(node int32, boot uint64, up bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.events = append(i.events, fmt.Sprintf("%d/%d %v", node, boot, up))
	i.signal()
}

// until waits for a state of the inbox.
func (i *inboxOf) until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		i.mu.Lock()
		done := ok()
		i.mu.Unlock()
		if done {
			return
		}
		select {
		case <-i.wake:
		case <-timeout:
			i.mu.Lock()
			defer i.mu.Unlock()
			t.Fatalf("%s never came: %d messages, events %v", what, len(i.messages), i.events)
		}
	}
}

func (i *inboxOf) count(n int) func() bool { return func() bool { return len(i.messages) >= n } }

func (i *inboxOf) saw(event string) func() bool {
	return func() bool { return strings.Contains(fmt.Sprint(i.events), event) }
}

// member is a network in a test.
type member struct {
	*Network
	in *inboxOf
}

var testCluster = [16]byte{1, 2, 3}

// open opens a network with quick heartbeats that may be missed for long, since
// the machine may be busy.
func open(t testing.TB, node int32, change func(*Config)) *member {
	t.Helper()
	in := newInboxOf()
	cfg := Config{Node: node, Boot: uint64(node)*100 + 1, Addr: "127.0.0.1:0", Log: quiet(), Receive: in.receive,
		ClusterID: func() [16]byte { return testCluster }, HeartbeatEvery: 20 * time.Millisecond, DownAfter: 500}
	if change != nil {
		change(&cfg)
	}
	n, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Watch(in.watch)
	t.Cleanup(func() { _ = n.Close() })
	return &member{n, in}
}

// join makes all know all.
func join(ms ...*member) {
	addrs := map[int32]string{}
	for _, m := range ms {
		addrs[m.cfg.Node] = m.Addr().String()
	}
	for _, m := range ms {
		m.SetPeers(addrs)
	}
}

// pair opens two networks that are up.
func pair(t testing.TB) (a, b *member) {
	t.Helper()
	a, b = open(t, 1, nil), open(t, 2, nil)
	join(a, b)
	a.in.until(t, "b up", a.in.saw("2/201 true"))
	b.in.until(t, "a up", b.in.saw("1/101 true"))
	a.lanesUp(t)
	b.lanesUp(t)
	return a, b
}

// lanesUp waits until every lane to every peer has a connection.
func (m *member) lanesUp(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, p := range *m.peers.Load() {
		for _, l := range p.lanes {
			for {
				if _, err := l.get(ctx); err == nil {
					break
				} else if ctx.Err() != nil {
					t.Fatal(err)
				}
				runtime.Gosched()
			}
		}
	}
}

func group(n int) record.PartitionID {
	return record.PartitionID{Topic: record.TopicID{9, byte(n)}, Partition: int32(n)}
}

func appendOf(node int32, index uint64, data ...[]byte) multiraft.Message {
	m := multiraft.Message{Group: group(1), Node: node, Message: raftpb.Message{
		Type: raftpb.MsgApp, From: 1, To: 2, Term: 7, Index: index, LogTerm: 7, Commit: index}}
	for i, d := range data {
		m.Entries = append(m.Entries, raftpb.Entry{Term: 7, Index: index + 1 + uint64(i), Data: d})
	}
	return m
}

// Messages of both lanes arrive whole and in order within a lane.
func TestMessagesArriveInOrder(t *testing.T) {
	a, b := pair(t)
	const count = 500
	big := bytes.Repeat([]byte("tide"), 50_000)
	go func() {
		for i := range count {
			m := appendOf(2, uint64(i), big[:1+i*i%len(big)], big[:i], nil)
			beat := multiraft.Message{Group: group(2), Node: 2, Message: raftpb.Message{Type: raftpb.MsgHeartbeat, From: 1, To: 2, Term: uint64(i + 1), Context: []byte("c")}}
			a.Send([]multiraft.Message{m, beat})
		}
	}()
	b.in.until(t, "all messages", b.in.count(2*count))
	next := map[raftpb.MessageType]int{}
	for _, m := range b.in.messages {
		i := next[m.Type]
		next[m.Type]++
		if m.Node != 2 {
			t.Fatalf("message for node %d", m.Node)
		}
		if m.Type == raftpb.MsgHeartbeat {
			if m.Term != uint64(i+1) || string(m.Context) != "c" || m.Group != group(2) {
				t.Fatalf("heartbeat %d: %+v", i, m)
			}
			continue
		}
		if m.Index != uint64(i) || len(m.Entries) != 3 || !bytes.Equal(m.Entries[0].Data, big[:1+i*i%len(big)]) ||
			!bytes.Equal(m.Entries[1].Data, big[:i]) || m.Entries[2].Data != nil || m.Entries[2].Index != uint64(i+3) {
			t.Fatalf("append %d arrived as index %d with %d entries", i, m.Index, len(m.Entries))
		}
	}
}

// Calls are answered; errors come back with their code and text.
func TestCalls(t *testing.T) {
	a, b := pair(t)
	errNope := &Error{Code: CodeOwn + 1, Text: "nope"}
	b.Handle(7, func(_ context.Context, from int32, request []byte) ([]byte, error) {
		if string(request) == "fail" {
			return nil, fmt.Errorf("handle for %d: %w", from, errNope)
		}
		return append([]byte("re: "), request...), nil
	})
	ctx := t.Context()
	if got, err := a.Call(ctx, 2, 7, []byte("hello")); err != nil || string(got) != "re: hello" {
		t.Errorf("call: %q, %v", got, err)
	}
	if got, err := a.Ask(ctx, b.Addr().String(), 7, []byte("who")); err != nil || string(got) != "re: who" {
		t.Errorf("ask: %q, %v", got, err)
	}
	_, err := a.Call(ctx, 2, 7, []byte("fail"))
	if !errors.Is(err, errNope) || !strings.Contains(err.Error(), "handle for 1: nope") {
		t.Errorf("failed call: %v", err)
	}
	if _, err := a.Call(ctx, 2, 8, nil); !errors.Is(err, ErrUnknownMethod) {
		t.Errorf("unknown method: %v", err)
	}
	if _, err := a.Call(ctx, 9, 7, nil); !errors.Is(err, ErrDown) {
		t.Errorf("unknown node: %v", err)
	}
}

// A stream longer than its window arrives whole.
func TestStream(t *testing.T) {
	a, b := pair(t)
	data := bytes.Repeat([]byte("0123456789abcdef"), 400_000)
	b.HandleStream(3, func(_ context.Context, _ int32, request []byte, w io.Writer) error {
		_, err := w.Write(data)
		return errors.Join(err, errors.New(string(request)))
	})
	s, err := a.Stream(t.Context(), 2, 3, []byte("the end"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := io.ReadAll(s)
	if !bytes.Equal(got, data) || err == nil || !strings.Contains(err.Error(), "the end") {
		t.Errorf("read %d bytes of %d, %v", len(got), len(data), err)
	}
}

// A closed peer is down at once, long before heartbeats are missed, and up
// again under its new boot id.
func TestDownAndUp(t *testing.T) {
	a, b := pair(t)
	addr := b.Addr().String()
	began := time.Now()
	_ = b.Close()
	a.in.until(t, "b down", a.in.saw("2/201 false"))
	if took := time.Since(began); took > a.cfg.down() {
		t.Errorf("down after %s", took)
	}
	if _, ok := a.Up(2); ok {
		t.Error("still up")
	}
	c := open(t, 2, func(cfg *Config) { cfg.Addr, cfg.Boot = addr, 202 })
	c.SetPeers(map[int32]string{1: a.Addr().String()})
	a.in.until(t, "b up again", a.in.saw("2/202 true"))
	if boot, ok := a.Up(2); !ok || boot != 202 {
		t.Errorf("boot %d, %v", boot, ok)
	}
}

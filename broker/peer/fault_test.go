package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/multiraft"
)

// proxied opens two networks that are up, a's way to b through a proxy.
func proxied(t testing.TB, change func(*Config)) (a, b *member, p *proxy) {
	t.Helper()
	a, b = open(t, 1, change), open(t, 2, change)
	p = newProxy(t, b.Addr().String())
	a.SetPeers(map[int32]string{2: p.addr()})
	b.SetPeers(map[int32]string{1: a.Addr().String()})
	a.in.until(t, "b up", a.in.saw("2/201 true"))
	b.in.until(t, "a up", b.in.saw("1/101 true"))
	a.lanesUp(t)
	b.lanesUp(t)
	return a, b, p
}

// last gives the last event, holding the inbox.
func (i *inboxOf) last(event string) func() bool {
	return func() bool { return len(i.events) > 0 && i.events[len(i.events)-1] == event }
}

// A cut of one way makes both ends call the other down, whichever way it is;
// when the way is mended, both are up again.
func TestOneWayCutIsDownOnBothEnds(t *testing.T) {
	for name, f := range map[string]fault{
		"what is sent vanishes":     {holeOut: true},
		"what is answered vanishes": {holeBack: true},
		"connections end":           {cut: true},
		"nothing is taken":          {stallOut: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b, p := proxied(t, func(c *Config) { c.DownAfter = 15 })
			p.set(f)
			a.in.until(t, "b down", a.in.last("2/201 false"))
			b.in.until(t, "a down", b.in.last("1/101 false"))
			p.set(fault{})
			a.in.until(t, "b up again", a.in.last("2/201 true"))
			b.in.until(t, "a up again", b.in.last("1/101 true"))
		})
	}
}

// A control connection that ends and can be dialed again at once makes nobody
// down.
func TestReconnectWithoutDown(t *testing.T) {
	a, b, p := proxied(t, nil)
	before := a.peer(2).lanes[laneControl].conn.Load()
	p.mu.Lock()
	for c, lane := range p.conns {
		if lane == laneControl {
			_ = c.Close()
		}
	}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		c, err := a.peer(2).lanes[laneControl].get(ctx)
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		if err == nil && c != before {
			break
		}
		runtime.Gosched()
	}
	b.Handle(1, func(context.Context, int32, []byte) ([]byte, error) { return nil, nil })
	if _, err := a.Call(ctx, 2, 1, nil); err != nil {
		t.Error(err)
	}
	a.in.mu.Lock()
	defer a.in.mu.Unlock()
	if len(a.in.events) != 1 {
		t.Errorf("events %v", a.in.events)
	}
}

// Large appends through a slow way do not delay heartbeats, calls or events,
// and arrive in order with nothing missing.
func TestSlowAppendsDelayNobody(t *testing.T) {
	a, b, p := proxied(t, nil)
	b.Handle(1, func(context.Context, int32, []byte) ([]byte, error) { return nil, nil })
	p.set(fault{bytesEach: 8 << 10}, laneAppend)
	const count = 20
	data := make([]byte, 256<<10)
	for i := range count {
		a.Send([]multiraft.Message{appendOf(2, uint64(i), data)})
	}
	a.Send([]multiraft.Message{{Group: group(2), Node: 2, Message: raftpb.Message{Type: raftpb.MsgHeartbeat, From: 1, To: 2}}})
	if _, err := a.Call(t.Context(), 2, 1, nil); err != nil {
		t.Error(err)
	}
	b.in.until(t, "the rest", b.in.count(count+1))
	seen := 0
	for i, m := range b.in.messages {
		switch {
		case m.Type == raftpb.MsgHeartbeat:
			if i == count {
				t.Error("the heartbeat came behind all appends")
			}
		case m.Index != uint64(seen) || len(m.Entries[0].Data) != len(data):
			t.Fatalf("append %d came as %d", seen, m.Index)
		default:
			seen++
		}
	}
}

// A way that is dead for one lane alone makes nobody down: the lane is dialed
// again, and what was under way is sent again by raft.
func TestDeadLaneIsDialedAgain(t *testing.T) {
	a, b, p := proxied(t, func(c *Config) { c.laneBeatEvery, c.laneStallMax = 20*time.Millisecond, 300*time.Millisecond })
	p.set(fault{holeOut: true}, laneAppend)
	a.Send([]multiraft.Message{appendOf(2, 1, []byte("lost"))})
	for a.lane("append").Connects < 2 {
		// The proxy lets the new connection's hello vanish, too, until:
		if a.peer(2).lanes[laneAppend].conn.Load() == nil {
			p.set(fault{})
		}
		runtime.Gosched()
	}
	for found := false; !found; time.Sleep(20 * time.Millisecond) { // on a slow machine beats are late, and the lane is dialed again and again
		a.Send([]multiraft.Message{appendOf(2, 2, []byte("found"))})
		b.in.mu.Lock()
		if found = len(b.in.messages) > 0; found && b.in.messages[0].Index != 2 {
			t.Errorf("%+v", b.in.messages[0])
		}
		b.in.mu.Unlock()
	}
	a.in.mu.Lock()
	defer a.in.mu.Unlock()
	if len(a.in.events) != 1 {
		t.Errorf("events %v", a.in.events)
	}
}

// A peer that does not read fills a bounded queue; what finds no room is
// dropped and counted, and Send never waits.
func TestFullQueueDrops(t *testing.T) {
	const bytesMax = 1 << 20
	a, _, p := proxied(t, func(c *Config) { c.AppendBytesMax = bytesMax })
	p.set(fault{stallOut: true}, laneAppend)
	data := make([]byte, 64<<10)
	sent := int64(0)
	for a.lane("append").MessagesDropped == 0 {
		for range 16 {
			a.Send([]multiraft.Message{appendOf(2, uint64(sent), data)})
			sent++
		}
		if sent > 16<<10 {
			t.Fatal("a gigabyte found room")
		}
	}
	o := a.peer(2).lanes[laneAppend].conn.Load().out
	o.mu.Lock()
	waiting := o.bytes
	o.mu.Unlock()
	if waiting > bytesMax+len(data)+1<<10 {
		t.Errorf("%d bytes wait, the bound is %d", waiting, bytesMax)
	}
	p.set(fault{cut: true}, laneAppend)
	a.Send(nil)
	for a.lane("append").MessagesDropped+a.lane("append").MessagesSent < sent {
		runtime.Gosched() // until the writer has counted what it lost
	}
}

func (m *member) lane(name string) LaneStats {
	for _, p := range m.Stats().Peers {
		for _, l := range p.Lanes {
			if l.Lane == name {
				return l
			}
		}
	}
	return LaneStats{}
}

// Messages to brokers that are not there are dropped at once and counted.
func TestMessagesToNobody(t *testing.T) {
	a := open(t, 1, nil)
	a.Send([]multiraft.Message{appendOf(2, 1)})
	a.SetPeers(map[int32]string{2: "127.0.0.1:1"})
	a.Send([]multiraft.Message{appendOf(2, 1)})
	a.Send([]multiraft.Message{{Node: 2, Message: raftpb.Message{Type: raftpb.MsgStorageAppend}}})
	if s := a.Stats(); s.MessagesStray != 2 || a.lane("append").MessagesDropped != 1 {
		t.Errorf("%+v", s)
	}
}

// A message that no frame holds is dropped; the connection lives.
func TestMessageLargerThanAFrame(t *testing.T) {
	a, b, _ := proxied(t, func(c *Config) { c.FrameBytesMax = 1 << 20 })
	a.Send([]multiraft.Message{appendOf(2, 1, make([]byte, 1<<20)), appendOf(2, 2, []byte("small"))})
	b.in.until(t, "the small one", b.in.count(1))
	if b.in.messages[0].Index != 2 || a.lane("append").MessagesDropped != 1 {
		t.Errorf("%+v, %+v", b.in.messages[0], a.lane("append"))
	}
}

// dialRaw connects to a network as a broker that this test plays.
func dialRaw(t *testing.T, to *member, change func(*hello)) (net.Conn, hello) {
	t.Helper()
	nc, err := net.Dial("tcp", to.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	h := hello{newest: versionNewest, oldest: versionOldest, lane: laneAppend, cluster: testCluster, node: 7, want: -1, boot: 1}
	if change != nil {
		change(&h)
	}
	if _, err := nc.Write(h.appendTo(nil)); err != nil {
		t.Fatal(err)
	}
	theirs, err := readHello(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, theirs
}

// ends waits until the other end has closed the connection.
func ends(t *testing.T, nc net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, nc)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Error("the connection was not ended")
	}
}

// Garbage, half frames and false checksums end the connection and give nobody
// a message; others go on.
func TestBadBytesEndTheConnection(t *testing.T) {
	whole := samples()["messages"]
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-1]++
	local := &batch{}
	m := appendOf(2, 1)
	m.Type = raftpb.MsgHup
	local.message(&m)
	for name, b := range map[string][]byte{
		"garbage":                     bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 10),
		"false checksum":              flipped,
		"a message that never leaves": bytesOf(local),
		"unknown kind, must be known": append([]byte{0, 0, 0, 0, 99, flagMust}, make([]byte, 6)...),
	} {
		t.Run(name, func(t *testing.T) {
			a := open(t, 1, nil)
			nc, _ := dialRaw(t, a, nil)
			good, _ := dialRaw(t, a, func(h *hello) { h.node = 8 })
			if b[4] == 99 {
				seal(b, 0)
			}
			if _, err := nc.Write(b); err != nil {
				t.Fatal(err)
			}
			ends(t, nc)
			if _, err := good.Write(whole); err != nil {
				t.Fatal(err)
			}
			a.in.until(t, "the good ones", a.in.count(len(sampleMessages())))
			if len(a.in.messages) != len(sampleMessages()) {
				t.Errorf("%d messages", len(a.in.messages))
			}
		})
	}
	t.Run("half a frame", func(t *testing.T) {
		a := open(t, 1, nil)
		nc, _ := dialRaw(t, a, nil)
		if _, err := nc.Write(whole[:len(whole)/2]); err != nil {
			t.Fatal(err)
		}
		_ = nc.(*net.TCPConn).CloseWrite()
		ends(t, nc)
		if len(a.in.messages) > 0 {
			t.Error("half a frame was used")
		}
	})
	t.Run("no hello", func(t *testing.T) {
		a := open(t, 1, nil)
		nc, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_, _ = nc.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		ends(t, nc)
		if s := a.Stats(); s.Refused != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// A claim of a large frame takes no memory, and one above the bound ends the
// connection.
func TestClaimedLengthTakesNoMemory(t *testing.T) {
	a := open(t, 1, nil)
	before := allocated()
	for i := range 8 {
		nc, _ := dialRaw(t, a, func(h *hello) { h.node = int32(10 + i) })
		var head [frameHeader + 4]byte
		binary.BigEndian.PutUint32(head[:], 39<<20)
		head[4] = byte(kindMessages)
		if i%2 == 1 {
			head[4] = byte(kindCall)
		}
		if _, err := nc.Write(head[:]); err != nil {
			t.Fatal(err)
		}
	}
	nc, _ := dialRaw(t, a, nil)
	if _, err := nc.Write(append([]byte{6, 0, 0, 0, byte(kindCall)}, make([]byte, 7)...)); err != nil { // 100 MB
		t.Fatal(err)
	}
	ends(t, nc)
	if grown := allocated() - before; grown > 24<<20 {
		t.Errorf("%d bytes were allocated for claims", grown)
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// A newer broker that still speaks our version is understood: frames of kinds
// that we do not know are passed over. One that does not is refused by name.
func TestNewerPeer(t *testing.T) {
	a := open(t, 1, nil)
	nc, theirs := dialRaw(t, a, func(h *hello) { h.newest = 9 })
	if theirs.refusal != 0 || theirs.newest != versionNewest {
		t.Fatalf("%+v", theirs)
	}
	unknown := append(begin(nil, 200), "whatever"...)
	seal(unknown, 0)
	if _, err := nc.Write(append(unknown, samples()["messages"]...)); err != nil {
		t.Fatal(err)
	}
	a.in.until(t, "messages", a.in.count(len(sampleMessages())))
	if s := a.Stats(); s.Peers[0].Lanes[0].FramesSkipped != 1 {
		t.Errorf("%+v", s)
	}
	_, theirs = dialRaw(t, a, func(h *hello) { h.newest, h.oldest = 9, 5 })
	if theirs.refusal != CodeVersion || !strings.Contains(theirs.text, "node 7 speaks 5 to 9") {
		t.Errorf("%+v", theirs)
	}
}

// Who is not who it should be is refused by name, on either end.
func TestRefusedByName(t *testing.T) {
	a := open(t, 1, nil)
	for name, c := range map[string]struct {
		change func(*hello)
		code   Code
		text   string
	}{
		"cluster":  {func(h *hello) { h.cluster[0]++ }, CodeWrongCluster, "node 7 to cluster 02"},
		"node":     {func(h *hello) { h.want = 3 }, CodeWrongNode, "this is node 1, not node 3"},
		"same id":  {func(h *hello) { h.node = 1 }, CodeWrongNode, "two brokers call themselves node 1"},
		"no boot":  {func(h *hello) { h.boot = 0 }, CodeWrongNode, "boot id 0"},
		"lane":     {func(h *hello) { h.lane = 9 }, CodeVersion, "lane 9"},
		"no id":    {func(h *hello) { h.cluster = [16]byte{} }, 0, ""},
		"ask self": {func(h *hello) { h.lane, h.node = laneAsk, 1 }, 0, ""},
	} {
		if _, h := dialRaw(t, a, c.change); h.refusal != c.code || !strings.Contains(h.text, c.text) {
			t.Errorf("%s: %+v", name, h)
		}
	}
	// The dialer's side: an address where another node answers.
	b := open(t, 2, nil)
	b.SetPeers(map[int32]string{3: a.Addr().String()})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := b.Call(ctx, 3, 1, nil); !errors.Is(err, ErrDown) || !errors.Is(err, ErrWrongNode) {
		t.Errorf("call of a node that is another: %v", err)
	}
	var log counting
	other := open(t, 4, func(c *Config) {
		c.Log = slog.New(&log)
		c.ClusterID = func() [16]byte { return [16]byte{9} }
	})
	if _, err := other.Ask(ctx, a.Addr().String(), 1, nil); !errors.Is(err, ErrWrongCluster) {
		t.Errorf("ask in another cluster: %v", err)
	}
	// It is tried again and again, and logged once.
	refused := a.Stats().Refused
	other.SetPeers(map[int32]string{1: a.Addr().String()})
	for a.Stats().Refused < refused+12 {
		if ctx.Err() != nil {
			t.Fatal(ctx.Err())
		}
		runtime.Gosched()
	}
	if n := log.n.Load(); n != 1 {
		t.Errorf("%d lines were logged", n)
	}
}

// counting counts log lines.
type counting struct{ n atomic.Int64 }

func (c *counting) Enabled(context.Context, slog.Level) bool      { return true }
func (c *counting) Handle(_ context.Context, r slog.Record) error { c.n.Add(1); return nil }
func (c *counting) WithAttrs([]slog.Attr) slog.Handler            { return c }
func (c *counting) WithGroup(string) slog.Handler                 { return c }

package peer

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/multiraft"
)

var updateGolden = flag.Bool("update-golden", false, "write golden bytes again")

func sampleHello() hello {
	return hello{newest: 1, oldest: 1, lane: laneAppend, refusal: CodeWrongNode, cluster: [16]byte{0xc1, 0xc2}, node: 3, want: 2,
		boot: 77, features: 5, level: 9, text: "this is node 3"}
}

func sampleMessages() []multiraft.Message {
	conf := raftpb.ConfState{Voters: []uint64{1, 2, 300}, Learners: []uint64{4}, VotersOutgoing: []uint64{1, 2}, LearnersNext: []uint64{5}, AutoLeave: true}
	return []multiraft.Message{
		{Group: group(1), Message: raftpb.Message{Type: raftpb.MsgApp, To: 2, From: 1, Term: 7, LogTerm: 6, Index: 1000, Commit: 999,
			Entries: []raftpb.Entry{{Term: 7, Index: 1001, Data: []byte("small")}, {Term: 7, Index: 1002},
				{Term: 7, Index: 1003, Type: raftpb.EntryConfChangeV2, Data: bytes.Repeat([]byte{0xab}, inlineDataMax+1)}}}},
		{Group: group(2), Message: raftpb.Message{Type: raftpb.MsgHeartbeat, To: 2, From: 1, Term: 3, Commit: 5, Context: []byte("ctx")}},
		{Group: group(3), Message: raftpb.Message{Type: raftpb.MsgAppResp, To: 2, From: 1, Term: 1<<31 - 1, Index: 1 << 40, Reject: true, RejectHint: 4, LogTerm: 2}},
		{Group: group(4), Message: raftpb.Message{Type: raftpb.MsgVote, To: 2, From: 1 << 63, Term: 4, Vote: 9}},
		{Group: group(5), Message: raftpb.Message{Type: raftpb.MsgSnap, To: 2, From: 1, Term: 4,
			Snapshot: &raftpb.Snapshot{Data: []byte("snapshot"), Metadata: raftpb.SnapshotMetadata{Index: 50, Term: 4, ConfState: conf}}}},
	}
}

// bytesOf gives what a connection writes for a batch.
func bytesOf(b *batch) []byte {
	b.closeFrame()
	var out []byte
	for next := 0; next < len(b.frames); {
		var buffers net.Buffers
		var size int
		buffers, next, size = b.piece(next, nil)
		for _, p := range buffers {
			out = append(out, p...)
			size -= len(p)
		}
		if size != 0 {
			panic("a piece says another size than it has")
		}
	}
	return out
}

func samples() map[string][]byte {
	h := sampleHello()
	b := &batch{}
	for _, m := range sampleMessages() {
		b.message(&m)
	}
	return map[string][]byte{
		"hello":    h.appendTo(nil),
		"ping":     (&beat{at: 1, now: 2, hears: true, cluster: [16]byte{0xc1}}).appendTo(nil, kindPing),
		"pong":     (&beat{at: 1, now: 3}).appendTo(nil, kindPong),
		"messages": bytesOf(b),
		"call":     (&request{id: 1, method: 2, timeout: 3, body: []byte("request")}).appendTo(nil, kindCall),
		"answer":   (&reply{id: 1, body: []byte("answer")}).appendTo(nil, kindAnswer),
		"refusal":  (&reply{id: 1, code: CodeBusy, body: []byte("too many")}).appendTo(nil, kindAnswer),
		"cancel":   (&part{id: 1}).appendTo(nil, kindCancel),
		"open":     (&request{id: 2, method: 3, window: 1 << 20, body: []byte("segment")}).appendTo(nil, kindOpen),
		"data":     (&part{id: 2, data: []byte("bytes")}).appendTo(nil, kindData),
		"end":      (&reply{id: 2}).appendTo(nil, kindEnd),
		"credit":   (&part{id: 2, credit: 512}).appendTo(nil, kindCredit),
	}
}

// What is said between brokers of one version never changes.
func TestGoldenBytes(t *testing.T) {
	for name, b := range samples() {
		path := filepath.Join("testdata", "v1", name+".hex")
		if *updateGolden {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(hex.Dump(b)), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if hex.Dump(b) != string(want) {
			t.Errorf("%s is now\n%s", name, hex.Dump(b))
		}
	}
}

// feed gives bytes to the reader of a connection that nobody else uses, and
// what it received before it ended.
func feed(t testing.TB, b []byte, frameMax int) ([]multiraft.Message, error) {
	t.Helper()
	var got []multiraft.Message
	n := &Network{counts: map[countKey]*flow{}}
	n.ctx, n.cancel = t.Context(), func() {}
	n.peers.Store(&map[int32]*peer{})
	n.cfg = Config{Node: 2, Boot: 1, Receive: func(ms []multiraft.Message) { got = append(got, ms...) }}
	if err := n.cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	n.cfg.FrameBytesMax = frameMax
	ours, theirs := net.Pipe()
	defer ours.Close()
	c := newConn(n, ours, hello{node: 1}, 1, laneAppend, false)
	go func() {
		_, _ = theirs.Write(b)
		_ = theirs.Close()
	}()
	err := c.read()
	c.cancel()
	n.loops.Wait()
	return got, err
}

// Raft messages come back as they were, and no two share a buffer.
func TestMessagesRoundTrip(t *testing.T) {
	want := sampleMessages()
	got, err := feed(t, samples()["messages"], FrameBytesMaxDefault)
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	for i := range want {
		want[i].Node = 2
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	a, b := got[0].Entries[0].Data, got[0].Entries[2].Data
	if cap(a) != len(a) || cap(b) != len(b) {
		t.Error("appending to an entry's bytes reaches into the next")
	}
}

// A flipped bit anywhere in a frame of messages is found, and nothing of the
// frame is used.
func TestFlippedBitsAreFound(t *testing.T) {
	whole := samples()["messages"]
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1 << (i % 8)
		got, err := feed(t, b, 1<<20)
		if len(got) > 0 || errors.Is(err, io.EOF) {
			t.Errorf("byte %d: %d messages were used, %v", i, len(got), err)
		}
	}
}

// A hello of a later version, with more fields, is understood.
func TestLongerHello(t *testing.T) {
	h := sampleHello()
	b := h.appendTo(nil)
	longer := append(bytes.Clone(b[:len(b)-4]), "more to come"...)
	longer[5] += byte(len("more to come"))
	longer = appendSum(longer, 0)
	got, err := readHello(bytes.NewReader(longer))
	if err != nil || got != h {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzHello(f *testing.F) {
	h := sampleHello()
	f.Add(h.appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHello(b)
		if err != nil {
			return
		}
		again, err := decodeHello(h.appendTo(nil))
		if err != nil || again != h {
			t.Errorf("%+v came back as %+v, %v", h, again, err)
		}
	})
}

// FuzzMetas: what decodes encodes to something that decodes to the same, and
// never asks for more bytes than there may be.
func FuzzMetas(f *testing.F) {
	var all []byte
	for _, m := range sampleMessages() {
		b := appendMeta(nil, &m)
		f.Add(b)
		all = append(all, b...)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, b []byte) {
		const dataMax = 1 << 20
		var got metas
		if err := decodeMetas(b, &got, dataMax); err != nil {
			return
		}
		if got.total > dataMax {
			t.Fatalf("%d bytes are asked for", got.total)
		}
		if err := got.fill(func(n int) ([]byte, error) { return make([]byte, n), nil }); err != nil {
			t.Fatal(err)
		}
		var second []byte
		for i := range got.messages {
			second = appendMeta(second, &got.messages[i])
		}
		var again metas
		if err := decodeMetas(second, &again, dataMax); err != nil {
			t.Fatalf("decode again: %v", err)
		}
		if err := again.fill(func(n int) ([]byte, error) { return make([]byte, n), nil }); err != nil {
			t.Fatal(err)
		}
		if len(again.messages) != len(got.messages) || len(got.messages) > 0 && !reflect.DeepEqual(again.messages, got.messages) {
			t.Errorf("%+v came back as %+v", got.messages, again.messages)
		}
	})
}

// FuzzFrames: whatever comes, the reader ends without a panic and without
// memory beyond what came.
func FuzzFrames(f *testing.F) {
	for _, b := range samples() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := feed(t, b, 1<<20); err == nil {
			t.Error("the reader ended without a reason")
		}
	})
}

// FuzzParts covers the small decoders: what decodes encodes to the same.
func FuzzParts(f *testing.F) {
	for _, b := range samples() {
		f.Add(b[min(len(b), frameHeader):])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(name string, out []byte) {
			if !bytes.HasPrefix(b, out[frameHeader:]) {
				t.Errorf("%s: %x became %x", name, b, out[frameHeader:])
			}
		}
		if p, err := decodeBeat(b); err == nil && b[16]&^1 == 0 {
			same("beat", p.appendTo(nil, kindPing))
		}
		if r, err := decodeRequest(b); err == nil {
			same("request", r.appendTo(nil, kindCall))
		}
		if r, err := decodeReply(b); err == nil {
			same("reply", r.appendTo(nil, kindAnswer))
		}
		for _, k := range []kind{kindCancel, kindCredit, kindData} {
			if p, err := decodePart(b, k); err == nil {
				same("part", p.appendTo(nil, k))
			}
		}
	})
}

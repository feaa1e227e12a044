package kafka

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"reflect"
	"runtime"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
	"tidewater/internal/record"
)

// decodedBytesMax is what a request may allocate before its handler runs: a
// constant, and so many bytes for each of its own. kmsg's largest structs for
// the fewest bytes are about this.
func decodedBytesMax(frame int) uint64 { return 64<<10 + 128*uint64(frame) }

// FuzzRequest shows that no bytes make the parsers, the handlers or the
// encoders panic, and that a request allocates no more than its bytes pay for.
func FuzzRequest(f *testing.F) {
	w := newWorld(newFakeCluster())
	s := newServer(w.config().withDefaults())
	rnd := rand.New(rand.NewPCG(5, 6))
	for key, a := range s.apis {
		for _, v := range []int16{a.min, (a.min + a.max) / 2, a.max} {
			req := kmsg.RequestForKey(key)
			fill(rnd, reflect.ValueOf(req).Elem())
			req.SetVersion(v)
			f.Add(frameOf(1, req)[4:])
		}
	}
	for v := int16(3); v <= 13; v += 5 {
		f.Add(frameOf(1, produceOf(v, "t", record.TopicID{0, 0, 0, 0, 0, 0, 0, 1}, 0, -1, batchOf(f, 3, record.LZ4)))[4:])
		f.Add(frameOf(1, fetchOf(v+4, "t", record.TopicID{0, 0, 0, 0, 0, 0, 0, 1}, 0))[4:])
	}
	f.Add(binary.AppendUvarint([]byte{0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0}, 1<<32-1))
	f.Fuzz(func(t *testing.T, frame []byte) { handleFrame(t, w, frame) })
}

func handleFrame(t *testing.T, w *world, frame []byte) {
	w.cluster = newFakeCluster()
	w.cluster.CreateTopic(context.Background(), cluster.TopicSpec{Name: "t", Partitions: 2}, false)
	s := newServer(w.config().withDefaults())
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	c := newConn(s, near, netip.Addr{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	x, err := c.receive(frameFrom(frame))
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > decodedBytesMax(len(frame)) {
		t.Errorf("%d bytes allocated %d", len(frame), got)
	}
	if err != nil {
		return
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	a := x.finish(c, done, done)
	out := c.out
	for _, p := range a.parts {
		out = append(out, p...)
	}
	if n := len(out); n > 0 && int(binary.BigEndian.Uint32(out)) != n-4 {
		t.Errorf("answer to %s v%d says %d bytes and has %d", x.api.name, x.version, binary.BigEndian.Uint32(out), n-4)
	}
}

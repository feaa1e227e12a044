package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// The questions: what does a request cost here, in time and allocations,
// between the bytes of a frame and the bytes of its answer, without sockets and
// with a log that does nothing?

// nullLog answers appends at once and always reads the same.
type nullLog struct {
	Partition
	result logio.ReadResult
}

func (l *nullLog) Append(r logio.AppendRequest) { r.Done(logio.AppendResult{AppendTime: -1}) }

func (l *nullLog) Read(context.Context, logio.ReadRequest) (logio.ReadResult, error) {
	return l.result, nil
}

func (l *nullLog) Notify(logio.Isolation, record.Offset, func()) func() { return func() {} }

type nullPartitions struct{ log *nullLog }

func (p nullPartitions) Partition(record.PartitionID) (Partition, error) { return p.log, nil }

func (p nullPartitions) InStep(record.PartitionID, int32) bool { return false }

func (p nullPartitions) Leader(record.PartitionID) (int32, record.LeaderEpoch) { return -1, -1 }

func benchConn(b testing.TB, log *nullLog) (*conn, record.TopicID) {
	w := newWorld(newFakeCluster())
	topic := w.topic(b, "t", 8)
	cfg := w.config()
	cfg.Partitions = nullPartitions{log}
	near, _ := net.Pipe()
	return newConn(newServer(cfg.withDefaults()), near, netip.Addr{}), topic.ID
}

func benchBatch(b testing.TB, size int) record.Batch {
	builder := record.Builder{}
	builder.Add(1, nil, make([]byte, size))
	batch, err := builder.Build(0)
	if err != nil {
		b.Fatal(err)
	}
	return batch
}

// BenchmarkProduce: a frame of one 16 or 64 KiB batch to its answer. The read
// of the frame is in it, since that makes the one large allocation.
func BenchmarkProduce(b *testing.B) {
	for _, kib := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("%dKiB", kib), func(b *testing.B) {
			c, id := benchConn(b, &nullLog{})
			frame := frameOf(1, produceOf(11, "t", id, 0, -1, benchBatch(b, kib<<10)))
			src := bytes.NewReader(nil)
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(frame)
				c.br.Reset(src)
				got, err := c.readFrame(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				x, err := c.receive(got)
				if err != nil {
					b.Fatal(err)
				}
				c.inFlight.Add(1)
				x.finish(c, b.Context(), b.Context())
				x.release(c)
				c.out = c.out[:0]
			}
		})
	}
}

// BenchmarkFetch: a request for eight partitions with 64 KiB each, to the parts
// of its vectored write.
func BenchmarkFetch(b *testing.B) {
	batch := benchBatch(b, 64<<10)
	log := &nullLog{result: logio.ReadResult{Batches: [][]byte{batch}, Offsets: logio.Offsets{HighWatermark: 10, LastStable: 10}}}
	c, id := benchConn(b, log)
	req := fetchOf(13, "", id, 0)
	for p := range int32(7) {
		more := req.Topics[0].Partitions[0]
		more.Partition = p + 1
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, more)
	}
	frame := frameOf(1, req)
	b.SetBytes(8 * int64(len(batch)))
	b.ReportAllocs()
	for b.Loop() {
		x, err := c.receive(frameFrom(frame[4:]))
		if err != nil {
			b.Fatal(err)
		}
		c.inFlight.Add(1)
		c.s.memory.hold(len(frame) - 4)
		a := x.finish(c, b.Context(), b.Context())
		if len(a.parts) != 17 {
			b.Fatal(len(a.parts))
		}
		c.clearFetch()
		x.release(c)
	}
}

// BenchmarkLoopback: produce of 64 KiB batches, eight in flight, over a real
// socket.
func BenchmarkLoopback(b *testing.B) {
	w := newWorld(newFakeCluster())
	topic := w.topic(b, "t", 1)
	cfg := w.config()
	cfg.Partitions = nullPartitions{&nullLog{}}
	s, err := Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close(b.Context())
	nc, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	frame := frameOf(1, produceOf(11, "t", topic.ID, 0, -1, benchBatch(b, 64<<10)))
	slots := make(chan struct{}, 8)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	done := make(chan error, 1)
	go func() {
		var size [4]byte
		for range slots {
			if _, err := io.ReadFull(nc, size[:]); err != nil {
				done <- err
				return
			}
			io.CopyN(io.Discard, nc, int64(binary.BigEndian.Uint32(size[:])))
		}
		done <- nil
	}()
	for b.Loop() {
		slots <- struct{}{}
		if _, err := nc.Write(frame); err != nil {
			b.Fatal(err)
		}
	}
	close(slots)
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	nc.Close()
}

package kafka

import (
	"context"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Shows pipelining: while the first Produce waits for its commit the next is
// appended, in order; answers come in the order of the requests even when a
// later one was ready first.
func TestProducesOfOneConnectionArePipelined(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "slow", 1)
	w.topic(t, "fast", 1)
	slow := w.cluster.log("slow", 0)
	slow.setHolding()
	c := w.dial(t)
	var reqs []*kmsg.ProduceRequest
	for i := range int32(6) {
		topic := "slow"
		if i == 3 {
			topic = "fast"
		}
		b := record.Builder{Producer: &record.Producer{ID: 5, Epoch: 0, Sequence: i}}
		if topic == "fast" {
			b.Producer = nil
		} else if i > 3 {
			b.Producer.Sequence--
		}
		b.Add(1, nil, []byte("v"))
		batch, err := b.Build(0)
		if err != nil {
			t.Fatal(err)
		}
		reqs = append(reqs, produceOf(9, topic, record.TopicID{}, 0, -1, batch))
		c.send(frameOf(i, reqs[i]))
	}
	until(t, "all are appended although none is committed", func() bool { return slow.heldCount() == 5 })
	slow.release()
	for i, req := range reqs {
		p := c.answer(int32(i), req).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		want := int64(i)
		if i == 3 {
			want = 0
		} else if i > 3 {
			want--
		}
		if p.ErrorCode != 0 || p.BaseOffset != want {
			t.Errorf("answer %d: %+v, want offset %d", i, p, want)
		}
	}
}

// Shows that the read-ahead of a connection is bounded.
func TestReadAheadIsBounded(t *testing.T) {
	w := open(t, func(c *Config) { c.PipelineMax = 4 })
	w.topic(t, "t", 1)
	log := w.cluster.log("t", 0)
	log.setHolding()
	c := w.dial(t)
	req := produceOf(9, "t", record.TopicID{}, 0, -1, batchOf(t, 1, record.None))
	for i := range int32(20) {
		c.send(frameOf(i, req))
	}
	// One is being answered, four are queued, one is in the reader's hand.
	until(t, "read-ahead is full", func() bool { return log.heldCount() == 6 })
	log.release()
	for i := range int32(20) {
		c.answer(i, req)
	}
}

// Shows that a Produce that is not committed in its time is told so, and that
// the late commit disturbs nothing.
func TestProduceTimesOut(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "t", 1)
	log := w.cluster.log("t", 0)
	log.setHolding()
	c := w.dial(t)
	req := produceOf(9, "t", record.TopicID{}, 0, -1, batchOf(t, 1, record.None))
	req.TimeoutMillis = 10
	c.send(frameOf(1, req))
	if p := c.answer(1, req).(*kmsg.ProduceResponse).Topics[0].Partitions[0]; p.ErrorCode != kerr.RequestTimedOut.Code || p.BaseOffset != -1 {
		t.Errorf("%+v", p)
	}
	log.release()
	c.send(frameOf(2, req))
	if p := c.answer(2, req).(*kmsg.ProduceResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 || p.BaseOffset != 1 {
		t.Errorf("%+v", p)
	}
}

// Shows acks=0: no answer when all is well, the end of the connection when not.
func TestProduceWithoutAcks(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "t", 1)
	c := w.dial(t)
	c.send(frameOf(1, produceOf(9, "t", record.TopicID{}, 0, 0, batchOf(t, 1, record.None))))
	req := produceOf(9, "t", record.TopicID{}, 0, 1, batchOf(t, 1, record.None))
	c.send(frameOf(2, req))
	if p := c.answer(2, req).(*kmsg.ProduceResponse).Topics[0].Partitions[0]; p.BaseOffset != 1 {
		t.Errorf("%+v", p)
	}
	c.send(frameOf(3, produceOf(9, "absent", record.TopicID{}, 0, 0, batchOf(t, 1, record.None))))
	c.closed()
}

// Shows that Close lets what is under way be answered: a Produce gets its
// commit, a waiting Fetch what there is, and then the connections end.
func TestCloseFinishesWhatIsUnderWay(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "t", 1)
	log := w.cluster.log("t", 0)
	fetcher, producer := w.dial(t), w.dial(t)
	fetch := fetchOf(11, "t", record.TopicID{}, 0)
	fetch.MaxWaitMillis = 60_000
	fetcher.send(frameOf(1, fetch))
	until(t, "the fetch waits", func() bool { return log.waiting() == 1 })
	w.topic(t, "held", 1)
	held := w.cluster.log("held", 0)
	held.setHolding()
	produce := produceOf(9, "held", record.TopicID{}, 0, -1, batchOf(t, 1, record.None))
	producer.send(frameOf(1, produce))
	until(t, "the produce waits", func() bool { return held.heldCount() == 1 })
	closed := make(chan error, 1)
	go func() { closed <- w.Close(within(t)) }()
	if r := fetcher.answer(1, fetch).(*kmsg.FetchResponse); r.ErrorCode != 0 || len(r.Topics) != 1 {
		t.Errorf("fetch: %+v", r)
	}
	held.release()
	if r := producer.answer(1, produce).(*kmsg.ProduceResponse); r.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Errorf("produce: %+v", r)
	}
	fetcher.closed()
	producer.closed()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// Shows that a client whose new connection meets a broker that closes finds it
// broken, and tries again, rather than ended in order, which clients take for
// a refusal: one that was told nothing yet, or only what versions there are.
func TestCloseIsNoRefusal(t *testing.T) {
	w := open(t, nil)
	fresh, greeted, served := w.dial(t), w.dial(t), w.dial(t)
	versions, metadata := kmsg.NewPtrApiVersionsRequest(), kmsg.NewPtrMetadataRequest()
	greeted.send(frameOf(1, versions))
	greeted.answer(1, versions)
	served.send(frameOf(1, metadata))
	served.answer(1, metadata)
	until(t, "all are in", func() bool { return w.Stats().Connections == 3 })
	if err := w.Close(within(t)); err != nil {
		t.Error(err)
	}
	for c, want := range map[rawConn]error{fresh: syscall.ECONNRESET, greeted: syscall.ECONNRESET, served: io.EOF} {
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, want) {
			t.Errorf("%d bytes, %v, want %v", n, err, want)
		}
	}
}

// Shows that Close is bounded: with a commit that never comes it cuts.
func TestCloseIsBounded(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "t", 1)
	log := w.cluster.log("t", 0)
	log.setHolding()
	c := w.dial(t)
	c.send(frameOf(1, produceOf(9, "t", record.TopicID{}, 0, -1, batchOf(t, 1, record.None))))
	until(t, "the produce waits", func() bool { return log.heldCount() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := w.Close(ctx); err != nil {
		t.Error(err)
	}
	log.release() // the log answers after all
}

// Shows that a member that waits in JoinGroup is let go when its client leaves.
func TestJoinEndsWithItsClient(t *testing.T) {
	w := open(t, nil)
	w.groups.block = make(chan struct{})
	c := w.dial(t)
	join := kmsg.NewPtrJoinGroupRequest()
	join.Version, join.Group = 5, "g"
	c.send(frameOf(1, join))
	until(t, "the join is under way", func() bool { return w.Stats().Requests[int16(kmsg.JoinGroup)] == 1 })
	c.Close()
	until(t, "the connection is over", func() bool { return w.Stats().Connections == 0 })
}

// Shows the limits of connections: over them a client is closed at once, and
// there is room again when another leaves.
func TestConnectionLimits(t *testing.T) {
	for name, limit := range map[string]func(*Config){
		"all":    func(c *Config) { c.ConnectionsMax = 2 },
		"per ip": func(c *Config) { c.ConnectionsPerIPMax = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t, limit)
			first := w.dial(t)
			w.dial(t)
			until(t, "both are in", func() bool { return w.Stats().Connections == 2 })
			w.dial(t).closed()
			first.Close()
			until(t, "one has left", func() bool { return w.Stats().Connections == 1 })
			c := w.dial(t)
			req := kmsg.NewPtrApiVersionsRequest()
			c.send(frameOf(1, req))
			c.answer(1, req)
			if w.Stats().Refused != 1 {
				t.Error(w.Stats().Refused)
			}
		})
	}
}

// Shows that an idle connection is closed, but not one that waits for an answer.
func TestIdleConnections(t *testing.T) {
	w := open(t, func(c *Config) { c.IdleTimeout = 2 * time.Second })
	w.topic(t, "t", 1)
	waiting := w.dial(t)
	fetch := fetchOf(11, "t", record.TopicID{}, 0)
	fetch.MaxWaitMillis = 60_000
	waiting.send(frameOf(1, fetch))
	for _, idle := range []rawConn{w.dial(t), w.dial(t)} {
		idle.closed()
	}
	w.cluster.log("t", 0).Append(logio.AppendRequest{Batch: batchOf(t, 1, record.None), Done: func(logio.AppendResult) {}})
	if r := waiting.answer(1, fetch).(*kmsg.FetchResponse); len(r.Topics[0].Partitions[0].RecordBatches) == 0 {
		t.Error("no records")
	}
	if w.Stats().IdleClosed < 2 {
		t.Error(w.Stats().IdleClosed)
	}
}

// Shows that a client that does not take its answer is closed, and that the
// memory of the answer comes back.
func TestClientThatDoesNotRead(t *testing.T) {
	w := open(t, func(c *Config) { c.WriteTimeout = 50 * time.Millisecond })
	w.topic(t, "t", 1)
	log := w.cluster.log("t", 0)
	b := record.Builder{}
	b.Add(1, nil, make([]byte, 20<<20))
	large, _ := b.Build(0)
	log.Append(logio.AppendRequest{Batch: large, Done: func(logio.AppendResult) {}})
	c := w.dial(t)
	c.send(frameOf(1, fetchOf(11, "t", record.TopicID{}, 0)))
	until(t, "the client is given up", func() bool { return w.Stats().Connections == 0 && w.Stats().Accepted == 1 })
}

// Shows that near the bound of request memory connections wait, and go on when
// there is room.
func TestRequestMemoryIsBounded(t *testing.T) {
	w := open(t, func(c *Config) { c.MemoryBytesMax = 1000 })
	w.topic(t, "t", 1)
	log := w.cluster.log("t", 0)
	log.setHolding()
	first, second := w.dial(t), w.dial(t)
	b := record.Builder{}
	b.Add(1, nil, make([]byte, 2000))
	batch, _ := b.Build(0)
	req := produceOf(9, "t", record.TopicID{}, 0, -1, batch)
	first.send(frameOf(1, req))
	until(t, "memory is used up", func() bool { return log.heldCount() == 1 })
	second.send(frameOf(1, req))
	until(t, "the second waits", func() bool { return w.memory.waits() })
	if log.heldCount() != 1 {
		t.Error("the second was read")
	}
	log.release()
	first.answer(1, req)
	second.answer(1, req)
	if w.Stats().MemoryWaits != 1 {
		t.Error(w.Stats().MemoryWaits)
	}
}

func (m *memory) waits() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.free != nil
}

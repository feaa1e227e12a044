package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	topicName = "queue"
	groupName = "workers"
	// valueMax bounds a value's random padding.
	valueMax = 2 << 10
	// bufferedMax is how many records a producer may have waiting; at the
	// bound it sends nothing new, as an application that sheds load.
	bufferedMax = 2000
)

// value is a record's key, its length and sum, and padding, so that bytes that
// were altered or cut are known.
func value(k key, random *rand.Rand) []byte {
	v := make([]byte, 12+random.IntN(valueMax))
	binary.LittleEndian.PutUint64(v[4:], uint64(k))
	for i := 12; i < len(v); i++ {
		v[i] = byte(random.Uint32())
	}
	binary.LittleEndian.PutUint32(v, crc32.ChecksumIEEE(v[4:]))
	return v
}

// keyOf takes a value apart; an altered one has key 0.
func keyOf(v []byte) key {
	if len(v) < 12 || crc32.ChecksumIEEE(v[4:]) != binary.LittleEndian.Uint32(v) {
		return 0
	}
	return key(binary.LittleEndian.Uint64(v[4:]))
}

// workload is all clients on one topic.
type workload struct {
	seeds      []string
	partitions int
	rate       int // records a second and producer
	seed       uint64
	ledger     *ledger
	gaps       *gaps

	mu     sync.Mutex
	errors map[string]int // what clients were told, by its text
}

func (w *workload) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(w.seeds...), kgo.DialTimeout(2 * time.Second), kgo.RequestTimeoutOverhead(3 * time.Second),
		kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(5 * time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }),
	}, opts...)...)
}

// told counts an error that a client was given.
func (w *workload) told(err error) {
	var text string
	if code := (*kerr.Error)(nil); errors.As(err, &code) {
		text = code.Message
	} else {
		text = "connection or client"
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errors[text]++
}

// produce sends to all partitions in turn until ctx ends, then waits for the
// acks of what is on its way. Nothing is given up before drain ends.
func (w *workload) produce(ctx, drain context.Context, producer int) error {
	c, err := w.client(kgo.DefaultProduceTopic(topicName), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(bufferedMax),
		kgo.ProducerLinger(5*time.Millisecond), kgo.ProduceRequestTimeout(3*time.Second), kgo.StopProducerOnDataLossDetected(),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer c.Close()
	random := rand.New(rand.NewPCG(w.seed, uint64(producer)))
	tick := time.NewTicker(time.Second / time.Duration(w.rate))
	defer tick.Stop()
	for n := producer; ctx.Err() == nil; n++ {
		select {
		case <-ctx.Done():
			continue
		case <-tick.C:
		}
		if c.BufferedProduceRecords() >= bufferedMax {
			continue
		}
		p := n % w.partitions
		k := w.ledger.next(producer, p)
		c.Produce(drain, &kgo.Record{Partition: int32(p), Value: value(k, random)}, func(r *kgo.Record, err error) {
			if err == nil {
				w.gaps.add(w.ledger.ack(p, r.Offset, k))
				return
			}
			w.told(err)
			if errors.Is(err, kerr.OutOfOrderSequenceNumber) || errors.Is(err, kerr.UnknownProducerID) || errors.Is(err, kerr.InvalidProducerEpoch) {
				w.ledger.report(fatal, "producer %d, partition %d, record %s: %v", producer, p, k, err)
			}
		})
	}
	if err := c.Flush(drain); err != nil {
		w.ledger.report(stuck, "producer %d has records without an answer after the last fault was healed", producer)
	}
	return nil
}

// poll reads every partition from its start on, like a consumer without a
// group. Each time it is told to begin again it does, and so reads all history.
func (w *workload) poll(ctx context.Context, name string, again time.Duration) error {
	for ctx.Err() == nil {
		turn, stop := context.WithTimeout(ctx, again)
		err := w.pollOnce(turn, name)
		stop()
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *workload) pollOnce(ctx context.Context, name string) error {
	from := map[int32]kgo.Offset{}
	sessions := make([]*session, w.partitions)
	for p := range w.partitions {
		from[int32(p)] = kgo.NewOffset().At(0)
		sessions[p] = w.ledger.session(name, p, 0)
	}
	c, err := w.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topicName: from}), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return err
	}
	defer c.Close()
	for ctx.Err() == nil {
		fetches := c.PollFetches(ctx)
		fetches.EachError(func(_ string, p int32, err error) { w.pollError(ctx, name, p, err) })
		fetches.EachRecord(func(r *kgo.Record) { sessions[r.Partition].poll(r.Offset, keyOf(r.Value)) })
	}
	return nil
}

// pollError notes an error of a poll; a position that is out of range is an
// anomaly, since nothing is trimmed here and positions come from polls.
func (w *workload) pollError(ctx context.Context, name string, p int32, err error) {
	if ctx.Err() != nil {
		return
	}
	w.told(err)
	if errors.Is(err, kerr.OffsetOutOfRange) {
		w.ledger.report(nonMonotonic, "%s: partition %d: %v", name, p, err)
	}
}

// ends asks for the end of every partition again and again.
func (w *workload) ends(ctx context.Context) error {
	c, err := w.client()
	if err != nil {
		return err
	}
	defer c.Close()
	admin := kadm.NewClient(c)
	for ctx.Err() == nil {
		asked := make([]int64, w.partitions)
		for p := range asked {
			asked[p] = w.ledger.end(p)
		}
		turn, stop := context.WithTimeout(ctx, 5*time.Second)
		list, err := admin.ListEndOffsets(turn, topicName)
		stop()
		if err != nil && ctx.Err() == nil {
			w.told(err)
		}
		list.Each(func(o kadm.ListedOffset) {
			if o.Err == nil && o.Offset >= 0 {
				w.ledger.ended(int(o.Partition), asked[o.Partition], o.Offset)
			}
		})
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// work is one member of the group: it reads, then commits, and leaves and comes
// back now and then.
func (w *workload) work(ctx context.Context, member string, stay time.Duration) error {
	for ctx.Err() == nil {
		turn, stop := context.WithTimeout(ctx, stay)
		err := w.workOnce(turn, member)
		stop()
		if err != nil {
			return err
		}
	}
	return nil
}

// held is what a member knows of its partitions; the client calls from its own
// goroutines.
type held struct {
	mu       sync.Mutex
	floor    map[int32]int64 // highest acked commit when the partition came
	sessions map[int32]*session
}

func (w *workload) workOnce(ctx context.Context, member string) error {
	h := &held{floor: map[int32]int64{}, sessions: map[int32]*session{}}
	c, err := w.client(kgo.ConsumerGroup(groupName), kgo.ConsumeTopics(topicName), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.RebalanceTimeout(10*time.Second), kgo.FetchMaxWait(500*time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, given map[string][]int32) { w.given(h, given) }))
	if err != nil {
		return err
	}
	defer c.CloseAllowingRebalance()
	for ctx.Err() == nil {
		fetches := c.PollRecords(ctx, 500)
		fetches.EachError(func(_ string, p int32, err error) { w.pollError(ctx, member, p, err) })
		next := map[int32]kgo.EpochOffset{}
		fetches.EachRecord(func(r *kgo.Record) {
			w.workedOn(h, member, r)
			next[r.Partition] = kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
		})
		w.commit(ctx, c, next)
		c.AllowRebalance()
	}
	return nil
}

func (w *workload) given(h *held, given map[string][]int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range given[topicName] {
		h.floor[p] = w.ledger.commitOf(int(p))
		delete(h.sessions, p)
	}
}

func (w *workload) workedOn(h *held, member string, r *kgo.Record) {
	h.mu.Lock()
	s := h.sessions[r.Partition]
	if s == nil {
		w.ledger.joined(member, int(r.Partition), h.floor[r.Partition], r.Offset)
		s = w.ledger.session(member, int(r.Partition), r.Offset)
		h.sessions[r.Partition] = s
	}
	h.mu.Unlock()
	s.poll(r.Offset, keyOf(r.Value))
	w.ledger.worked(int(r.Partition), r.Offset)
}

// commit commits what was read and notes what was acked.
func (w *workload) commit(ctx context.Context, c *kgo.Client, next map[int32]kgo.EpochOffset) {
	if len(next) == 0 {
		return
	}
	offsets := map[string]map[int32]kgo.EpochOffset{topicName: next}
	limit, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	c.CommitOffsetsSync(limit, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			w.told(err)
			return
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					w.told(err)
					continue
				}
				w.ledger.committed(int(p.Partition), next[p.Partition].Offset)
			}
		}
	})
}

// audit reads every partition from its start to its end and has the ledger
// compare it.
func (w *workload) audit(ctx context.Context) error {
	c, err := w.client()
	if err != nil {
		return err
	}
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, topicName)
	c.Close()
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("ask for the log's ends: %w", err)
	}
	for p := range w.partitions {
		o, _ := ends.Lookup(topicName, int32(p))
		log, err := w.readAll(ctx, int32(p), o.Offset)
		if err != nil {
			return fmt.Errorf("read partition %d up to %d: %w", p, o.Offset, err)
		}
		w.ledger.audit(p, log)
	}
	return nil
}

func (w *workload) readAll(ctx context.Context, partition int32, end int64) ([]key, error) {
	c, err := w.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topicName: {partition: kgo.NewOffset().At(0)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	log := make([]key, 0, end)
	for int64(len(log)) < end {
		fetches := c.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read %d of %d records: %w", len(log), end, ctx.Err())
		}
		var failed error
		fetches.EachError(func(_ string, _ int32, err error) {
			if errors.Is(err, kerr.OffsetOutOfRange) {
				failed = err
			}
		})
		if failed != nil {
			return nil, failed
		}
		fetches.EachRecord(func(r *kgo.Record) {
			for int64(len(log)) < r.Offset {
				log = append(log, 0) // a hole: whoever saw a record there finds it lost
			}
			log = append(log, keyOf(r.Value))
		})
	}
	return log, nil
}

package generator

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/record"
)

// The bounds of a Fetch that Kafka clients use by default.
const (
	fetchBytes          = 50 << 20
	fetchPartitionBytes = 1 << 20
	fetchWaitMs         = 500
	readMax             = 5 * time.Minute // of one time through a topic
	// AnswerMax is what a client must be ready to take in one answer.
	AnswerMax = 2 * fetchBytes
)

// Reader reads a topic from offset 0 to its ends by plain Fetch requests, all
// partitions in each, one request after the other. It looks at the headers of
// the batches only. Bytes may be asked while All runs; all else is for one caller.
type Reader struct {
	k      *kgo.Client
	topic  string
	id     record.TopicID
	leader int32
	next   []record.Offset // by partition
	end    []record.Offset
	bytes  atomic.Int64
	count  int64 // of records
}

// Bytes and Records are how much was read so far.
func (r *Reader) Bytes() int64   { return r.bytes.Load() }
func (r *Reader) Records() int64 { return r.count }

func (s Spec) fetch(ctx context.Context) (Result, error) {
	k, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...), kgo.ClientID("bench-reader"), kgo.BrokerMaxReadBytes(AnswerMax))
	if err != nil {
		return Result{}, err
	}
	defer k.Close()
	r, err := OpenReader(ctx, k, s.Topic)
	if err != nil {
		return Result{}, err
	}
	m := startMeter(func() float64 { return float64(r.bytes.Load()) / 1e6 })
	for again := true; again && err == nil; again = s.Round && !m.over(s) && (s.BytesMax == 0 || r.bytes.Load() < s.BytesMax) {
		clear(r.next)
		err = r.All(ctx)
	}
	out := m.stop(Fetch)
	out.MB, out.Records = float64(r.bytes.Load())/1e6, r.count
	return out, err
}

// OpenReader asks for a topic's ends, which are where All stops, and its leader.
// The client must take answers of AnswerMax bytes (kgo.BrokerMaxReadBytes).
func OpenReader(ctx context.Context, k *kgo.Client, topic string) (*Reader, error) {
	admin := kadm.NewClient(k)
	meta, err := admin.Metadata(ctx, topic)
	if err != nil {
		return nil, err
	}
	t := meta.Topics[topic]
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err = errors.Join(err, t.Err, ends.Error()); err != nil {
		return nil, fmt.Errorf("ask for topic %s: %w", topic, err)
	}
	r := &Reader{k: k, topic: topic, id: record.TopicID(t.ID), leader: t.Partitions[0].Leader,
		next: make([]record.Offset, len(t.Partitions)), end: make([]record.Offset, len(t.Partitions))}
	for i := range r.end {
		if t.Partitions[int32(i)].Leader != r.leader {
			return nil, fmt.Errorf("topic %s has several leaders: one broker is read from", topic)
		}
		o, _ := ends.Lookup(topic, int32(i))
		r.end[i] = record.Offset(o.Offset)
	}
	return r, nil
}

// All reads to the ends.
func (r *Reader) All(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readMax)
	defer cancel()
	for first := 0; ; first++ { // partitions take turns in being first, as brokers fill an answer in order
		req := r.request(first)
		if len(req.Topics[0].Partitions) == 0 {
			return nil
		}
		resp, err := r.k.Broker(int(r.leader)).Request(ctx, req)
		if err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
		before := r.bytes.Load()
		if err := r.take(resp.(*kmsg.FetchResponse)); err != nil {
			return err
		}
		if r.bytes.Load() == before {
			return fmt.Errorf("fetch: nothing, at offsets %v of %v", r.next, r.end)
		}
	}
}

func (r *Reader) request(first int) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = fetchWaitMs, 1, fetchBytes
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = r.topic, r.id
	for i := range r.next {
		n := (first + i) % len(r.next)
		if r.next[n] >= r.end[n] {
			continue
		}
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = int32(n), int64(r.next[n]), fetchPartitionBytes
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return req
}

func (r *Reader) take(resp *kmsg.FetchResponse) error {
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("fetch of partition %d: %w", p.Partition, err)
			}
			if err := r.batches(p.Partition, p.RecordBatches); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Reader) batches(partition int32, raw []byte) error {
	for len(raw) > 0 {
		b, rest, err := record.Next(raw)
		if errors.Is(err, record.ErrShort) {
			return nil // Kafka may cut the last batch at the bound
		}
		if err != nil {
			return fmt.Errorf("fetch of partition %d: %w", partition, err)
		}
		if b.BaseOffset() != r.next[partition] {
			return fmt.Errorf("fetch of partition %d: batch at offset %d, want %d", partition, b.BaseOffset(), r.next[partition])
		}
		r.next[partition] = b.NextOffset()
		r.bytes.Add(int64(len(b)))
		r.count += int64(b.RecordCount())
		raw = rest
	}
	return nil
}

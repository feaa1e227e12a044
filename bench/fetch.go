package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/record"
)

// The bounds of a fetch that Kafka clients use by default.
const (
	fetchBytes          = 50 << 20
	fetchPartitionBytes = 1 << 20
	fetchWaitMs         = 500
	readTimeout         = 5 * time.Minute
)

// reader reads a topic from offset 0 to its ends by plain Fetch requests, all
// partitions in each, one request after the other. It looks at the headers of
// the batches only, so that the broker is measured and not a consumer's decoding.
type reader struct {
	k      *kgo.Client
	topic  string
	id     record.TopicID
	leader int32
	next   []record.Offset // by partition
	end    []record.Offset
	bytes  int64
	count  int64 // of records
}

func openReader(ctx context.Context, k *kgo.Client, topic string) (*reader, error) {
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
	r := &reader{k: k, topic: topic, id: record.TopicID(t.ID), next: make([]record.Offset, len(t.Partitions)), end: make([]record.Offset, len(t.Partitions))}
	for i := range r.end {
		r.leader = t.Partitions[int32(i)].Leader
		o, _ := ends.Lookup(topic, int32(i))
		r.end[i] = record.Offset(o.Offset)
	}
	return r, nil
}

// all reads to the ends.
func (r *reader) all(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for first := 0; ; first++ { // partitions take turns in being first, as the broker fills the answer in order
		req := r.request(first)
		if len(req.Topics[0].Partitions) == 0 {
			return nil
		}
		resp, err := r.k.Broker(int(r.leader)).Request(ctx, req)
		if err != nil {
			return fmt.Errorf("fetch: %w", err)
		}
		before := r.bytes
		if err := r.take(resp.(*kmsg.FetchResponse)); err != nil {
			return err
		}
		if r.bytes == before {
			return fmt.Errorf("fetch: nothing, at offsets %v of %v", r.next, r.end)
		}
	}
}

func (r *reader) request(first int) *kmsg.FetchRequest {
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

func (r *reader) take(resp *kmsg.FetchResponse) error {
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

func (r *reader) batches(partition int32, raw []byte) error {
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
		r.bytes += int64(len(b))
		r.count += int64(b.RecordCount())
		raw = rest
	}
	return nil
}

// fetchCase reads back what a produce case wrote.
func fetchCase(ctx context.Context, w *world, p *process, name string, want int64) error {
	r, u, before, after, err := w.readAll(ctx, loadTopic, p)
	if err != nil {
		return err
	}
	if r.count != want {
		return fmt.Errorf("%d records acked, %d read", want, r.count)
	}
	mb := float64(r.bytes) / 1e6
	out := newResult("fetch", "%s", name)
	out.add("", "MB/s", mb/u.took.Seconds())
	out.add("broker", "CPU-s per GB", 1000*u.cpu[0]/mb)
	out.add("generator", "CPU-s per GB", 1000*u.own/mb)
	out.add("read", "MB", mb)
	addSources(out, before, after)
	return w.b.results.add(u.addOther(out))
}

// readAll reads a topic whole, measured, with the broker's metrics before and after.
func (w *world) readAll(ctx context.Context, topic string, p ...*process) (r *reader, u use, before, after map[string]float64, err error) {
	k, err := w.client(kgo.BrokerMaxReadBytes(2 * fetchBytes))
	if err != nil {
		return
	}
	defer k.Close()
	if r, err = openReader(ctx, k, topic); err != nil {
		return
	}
	if before, err = metrics(ctx, w.ports.admin); err != nil {
		return
	}
	m := startMeter(p...)
	if err = r.all(ctx); err != nil {
		return
	}
	u = m.stop()
	after, err = metrics(ctx, w.ports.admin)
	return
}

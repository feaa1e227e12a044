// Package fetch reads a partition's record batches over the Kafka API as the
// bytes they are, where a consumer would decode them: for proofs that compare
// bytes (verify, the demo, tests), against any broker.
//
// A Partition starts no goroutine and keeps no fetch session. The client's
// bounds and retries for a lost connection apply.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// waitMs is how long a broker may hold a fetch that finds nothing.
const waitMs = 100

// Topic is what a broker's metadata says of one topic.
type Topic struct {
	ID         record.TopicID
	Name       string
	Partitions []*Partition // by number
}

// Partition reads one partition from its leader.
type Partition struct {
	client *kgo.Client
	topic  string
	id     record.TopicID
	number int32
	leader int32
}

// Open asks for a topic's partitions and their leaders.
func Open(ctx context.Context, client *kgo.Client, topic string) (*Topic, error) {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("ask for topic %s: %w", topic, err)
	}
	if len(resp.Topics) != 1 {
		return nil, fmt.Errorf("ask for topic %s: %d topics in the answer", topic, len(resp.Topics))
	}
	found := resp.Topics[0]
	if err := kerr.ErrorForCode(found.ErrorCode); err != nil {
		return nil, fmt.Errorf("ask for topic %s: %w", topic, err)
	}
	out := &Topic{ID: found.TopicID, Name: topic, Partitions: make([]*Partition, len(found.Partitions))}
	for _, p := range found.Partitions {
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
			return nil, fmt.Errorf("ask for topic %s partition %d: %w", topic, p.Partition, err)
		}
		if p.Partition < 0 || int(p.Partition) >= len(out.Partitions) {
			return nil, fmt.Errorf("ask for topic %s: partition %d of %d", topic, p.Partition, len(out.Partitions))
		}
		out.Partitions[p.Partition] = &Partition{client: client, topic: topic, id: found.TopicID, number: p.Partition, leader: p.Leader}
	}
	return out, nil
}

// ID names the partition.
func (p *Partition) ID() record.PartitionID {
	return record.PartitionID{Topic: p.id, Partition: p.number}
}

// Offsets asks for log start, last stable offset and high watermark; the log
// end a client can see is the high watermark.
func (p *Partition) Offsets(ctx context.Context) (logio.Offsets, error) {
	var o logio.Offsets
	var err error
	if o.LogStart, err = p.find(ctx, logio.TimeEarliest, logio.ReadUncommitted); err != nil {
		return o, err
	}
	if o.LocalLogStart, err = p.find(ctx, logio.TimeEarliestLocal, logio.ReadUncommitted); err != nil {
		return o, err
	}
	if o.LastStable, err = p.find(ctx, logio.TimeLatest, logio.ReadCommitted); err != nil {
		return o, err
	}
	o.HighWatermark, err = p.find(ctx, logio.TimeLatest, logio.ReadUncommitted)
	o.LogEnd = o.HighWatermark
	return o, err
}

func (p *Partition) find(ctx context.Context, ts int64, iso logio.Isolation) (record.Offset, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	req.IsolationLevel = int8(iso)
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = p.topic
	q := kmsg.NewListOffsetsRequestTopicPartition()
	q.Partition, q.Timestamp = p.number, ts
	t.Partitions = append(t.Partitions, q)
	req.Topics = append(req.Topics, t)
	resp, err := p.client.Broker(int(p.leader)).RetriableRequest(ctx, req)
	if err != nil {
		return 0, p.wrap("list offsets", err)
	}
	topics := resp.(*kmsg.ListOffsetsResponse).Topics
	if len(topics) != 1 || len(topics[0].Partitions) != 1 {
		return 0, p.wrap("list offsets", io.ErrUnexpectedEOF)
	}
	found := topics[0].Partitions[0]
	if err := kerr.ErrorForCode(found.ErrorCode); err != nil {
		return 0, p.wrap("list offsets", err)
	}
	return record.Offset(found.Offset), nil
}

// Read fetches whole batches from the one that holds r.Offset on; none at the
// end of what the isolation shows. CurrentEpoch is not sent.
func (p *Partition) Read(ctx context.Context, r logio.ReadRequest) (logio.ReadResult, error) {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = waitMs, 1, int32(r.BytesMax)
	req.IsolationLevel = int8(r.Isolation)
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = p.topic, p.id
	q := kmsg.NewFetchRequestTopicPartition()
	q.Partition, q.FetchOffset, q.PartitionMaxBytes = p.number, int64(r.Offset), int32(r.BytesMax)
	t.Partitions = append(t.Partitions, q)
	req.Topics = append(req.Topics, t)
	resp, err := p.client.Broker(int(p.leader)).RetriableRequest(ctx, req)
	if err != nil {
		return logio.ReadResult{}, p.wrap("fetch", err)
	}
	answer := resp.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(answer.ErrorCode); err != nil {
		return logio.ReadResult{}, p.wrap("fetch", err)
	}
	if len(answer.Topics) == 0 {
		return logio.ReadResult{}, nil
	}
	if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
		return logio.ReadResult{}, p.wrap("fetch", io.ErrUnexpectedEOF)
	}
	return p.result(answer.Topics[0].Partitions[0])
}

func (p *Partition) result(found kmsg.FetchResponseTopicPartition) (logio.ReadResult, error) {
	var out logio.ReadResult
	if err := kerr.ErrorForCode(found.ErrorCode); err != nil {
		if errors.Is(err, kerr.OffsetOutOfRange) {
			err = fmt.Errorf("%w: %w", logio.ErrOffsetOutOfRange, err)
		}
		return out, p.wrap("fetch", err)
	}
	out.Offsets = logio.Offsets{
		LogStart:      record.Offset(found.LogStartOffset),
		LastStable:    record.Offset(found.LastStableOffset),
		HighWatermark: record.Offset(found.HighWatermark),
		LogEnd:        record.Offset(found.HighWatermark),
	}
	for _, a := range found.AbortedTransactions {
		out.Aborted = append(out.Aborted, logio.AbortedTxn{ProducerID: a.ProducerID, FirstOffset: record.Offset(a.FirstOffset), LastOffset: -1})
	}
	for rest := found.RecordBatches; len(rest) > 0; {
		b, after, err := record.Next(rest)
		if errors.Is(err, record.ErrShort) {
			break // Kafka may cut the last batch at the bound
		}
		if err != nil {
			return out, p.wrap("fetch", err)
		}
		if err := b.Check(); err != nil {
			return out, p.wrap("fetch", err)
		}
		out.Batches = append(out.Batches, b)
		rest = after
	}
	return out, nil
}

func (p *Partition) wrap(what string, err error) error {
	return fmt.Errorf("%s of %s partition %d: %w", what, p.topic, p.number, err)
}

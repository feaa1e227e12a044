package generator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// payloadBytes of pseudo-random bytes, which no disk can shrink, are what
	// values are cut from.
	payloadBytes = 4 << 20
	// bufferedRecordsMax is 32 MiB of records waiting in the client, the
	// default buffer.memory of Kafka's own producer.
	bufferedRecordsMax = 32 << 10
	// flushMax is how long a run may wait for its last acks.
	flushMax = 2 * time.Minute
	// recordOverhead is more than a 1 KiB record takes in a batch beside its
	// value, headerBytes what the batch itself does.
	recordOverhead, headerBytes = 12, 61
)

// Payload gives the bytes that values are cut from.
func Payload() []byte {
	seed := [32]byte{1}
	out := make([]byte, payloadBytes)
	_, _ = rand.NewChaCha8(seed).Read(out) // never fails
	return out
}

func (s Spec) producer(runs int, opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(s.Brokers...), kgo.ClientID("bench-producer"),
		kgo.DefaultProduceTopic(s.Topic), kgo.ProducerBatchMaxBytes(s.BatchBytes), kgo.ProducerLinger(s.linger()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(&inRuns{length: runs}),
		kgo.MaxBufferedRecords(bufferedRecordsMax)}, opts...)...)
}

// batchRecords is how many records fill a batch.
func (s Spec) batchRecords() int {
	return int((s.BatchBytes - headerBytes) / (RecordBytes + recordOverhead))
}

// produce sends until the time or the bytes are over, then waits for the acks.
func (s Spec) produce(ctx context.Context) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.Seconds*float64(time.Second))+flushMax)
	defer cancel()
	k, err := s.producer(s.batchRecords())
	if err != nil {
		return Result{}, err
	}
	defer k.Close()
	var acked, refused atomic.Int64
	var first atomic.Pointer[error]
	done := func(_ *kgo.Record, err error) {
		if err == nil {
			acked.Add(1)
			return
		}
		refused.Add(1)
		first.CompareAndSwap(nil, &err)
	}
	values := Payload()
	m := startMeter(func() float64 { return float64(acked.Load()) * RecordBytes / 1e6 })
	for n := int64(0); !m.over(s) && ctx.Err() == nil; n++ {
		if s.BytesMax > 0 && n*RecordBytes >= s.BytesMax {
			break
		}
		from := n * RecordBytes % payloadBytes
		k.Produce(ctx, &kgo.Record{Value: values[from : from+RecordBytes]}, done)
	}
	err = k.Flush(ctx)
	out := m.stop(Produce)
	out.Records, out.Refused = acked.Load(), refused.Load()
	out.MB = float64(out.Records) * RecordBytes / 1e6
	if e := first.Load(); e != nil {
		out.Fault = fmt.Sprintf("%d records were refused, the first: %v", out.Refused, *e)
	}
	return out, err
}

// inRuns is a partitioner that stays with a partition for a run of records.
type inRuns struct{ length int }

func (p *inRuns) ForTopic(string) kgo.TopicPartitioner { return &topicRuns{length: p.length} }

type topicRuns struct{ length, n int }

func (*topicRuns) RequiresConsistency(*kgo.Record) bool { return true }

func (p *topicRuns) Partition(_ *kgo.Record, partitions int) int {
	at := p.n / p.length % partitions
	p.n++
	return at
}

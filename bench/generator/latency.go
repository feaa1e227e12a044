package generator

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// latencyRun is how many records in a row go to a partition.
	latencyRun = 16
	// wakeEvery is how often the generator looks which records are due.
	wakeEvery = 500 * time.Microsecond
	// lastWait bounds the wait for records acked and not yet read.
	lastWait = 30 * time.Second
	// lateMax is how many records may wait in the client when the broker does
	// not keep up: 512 MiB. Beyond it sending blocks, and later records are late
	// by as much.
	lateMax = 512 << 10
)

// openLoop is a latency run. Producer callbacks run one at a time, and so do the
// consumer's polls: each of the two owns its fields.
type openLoop struct {
	spec  Spec
	at    time.Time
	total int64 // records due in the whole run
	warm  int64 // of them before the latencies count

	// The producer's callbacks.
	acked   []bool
	ack     Histogram
	lastAck map[int32]time.Time
	gap     time.Duration
	refused int64
	first   error
	ackedN  atomic.Int64

	// The consumer.
	seen     []uint8
	endToEnd Histogram
	seenN    atomic.Int64
	strange  int64 // records that nobody sent
}

func (s Spec) latency(ctx context.Context) (Result, error) {
	perSecond := s.Rate / RecordBytes
	l := &openLoop{spec: s, warm: int64(s.WarmSeconds * perSecond), lastAck: map[int32]time.Time{}}
	l.total = l.warm + int64(s.Seconds*perSecond)
	l.acked, l.seen = make([]bool, l.total), make([]uint8, l.total)
	ctx, cancel := context.WithTimeout(ctx, time.Duration((s.Seconds+s.WarmSeconds)*float64(time.Second))+flushMax+lastWait)
	defer cancel()
	producer, err := s.producer(latencyRun, kgo.MaxBufferedRecords(lateMax))
	if err != nil {
		return Result{}, err
	}
	defer producer.Close()
	consumer, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...), kgo.ClientID("bench-consumer"), kgo.ConsumeTopics(s.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return Result{}, err
	}
	defer consumer.Close()
	if err := producer.Ping(ctx); err != nil {
		return Result{}, fmt.Errorf("ask a broker: %w", err)
	}
	polls, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	m := startMeter(func() float64 { return float64(l.seenN.Load()) * RecordBytes / 1e6 })
	l.at = m.at
	go func() { defer close(done); l.consume(polls, consumer) }()
	l.send(ctx, producer)
	err = producer.Flush(ctx)
	l.waitSeen(ctx)
	out := m.stop(Latency)
	stop()
	<-done
	return l.result(out), err
}

// send gives every record to the client when it is due, or as soon after as
// the machine and the client let it.
func (l *openLoop) send(ctx context.Context, k *kgo.Client) {
	values := Payload()
	for n := int64(0); n < l.total && ctx.Err() == nil; {
		due := min(l.total, 1+int64(time.Since(l.at).Seconds()*l.spec.Rate/RecordBytes))
		for ; n < due; n++ {
			v := make([]byte, RecordBytes)
			copy(v, values[n*RecordBytes%payloadBytes:])
			binary.BigEndian.PutUint64(v, uint64(n))
			k.Produce(ctx, &kgo.Record{Value: v}, l.done)
		}
		time.Sleep(wakeEvery)
	}
}

// dueAt is when record n is to be sent.
func (l *openLoop) dueAt(n int64) time.Time {
	return l.at.Add(time.Duration(float64(n) * RecordBytes / l.spec.Rate * float64(time.Second)))
}

// done is the producer's callback.
func (l *openLoop) done(r *kgo.Record, err error) {
	if err != nil {
		l.refused++
		if l.first == nil {
			l.first = err
		}
		return
	}
	n, now := int64(binary.BigEndian.Uint64(r.Value)), time.Now()
	l.acked[n] = true
	l.ackedN.Add(1)
	// A partition is silent from its last ack, or from when the next record was
	// due if that is later.
	since := l.dueAt(n)
	if last, ok := l.lastAck[r.Partition]; ok && last.After(since) {
		since = last
	}
	l.lastAck[r.Partition] = now
	if n < l.warm {
		return
	}
	l.gap = max(l.gap, now.Sub(since))
	l.ack.Add(now.Sub(l.dueAt(n)).Microseconds())
}

func (l *openLoop) consume(ctx context.Context, k *kgo.Client) {
	for ctx.Err() == nil {
		fetches := k.PollFetches(ctx)
		now := time.Now()
		fetches.EachRecord(func(r *kgo.Record) {
			if len(r.Value) != RecordBytes {
				l.strange++
				return
			}
			n := int64(binary.BigEndian.Uint64(r.Value))
			if n < 0 || n >= l.total {
				l.strange++
				return
			}
			l.seen[n] = min(l.seen[n]+1, 2)
			l.seenN.Add(1)
			if n >= l.warm {
				l.endToEnd.Add(now.Sub(l.dueAt(n)).Microseconds())
			}
		})
	}
}

// waitSeen waits until the consumer has as many records as were acked.
func (l *openLoop) waitSeen(ctx context.Context) {
	for end := time.Now().Add(lastWait); l.seenN.Load() < l.ackedN.Load() && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(time.Millisecond)
	}
}

// result compares what was acked with what was read, when both have ended.
func (l *openLoop) result(out Result) Result {
	for n := range l.acked {
		switch {
		case l.acked[n] && l.seen[n] == 0:
			out.Lost++
		case l.seen[n] > 1:
			out.Doubled++
		}
	}
	out.Records, out.Refused = l.ackedN.Load(), l.refused
	out.MB = float64(out.Records) * RecordBytes / 1e6
	out.EndToEnd, out.Ack, out.GapMs = &l.endToEnd, &l.ack, float64(l.gap.Microseconds())/1000
	switch {
	case out.Lost+out.Doubled+l.strange > 0:
		out.Fault = fmt.Sprintf("of %d acked records %d were not read, %d read more than once, and %d were read that nobody sent", out.Records, out.Lost, out.Doubled, l.strange)
	case l.refused > 0:
		out.Fault = fmt.Sprintf("%d records were refused, the first: %v", l.refused, l.first)
	}
	return out
}

package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"tidewater/bench/generator"
)

const recordBytes = generator.RecordBytes

// load is what one producer sends: records of 1 KiB without key, acks=all and
// idempotent (franz-go's defaults), not compressed, to the partitions in turn.
type load struct {
	topic      string
	batchBytes int32
	// The load ends after so much time or so many bytes, whichever is first.
	limit    time.Duration
	bytesMax int64
}

// loaded is what became of a load.
type loaded struct {
	acked, failed int64
	// took is from the first record to the last ack.
	took      time.Duration
	perSecond []float64 // MB acked in each second
}

func (l loaded) mb() float64 { return float64(l.acked) * recordBytes / 1e6 }

// flushMax is how long after its end a load may wait for the last acks: a
// broker that is gone never gives them, and the client would ask for ever.
const flushMax = time.Minute

func (w *world) produce(ctx context.Context, l load) (loaded, error) {
	ctx, cancel := context.WithTimeout(ctx, l.limit+flushMax)
	defer cancel()
	k, err := w.client(kgo.DefaultProduceTopic(l.topic), kgo.ProducerBatchMaxBytes(l.batchBytes),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		return loaded{}, err
	}
	defer k.Close()
	var acked, failed atomic.Int64
	var first atomic.Pointer[error]
	done := func(_ *kgo.Record, err error) {
		if err == nil {
			acked.Add(1)
			return
		}
		failed.Add(1)
		first.CompareAndSwap(nil, &err)
	}
	var out loaded
	stop := everySecond(func() { out.perSecond = append(out.perSecond, float64(acked.Load())*recordBytes/1e6) })
	values, at := generator.Payload(), time.Now()
	for n := int64(0); n*recordBytes < l.bytesMax && time.Since(at) < l.limit && ctx.Err() == nil; n++ {
		from := n * recordBytes % int64(len(values))
		k.Produce(ctx, &kgo.Record{Value: values[from : from+recordBytes]}, done)
	}
	err = k.Flush(ctx)
	out.took = time.Since(at)
	stop()
	out.acked, out.failed = acked.Load(), failed.Load()
	for i := len(out.perSecond) - 1; i > 0; i-- {
		out.perSecond[i] -= out.perSecond[i-1]
	}
	if e := first.Load(); e != nil && err == nil {
		err = fmt.Errorf("%d records were refused, the first: %w", out.failed, *e)
	}
	return out, err
}

// everySecond calls f once a second until the returned function is called,
// which waits for the last call.
func everySecond(f func()) (stop func()) {
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				f()
			}
		}
	}()
	return func() { close(end); <-done }
}

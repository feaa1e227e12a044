package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	lagTopic = "lag"
	lagEvery = 100 * time.Millisecond
	// lagWait bounds the wait for the last records, and for the first.
	lagWait = 30 * time.Second
)

// lag answers figure lag: one record every 100 ms to the source, each seen by a
// consumer of a read replica that has the bucket's read-only credentials alone.
func lag(ctx context.Context, b *bench) (err error) {
	w, err := b.newWorld()
	if err != nil {
		return err
	}
	defer w.close(&err)
	store, err := w.store(ctx)
	if err != nil {
		return err
	}
	p, err := w.broker(ctx, "node")
	if err != nil {
		return err
	}
	source, err := w.client(kgo.DefaultProduceTopic(lagTopic), kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	defer source.Close()
	if err := createTopic(ctx, source, lagTopic, 1, "retention.ms", "-1", "remote.storage.enable", "true"); err != nil {
		return err
	}
	f := &follow{acked: map[uint64]time.Time{}, seen: map[uint64]time.Time{}}
	if err := f.produce(ctx, source, 0); err != nil {
		return err
	}
	replica, follower, err := w.replica(ctx)
	if err != nil {
		return err
	}
	defer follower.Close()
	if err := f.consume(ctx, follower, 0); err != nil {
		return fmt.Errorf("wait for the first record: %w", err)
	}
	m := startMeter(p, replica, store)
	if err := f.run(ctx, source, follower, uint64(b.runFor()/lagEvery)); err != nil {
		return err
	}
	return f.add(b, m.stop())
}

// replica starts the read replica and a consumer on it.
func (w *world) replica(ctx context.Context) (*process, *kgo.Client, error) {
	p, err := w.spawn("replica", "replica", "--data-dir", filepath.Join(w.dir, "replica"), "--bucket", w.bucketURL(),
		"--bucket-access-key", readOnlyAccessKey, "--bucket-secret-key", readOnlySecretKey,
		"--kafka-addr", w.ports.replicaKafka, "--admin-addr", w.ports.replicaAdmin)
	if err != nil {
		return nil, nil, err
	}
	if err := w.ready(ctx, p, w.ports.replicaAdmin); err != nil {
		return nil, nil, err
	}
	k, err := kgo.NewClient(kgo.SeedBrokers(w.ports.replicaKafka), kgo.ConsumeTopics(lagTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	return p, k, err
}

// follow knows when each record, by its number, was acked and seen.
type follow struct {
	mu          sync.Mutex
	acked, seen map[uint64]time.Time
}

func (f *follow) produce(ctx context.Context, k *kgo.Client, n uint64) error {
	err := k.ProduceSync(ctx, &kgo.Record{Value: binary.BigEndian.AppendUint64(nil, n)}).FirstErr()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acked[n] = time.Now()
	return err
}

// run produces records 1 to last, one each tick, while a consumer reads.
func (f *follow) run(ctx context.Context, source, follower *kgo.Client, last uint64) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(last)*lagEvery+lagWait)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f.consume(ctx, follower, last) }()
	tick := time.NewTicker(lagEvery)
	defer tick.Stop()
	for n := uint64(1); n <= last; n++ {
		<-tick.C
		if err := f.produce(ctx, source, n); err != nil {
			cancel()
			return errors.Join(fmt.Errorf("produce record %d: %w", n, err), <-done)
		}
	}
	return <-done
}

// consume notes each record until it sees the one with number last.
func (f *follow) consume(ctx context.Context, k *kgo.Client, last uint64) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(last)*lagEvery+lagWait)
	defer cancel()
	for {
		fetches := k.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for record %d on the replica: %w", last, err)
		}
		at, end := time.Now(), false
		f.mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) {
			n := binary.BigEndian.Uint64(r.Value)
			f.seen[n], end = at, end || n >= last
		})
		f.mu.Unlock()
		if end {
			return nil
		}
	}
}

func (f *follow) add(b *bench, u use) error {
	var lags []float64
	for n := uint64(1); n < uint64(len(f.acked)); n++ {
		seen, ok := f.seen[n]
		if !ok {
			return fmt.Errorf("record %d was acked, and not seen on the replica", n)
		}
		lags = append(lags, max(0, ms(seen.Sub(f.acked[n]))))
	}
	if err := b.results.sample("lag", "from ack to seen", "ms", lags); err != nil {
		return err
	}
	slices.Sort(lags)
	r := newResult("lag", "%d records, one each %s, from the ack to a consumer of the replica", len(lags), lagEvery)
	r.add("p50", "ms", percentile(lags, 50)).add("p99", "ms", percentile(lags, 99)).add("max", "ms", lags[len(lags)-1])
	for i, name := range []string{"source", "replica", "store"} {
		r.add(name, "% of a core", 100*u.cpu[i]/u.took.Seconds())
	}
	return b.results.add(u.addOther(r))
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// manyPartitions is the topic of figure partitions.
	manyPartitions = 10_000
	manyTopic      = "many"
	// manyRate is what each partition is sent, in bytes a second.
	manyRate     = 10_000
	manyTimeout  = 2 * time.Minute
	manyIdleWait = 10 * time.Second
)

// manyTopics answers figure partitions: one broker without a bucket and one
// topic of 10,000 partitions: how long does it take to make it, what does it
// cost idle, how long are starts, and what comes of a load on all of them.
func manyTopics(ctx context.Context, b *bench) (err error) {
	w, err := b.newWorld()
	if err != nil {
		return err
	}
	defer w.close(&err)
	p, err := w.plain(ctx)
	if err != nil {
		return err
	}
	if err := w.makeMany(ctx, p); err != nil {
		return err
	}
	if err := w.restIdle(ctx, p, "idle"); err != nil {
		return err
	}
	if p, err = w.restart(ctx, p, syscall.SIGTERM, "clean restart"); err != nil {
		return err
	}
	if err := w.loadMany(ctx, p); err != nil {
		return err
	}
	if p, err = w.restart(ctx, p, syscall.SIGKILL, "restart after kill -9 under load"); err != nil {
		return err
	}
	if p, err = w.restart(ctx, p, syscall.SIGTERM, "clean restart with records in each"); err != nil {
		return err
	}
	return w.restIdle(ctx, p, "idle, with records in each")
}

// plain starts a broker without a bucket.
func (w *world) plain(ctx context.Context) (*process, error) {
	p, err := w.spawn("broker", "broker", "--data-dir", w.dir+"/many", "--kafka-addr", w.ports.kafka,
		"--admin-addr", w.ports.admin, "--catalog-addr", "")
	if err != nil {
		return nil, err
	}
	return p, w.ready(ctx, p, w.ports.admin)
}

// makeMany creates the topic, until each partition has a leader.
func (w *world) makeMany(ctx context.Context, p *process) error {
	k, err := w.client()
	if err != nil {
		return err
	}
	defer k.Close()
	m := startMeter(p)
	admin := kadm.NewClient(k)
	admin.SetTimeoutMillis(int32(manyTimeout.Milliseconds()))
	answer, err := admin.CreateTopic(ctx, manyPartitions, 1, nil, manyTopic)
	if err = errors.Join(err, answer.Err); err != nil {
		return fmt.Errorf("create the topic: %s: %w", answer.ErrMessage, err)
	}
	if err := w.allLed(ctx, k); err != nil {
		return err
	}
	u := m.stop()
	r := newResult("partitions", "create a topic of %d", manyPartitions)
	r.add("until each has a leader", "s", u.took.Seconds()).add("broker", "CPU-s", u.cpu[0])
	return w.b.results.add(u.addOther(r))
}

// allLed waits until metadata names a leader for each partition.
func (w *world) allLed(ctx context.Context, k *kgo.Client) error {
	return wait(ctx, manyTimeout, "a leader for each partition", func() (bool, error) {
		topics, err := kadm.NewClient(k).ListTopics(ctx, manyTopic)
		if err != nil {
			return false, nil // the broker is starting
		}
		led := 0
		for _, d := range topics[manyTopic].Partitions {
			if d.Err == nil && d.Leader >= 0 {
				led++
			}
		}
		return led == manyPartitions, nil
	})
}

// restIdle measures CPU and memory of a broker that has nothing to do.
func (w *world) restIdle(ctx context.Context, p *process, name string) error {
	if err := pause(ctx, manyIdleWait); err != nil {
		return err
	}
	m := startMeter(p)
	if err := pause(ctx, manyIdleWait); err != nil {
		return err
	}
	u := m.stop()
	mem, err := memory(p.pid())
	if err != nil {
		return err
	}
	r := newResult("partitions", "%s", name).add("CPU", "% of a core", 100*u.cpu[0]/u.took.Seconds())
	r.add("resident", "MB", mem["VmRSS"]/1e6).add("the most there was", "MB", mem["VmHWM"]/1e6)
	return w.b.results.add(u.addOther(r))
}

// restart ends the broker and measures from its next start until it is ready
// and each partition has a leader.
func (w *world) restart(ctx context.Context, p *process, s os.Signal, name string) (*process, error) {
	at := time.Now()
	if err := w.end(p, s); err != nil {
		return nil, err
	}
	stopped := time.Since(at)
	at = time.Now()
	p, err := w.plain(ctx)
	if err != nil {
		return nil, err
	}
	ready := time.Since(at)
	k, err := w.client()
	if err != nil {
		return nil, err
	}
	defer k.Close()
	if err := w.allLed(ctx, k); err != nil {
		return nil, err
	}
	r := newResult("partitions", "%s", name).add("ready after", "s", ready.Seconds())
	r.add("each has a leader after", "s", time.Since(at).Seconds()).add("the stop took", "s", stopped.Seconds())
	return p, w.b.results.add(r)
}

// loadMany sends each partition manyRate in batches of a second's worth, and
// says what came of it.
func (w *world) loadMany(ctx context.Context, p *process) error {
	k, err := w.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(2*manyPartitions),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordDeliveryTimeout(manyTimeout))
	if err != nil {
		return err
	}
	defer k.Close()
	ctx, stop := context.WithTimeout(ctx, w.b.runFor()+manyTimeout)
	defer stop()
	m := startMeter(p)
	wrote := writtenBytes(p.pid())
	var acked counter
	value := make([]byte, manyRate)
	for begin := time.Now(); time.Since(begin) < w.b.runFor(); {
		round := time.Now()
		for n := range int32(manyPartitions) {
			k.Produce(ctx, &kgo.Record{Topic: manyTopic, Partition: n, Value: value}, func(_ *kgo.Record, err error) {
				acked.add(err, manyRate)
			})
		}
		if err := pause(ctx, max(0, time.Second-time.Since(round))); err != nil {
			return err
		}
	}
	if err := k.Flush(ctx); err != nil {
		return err
	}
	u := m.stop()
	mem, err := memory(p.pid())
	if err != nil {
		return err
	}
	bytes, failed := acked.get()
	if failed != nil {
		return fmt.Errorf("produce: %w", failed)
	}
	r := newResult("partitions", "%d active at %d kB/s each", manyPartitions, manyRate/1000)
	r.add("asked for", "MB/s", manyPartitions*manyRate/1e6).add("acked", "MB/s", bytes/1e6/u.took.Seconds())
	r.add("broker", "CPU-s per GB", u.cpu[0]/(bytes/1e9)).add("resident at most", "MB", mem["VmHWM"]/1e6)
	r.add("written to the disk for each byte", "times", float64(writtenBytes(p.pid())-wrote)/bytes)
	r.add("journal files", "MB", float64(dirBytes(w.dir+"/many/journal"))/1e6)
	return w.b.results.add(u.addOther(r))
}

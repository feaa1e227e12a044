package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	startRuns  = 7
	startTopic = "start"
	// startBytes are in the logs when the broker is stopped or killed.
	startBytes = 64 << 20
	dialEvery  = time.Millisecond
)

// start answers figure start: `tidewater dev` with its store, from the start of
// the process to the first acked record, the topic made by that record when the
// directory is new.
func start(ctx context.Context, b *bench) error {
	var cold, stopped, killed []float64
	for range startRuns {
		c, s, k, err := startRun(ctx, b)
		if err != nil {
			return err
		}
		cold, stopped, killed = append(cold, c), append(stopped, s), append(killed, k)
	}
	for _, one := range []struct {
		name  string
		times []float64
	}{{"new data directory", cold}, {"after a clean stop", stopped}, {"after kill -9", killed}} {
		if err := b.results.sample("start", one.name, "ms", one.times); err != nil {
			return err
		}
		slices.Sort(one.times)
		r := newResult("start", "%s, to the first acked record", one.name)
		r.add("median", "ms", percentile(one.times, 50)).add("min", "ms", one.times[0]).add("max", "ms", one.times[len(one.times)-1])
		if err := b.results.add(r.add("of", "runs", startRuns)); err != nil {
			return err
		}
	}
	return nil
}

// startRun starts on a new directory, stops, starts, kills, starts; in ms.
func startRun(ctx context.Context, b *bench) (cold, stopped, killed float64, err error) {
	w, err := b.newWorld()
	if err != nil {
		return
	}
	defer w.close(&err)
	p, cold, err := w.firstAck(ctx)
	if err != nil {
		return
	}
	if _, err = w.produce(ctx, load{topic: startTopic, batchBytes: 128 << 10, limit: time.Minute, bytesMax: startBytes}); err != nil {
		return
	}
	if err = w.end(p, syscall.SIGTERM); err != nil {
		return
	}
	if p, stopped, err = w.firstAck(ctx); err != nil {
		return
	}
	if _, err = w.produce(ctx, load{topic: startTopic, batchBytes: 128 << 10, limit: time.Minute, bytesMax: startBytes}); err != nil {
		return
	}
	if err = w.end(p, syscall.SIGKILL); err != nil {
		return
	}
	_, killed, err = w.firstAck(ctx)
	return
}

// firstAck starts `tidewater dev` and gives the ms until a record is acked. The
// client begins when the port answers, asked each millisecond: a client that
// failed to connect would wait longer than the broker needs.
func (w *world) firstAck(ctx context.Context) (*process, float64, error) {
	at := time.Now()
	p, err := w.alone("data")
	if err != nil {
		return nil, 0, err
	}
	for !listens(w.ports.kafka) {
		if _, err := readCPU(p.pid()); err != nil {
			return nil, 0, fmt.Errorf("the broker is gone: %w", err)
		}
		if time.Since(at) > readyTimeout {
			return nil, 0, fmt.Errorf("no broker after %s", readyTimeout)
		}
		if err := pause(ctx, dialEvery); err != nil {
			return nil, 0, err
		}
	}
	k, err := w.client(kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(0))
	if err != nil {
		return nil, 0, err
	}
	defer k.Close()
	if err := k.ProduceSync(ctx, &kgo.Record{Topic: startTopic, Value: []byte("first")}).FirstErr(); err != nil {
		return nil, 0, fmt.Errorf("produce the first record: %w", err)
	}
	took := time.Since(at)
	text, _ := os.ReadFile(p.out)
	if i := strings.LastIndex(string(text), "ready after"); i >= 0 {
		say("start: first ack after %d ms; the broker says %s", took.Milliseconds(), strings.SplitN(string(text[i:]), ",", 2)[0])
	}
	return p, float64(took.Microseconds()) / 1000, nil
}

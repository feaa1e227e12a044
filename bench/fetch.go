package main

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"tidewater/bench/generator"
)

// fetchCase reads back what a produce case wrote.
func fetchCase(ctx context.Context, w *world, p *process, name string, want int64) error {
	r, u, before, after, err := w.readAll(ctx, loadTopic, p)
	if err != nil {
		return err
	}
	if r.Records() != want {
		return fmt.Errorf("%d records acked, %d read", want, r.Records())
	}
	mb := float64(r.Bytes()) / 1e6
	out := newResult("fetch", "%s", name)
	out.add("", "MB/s", mb/u.took.Seconds())
	out.add("broker", "CPU-s per GB", 1000*u.cpu[0]/mb)
	out.add("generator", "CPU-s per GB", 1000*u.own/mb)
	out.add("read", "MB", mb)
	addSources(out, before, after)
	return w.b.results.add(u.addOther(out))
}

// readAll reads a topic whole, measured, with the broker's metrics before and after.
func (w *world) readAll(ctx context.Context, topic string, p ...*process) (r *generator.Reader, u use, before, after map[string]float64, err error) {
	k, err := w.client(kgo.BrokerMaxReadBytes(generator.AnswerMax))
	if err != nil {
		return
	}
	defer k.Close()
	if r, err = generator.OpenReader(ctx, k, topic); err != nil {
		return
	}
	if before, err = metrics(ctx, w.ports.admin); err != nil {
		return
	}
	m := startMeter(p...)
	if err = r.All(ctx); err != nil {
		return
	}
	u = m.stop()
	after, err = metrics(ctx, w.ports.admin)
	return
}

package main

import (
	"context"
	"fmt"
	"time"
)

const (
	loadTopic = "load"
	// diskMax bounds what one run writes; a run that reaches it ends early and says so.
	diskMax = 18 << 30
)

// produceAndFetch answers figures produce and fetch: each case on a new broker.
func produceAndFetch(ctx context.Context, b *bench) error {
	for _, partitions := range []int32{1, 16} {
		for _, batch := range []int32{128 << 10, 16 << 10} {
			if err := produceCase(ctx, b, partitions, batch); err != nil {
				return fmt.Errorf("%d partitions, batches of %d KiB: %w", partitions, batch>>10, err)
			}
		}
	}
	return nil
}

func produceCase(ctx context.Context, b *bench, partitions, batch int32) (err error) {
	w, err := b.newWorld()
	if err != nil {
		return err
	}
	defer w.close(&err)
	if _, err := w.store(ctx); err != nil {
		return err
	}
	p, err := w.broker(ctx, "node")
	if err != nil {
		return err
	}
	k, err := w.client()
	if err != nil {
		return err
	}
	defer k.Close()
	if err := createTopic(ctx, k, loadTopic, partitions); err != nil {
		return err
	}
	name := fmt.Sprintf("%d partition%s, batches of %d KiB", partitions, plural(partitions), batch>>10)
	m := startMeter(p)
	l, err := w.produce(ctx, load{topic: loadTopic, batchBytes: batch, limit: b.runFor(), bytesMax: diskMax})
	if err != nil {
		return err
	}
	drained, err := w.waitSegments(ctx)
	if err != nil {
		return err
	}
	u := m.stop()
	readable, err := records(ctx, k, loadTopic)
	if err != nil {
		return err
	}
	if readable != l.acked {
		return fmt.Errorf("%d records acked, high watermarks are %d in all", l.acked, readable)
	}
	if err := addProduce(ctx, w, name, l, drained, u); err != nil || !b.wants("fetch") {
		return err
	}
	return fetchCase(ctx, w, p, name, l.acked)
}

func addProduce(ctx context.Context, w *world, name string, l loaded, drained time.Duration, u use) error {
	r := newResult("produce", "%s", name)
	r.add("", "MB/s acked", l.mb()/l.took.Seconds())
	r.add("broker", "CPU-s per GB", 1000*u.cpu[0]/l.mb())
	r.add("generator", "CPU-s per GB", 1000*u.own/l.mb())
	r.add("last byte in a segment", "ms after the last ack", float64(drained.Milliseconds()))
	r.add("acked and read back as high watermarks", "records", float64(l.acked))
	r.add("in", "s", l.took.Seconds())
	u.addOther(r)
	if m, err := metrics(ctx, w.ports.admin); err == nil {
		r.add("bytes a journal flush", "KiB", m["tidewater_journal_bytes_total"]/max(1, m["tidewater_journal_flushes_total"])/1024)
	}
	if mem, err := memory(w.all[1].pid()); err == nil {
		r.add("broker's most resident memory", "MB", mem["VmHWM"]/1e6)
	}
	if l.mb()*1e6 >= diskMax {
		r.Notes = fmt.Sprintf("ended at %d GB, to spare the disk", diskMax>>30)
	}
	if err := w.b.results.sample("produce", name, "MB acked in each second", l.perSecond); err != nil {
		return err
	}
	return w.b.results.add(r)
}

func plural(n int32) string {
	if n == 1 {
		return ""
	}
	return "s"
}

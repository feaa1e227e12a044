package main

import (
	"context"
	"time"
)

// idleFor is how long the broker rests before its memory is read, and then
// again while its CPU is.
const idleFor = 10 * time.Second

// idle answers figure idle: `tidewater dev` with its store in one process, one
// topic made by its first record, and nothing to do.
func idle(ctx context.Context, b *bench) (err error) {
	w, err := b.newWorld()
	if err != nil {
		return err
	}
	defer w.close(&err)
	p, _, err := w.firstAck(ctx)
	if err != nil {
		return err
	}
	if err := pause(ctx, idleFor); err != nil {
		return err
	}
	mem, err := memory(p.pid())
	if err != nil {
		return err
	}
	m := startMeter(p)
	if err := pause(ctx, idleFor); err != nil {
		return err
	}
	u := m.stop()
	r := newResult("idle", "dev with its store, after %s", idleFor)
	r.add("resident", "MB", mem["VmRSS"]/1e6)
	r.add("of it pages of the binary", "MB", mem["RssFile"]/1e6)
	r.add("of it own", "MB", mem["RssAnon"]/1e6)
	r.add("the most there was", "MB", mem["VmHWM"]/1e6)
	r.add("CPU", "% of a core", 100*u.cpu[0]/u.took.Seconds())
	return b.results.add(u.addOther(r))
}

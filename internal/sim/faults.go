package sim

import (
	"context"
	"errors"
	"strings"
	"time"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// newFaults lets happen what the shape says goes wrong.
func (w *world) newFaults() {
	s := &w.shape
	w.again(s.CrashEvery, func() {
		if l := w.active.life; l != nil && l.fuse == 0 {
			l.arm(1 + w.rng.IntN(80))
		}
	})
	w.again(s.OutageEvery, w.beginOutage)
	w.again(s.FullEvery, w.fillDisk)
	w.again(s.SyncEvery, w.failSync)
	w.again(s.DeleteEvery, w.deleteRecords)
	w.again(s.RestoreEvery, func() { w.lose(w.rng.IntN(10) < s.ZombieShare) })
}

// again does something again and again, d apart on average; never if d is 0.
func (w *world) again(d time.Duration, do func()) {
	if d == 0 {
		return
	}
	w.after(w.jitter(d), func() {
		if !w.closing {
			do()
			w.again(d, do)
		}
	})
}

// deleteRecords lets a client move a log start up to somewhere.
func (w *world) deleteRecords() {
	l := w.active.life
	if l == nil || len(l.parts) == 0 {
		return
	}
	w.guard(l, func() {
		p := l.parts[w.rng.IntN(len(l.parts))]
		o, err := p.Offsets()
		if err != nil {
			return
		}
		before := o.LogStart + record.Offset(w.rng.Int64N(int64(o.HighWatermark-o.LogStart)+1))
		start, err := p.Trim(context.Background(), before)
		w.say("delete records of %d before %d: %v", p.truth.id.Partition, before, err)
		switch {
		case err == nil && start < before:
			w.violate(offsets, "%d: records before %d were deleted, the log starts at %d", p.truth.id.Partition, before, start)
		case err == nil:
			w.stats.Deletes++
		}
	})
}

func (w *world) beginOutage() {
	if w.outage != healthy {
		return
	}
	w.outage = outage(1 + w.rng.IntN(3))
	if w.shape.Flaky {
		w.outage = flaky
	}
	w.stats.Outages++
	w.say("the bucket is %s", w.outage)
	w.after(w.millis(200, 2500), func() {
		w.outage = healthy
		w.say("the bucket is %s", w.outage)
	})
}

// fillDisk leaves a little room for a while: appends are refused, reads go on.
func (w *world) fillDisk() {
	n := w.active
	free, err := n.disk.Free()
	if err != nil || n.lost {
		return
	}
	w.stats.Full++
	n.disk.SetCapacity(diskBytes - free + w.rng.Int64N(64<<10))
	w.say("the disk is full")
	w.after(w.millis(200, 2000), func() {
		n.disk.SetCapacity(diskBytes)
		w.say("the disk has room")
	})
}

var errMedium = errors.New("medium error")

// failSync makes one fsync of the journal fail: the broker must stop every
// replica and is started again after the power was cut, since what is on the
// disk is not known.
func (w *world) failSync() {
	l := w.active.life
	if l == nil {
		return
	}
	w.stats.SyncFailures++
	w.say("the next sync of the journal fails")
	l.disk.Add(disk.Rule{Times: 1, Err: errMedium, When: func(c disk.Call) bool {
		return c.Op == disk.OpSync && strings.HasPrefix(c.Name, "journal/")
	}})
}

// heal ends every fault, and the brokers of the past.
func (w *world) heal() {
	w.closing = true
	w.outage = healthy
	for _, n := range w.nodes {
		n.disk.SetCapacity(diskBytes)
		if n != w.active {
			n.lost = true
			n.kill()
		} else if n.life != nil {
			n.life.fuse = 0
			n.life.disk.Clear()
		}
	}
}

package sim

import (
	"context"
	"errors"
	"strings"
	"time"

	"tidewater/broker/multiraft"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// newFaults lets happen what the shape says goes wrong.
func (w *world) newFaults() {
	s := &w.shape
	w.again(s.CrashEvery, func() {
		if l := w.active.anyLife(); l != nil && l.fuse == 0 {
			l.arm(1 + w.rng.IntN(80))
		}
	})
	w.again(s.OutageEvery, w.beginOutage)
	w.again(s.FullEvery, w.fillDisk)
	w.again(s.SyncEvery, w.failSync)
	w.again(s.DeleteEvery, w.deleteRecords)
	w.again(s.RestoreEvery, func() { w.lose(w.rng.IntN(10) < s.ZombieShare) })
	w.again(s.PartitionEvery, w.partition)
	w.again(s.PauseEvery, w.pause)
	w.again(s.ClockEvery, w.jumpClock)
	w.again(s.SlowEvery, w.slowDisk)
	w.again(s.TransferEvery, w.transfer)
	w.again(s.WipeEvery, w.wipeDisk)
	w.again(s.RotEvery, w.rotBits)
}

// again does something again and again, d apart on average; never if d is 0.
func (w *world) again(d time.Duration, do func()) {
	if d == 0 {
		return
	}
	w.add(w.jitter(d), event{front: true, run: func() {
		if !w.closing {
			do()
			w.again(d, do)
		}
	}})
}

// deleteRecords lets a client move a log start up to somewhere.
func (w *world) deleteRecords() {
	p := w.active.leader(int32(w.rng.IntN(len(w.parts))))
	if p == nil {
		return
	}
	w.guard(p.life, false, func() {
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
	w.add(w.millis(200, 2500), event{front: true, run: func() {
		w.outage, w.healed = healthy, w.now
		w.say("the bucket is %s", w.outage)
	}})
}

// fillDisk leaves a little room for a while: appends are refused, reads go on.
func (w *world) fillDisk() {
	n := w.anyNode()
	free, err := n.disk.Free()
	if err != nil || n.lost {
		return
	}
	w.stats.Full++
	n.disk.SetCapacity(diskBytes - free + w.rng.Int64N(64<<10))
	w.say("the disk is full")
	w.add(w.millis(200, 2000), event{front: true, run: func() {
		n.disk.SetCapacity(diskBytes)
		w.say("the disk has room")
	}})
}

var errMedium = errors.New("medium error")

// failSync makes one fsync of the journal or of a segment fail, in turn, and what it was to make durable
// never become so, though it can be read: the broker must stop every replica and
// is started again, with or without a power cut between.
func (w *world) failSync() {
	l := w.active.anyLife()
	if l == nil {
		return
	}
	of := []string{"journal/", "partitions/"}[w.stats.SyncFailures%2]
	w.stats.SyncFailures++
	w.say("the next sync of a file in %s of broker %d fails", of, l.node.id)
	l.disk.Add(disk.Rule{Times: 1, Err: errMedium, LoseWrites: true, When: func(c disk.Call) bool {
		return c.Op == disk.OpSync && strings.HasPrefix(c.Name, of)
	}})
}

func (w *world) anyNode() *node { return w.active.nodes[w.rng.IntN(len(w.active.nodes))] }

// pause stops a process for a while, as SIGSTOP does: what it was doing it goes
// on with later, and nothing tells it.
func (w *world) pause() {
	n := w.anyNode()
	if w.active.alone() || n.life == nil || n.paused() {
		return
	}
	d := w.millis(300, 4000)
	n.stopped = w.now.Add(d)
	w.stats.Pauses++
	w.say("broker %d is stopped for %s", n.id, d)
}

// jumpClock sets a broker's clock.
func (w *world) jumpClock() {
	n := w.anyNode()
	n.skew = w.millis(-40_000, 40_000)
	w.stats.ClockJumps++
	w.say("broker %d's clock is off by %s", n.id, n.skew)
}

// slowDisk makes each flush of a broker take long for a while.
func (w *world) slowDisk() {
	n := w.anyNode()
	n.slow = true
	w.stats.SlowDisks++
	w.say("broker %d's disk is slow", n.id)
	w.add(w.millis(300, 2500), event{front: true, run: func() { n.slow = false }})
}

// transfer asks a leader to hand over.
func (w *world) transfer() {
	ids := w.active.groupIDs()
	id := ids[w.rng.IntN(len(ids))]
	to := uint64(w.anyNode().id)
	for _, l := range w.active.lives() {
		_ = l.raft.Do(id, func(g *multiraft.Group) { g.Transfer(to, nil) })
		l.stepSoon()
	}
}

// heal ends every fault, and the brokers of the past.
func (w *world) heal() {
	w.closing = true
	w.outage, w.healed = healthy, w.now
	for _, c := range w.clusters {
		if c != w.active {
			c.lose()
			continue
		}
		c.net.heal()
		for _, n := range c.nodes {
			n.disk.SetCapacity(diskBytes)
			n.slow = false // a stopped process wakes by itself: its loops wait for that time, its readers must not go before them
			if n.life != nil {
				n.life.fuse = 0
				n.life.disk.Clear()
			}
			if !n.mends {
				n.replaceRotten()
			}
		}
	}
}

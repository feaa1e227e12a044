package sim

import (
	"errors"
	"time"

	"tidewater/internal/disk"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// node is one data directory and the process on it, if it runs.
type node struct {
	w        *world
	c        *cluster
	id       int32
	disk     *disk.Mem
	promised map[record.PartitionID]promise
	ran      map[record.PartitionID]uint64       // the newest replica that promised something
	written  map[record.PartitionID][][]uint64   // members given to the journal, no flush was answered since
	told     map[record.PartitionID]record.Index // highest that it called committed
	life     *life                               // nil while it is down
	boots    int
	series   manifest.Series // of its last life; used again by a planted fault

	stopped time.Time     // until then the process is not scheduled
	skew    time.Duration // of its clock
	slow    bool          // its disk is
	writing string        // the journal file that is written
	rotten  bool          // flushed bits of it have changed
	mends   bool          // in a segment, which the broker mends by itself
	bare    bool          // an empty disk that has no new replicas yet
	lost    bool          // the directory is gone
}

const diskBytes = 64 << 20

func newNode(c *cluster, id int32) *node {
	return &node{w: c.w, c: c, id: id, disk: disk.NewMem(diskBytes), promised: map[record.PartitionID]promise{}, told: map[record.PartitionID]record.Index{}, ran: map[record.PartitionID]uint64{}, written: map[record.PartitionID][][]uint64{}}
}

// clock is the broker's own.
func (n *node) clock() time.Time { return n.w.now.Add(n.skew) }

// paused reports that the process is stopped, as by SIGSTOP, and goes on later
// as if nothing had been.
func (n *node) paused() bool { return n.stopped.After(n.w.now) }

// boot starts a process on the directory; it may die on the way.
func (n *node) boot() {
	if n.life != nil || n.lost {
		return
	}
	n.boots++
	l := &life{node: n, w: n.w, boot: n.boots}
	n.life = l
	if !n.w.closing && n.w.shape.CrashEvery > 0 && n.boots > 1 && n.w.rng.IntN(5) == 0 {
		l.arm(1 + n.w.rng.IntN(60))
	}
	n.w.guard(l, false, func() {
		err := l.start()
		n.w.say("node %d.%d boot %d: %v", n.c.layout.Incarnation, n.id, n.boots, err)
		switch {
		case err == nil:
			l.up = true
			for _, id := range n.c.groupIDs() {
				n.c.ledgers[id].restarted()
			}
			return
		case n.rotten:
			n.w.stats.RotSeen++
			n.life = nil // until the disk is replaced
			if n.mends {
				n.mends = false
				n.w.add(n.w.millis(200, 2000), event{front: true, run: n.replaceRotten})
			}
		case !errors.Is(err, disk.ErrFull):
			n.w.violate(sane, "boot %d: %v", n.boots, err)
		}
		l.dead = true
	})
}

// died buries a process; the directory is opened again after a while.
func (n *node) died(l *life) {
	w := n.w
	n.life = nil
	w.stats.Crashes++
	power := w.rng.IntN(10) < w.shape.PowerShare
	if power {
		w.stats.PowerCuts++
		n.disk.Crash(w.rng)
	}
	w.say("node %d.%d boot %d died, power cut %t", n.c.layout.Incarnation, n.id, l.boot, power)
	w.add(w.millis(20, 800), event{front: true, run: n.boot})
}

// kill ends the process at once.
func (n *node) kill() {
	if n.life != nil {
		n.life.dead = true
		n.life = nil
	}
}

// jitter draws around d.
func (w *world) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(w.rng.Int64N(int64(d)))
}

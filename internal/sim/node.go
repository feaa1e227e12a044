package sim

import (
	"errors"
	"time"

	"tidewater/broker/partition"
	"tidewater/internal/disk"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// node is one data directory and the process on it, if it runs.
type node struct {
	w        *world
	id       int32
	disk     *disk.Mem
	layout   manifest.Layout
	restored map[record.PartitionID]*partition.Restored // nil unless made by a restore
	promised map[record.PartitionID]promise
	life     *life // nil while it is down
	boots    int
	series   manifest.Series // of its last life; used again by a planted fault
	zombie   bool            // another incarnation was taken
	lost     bool            // the directory is gone
}

const diskBytes = 64 << 20

func (w *world) newNode(l manifest.Layout, restored map[record.PartitionID]*partition.Restored) *node {
	n := &node{w: w, id: 1, disk: disk.NewMem(diskBytes), layout: l, restored: restored, promised: map[record.PartitionID]promise{}}
	w.nodes = append(w.nodes, n)
	return n
}

// groupIDs are the groups of the cluster, in order.
func (n *node) groupIDs() []record.PartitionID {
	var out []record.PartitionID
	for i := range n.w.shape.Partitions {
		out = append(out, record.PartitionID{Topic: n.w.ids.topic, Partition: int32(i)})
	}
	for i := range n.w.shape.Idle {
		out = append(out, record.PartitionID{Topic: n.w.ids.idle, Partition: int32(i)})
	}
	return out
}

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
	n.w.guard(l, func() {
		err := l.open()
		n.w.say("node %d.%d boot %d: %v", n.layout.Incarnation, n.id, n.boots, err)
		if err == nil {
			return
		}
		if !errors.Is(err, disk.ErrFull) {
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
	power := l.power || w.rng.IntN(10) < w.shape.PowerShare
	if power {
		w.stats.PowerCuts++
		n.disk.Crash(w.rng)
	}
	w.say("node %d.%d boot %d died, power cut %t", n.layout.Incarnation, n.id, l.boot, power)
	w.after(w.millis(20, 800), n.boot)
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

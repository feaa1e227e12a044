package sim

import (
	"context"
	"slices"
	"strings"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/multiraft"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// assignment is the replicas that a group is to have: the replica id on each
// broker, by broker id less one. Ids are never given twice: a broker's next one
// is replicaStep higher.
type assignment []uint64

func (c *cluster) assign() map[record.PartitionID]assignment {
	all := map[record.PartitionID]assignment{}
	for _, id := range c.groupIDs() {
		for _, n := range c.nodes {
			all[id] = append(all[id], uint64(n.id))
		}
	}
	return all
}

// replica is the id that a broker is to run a group's replica under.
func (n *node) replica(id record.PartitionID) uint64 { return n.c.assigned[id][n.id-1] }

// origin is how a replica begins that the journal does not know. That a disk
// has run one is known elsewhere, as by the controller.
func (n *node) origin(id record.PartitionID) multiraft.Origin {
	switch r := n.replica(id); {
	case n.ran[id] == r:
		return multiraft.Resuming
	case r >= replicaStep:
		return multiraft.Joining
	}
	return multiraft.Founding
}

// wipeDisk has a broker come back with an empty disk. Its replicas answer
// nothing under their old ids; a while later it gets new ones. No second disk
// is hurt before: what is acked may be on two.
func (w *world) wipeDisk() {
	c := w.active
	if c.alone() || c.hurt != nil || w.restoring || c.zombie {
		return
	}
	n := w.anyNode()
	c.hurt = n
	w.stats.Wipes++
	n.wipe()
}

// wipe takes the disk away and puts an empty one in its place.
func (n *node) wipe() {
	w := n.w
	w.say("broker %d has a new disk", n.id)
	n.kill()
	n.disk, n.rotten, n.mends, n.bare = disk.NewMem(diskBytes), false, false, true
	n.promised, n.told = map[record.PartitionID]promise{}, map[record.PartitionID]record.Index{}
	w.add(w.millis(50, 600), event{front: true, run: n.boot})
	w.add(w.millis(800, 1600), event{front: true, run: n.reassign})
}

// reassign gives a broker new replicas of every group.
func (n *node) reassign() {
	c := n.c
	if n.lost {
		return
	}
	for _, id := range c.groupIDs() {
		c.assigned[id][n.id-1] += replicaStep
	}
	clear(c.agreeing)
	n.bare = false
	c.w.say("broker %d gets new replicas", n.id)
	n.kill()
	n.boot()
}

// rotBits flips bits of a flushed file that is not being written.
func (w *world) rotBits() {
	c := w.active
	if c.alone() || c.hurt != nil || w.restoring || c.zombie {
		return
	}
	n := w.anyNode()
	kind := []string{"journal/", "partitions/", ".segment", ".segment"}[w.rng.IntN(4)]
	name := n.disk.Rot(w.rng, func(name string) bool { return strings.Contains(name, kind) && name != n.writing })
	if name == "" {
		return
	}
	c.hurt, n.rotten = n, true
	w.stats.Rot++
	w.say("%s of broker %d rots", name, n.id)
	if n.life != nil && w.rng.IntN(4) > 0 {
		n.life.arm(1 + w.rng.IntN(20)) // so that it is read again
	}
	if n.mends = strings.HasSuffix(name, ".segment"); n.mends {
		n.inspect()
		return
	}
	w.add(w.millis(500, 4000), event{front: true, run: func() { n.replaceRotten() }})
}

// inspect looks now and then whether a broker has mended its segments. What is
// left of the rot then is where nothing was written.
func (n *node) inspect() {
	w := n.w
	w.add(w.millis(300, 900), event{front: true, run: func() {
		l := n.life
		if n.lost || !n.rotten || !n.mends {
			return
		}
		n.inspect()
		if l == nil || !l.up || l.dead || l.missing || n.paused() {
			return
		}
		w.guard(l, false, func() {
			for _, id := range n.c.groupIDs() {
				p := l.partition(id)
				for end := false; !end; {
					var err error
					if _, end, err = p.Scrub(context.Background(), 1<<20); err != nil {
						return
					}
				}
				if len(p.Damaged()) > 0 {
					return
				}
			}
			w.say("broker %d has no rot left", n.id)
			n.rotten, n.mends, n.c.hurt = false, false, nil
		})
	}})
}

// replaceRotten is what an operator does with a disk that makes errors.
func (n *node) replaceRotten() {
	if n.rotten && !n.lost {
		n.wipe()
	}
}

// changeMembers brings the groups that this broker leads one step nearer to
// what is assigned: learners first, a learner that has caught up in the place
// of the voter on its broker, then out with what is left.
func (l *life) changeMembers() error {
	c := l.node.c
	for _, id := range c.groupIDs() {
		_ = l.raft.Do(id, func(g *multiraft.Group) { // busy: the next turn
			if g.Leadership().Ready && g.Settled() {
				if cc, more := nextChange(g.ConfState(), c.assigned[id]); more {
					_, _ = g.ProposeConfChangeV2(cc) // refused: the next turn
				} else {
					c.agreeing[id] = true
				}
			}
		})
	}
	if c.hurt != nil && !c.hurt.rotten && !c.hurt.bare && len(c.agreeing) == len(c.groupIDs()) {
		l.w.say("broker %d's replicas are whole again", c.hurt.id)
		l.w.stats.Replaced++
		c.hurt = nil
	}
	return nil
}

// nextChange is one step from a membership to an assignment, false at its end.
func nextChange(cs raftpb.ConfState, want assignment) (cc raftpb.ConfChangeV2, more bool) {
	if len(cs.VotersOutgoing) > 0 {
		return cc, true // raft leaves the joint configuration by itself
	}
	add := func(t raftpb.ConfChangeType, r uint64) {
		cc.Changes = append(cc.Changes, raftpb.ConfChangeSingle{Type: t, NodeID: r})
	}
	for _, r := range want {
		switch {
		case slices.Contains(cs.Voters, r):
			continue
		case !slices.Contains(cs.Learners, r):
			add(raftpb.ConfChangeAddLearnerNode, r)
		default:
			add(raftpb.ConfChangeAddNode, r)
			for _, v := range cs.Voters {
				if v%replicaStep == r%replicaStep {
					add(raftpb.ConfChangeRemoveNode, v)
				}
			}
		}
		return cc, true
	}
	for _, r := range slices.Concat(cs.Voters, cs.Learners) {
		if !slices.Contains(want, r) {
			add(raftpb.ConfChangeRemoveNode, r)
			return cc, true
		}
	}
	return cc, false
}

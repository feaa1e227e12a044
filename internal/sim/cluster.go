package sim

import (
	"tidewater/broker/multiraft"
	"tidewater/broker/partition"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// cluster is one incarnation: its brokers' data directories, the network
// between them, and what its replicas have agreed on.
type cluster struct {
	w        *world
	layout   manifest.Layout
	restored map[record.PartitionID]*partition.Restored // nil unless made by a restore
	nodes    []*node                                    // by id, from 1 on
	net      network
	ledgers  map[record.PartitionID]*ledger
	assigned map[record.PartitionID]assignment
	agreeing map[record.PartitionID]bool // groups whose members are as assigned
	hurt     *node                       // its disk was lost or is rotten, and its replicas are not made anew yet

	zombie bool // another incarnation was taken
	lost   bool // its directories are gone
}

func (w *world) newCluster(l manifest.Layout, restored map[record.PartitionID]*partition.Restored) *cluster {
	c := &cluster{w: w, layout: l, restored: restored, ledgers: map[record.PartitionID]*ledger{}}
	c.net.c = c
	for i := range w.shape.Brokers {
		c.nodes = append(c.nodes, newNode(c, int32(i+1)))
	}
	for _, id := range c.groupIDs() {
		c.ledgers[id] = newLedger(c, id)
	}
	c.assigned, c.agreeing = c.assign(), map[record.PartitionID]bool{}
	w.clusters = append(w.clusters, c)
	return c
}

// alone reports a cluster of one broker, whose groups need nobody else.
func (c *cluster) alone() bool { return len(c.nodes) == 1 }

// controllerID is the group whose leader keeps the cluster's metadata.
func (c *cluster) controllerID() record.PartitionID {
	return record.PartitionID{Topic: c.w.ids.controller}
}

// groupIDs are the groups of the cluster, in order.
func (c *cluster) groupIDs() []record.PartitionID {
	out := []record.PartitionID{c.controllerID()}
	for i := range c.w.shape.Partitions {
		out = append(out, record.PartitionID{Topic: c.w.ids.topic, Partition: int32(i)})
	}
	for i := range c.w.shape.Idle {
		out = append(out, record.PartitionID{Topic: c.w.ids.idle, Partition: int32(i)})
	}
	return out
}

// voters are the replicas that a group begins with.
func (c *cluster) voters() []uint64 {
	var out []uint64
	for _, n := range c.nodes {
		out = append(out, uint64(n.id))
	}
	return out
}

// boot starts every broker.
func (c *cluster) boot() {
	for _, n := range c.nodes {
		n.boot()
	}
}

// kill ends every process at once.
func (c *cluster) kill() {
	for _, n := range c.nodes {
		n.kill()
	}
}

// lose gives up every directory and what runs on it.
func (c *cluster) lose() {
	c.lost = true
	c.kill()
	for _, n := range c.nodes {
		n.lost = true
	}
}

// lives are the processes that run and are not stopped, in order.
func (c *cluster) lives() []*life {
	var out []*life
	for _, n := range c.nodes {
		if l := n.life; l != nil && !l.dead && l.up && !n.paused() {
			out = append(out, l)
		}
	}
	return out
}

// anyLife is one of the processes that answer clients, nil without one.
func (c *cluster) anyLife() *life {
	lives := c.lives()
	if len(lives) == 0 {
		return nil
	}
	return lives[c.w.rng.IntN(len(lives))]
}

// leader is the replica that leads a partition in the newest term and knows
// its high watermark; nil while there is none.
func (c *cluster) leader(part int32) *hosted { return leaderOf(c.lives(), part) }

func leaderOf(lives []*life, part int32) (best *hosted) {
	for _, l := range lives {
		p := l.parts[part]
		if lead := p.Leadership(); lead.Ready && (best == nil || lead.Term > best.Leadership().Term) {
			best = p
		}
	}
	return best
}

// reach is this process and those that it can call.
func (l *life) reach() []*life {
	out := []*life{l}
	for _, o := range l.node.c.lives() {
		if o != l && !l.node.c.net.cut(l.node, o.node) && !l.node.c.net.cut(o.node, l.node) {
			out = append(out, o)
		}
	}
	return out
}

// others are the brokers that can be called.
func (l *life) others() (ids []int32) {
	for _, o := range l.reach() {
		if o != l {
			ids = append(ids, o.node.id)
		}
	}
	return ids
}

// leads reports whether this process leads the controller, with its term.
func (l *life) leads() (record.LeaderEpoch, bool) {
	lead := l.controller.Leadership()
	return record.LeaderEpoch(lead.Term), lead.Ready
}

// nodeOf gives the broker of a replica id: ids are handed out per broker.
func nodeOf(replica uint64) (int32, bool) { return int32(replica % replicaStep), true }

// replicaStep is the distance between the replica ids of one broker's
// successive disks.
const replicaStep = 16

// leadersView is who leads a partition as one broker tells its clients.
func leadersView(l *life, part int32) *node {
	if id := l.parts[part].Leadership().Leader; id > 0 {
		return l.node.c.nodes[id-1]
	}
	return nil
}

var _ multiraft.Transport = (*wire)(nil)

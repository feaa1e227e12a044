package multiraft

import (
	"fmt"
	"maps"
	"slices"

	"tidewater/broker/journal"
	"tidewater/internal/record"
)

// Node is a broker's groups over one journal without a goroutine: the same
// shards and the same committer as Host, stepped by one caller. The simulation
// and crash tests drive it.
type Node struct {
	cfg    Config
	state  shared
	stats  counters
	shards []*Shard
	commit committer
	known  map[record.PartitionID]*journal.Group
	tasks  []nodeTask
	posts  []func()
	ticks  int
}

type nodeTask struct {
	id      record.PartitionID
	task    func(*Group)
	message *Message
}

// NewNode makes a node with no group started.
func NewNode(cfg Config) (*Node, error) {
	if cfg.Transport == nil {
		cfg.Transport = noTransport{}
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, known: byID(cfg.Recovered)}
	n.state.post = func(_ *Shard, fn func()) { n.posts = append(n.posts, fn) }
	n.commit = committer{journal: cfg.Journal, state: &n.state, stats: &n.stats}
	for range cfg.Shards {
		n.shards = append(n.shards, newShard(&n.cfg, &n.state, &n.stats))
	}
	return n, nil
}

func byID(groups []journal.Group) map[record.PartitionID]*journal.Group {
	known := make(map[record.PartitionID]*journal.Group, len(groups))
	for i := range groups {
		known[groups[i].ID] = &groups[i]
	}
	return known
}

// shardOf spreads groups evenly: FNV-1a over topic id and partition.
func shardOf(id record.PartitionID, shards int) int {
	const offset, prime = 2166136261, 16777619
	h := uint32(offset)
	for _, b := range id.Topic {
		h = (h ^ uint32(b)) * prime
	}
	for p := uint32(id.Partition); p != 0; p >>= 8 {
		h = (h ^ p&0xff) * prime
	}
	return int(h % uint32(shards))
}

func (n *Node) shard(id record.PartitionID) *Shard { return n.shards[shardOf(id, len(n.shards))] }

// Recovered gives what the journal held of a group that was not started yet.
func (n *Node) Recovered(id record.PartitionID) (journal.Group, bool) {
	g := n.known[id]
	if g == nil {
		return journal.Group{}, false
	}
	return *g, true
}

// Unstarted gives the groups that the journal held and nobody started, sorted.
func (n *Node) Unstarted() []record.PartitionID { return sortedIDs(n.known) }

func sortedIDs(known map[record.PartitionID]*journal.Group) []record.PartitionID {
	return slices.SortedFunc(maps.Keys(known), record.PartitionID.Compare)
}

// Start starts a replica, at once.
func (n *Node) Start(gc GroupConfig) error {
	if err := n.shard(gc.ID).start(gc, n.known[gc.ID]); err != nil {
		return err
	}
	delete(n.known, gc.ID)
	return nil
}

// StartAll starts replicas, at once; the answers are in the order of gcs.
func (n *Node) StartAll(gcs []GroupConfig) []error {
	errs := make([]error, len(gcs))
	for i := range gcs {
		errs[i] = n.Start(gcs[i])
	}
	return errs
}

// Remove stops a replica and forgets its group.
func (n *Node) Remove(id record.PartitionID) error {
	delete(n.known, id)
	n.shard(id).remove(id, ErrStopped)
	return nil
}

// PeerUp and PeerDown are Host's, at once.
func (n *Node) PeerUp(node int32, boot uint64) {
	for _, s := range n.shards {
		s.peerUp(node, boot)
	}
}

// PeerDown says that a broker does not answer.
func (n *Node) PeerDown(node int32) {
	for _, s := range n.shards {
		s.peerDown(node)
	}
}

// Do queues a task for the group; Step runs it. It answers ErrStopped without
// the group and ErrBusy at QueueMax.
func (n *Node) Do(id record.PartitionID, task func(*Group)) error {
	if n.shard(id).groups[id] == nil {
		return fmt.Errorf("%w: group %s", ErrStopped, id)
	}
	if len(n.tasks) >= n.cfg.QueueMax {
		return fmt.Errorf("%w: %d tasks wait", ErrBusy, len(n.tasks))
	}
	n.tasks = append(n.tasks, nodeTask{id: id, task: task})
	return nil
}

// Receive queues messages from peers; over QueueMax they are dropped.
func (n *Node) Receive(messages []Message) {
	for _, m := range messages {
		if len(n.tasks) < n.cfg.QueueMax {
			n.tasks = append(n.tasks, nodeTask{id: m.Group, message: &m})
		}
	}
}

// Tick lets TickEvery pass at the next Step.
func (n *Node) Tick() { n.ticks++ }

// Step runs what is queued, writes and flushes what that asks for, and
// delivers what follows from the flush. It reports whether anything was done:
// a caller that wants rest steps until it is false.
func (n *Node) Step() bool {
	busy := n.Work()
	return n.Flush() || busy
}

// Work is Step without the flush, for a journal whose flush takes its time;
// what is to be written waits for Flush.
func (n *Node) Work() bool {
	tasks, ticks, posts := n.tasks, n.ticks, n.posts
	n.tasks, n.ticks, n.posts = nil, 0, nil
	for _, fn := range posts {
		fn()
	}
	for range ticks {
		for _, s := range n.shards {
			s.tick()
		}
	}
	for i := range tasks {
		t := &tasks[i]
		if s := n.shard(t.id); t.message != nil {
			s.receive(*t.message)
		} else {
			s.run(t.id, t.task)
		}
	}
	busy := len(tasks)+len(posts)+ticks > 0
	for _, s := range n.shards {
		busy = busy || len(s.dirty) > 0
		if b := s.ready(); b != nil {
			n.commit.add(b)
			busy = true
		}
	}
	return busy
}

// Flush writes and flushes what waits, and delivers what follows from it; false
// when nothing does.
func (n *Node) Flush() bool {
	if !n.commit.stalled() {
		return false
	}
	done, err := n.commit.commit()
	n.commit.pinning(n.cfg.PinnedBytesMax)
	for _, b := range done {
		b.shard.flushed(b, err)
	}
	if err != nil {
		for _, s := range n.shards {
			s.fail(err)
		}
	}
	return len(done) > 0
}

// Close stops every replica; nothing more is written.
func (n *Node) Close() {
	for _, s := range n.shards {
		s.fail(ErrStopped)
	}
	for _, t := range n.tasks {
		if t.task != nil {
			n.shard(t.id).run(t.id, t.task)
		}
	}
	n.tasks = nil
}

// Groups gives the ids of running groups, sorted.
func (n *Node) Groups() []record.PartitionID {
	var ids []record.PartitionID
	for _, s := range n.shards {
		for _, g := range s.order {
			if g.stopped == nil {
				ids = append(ids, g.id)
			}
		}
	}
	slices.SortFunc(ids, record.PartitionID.Compare)
	return ids
}

// Pinning is Host.Pinning.
func (n *Node) Pinning() []record.PartitionID {
	ids := n.state.takePinning()
	if n.state.carriable(len(ids), n.stats.uncommitted.Load()) {
		for _, s := range n.shards {
			s.carry(ids)
		}
	}
	return ids
}

// Stats gives the counters.
func (n *Node) Stats() Stats { return n.stats.stats(n.state.full.Load()) }

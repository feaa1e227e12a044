package sim

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/broker/partition"
	"tidewater/broker/segment"
	"tidewater/internal/disk"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
	"tidewater/tiering/remote"
)

// life is one process on a data directory, from its start to its death. After
// that nothing of it is used again: what the packages hold in memory is lost.
type life struct {
	w    *world
	node *node
	boot int

	up      bool // it has started
	dead    bool
	fuse    int  // calls until it dies; 0 never
	missing bool // its replicas are not on its disk
	sick    bool // its journal or segments failed: it is to be restarted

	disk    *disk.Fault
	bucket  *objstore.Fault
	journal *journal.Journal
	raft    *multiraft.Node
	parts   []*hosted // of the table topic
	// controller is the group of the cluster's metadata; idle are groups that
	// nobody writes to, this one too.
	controller *partition.Partition
	idle       []*partition.Partition
	heard      [nodesMax]time.Time // when brokers last answered a heartbeat
	tier       tier

	stepping bool // a step is scheduled
	flushing bool // a flush is
	working  int  // its actors' turns on the stack: 0 or 1
}

// hosted is one partition of the table topic in one life.
type hosted struct {
	*partition.Partition
	life  *life
	truth *truth
	ready bool // it was seen to answer
}

// pass lets time go by while the process waits for something outside.
func (l *life) pass(d time.Duration) { l.w.during(l, l.w.now.Add(d), nil) }

// arm lets the process die at the n-th call from now that matters.
func (l *life) arm(n int) { l.fuse = n }

// burn counts a call at which a crash makes a difference. A dead process makes
// no more calls, even if something below has caught its panic.
func (l *life) burn(matters bool) {
	if l.dead {
		panic(crash{l})
	}
	if !matters || l.fuse == 0 {
		return
	}
	if l.fuse--; l.fuse == 0 {
		l.dead = true
		panic(crash{l})
	}
}

// start opens what a broker opens, in its order.
func (l *life) start() error {
	w := l.w
	l.disk = disk.NewFault(l.node.disk)
	for _, r := range w.cfg.Disk {
		l.disk.Add(r)
	}
	l.disk.Before(func(c disk.Call) {
		w.trace.note("disk", string(c.Op), c.Name)
		if c.Op == disk.OpWrite && c.Offset == 0 && strings.HasPrefix(c.Name, "journal/") {
			w.stats.JournalUses++
		}
		if c.Op == disk.OpWrite && strings.HasPrefix(c.Name, "journal/") {
			l.node.writing = c.Name
		}
		l.burn(c.Changes())
	})
	l.bucket = w.bucketFor(func(c objstore.Call, after bool) { l.burn(c.Write() || !after) }, l.pass)
	if err := l.openRaft(); err != nil {
		return err
	}
	if err := l.openCache(); err != nil {
		return err
	}
	if err := l.openPartitions(); err != nil {
		return err
	}
	l.openActors()
	return nil
}

const (
	// liveFilesMax is the journal's cap, in files: it is reached often.
	liveFilesMax  = 12
	entryBytesMax = 10 << 10
)

func (l *life) openRaft() error {
	w := l.w
	var err error
	var found []journal.Group
	size := w.shape.JournalFileBytes
	l.journal, found, err = journal.Open(journal.Config{
		FS: l.disk, Dir: "journal", ClusterID: w.ids.cluster, Incarnation: uint64(l.node.c.layout.Incarnation),
		FileBytes: size, FirstBytes: size, LiveBytesMax: liveFilesMax * size, Salt: w.rng.Uint64, Log: w.log, Fault: w.cfg.Journal,
	})
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	l.node.checkPromises(found)
	l.raft, err = multiraft.NewNode(multiraft.Config{
		Node: l.node.id, Journal: &spy{Journal: l.journal, node: l.node}, Recovered: found, EntryBytesMax: entryBytesMax,
		PinnedBytesMax: w.shape.JournalFileBytes, Transport: &wire{l}, Log: w.log, Fault: w.cfg.Raft,
	})
	return err
}

func (l *life) openCache() (err error) {
	l.tier.cache, err = remote.OpenCache(remote.CacheConfig{
		FS: l.disk, Dir: "cache", BytesMax: 64 << 10, FreeBytesMin: 1, MemoryBytesMax: 64 << 10, Alone: true, Now: l.w.clock,
		Wake: func(work remote.Work) {
			l.w.add(l.w.millis(1, 100), event{life: l, run: func() {
				l.tier.cache.Do(context.Background(), work)
				l.tier.cache.Sweep()
			}})
		},
	})
	return err
}

// openPartitions opens every partition and starts its group.
func (l *life) openPartitions() error {
	w := l.w
	budget := partition.NewBudget(8<<20, 32<<10)
	files := segment.NewCache(8, 1<<20)
	for _, id := range l.node.c.groupIDs() {
		cfg := l.partitionConfig(id)
		cfg.Budget, cfg.Cache = budget, files
		p, err := partition.Open(cfg)
		if err != nil {
			return fmt.Errorf("open partition %s: %w", cfg.Topic, err)
		}
		switch id.Topic {
		case w.ids.topic:
			l.parts = append(l.parts, &hosted{Partition: p, life: l, truth: w.parts[id.Partition]})
		case w.ids.controller:
			l.controller = p
			fallthrough
		default:
			l.idle = append(l.idle, p)
		}
		err = l.raft.Start(l.groupConfig(id, p, cfg))
		if errors.Is(err, multiraft.ErrMissing) {
			w.stats.Missing++
			l.missing = true
			continue
		}
		if err != nil {
			return fmt.Errorf("start partition %s: %w", cfg.Topic, err)
		}
	}
	l.stepSoon()
	if !l.node.c.alone() {
		l.tick(multiraft.TickEveryDefault - 5*time.Millisecond + l.w.millis(0, 10))
		l.beat()
	}
	return nil
}

// background runs a task on a goroutine of its own, as far as a broker in one
// goroutine can.
func (l *life) background(task func(context.Context)) {
	l.w.add(l.w.millis(0, 5), event{life: l, run: func() {
		task(context.Background())
		l.stepSoon()
	}})
}

func (l *life) groupConfig(id record.PartitionID, p *partition.Partition, cfg partition.Config) multiraft.GroupConfig {
	at := record.Index(0)
	if m := p.StartMark(); m != nil {
		at = m.Index
	}
	if cfg.Mark != nil {
		at = cfg.Mark.Index
	}
	group := multiraft.GroupConfig{
		ID: id, Replica: l.node.replica(id), Origin: l.node.origin(id), Voters: l.node.c.voters(), NodeOf: nodeOf, Mark: p.StartMark(),
		StateMachine: newWitness(l, id, p.StateMachine(), at),
		Sum:          partition.Sum,
	}
	if cfg.Restored != nil {
		group.FloorTerm = cfg.Restored.FloorTerm
	}
	return group
}

// tick lets raft's clock go on, each broker's a little differently.
func (l *life) tick(every time.Duration) {
	l.w.add(every, event{life: l, front: true, run: func() {
		l.raft.Tick()
		l.stepSoon()
		l.tick(every)
	}})
}

func (l *life) partitionConfig(id record.PartitionID) partition.Config {
	w := l.w
	cfg := partition.Config{
		ID: id, Topic: idleName, Settings: w.shape.idleSettings(), Host: partition.OnNode(l.raft), FS: l.disk,
		Identity: segment.Identity{ClusterID: w.ids.cluster, Incarnation: uint64(l.node.c.layout.Incarnation)},
		Now:      l.node.clock, Wait: l.wait, Log: w.log,
		Source: copies{l}, Background: l.background, Replicas: l.others, Rot: &w.rot, Fault: w.cfg.Parts,
	}
	switch id.Topic {
	case w.ids.topic:
		cfg.Topic, cfg.Settings = topicName, w.shape.settings()
		cfg.Remote = remote.New(remote.Config{Store: l.bucket, Dir: l.dir(id), Cache: l.tier.cache, ChunkBytes: 4 << 10})
		cfg.Fenced = func() bool { return l.tier.passed }
		cfg.Pin = func() (record.Offset, bool) { return l.translated(id), true }
	case w.ids.controller:
		cfg.Topic = controllerName
	}
	cfg.Dir = fmt.Sprintf("partitions/%s-%d", cfg.Topic, id.Partition)
	if g, ok := l.raft.Recovered(id); ok {
		cfg.Mark = &g.Mark
	}
	if l.node.origin(id) != multiraft.Joining {
		cfg.Restored = l.node.c.restored[id]
	}
	return cfg
}

// partition gives a group's log here.
func (l *life) partition(id record.PartitionID) *partition.Partition {
	if id.Topic == l.w.ids.topic {
		return l.parts[id.Partition].Partition
	}
	for _, p := range l.idle {
		if p.ID() == id {
			return p
		}
	}
	return nil
}

func (l *life) dir(id record.PartitionID) manifest.Dir {
	return manifest.Dir{Layout: l.node.c.layout, Topic: topicName, ID: id}
}

// errStuck: an entry is not committed although nothing is left to do, because
// the journal is full or failed, or not within a while, because others are away.
var errStuck = errors.New("the entry is not committed")

// waitMax is how long a step waits for other brokers.
const waitMax = time.Second

// wait implements partition.Config.Wait: it steps the groups to rest, and with
// other brokers lets everything else happen meanwhile. Whether done is closed
// is asked without a select, which no core may have.
func (l *life) wait(ctx context.Context, done <-chan struct{}) error {
	l.stepToRest()
	if !isClosed(done) && !l.node.c.alone() {
		l.w.during(l, l.w.now.Add(waitMax), func() bool { return isClosed(done) })
	}
	if !isClosed(done) {
		return errStuck
	}
	return ctx.Err()
}

func isClosed(done <-chan struct{}) bool {
	x, ok := reflect.ValueOf(done).TryRecv()
	return !ok && x.IsValid()
}

// stepSoon schedules a step of the groups, as the flush of a journal takes a while.
func (l *life) stepSoon() {
	if l.stepping {
		return
	}
	l.stepping = true
	flush := l.w.millis(0, 8)
	if l.node.slow {
		flush = l.w.millis(20, 300)
	}
	l.w.add(flush, event{life: l, front: true, run: func() {
		l.stepping = false
		l.step()
	}})
}

// step does what a shard loop and the journal's loop do in one turn.
func (l *life) step() {
	if l.work() {
		l.stepSoon()
	}
	l.afterStep()
}

// work is a step. Where producers are answered from memory, it is often long
// before the flush.
func (l *life) work() bool {
	w := l.w
	if !w.shape.WriteCaching {
		return l.raft.Step()
	}
	busy := l.raft.Work()
	if l.flushing {
		return busy
	}
	if w.rng.IntN(2) == 0 {
		return l.raft.Flush() || busy
	}
	l.flushing = true
	w.add(w.millis(1, 60), event{life: l, front: true, run: func() {
		l.flushing = false
		if l.raft.Flush() {
			l.stepSoon()
		}
		l.afterStep()
	}})
	return busy
}

func (l *life) stepToRest() {
	for n := 0; l.raft.Step() && n < 1000; n++ {
		l.w.trace.note("step")
	}
	l.afterStep()
}

func (l *life) afterStep() {
	if l.w.rng.IntN(4) == 0 {
		_, _ = l.journal.Prepare() // a full disk; a dead journal shows in Flush
	}
	// What was accepted before the cap passes it, by half at most.
	if live, most := l.journal.LiveBytes(), (liveFilesMax*3/2+1)*l.w.shape.JournalFileBytes; live > most {
		l.w.violate(bounded, "%d bytes are live, at most %d may be", live, most)
	}
	for _, p := range l.parts {
		p.truth.watch(l, p)
	}
	if l.up && !l.missing && len(l.raft.Groups()) == 0 {
		l.end("every group has stopped")
	}
}

// end lets a process end that can do no more, to be started again.
func (l *life) end(why string) {
	if l.sick {
		return
	}
	l.sick = true
	l.w.say("boot %d: %s", l.boot, why)
	l.w.add(l.w.millis(10, 200), event{life: l, run: func() { l.dead = true }})
}

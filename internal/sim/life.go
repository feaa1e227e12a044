package sim

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

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

	dead  bool
	fuse  int  // calls until it dies; 0 never
	power bool // and the power with it
	sick  bool // its journal failed: it is to be restarted

	disk    *disk.Fault
	bucket  *objstore.Fault
	journal *journal.Journal
	raft    *multiraft.Node
	parts   []*hosted // of the table topic
	idle    []*partition.Partition
	tier    tier

	stepping bool // a step is scheduled
}

// hosted is one partition of the table topic in one life.
type hosted struct {
	*partition.Partition
	truth  *truth
	remote *remote.Partition
	ready  bool // it was seen to answer
}

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

func (l *life) open() error {
	w := l.w
	l.disk = disk.NewFault(l.node.disk)
	l.disk.Before(func(c disk.Call) {
		w.trace.note("disk", string(c.Op), c.Name)
		if c.Op == disk.OpWrite && c.Offset == 0 && strings.HasPrefix(c.Name, "journal/") {
			w.stats.JournalUses++
		}
		l.burn(c.Changes())
	})
	l.bucket = w.bucketFor(func(c objstore.Call, after bool) { l.burn(c.Write() || !after) }, func() { w.runFront(l) })
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
	// liveFilesMax is the journal's cap, in files.
	liveFilesMax  = 12
	entryBytesMax = 10 << 10
)

func (l *life) openRaft() error {
	w := l.w
	var err error
	var found []journal.Group
	size := w.shape.JournalFileBytes
	l.journal, found, err = journal.Open(journal.Config{
		FS: l.disk, Dir: "journal", ClusterID: w.ids.cluster, Incarnation: uint64(l.node.layout.Incarnation),
		FileBytes: size, FirstBytes: size, LiveBytesMax: liveFilesMax * size, Salt: w.rng.Uint64, Log: w.log, Fault: w.cfg.Journal,
	})
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	l.node.checkPromises(found)
	l.raft, err = multiraft.NewNode(multiraft.Config{
		Node: l.node.id, Journal: &spy{Journal: l.journal, node: l.node}, Recovered: found, EntryBytesMax: entryBytesMax,
		Log: w.log, Fault: w.cfg.Raft,
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
	for _, id := range l.node.groupIDs() {
		cfg := l.partitionConfig(id)
		cfg.Budget, cfg.Cache = budget, files
		p, err := partition.Open(cfg)
		if err != nil {
			return fmt.Errorf("open partition %s: %w", cfg.Topic, err)
		}
		if id.Topic == w.ids.topic {
			l.parts = append(l.parts, &hosted{Partition: p, truth: w.parts[id.Partition], remote: cfg.Remote.(*remote.Partition)})
		} else {
			l.idle = append(l.idle, p)
		}
		group := multiraft.GroupConfig{ID: id, Replica: 1, Mark: p.StartMark(), StateMachine: p.StateMachine()}
		if cfg.Restored != nil {
			group.FloorTerm = cfg.Restored.FloorTerm
		}
		if err := l.raft.Start(group); err != nil {
			return fmt.Errorf("start partition %s: %w", cfg.Topic, err)
		}
	}
	l.stepSoon()
	return nil
}

func (l *life) partitionConfig(id record.PartitionID) partition.Config {
	w := l.w
	cfg := partition.Config{
		ID: id, Topic: idleName, Settings: w.shape.idleSettings(), Host: partition.OnNode(l.raft), FS: l.disk,
		Identity: segment.Identity{ClusterID: w.ids.cluster, Incarnation: uint64(l.node.layout.Incarnation)},
		Now:      w.clock, Wait: l.wait, Log: w.log, Restored: l.node.restored[id],
		Fault: w.cfg.Parts,
	}
	if id.Topic == w.ids.topic {
		cfg.Topic, cfg.Settings = topicName, w.shape.settings()
		cfg.Remote = remote.New(remote.Config{Store: l.bucket, Dir: l.dir(id), Cache: l.tier.cache, ChunkBytes: 4 << 10})
		cfg.Fenced = func() bool { return l.tier.passed }
		cfg.Pin = func() (record.Offset, bool) { return l.tier.translated(id), true }
	}
	cfg.Dir = fmt.Sprintf("partitions/%s-%d", cfg.Topic, id.Partition)
	if g, ok := l.raft.Recovered(id); ok {
		cfg.Mark = &g.Mark
	}
	return cfg
}

func (l *life) dir(id record.PartitionID) manifest.Dir {
	return manifest.Dir{Layout: l.node.layout, Topic: topicName, ID: id}
}

// errStuck: an entry is not committed although nothing is left to do, because
// the journal is full or failed.
var errStuck = errors.New("the groups are at rest and the entry is not committed")

// wait implements partition.Config.Wait: it steps the groups to rest. Whether
// done is closed is asked without a select, which no core may have.
func (l *life) wait(ctx context.Context, done <-chan struct{}) error {
	l.stepToRest()
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
	l.w.add(l.w.millis(0, 8), event{life: l, front: true, run: func() {
		l.stepping = false
		l.step()
	}})
}

// step does what a shard loop and the journal's loop do in one turn.
func (l *life) step() {
	if l.raft.Step() {
		l.stepSoon()
	}
	l.afterStep()
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
	if live := l.journal.LiveBytes(); live > (liveFilesMax+1)*l.w.shape.JournalFileBytes {
		l.w.violate(bounded, "%d bytes are live, at most %d may be", live, liveFilesMax*l.w.shape.JournalFileBytes)
	}
	for _, p := range l.parts {
		p.truth.watch(l, p)
	}
	if !l.sick && len(l.raft.Groups()) == 0 {
		l.sick = true
		l.w.say("boot %d: every group has stopped", l.boot)
		l.w.add(l.w.millis(10, 200), event{life: l, run: func() { l.power = true; l.dead = true }})
	}
}

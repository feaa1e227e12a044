package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tidewater/broker/cluster"
	"tidewater/broker/kafka"
	"tidewater/broker/multiraft"
	"tidewater/broker/partition"
	"tidewater/broker/segment"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// partitionsDir holds a folder per partition.
const partitionsDir = "partitions"

// hosted is one partition that this node holds a replica of.
type hosted struct {
	*partition.Partition
	topic      string // its name
	number     int32
	replica    uint64 // its id in the group
	configured uint64 // version of the topic's properties it goes by; sync's caller only
	// bucket is the topic's remote.storage.enable.
	bucket             atomic.Bool
	on                 *dataDir // where it lies
	steps              steps
	archived           bool    // it is among the partitions that go to the bucket
	writing, retaining trouble // of the segments and the retention loop
	mending, scrubbing trouble // of the loop that mends
}

// partitions opens, configures and removes this node's partitions as the
// cluster's view changes. sync has one caller; the rest is safe for concurrent
// use.
type partitions struct {
	node     int32
	up       func(node int32) bool // another broker answers
	view     func() *cluster.View
	identity segment.Identity // without the partition
	hosts    *hosts
	files    *segment.Cache
	budget   *partition.Budget
	rot      *partition.Rot
	settings func(*cluster.Topic) topicSettings
	tier     *tier                                          // nil without a bucket
	pin      func(record.PartitionID) (record.Offset, bool) // nil without tables
	source   partition.SegmentSource                        // nil in a cluster of one
	// fresh gives a view with all that was committed before; nil in a cluster
	// of one.
	fresh    func(context.Context) (*cluster.View, error)
	copies   copies
	restored *restorePlan // nil unless the data directory came from a restore
	log      *slog.Logger

	// forgotten are deleted topics that were cleared; by the topics' loop.
	forgotten map[record.TopicID]bool

	// leads carries the ids whose leadership changed to the controller's loop.
	leads leadQueue

	mu   sync.RWMutex
	byID map[record.PartitionID]*hosted
	// sorted is what all gives, nil when it is to be made again.
	sorted []*hosted
}

// Partition implements kafka.Partitions.
func (ps *partitions) Partition(id record.PartitionID) (kafka.Partition, error) {
	h, err := ps.get(id)
	if err != nil {
		return nil, err
	}
	return h.Partition, nil
}

// Leader implements kafka.Partitions.
func (ps *partitions) Leader(id record.PartitionID) (int32, record.LeaderEpoch) {
	h, err := ps.get(id)
	if err != nil {
		return cluster.NoLeader, -1
	}
	l := h.Leadership()
	return l.Leader, record.LeaderEpoch(l.Term)
}

func (ps *partitions) get(id record.PartitionID) (*hosted, error) {
	ps.mu.RLock()
	defer ps.mu.RUnlock()
	h := ps.byID[id]
	if h == nil {
		return nil, fmt.Errorf("%w: %s", logio.ErrUnknownPartition, id)
	}
	return h, nil
}

// all gives the hosted partitions in order of their ids. The list is shared:
// nobody changes it.
func (ps *partitions) all() []*hosted {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.sorted != nil {
		return ps.sorted
	}
	list := make([]*hosted, 0, len(ps.byID))
	for _, h := range ps.byID {
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b *hosted) int { return a.ID().Compare(b.ID()) })
	ps.sorted = list
	return list
}

// in gives the hosted partitions that lie in a directory.
func (ps *partitions) in(d *dataDir) []*hosted {
	all := ps.all()
	if len(ps.hosts.dirs) == 1 {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(h *hosted) bool { return h.on != d })
}

// put adds or, with nil, takes away a hosted partition.
func (ps *partitions) put(id record.PartitionID, h *hosted) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.sorted = nil
	if h == nil {
		delete(ps.byID, id)
		return
	}
	ps.byID[id] = h
}

// hostedSet is a set that one loop empties and many fill.
type hostedSet struct {
	mu  sync.Mutex
	set map[*hosted]struct{}
}

func (s *hostedSet) add(list ...*hosted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = map[*hosted]struct{}{}
	}
	for _, h := range list {
		s.set[h] = struct{}{}
	}
}

// take empties the set.
func (s *hostedSet) take() []*hosted {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*hosted, 0, len(s.set))
	for h := range s.set {
		list = append(list, h)
	}
	clear(s.set)
	return list
}

// sync makes what is open equal to what the view says this node holds. An
// error on one partition does not keep the others from opening.
func (ps *partitions) sync(v *cluster.View) error {
	var missing []absent
	var errs []error
	for _, t := range v.Topics() {
		if ps.foreign(t) {
			continue
		}
		s := ps.settings(t)
		for n := range t.Partitions {
			r, ok, err := ps.open(v, t, int32(n), s)
			if errs = append(errs, err); ok {
				missing = append(missing, r)
			}
		}
	}
	missing, err := ps.startable(missing)
	errs = append(errs, err)
	errs = append(errs, ps.startAll(missing)...)
	for _, h := range ps.all() {
		if v.Topic(h.ID().Topic) == nil {
			errs = append(errs, ps.remove(h))
		}
	}
	return errors.Join(errs...)
}

// foreign reports whether the topic is another cluster's, followed by the
// read replica and not by a Raft group here.
func (ps *partitions) foreign(t *cluster.Topic) bool { return ps.settings(t).ReadReplica != "" }

// absent is a replica that this node holds and does not run yet.
type absent struct {
	topic    *cluster.Topic
	number   int32
	id       uint64
	settings topicSettings // of the topic
}

// open gives the partition's replica if this node holds one and it does not
// run yet, brings a running one to the topic's settings, and removes one that
// has moved away.
func (ps *partitions) open(v *cluster.View, t *cluster.Topic, number int32, s topicSettings) (r absent, missing bool, err error) {
	ps.mu.RLock()
	h := ps.byID[record.PartitionID{Topic: t.ID, Partition: number}]
	ps.mu.RUnlock()
	held, holds := v.ReplicaOn(&t.Partitions[number], ps.node)
	if h != nil && (!holds || held.ID != h.replica) {
		ps.log.Info("a replica leaves this broker", "partition", h.Name(), "replica", h.replica)
		if err := ps.remove(h); err != nil {
			return r, false, err
		}
		h = nil
	}
	if h != nil {
		if h.configured != t.ConfigVersion {
			h.configured = t.ConfigVersion
			h.bucket.Store(s.Tiered)
			h.Configure(s)
			ps.archive(h, s)
		}
		return r, false, nil
	}
	if !holds {
		return r, false, nil
	}
	return absent{topic: t, number: number, id: held.ID, settings: s}, true, nil
}

// errNotFresh: replicas that may be the first of their groups wait until the
// controller answers.
var errNotFresh = errors.New("new partitions wait for the controller")

// freshTimeout bounds how long the controller is waited for.
const freshTimeout = 2 * time.Second

// startable leaves out replicas that must not start yet. One that the journal
// does not know begins its group, with those that are its members in the view:
// that is right in the newest view only, since in an older one it may be a
// replica that has left the group, and that the journal was told to forget.
func (ps *partitions) startable(missing []absent) ([]absent, error) {
	founding := func(r absent) bool {
		return !ps.hosts.known(record.PartitionID{Topic: r.topic.ID, Partition: r.number}) && !r.topic.Partitions[r.number].Joining()
	}
	if ps.fresh == nil || !slices.ContainsFunc(missing, founding) {
		return missing, nil
	}
	ctx, stop := context.WithTimeout(context.Background(), freshTimeout)
	defer stop()
	v, err := ps.fresh(ctx)
	if err != nil {
		return slices.DeleteFunc(missing, founding), fmt.Errorf("%w: %w", errNotFresh, err)
	}
	return slices.DeleteFunc(missing, func(r absent) bool {
		p := v.PartitionOf(record.PartitionID{Topic: r.topic.ID, Partition: r.number})
		return founding(r) && (p == nil || p.Joining()) // the next sync has it as it is
	}), nil
}

// startWorkers is how many replicas are opened at a time: each waits for the
// disk. Those of a chunk are then started in one task of their shards and share
// the flushes of their journal.
const (
	startWorkers = 8
	startChunk   = 64
)

// startAll starts replicas, several at a time, and gives the errors of those
// that could not be.
func (ps *partitions) startAll(missing []absent) []error {
	opened, errs := make([]*opening, len(missing)), make([]error, len(missing))
	var workers errgroup.Group
	workers.SetLimit(startWorkers)
	for from := 0; from < len(missing); from += startChunk {
		to := min(from+startChunk, len(missing))
		workers.Go(func() error {
			for i := from; i < to; i++ {
				opened[i], errs[i] = ps.openFiles(&missing[i])
			}
			ps.start(opened[from:to], errs[from:to])
			return nil
		})
	}
	_ = workers.Wait() // the errors are in errs
	for i, o := range opened {
		if errs[i] == nil {
			ps.archive(o.hosted, missing[i].settings)
		}
	}
	return errs
}

// opening is a replica whose files are open and whose group is not started.
type opening struct {
	*hosted
	group multiraft.GroupConfig
}

// start starts the groups of replicas, as far as there are no errors yet.
func (ps *partitions) start(opened []*opening, errs []error) {
	var at []int
	var groups []multiraft.GroupConfig
	for i, o := range opened {
		if errs[i] == nil {
			ps.put(o.group.ID, o.hosted)
			at, groups = append(at, i), append(groups, o.group)
		}
	}
	for n, err := range ps.hosts.startAll(groups) {
		if err != nil {
			o := opened[at[n]]
			ps.put(o.group.ID, nil)
			ps.hosts.unplace(o.group.ID)
			errs[at[n]] = fmt.Errorf("start partition %s: %w", o.Name(), errors.Join(err, o.Close()))
		}
	}
}

// place gives the directory of a replica. A folder in another one, of which no
// journal knows, is of a replica that left in the middle of something.
func (ps *partitions) place(id record.PartitionID, folder string) (*dataDir, error) {
	if d := ps.hosts.of(id); d != nil {
		return d, nil
	}
	d := ps.hosts.place(id)
	for _, other := range ps.hosts.dirs {
		if other == d {
			continue
		}
		if err := other.disk.RemoveAll(folder); err != nil {
			ps.hosts.unplace(id)
			return nil, fmt.Errorf("remove what is left of another replica in %s: %w", other.path, err)
		}
	}
	return d, nil
}

// openFiles opens a replica's files.
func (ps *partitions) openFiles(r *absent) (*opening, error) {
	t, id := r.topic, record.PartitionID{Topic: r.topic.ID, Partition: r.number}
	folder := fmt.Sprintf("%s/%s-%d~%s", partitionsDir, t.Name, id.Partition, id.Topic)
	d, err := ps.place(id, folder)
	if err != nil {
		return nil, fmt.Errorf("open partition %s-%d: %w", t.Name, id.Partition, err)
	}
	h := &hosted{topic: t.Name, number: r.number, replica: r.id, configured: t.ConfigVersion, on: d}
	h.bucket.Store(r.settings.Tiered)
	who := ps.identity
	who.Partition = id
	cfg := partition.Config{
		ID: id, Topic: t.Name, Identity: who, Host: partition.OnHost(d.host),
		FS: d.disk, Dir: folder,
		Cache: ps.files, Settings: r.settings, Budget: ps.budget, Rot: ps.rot, Now: time.Now, Log: ps.log,
		Pending:  func() { d.pending.add(h) },
		Restored: ps.restored.partition(id),
	}
	if g, ok := d.host.Recovered(id); ok {
		cfg.Mark = &g.Mark
	}
	if ps.tier != nil {
		cfg.Remote = ps.tier.remote(t, id)
		cfg.Fenced = func() bool { return h.tiered() && ps.tier.fenced() }
	}
	if ps.source != nil {
		cfg.Source, cfg.Background = ps.source, ps.copies.run
		cfg.Replicas = func() []int32 { return ps.others(id) }
	}
	cfg.InSync = func() int { return ps.inSync(id) }
	if ps.pin != nil {
		cfg.Pin = func() (record.Offset, bool) { return ps.pin(id) }
	}
	p, err := partition.Open(cfg)
	if err != nil {
		ps.hosts.unplace(id)
		return nil, fmt.Errorf("open partition %s-%d: %w", t.Name, id.Partition, err)
	}
	h.Partition = p
	group := multiraft.GroupConfig{ID: id, Replica: r.id, Mark: p.StartMark(), Voters: t.Partitions[id.Partition].Voters(),
		NodeOf: func(replica uint64) (int32, bool) { return ps.nodeOf(id, replica) }, StateMachine: ps.watch(id, p.StateMachine()), Sum: partition.Sum}
	if t.Partitions[id.Partition].Joining() {
		group.Origin = multiraft.Joining
	}
	if cfg.Restored != nil {
		group.FloorTerm = cfg.Restored.FloorTerm
	}
	return &opening{h, group}, nil
}

// ledBytes are the bytes on this disk of the partitions that are led here.
func (ps *partitions) ledBytes() map[record.PartitionID]int64 {
	out := map[record.PartitionID]int64{}
	for _, h := range ps.all() {
		if h.Leadership().Ready {
			out[h.ID()] = h.LocalBytes()
		}
	}
	return out
}

// nodeOf gives the broker that holds a replica of a partition.
func (ps *partitions) nodeOf(id record.PartitionID, replica uint64) (int32, bool) {
	if p := ps.view().PartitionOf(id); p != nil {
		return p.NodeOf(replica)
	}
	return 0, false
}

// inSync is how many of a partition's replicas are on brokers that are up.
func (ps *partitions) inSync(id record.PartitionID) int {
	n := 0
	if p := ps.view().PartitionOf(id); p != nil {
		for _, node := range p.Nodes() {
			if ps.up(node) {
				n++
			}
		}
	}
	return n
}

// archive begins or ends to bring a partition to the bucket, as its topic's
// settings say.
func (ps *partitions) archive(h *hosted, s topicSettings) {
	if ps.tier == nil || s.Tiered == h.archived {
		return
	}
	h.archived = s.Tiered
	if s.Tiered {
		ps.tier.host(h)
	} else {
		ps.tier.drop(h.ID())
	}
}

// tiered reports whether acks of the partition depend on owning the bucket.
func (h *hosted) tiered() bool { return h.bucket.Load() }

// remove stops a deleted topic's replica and deletes its files; what is in the
// bucket goes after the grace period.
func (ps *partitions) remove(h *hosted) error {
	ps.put(h.ID(), nil)
	if h.archived {
		ps.tier.drop(h.ID())
	}
	if err := ps.hosts.remove(h.ID()); err != nil && !errors.Is(err, multiraft.ErrStopped) {
		return fmt.Errorf("stop partition %s: %w", h.Name(), err)
	}
	if err := h.Remove(); err != nil {
		return fmt.Errorf("remove partition %s: %w", h.Name(), err)
	}
	return nil
}

// sweep removes what deleted topics left behind when the process ended in the
// middle of their removal: their groups, which would keep journal files for
// ever, and their folders. Call it once, after the first sync.
func (ps *partitions) sweep(v *cluster.View) error {
	var errs []error
	for _, d := range ps.hosts.dirs {
		errs = append(errs, ps.sweepDir(v, d))
	}
	return errors.Join(errs...)
}

func (ps *partitions) sweepDir(v *cluster.View, d *dataDir) error {
	var errs []error
	for _, id := range d.host.Unstarted() {
		if v.Topic(id.Topic) == nil {
			errs = append(errs, ps.hosts.remove(id))
		}
	}
	folders, err := d.disk.List(partitionsDir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	errs = append(errs, err)
	for _, name := range folders {
		_, text, _ := strings.Cut(name, "~")
		id, err := record.ParseTopicID(text)
		if err == nil && v.Topic(id) == nil {
			ps.log.Info("a folder of a deleted topic is removed", "folder", name)
			errs = append(errs, d.disk.RemoveAll(partitionsDir+"/"+name))
		}
	}
	return errors.Join(errs...)
}

// close closes every partition; their groups have stopped.
func (ps *partitions) close() error {
	var errs []error
	for _, h := range ps.all() {
		errs = append(errs, h.Close())
	}
	return errors.Join(errs...)
}

// watch has a group's changes of leadership told to the controller's loop.
func (ps *partitions) watch(id record.PartitionID, m multiraft.StateMachine) multiraft.StateMachine {
	w := watched{m, id, &ps.leads}
	if s, ok := m.(fullMachine); ok {
		return watchedSnapshotter{s, w}
	}
	return w
}

// watched tells the controller's loop when a replica's leadership changes.
type watched struct {
	multiraft.StateMachine
	id    record.PartitionID
	leads *leadQueue
}

// Lead implements multiraft.StateMachine.
func (w watched) Lead(l multiraft.Leadership) {
	w.StateMachine.Lead(l)
	w.leads.add(w.id, l)
}

// Stopped implements multiraft.StateMachine.
func (w watched) Stopped(err error) {
	w.StateMachine.Stopped(err)
	w.leads.add(w.id, multiraft.Leadership{Leader: cluster.NoLeader})
}

// fullMachine is a partition's machine.
type fullMachine interface {
	multiraft.Snapshotter
	multiraft.Holder
}

// watchedSnapshotter is watched, of a machine that can be brought up to date by
// copying, and that is told of what is in memory.
type watchedSnapshotter struct {
	fullMachine
	w watched
}

// Lead implements multiraft.StateMachine.
func (w watchedSnapshotter) Lead(l multiraft.Leadership) { w.w.Lead(l) }

// Stopped implements multiraft.StateMachine.
func (w watchedSnapshotter) Stopped(err error) { w.w.Stopped(err) }

// leadQueue holds the newest leadership of each partition whose leadership
// changed; it is as large as the number of partitions at the most.
type leadQueue struct {
	wake chan struct{}

	mu      sync.Mutex
	changed map[record.PartitionID]multiraft.Leadership
}

func newLeadQueue() leadQueue {
	return leadQueue{wake: make(chan struct{}, 1), changed: map[record.PartitionID]multiraft.Leadership{}}
}

func (q *leadQueue) add(id record.PartitionID, l multiraft.Leadership) {
	q.mu.Lock()
	q.changed[id] = l
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take empties the queue.
func (q *leadQueue) take() map[record.PartitionID]multiraft.Leadership {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.changed
	q.changed = map[record.PartitionID]multiraft.Leadership{}
	return taken
}

// waitLeaders blocks until each of a topic's partitions has a leader in the
// view, or the context ends: a client that was told "created" may produce.
func waitLeaders(ctx context.Context, c *cluster.Controller, id record.TopicID) error {
	_, err := c.WaitView(ctx, func(v *cluster.View) bool {
		t := v.Topic(id)
		return t == nil || !slices.ContainsFunc(t.Partitions, func(p cluster.Partition) bool { return p.Leader == cluster.NoLeader })
	})
	return err
}

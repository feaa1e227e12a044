package group

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Log is a partition of __consumer_offsets: a broker/partition on its leader.
type Log interface {
	Append(r logio.AppendRequest)
	Read(ctx context.Context, r logio.ReadRequest) (logio.ReadResult, error)
	Offsets() (logio.Offsets, error)
}

// Topics tells the coordinator which topics exist, for offset requests.
type Topics interface {
	ByName(name string) (id record.TopicID, partitions int32, ok bool)
	ByID(id record.TopicID) (name string, partitions int32, ok bool)
}

// Client is who sends a request.
type Client struct {
	ID   string // the client id of the request's header
	Host string // as Kafka shows it: "/10.0.0.1"
}

// Coordinator serves the groups whose __consumer_offsets partition is led
// here. All methods are safe for concurrent use; Step has one caller at a
// time, which is Run or the simulation.
type Coordinator struct {
	cfg  Config
	wake chan struct{} // capacity 1: Run has something to do

	mu      sync.Mutex // held for the fields below, never while anything outside is called
	shards  map[int32]*shard
	answers []func()
	writes  []shardWrite
	// writing: somebody is handing writes to the logs; there is one at a time,
	// so that the logs get them in the order in which the cores made them.
	writing  bool
	sleeping time.Time // until when Run sleeps
}

// shard is a led partition with its groups.
type shard struct {
	partition int32
	core      *core
	log       Log
	load      loadPosition // owned by Step's caller
}

type shardWrite struct {
	*shard
	*write
}

// Open makes a Coordinator that leads nothing.
func Open(cfg Config) (*Coordinator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.fill()
	return &Coordinator{cfg: cfg, wake: make(chan struct{}, 1), shards: map[int32]*shard{}}, nil
}

// Lead starts to serve the groups of a partition, which is led here and ready;
// they are loaded first, by Step. Leading again loads again.
func (c *Coordinator) Lead(partition int32, log Log) {
	c.mu.Lock()
	c.drop(partition)
	c.shards[partition] = &shard{partition: partition, log: log, core: newCore(&c.cfg, c.cfg.Now())}
	c.signal()
	c.mu.Unlock()
	c.answerAll()
}

// Resign drops the groups of a partition; whoever waits is sent away.
func (c *Coordinator) Resign(partition int32) {
	c.mu.Lock()
	c.drop(partition)
	c.mu.Unlock()
	c.answerAll()
}

// drop is called with mu held.
func (c *Coordinator) drop(partition int32) {
	if s := c.shards[partition]; s != nil {
		s.core.resign(kerr.NotCoordinator.Code)
		c.collect(s)
		delete(c.shards, partition)
	}
}

// collect sorts a core's effects; it is called with mu held.
func (c *Coordinator) collect(s *shard) {
	for _, e := range s.core.take() {
		if e.answer != nil {
			c.answers = append(c.answers, e.answer)
		} else {
			c.writes = append(c.writes, shardWrite{s, e.write})
		}
	}
}

// nudge wakes Run if a core wants to be stepped before Run would; it is called
// with mu held.
func (c *Coordinator) nudge(s *shard) {
	if !s.core.dropped && s.core.next().Before(c.sleeping) {
		c.signal()
	}
}

// signal is called with mu held, by which there is one sender at a time and
// the send never blocks.
func (c *Coordinator) signal() {
	if len(c.wake) == 0 {
		c.wake <- struct{}{}
	}
}

// with runs fn on a group's core and does what comes out. A group that is not
// led here gets a core that refuses everything.
func (c *Coordinator) with(group string, fn func(*core)) {
	c.mu.Lock()
	s := c.shardOf(group)
	fn(s.core)
	c.collect(s)
	c.nudge(s)
	c.mu.Unlock()
	c.settle()
}

// shardOf is called with mu held.
func (c *Coordinator) shardOf(group string) *shard {
	if n := c.cfg.Partitions(); n > 0 {
		if s := c.shards[Partition(group, n)]; s != nil {
			return s
		}
	}
	return &shard{core: &core{cfg: &c.cfg, dropped: true}}
}

// settle does everything that is queued.
func (c *Coordinator) settle() {
	c.answerAll()
	c.mu.Lock()
	for !c.writing && len(c.writes) > 0 {
		writes := c.writes
		c.writes, c.writing = nil, true
		c.mu.Unlock()
		for _, w := range writes {
			c.append(w)
		}
		c.mu.Lock()
		c.writing = false
	}
	c.mu.Unlock()
	c.answerAll()
}

func (c *Coordinator) answerAll() {
	c.mu.Lock()
	answers := c.answers
	c.answers = nil
	c.mu.Unlock()
	for _, a := range answers {
		a()
	}
}

func (c *Coordinator) append(w shardWrite) {
	var b record.Builder
	for _, r := range w.records {
		b.Add(w.at.UnixMilli(), r.key, r.value)
	}
	batch, err := b.Build(0)
	if err != nil {
		c.written(w, err)
		return
	}
	w.log.Append(logio.AppendRequest{Batch: batch, Acks: logio.AcksAll, Internal: true,
		Done: func(r logio.AppendResult) { c.written(w, r.Err) }})
}

// written runs on a loop of the log, which it must not block: it answers, and
// leaves new writes to Run.
func (c *Coordinator) written(w shardWrite, err error) {
	c.mu.Lock()
	w.then(c.cfg.Now(), writeCode(err))
	c.collect(w.shard)
	c.nudge(w.shard)
	if len(c.writes) > 0 {
		c.signal()
	}
	c.mu.Unlock()
	c.answerAll()
}

// writeCode says to a client what became of a record.
func writeCode(err error) int16 {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, logio.ErrNotLeader), errors.Is(err, logio.ErrClosed),
		errors.Is(err, logio.ErrUnknownPartition), errors.Is(err, logio.ErrFenced):
		return kerr.NotCoordinator.Code
	case errors.Is(err, logio.ErrTooLarge):
		return kerr.MessageTooLarge.Code
	case errors.Is(err, logio.ErrBusy), errors.Is(err, logio.ErrNotAvailable), errors.Is(err, logio.ErrStorage):
		return kerr.CoordinatorNotAvailable.Code
	}
	return kerr.UnknownServerError.Code
}

// Submit takes one of the requests JoinGroup, SyncGroup, Heartbeat, LeaveGroup,
// OffsetCommit, OffsetFetch, OffsetDelete, DescribeGroups, ListGroups,
// DeleteGroups (kmsg types, Version set) and calls done exactly once with the
// response (kmsg type, Version set), maybe before it returns. done must not
// block. The coordinator keeps the request until then.
func (c *Coordinator) Submit(cl Client, req kmsg.Request, done func(kmsg.Response)) {
	now := c.cfg.Now()
	switch r := req.(type) {
	case *kmsg.JoinGroupRequest:
		c.with(r.Group, func(k *core) { k.join(now, cl, r, done) })
	case *kmsg.SyncGroupRequest:
		c.with(r.Group, func(k *core) { k.sync(now, r, done) })
	case *kmsg.HeartbeatRequest:
		c.with(r.Group, func(k *core) { k.heartbeat(now, r, done) })
	case *kmsg.LeaveGroupRequest:
		c.with(r.Group, func(k *core) { k.leave(now, r, done) })
	case *kmsg.OffsetCommitRequest:
		c.with(r.Group, func(k *core) { k.commit(now, r, done) })
	case *kmsg.OffsetDeleteRequest:
		c.with(r.Group, func(k *core) { k.deleteOffsets(now, r, done) })
	case *kmsg.OffsetFetchRequest:
		c.fetch(r, done)
	case *kmsg.DescribeGroupsRequest:
		c.describe(r, done)
	case *kmsg.ListGroupsRequest:
		c.list(r, done)
	case *kmsg.DeleteGroupsRequest:
		c.delete(now, r, done)
	default:
		panic(fmt.Sprintf("group coordinator is given a %T", req))
	}
}

// Do is Submit for a caller that waits; the error is the context's.
func (c *Coordinator) Do(ctx context.Context, cl Client, req kmsg.Request) (kmsg.Response, error) {
	answered := make(chan kmsg.Response, 1)
	c.Submit(cl, req, func(r kmsg.Response) { answered <- r })
	select {
	case r := <-answered:
		return r, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *Coordinator) fetch(req *kmsg.OffsetFetchRequest, done func(kmsg.Response)) {
	r := req.ResponseKind().(*kmsg.OffsetFetchResponse)
	if req.Version < groupsVersion {
		c.with(req.Group, func(k *core) { answerOne(req, r, k.fetchGroup(req.Version, oneGroup(req))) })
	} else {
		for _, g := range req.Groups {
			c.with(g.Group, func(k *core) { r.Groups = append(r.Groups, k.fetchGroup(req.Version, g)) })
		}
	}
	done(r)
}

func (c *Coordinator) describe(req *kmsg.DescribeGroupsRequest, done func(kmsg.Response)) {
	r := req.ResponseKind().(*kmsg.DescribeGroupsResponse)
	for _, id := range req.Groups {
		c.with(id, func(k *core) { r.Groups = append(r.Groups, k.describe(req.Version, id)) })
	}
	done(r)
}

func (c *Coordinator) list(req *kmsg.ListGroupsRequest, done func(kmsg.Response)) {
	r := req.ResponseKind().(*kmsg.ListGroupsResponse)
	c.mu.Lock()
	for _, p := range slices.Sorted(maps.Keys(c.shards)) {
		k := c.shards[p].core
		if k.loading {
			r.ErrorCode = kerr.CoordinatorLoadInProgress.Code
			continue
		}
		r.Groups = append(r.Groups, k.list(req)...)
	}
	c.mu.Unlock()
	if r.ErrorCode != 0 {
		r.Groups = nil // half a list would be taken for the whole
	}
	done(r)
}

func (c *Coordinator) delete(now time.Time, req *kmsg.DeleteGroupsRequest, done func(kmsg.Response)) {
	r := req.ResponseKind().(*kmsg.DeleteGroupsResponse)
	r.Groups = make([]kmsg.DeleteGroupsResponseGroup, len(req.Groups))
	if len(req.Groups) == 0 {
		done(r)
		return
	}
	var mu sync.Mutex // guards left; answers come from several loops
	left := len(req.Groups)
	for i, id := range req.Groups {
		r.Groups[i].Group = id
		c.with(id, func(k *core) {
			k.delete(now, id, func(code int16) {
				mu.Lock()
				r.Groups[i].ErrorCode = code
				left--
				last := left == 0
				mu.Unlock()
				if last {
					done(r)
				}
			})
		})
	}
}

// Loaded reports whether the groups of a partition of __consumer_offsets are
// served here; before, DeleteTopics would miss what it holds.
func (c *Coordinator) Loaded(partition int32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.shards[partition]
	return s != nil && !s.core.loading
}

// DeleteTopics forgets the offsets of deleted topics, in what is loaded here.
func (c *Coordinator) DeleteTopics(names []string) {
	set := map[string]bool{}
	for _, n := range names {
		set[n] = true
	}
	c.mu.Lock()
	for _, p := range slices.Sorted(maps.Keys(c.shards)) {
		c.shards[p].core.forgetTopics(c.cfg.Now(), set)
		c.collect(c.shards[p])
	}
	c.mu.Unlock()
	c.settle()
}

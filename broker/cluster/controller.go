package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tidewater/broker/multiraft"
	"tidewater/internal/record"
	"tidewater/internal/topicconfig"
)

// TopicSpec is a topic to create.
type TopicSpec struct {
	Name string
	// ID is given by a restore; zero lets the controller choose.
	ID record.TopicID
	// Partitions and ReplicationFactor may be -1 for the cluster's default;
	// they are -1 or left 0 when Assignment is given.
	Partitions        int32
	ReplicationFactor int16
	// Assignment lists each partition's nodes, most preferred first.
	Assignment [][]int32
	Configs    map[string]string
}

// ConfigOpKind is what a ConfigOp does, numbered as in IncrementalAlterConfigs.
type ConfigOpKind int8

// The operations of IncrementalAlterConfigs.
const (
	ConfigSet      ConfigOpKind = 0
	ConfigDelete   ConfigOpKind = 1
	ConfigAppend   ConfigOpKind = 2
	ConfigSubtract ConfigOpKind = 3
)

// ConfigOp changes one property.
type ConfigOp struct {
	Kind  ConfigOpKind
	Name  string
	Value string
}

// LeaderReport says that a node leads a partition in an epoch.
type LeaderReport struct {
	Partition record.PartitionID
	Leader    int32
	Epoch     record.LeaderEpoch
}

// Registration is how a broker announces itself.
type Registration struct {
	ID        int32
	Boot      [16]byte
	Rack      string
	Listeners []Listener
	// Disk, RPCAddr, Session, FeatureMin, FeatureMax and Build are as in Broker.
	Disk                   [16]byte
	RPCAddr                string
	Session                uint64
	FeatureMin, FeatureMax uint32
	Build                  string
}

// Controller is one broker's replica of the controller with everything that
// changes it. The methods that change block until the command is committed and
// applied here, so that View shows it; a broker that does not lead the group
// sends its commands to the one that does. All methods are safe for concurrent
// use.
type Controller struct {
	cfg     Config
	machine *Machine
	store   *store

	released record.Index // by Checkpoint's one caller

	idMu   sync.Mutex // held for the block below only
	nextID int64
	endID  int64

	caught caughtUp // of the controller's replicas

	seq   atomic.Uint64 // of the last request
	slots chan struct{} // bounds the requests under way
	// out is closed when this broker has heard that it has no place any more.
	out chan struct{}
}

// Open opens the store and reads what it holds; the Raft group is started
// after it, with Machine as its state machine.
func Open(cfg Config) (*Controller, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.fill()
	st, state, err := openStore(cfg.FS, cfg.Dir, cfg.Log)
	if err != nil {
		return nil, err
	}
	// What the store holds needs no release of its own: the log may not have
	// been told that it is committed yet.
	c := &Controller{cfg: cfg, store: st, machine: newMachine(st, state), released: state.v.applied,
		slots: make(chan struct{}, requestsMax), out: make(chan struct{})}
	c.followPeers()
	return c, nil
}

// Close syncs and closes the store; the Raft group has been stopped before.
func (c *Controller) Close() error {
	c.machine.background.Wait()
	return errors.Join(c.store.sync(), c.store.close())
}

// Machine is the state machine of the controller's group.
func (c *Controller) Machine() *Machine { return c.machine }

// View is the newest applied state; never nil.
func (c *Controller) View() *View { return c.machine.view.Load() }

// Leadership is who leads the controller's group, as far as this broker knows.
func (c *Controller) Leadership() Leadership { return *c.machine.lead.Load() }

// Subscribe calls fn after each change, in order, from the group's loop: fn
// must not block and must not call the Controller but for View. Views between
// the first and the one fn sees first may be missed: look at View after
// subscribing.
func (c *Controller) Subscribe(fn func(old, now *View)) (cancel func()) {
	return c.machine.subscribe(fn)
}

// WaitView returns the first view from now on that satisfies ok, or the
// context's error.
func (c *Controller) WaitView(ctx context.Context, ok func(*View) bool) (*View, error) {
	var v *View
	err := c.wait(ctx, func() bool { v = c.View(); return ok(v) })
	return v, err
}

// WaitReady returns when this broker leads the controller's group and can
// change it, or with the context's error.
func (c *Controller) WaitReady(ctx context.Context) error {
	return c.wait(ctx, func() bool { return c.Leadership().Ready })
}

func (c *Controller) wait(ctx context.Context, ok func() bool) error {
	for {
		changed := c.machine.change()
		if ok() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Settings are the properties in force for a topic: its own, the cluster's and
// Kafka's defaults.
func (c *Controller) Settings(t *Topic) topicconfig.Settings {
	s, _ := topicconfig.Parse(c.TopicProperties(t.Configs)) // faulty ones fall back to defaults
	return s
}

// TopicProperties lays a topic's own properties over the defaults that the
// brokers' properties give; what is in neither has Kafka's default.
func (c *Controller) TopicProperties(own map[string]string) map[string]string {
	return c.plan().props(own)
}

func (c *Controller) plan() planner { return planner{cfg: &c.cfg, v: c.View()} }

// Submit proposes a command as it is; done is called once, from the group's
// loop or before Submit returns, and must not block. It is the way in for
// callers that cannot wait, such as the simulation.
func (c *Controller) Submit(cmd Command, done func(result any, err error)) {
	c.submit(EncodeCommand(nil, RequestID{}, cmd), done)
}

func (c *Controller) submit(data []byte, done func(result any, err error)) {
	if len(data) > CommandBytesMax {
		done(nil, fmt.Errorf("%w: the command has %d bytes, at most %d are allowed", ErrInvalidRequest, len(data), CommandBytesMax))
		return
	}
	if err := c.cfg.Raft.Do(func(p Proposer) { c.machine.propose(p, data, done) }); err != nil {
		done(nil, fmt.Errorf("%w: %w", ErrNotController, err))
	}
}

// conflictsMax is how often a change is planned again when another one came
// between; each time somebody else got on.
const conflictsMax = 32

// change plans and does until the plan still fits when it is applied.
func (c *Controller) change(ctx context.Context, validateOnly bool, plan func(planner) (Command, error)) (any, error) {
	for range conflictsMax {
		if err := c.catchUp(ctx); err != nil {
			return nil, err
		}
		cmd, err := plan(c.plan())
		if err != nil || validateOnly {
			return nil, err
		}
		result, err := c.do(ctx, cmd)
		if !errors.Is(err, ErrConflict) {
			return result, err
		}
	}
	return nil, fmt.Errorf("%w, %d times", ErrConflict, conflictsMax)
}

// Run syncs the store every CheckpointEvery, and looks after the cluster while
// this broker leads the controller, until ctx ends. It runs once. An ErrFenced says that the
// cluster goes on without this broker. Where there are other brokers it fails
// once this one's replica has stopped: its journal is dead, and as long as it
// answers heartbeats, groups that rest and that it led look for no other leader.
func (c *Controller) Run(ctx context.Context) (err error) {
	defer func() {
		if errors.Is(err, ErrFenced) {
			close(c.out)
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.lookAfter(ctx) })
	g.Go(func() error { return c.checkpoints(ctx) })
	g.Go(func() error { return c.keepPlace(ctx) })
	err = g.Wait()
	select {
	case <-c.machine.stopped:
		if c.machine.removed {
			return fmt.Errorf("%w: node %d was taken out of the cluster", ErrFenced, c.cfg.Node)
		}
	default:
	}
	return err
}

func (c *Controller) checkpoints(ctx context.Context) error {
	t := time.NewTicker(c.cfg.CheckpointEvery)
	defer t.Stop()
	var stopped <-chan struct{}
	if c.cfg.Peers != nil {
		stopped = c.machine.stopped
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-stopped:
			return fmt.Errorf("controller's replica stopped: %w", c.machine.failure)
		case <-t.C:
			if err := c.Checkpoint(); err != nil {
				return err
			}
		}
	}
}

// Checkpoint makes what is applied durable in the store and lets the Raft log
// forget it. It has one caller at a time.
func (c *Controller) Checkpoint() error {
	at := *c.machine.applied.Load()
	if at.index <= c.released {
		return nil
	}
	if err := c.store.sync(); err != nil {
		return err
	}
	err := c.cfg.Raft.Do(func(p Proposer) { p.Release(at.index, at.term) })
	if errors.Is(err, multiraft.ErrBusy) {
		return nil // the next checkpoint tells it
	}
	if err != nil {
		return fmt.Errorf("release controller log to Index %d: %w", at.index, err)
	}
	c.released = at.index
	return nil
}

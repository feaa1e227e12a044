package broker

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"tidewater/broker/cluster"
	"tidewater/broker/group"
	"tidewater/broker/kafka"
	"tidewater/broker/multiraft"
	"tidewater/broker/partition"
	"tidewater/broker/peer"
	"tidewater/broker/segment"
	"tidewater/internal/disk"
	"tidewater/internal/logio"
	"tidewater/internal/record"
	"tidewater/internal/topicconfig"
)

const (
	// startTimeout bounds how long a broker may take until it leads its controller.
	startTimeout = 30 * time.Second
	// closeTimeout bounds how long requests in flight may take at Close.
	closeTimeout = 5 * time.Second
	// segmentFilesMax and segmentIndexBytesMax bound what sealed segments
	// cost while they are read.
	segmentFilesMax      = 1024
	segmentIndexBytesMax = 32 << 20
	// listenerKafka is the name of the listener that clients use.
	listenerKafka = "kafka"
	journalDir    = "journal"
	controllerDir = "controller"
)

type topicSettings = topicconfig.Settings

// Broker is a running broker. Open makes one, Close ends it.
type Broker struct {
	cfg      Config
	log      *slog.Logger
	identity identity
	dirs     []*dataDir
	disk     disk.FS            // of the first
	network  *peer.Network      // nil in a cluster of one
	hosts    *hosts             // nil until all are open
	dead     chan error         // holds one: a journal that failed
	member   cluster.Membership // from openMembership on
	ends     *bucketEnds
	registry *prometheus.Registry
	began    time.Time

	controller *cluster.Controller
	parts      *partitions
	groups     *group.Coordinator
	tier       *tier    // nil without a bucket
	tables     *tables  // nil without a bucket or on a replica
	replica    *replica // nil but on a read replica
	kafka      *kafka.Server
	http       []*httpServer

	made     bool         // this start gave the controller its identity
	restored *restorePlan // until every partition of a restore has begun
	recovery *recoverPlan // until a recovery from a lost majority is committed

	// clusterID and receiver are what the network asks for while they may not
	// be there yet.
	clusterID atomic.Pointer[[16]byte]
	receiver  atomic.Pointer[hosts]

	ready atomic.Bool
	// caughtUp: the replicas here have kept up with their leaders since the
	// start; behind is how many were last seen that do not yet.
	caughtUp atomic.Bool
	behind   atomic.Int64
	known    atomic.Bool // controller and partitions are there to be asked about
	loops    *errgroup.Group
	cancel   context.CancelCauseFunc
	done     context.Context // ends when a loop failed or Close began
	change   chan struct{}   // wakes the controller's loop, holds one
	topics   chan struct{}   // wakes the topics' loop, holds one
	report   leadQueue       // leaderships for the controller
	// registered is what the controller was told of this broker, nil before.
	registered atomic.Pointer[cluster.Registration]
}

// errClosing is why loops end at Close, errStarting why a broker is not ready.
var (
	errClosing  = errors.New("broker is closing")
	errStarting = errors.New("starting")
)

// Open starts a broker and returns when it serves. What it opened is closed
// again when it fails.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Broker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Broker{cfg: cfg, log: log, change: make(chan struct{}, 1), topics: make(chan struct{}, 1),
		report: newLeadQueue(), dead: make(chan error, 1), ends: newBucketEnds(), registry: prometheus.NewRegistry(), began: time.Now()}
	done, cancel := context.WithCancelCause(context.Background())
	b.loops, b.done = errgroup.WithContext(done)
	b.cancel = cancel
	if cfg.RPCAddr == "" {
		// Alone it waits for nobody. With others it waits for them, as long as it takes.
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, startTimeout)
		defer stop()
	}
	for _, open := range []func(context.Context) error{
		b.openDisk, b.openAdmin, b.openNetwork, b.openMembership, b.openBucket, b.openRaft, b.openController, b.openTables, b.openPartitions,
		b.openGroups, b.openReplica, b.openCalls, b.openLoops, b.openServers,
	} {
		if err := open(ctx); err != nil {
			return nil, errors.Join(err, b.Close())
		}
	}
	b.ready.Store(true)
	return b, nil
}

// Done ends when the broker cannot go on; Err says why.
func (b *Broker) Done() <-chan struct{} { return b.done.Done() }

// Err is why Done ended, nil before.
func (b *Broker) Err() error { return context.Cause(b.done) }

// KafkaAddr, AdminAddr and CatalogAddr are where the broker serves, "" for nowhere.
func (b *Broker) KafkaAddr() string   { return b.kafka.Addr().String() }
func (b *Broker) AdminAddr() string   { return b.httpAddr("admin") }
func (b *Broker) CatalogAddr() string { return b.httpAddr("catalog") }

// ClusterID is the cluster's id as clients see it.
func (b *Broker) ClusterID() string { return b.identity.Cluster }

// DirectIO reports whether all data directories are used without the page cache.
func (b *Broker) DirectIO() bool {
	return !slices.ContainsFunc(b.dirs, func(d *dataDir) bool { return !d.disk.Direct() })
}

func (b *Broker) httpAddr(name string) string {
	for _, s := range b.http {
		if s.name == name {
			return s.listen.Addr().String()
		}
	}
	return ""
}

// beside runs fn on a goroutine of its own and gives what waits for it.
func beside(fn func()) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	return func() { <-done }
}

func randomUint64() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// openController starts this broker's replica of the controller's group and
// waits until it knows the cluster; whoever leads the group of a new cluster
// gives it its identity.
func (b *Broker) openController(ctx context.Context) error {
	cfg := cluster.Config{
		Node: b.cfg.NodeID, Raft: cluster.HostedBy(b.hosts), Dir: b.cfg.DataDir + "/" + controllerDir,
		Membership: b.member, Session: b.identity.Session, Seeds: b.cfg.seeds(),
		DefaultPartitions: b.cfg.DefaultPartitions, DefaultReplicationFactor: b.cfg.replicationFactor(), Log: b.log,
	}
	if b.network != nil {
		cfg.Peers, cfg.Groups, cfg.Sizes = secured{peers{b.network}, b.cfg.RPCCA}, cluster.GroupsOn(b.hosts), b.sizes
	}
	var err error
	if b.controller, err = cluster.Open(cfg); err != nil {
		return fmt.Errorf("open controller: %w", err)
	}
	if err := b.dirs[0].host.Start(b.controller.GroupConfig()); err != nil {
		return fmt.Errorf("start controller: %w", err)
	}
	if err := b.meetController(ctx); err != nil {
		return err
	}
	if err := b.finishRecovery(ctx); err != nil {
		return err
	}
	if err := b.finishRestore(ctx); err != nil {
		return err
	}
	if b.network != nil {
		b.controller.Handle(b.handle)
	}
	b.controller.Subscribe(func(_, _ *cluster.View) { b.wakeController() })
	b.loops.Go(func() error { return b.ended("controller checkpoints", b.controller.Run(b.done)) })
	return nil
}

// meetController waits until the cluster has its identity. A broker alone waits
// to lead, since every change is its own to make.
func (b *Broker) meetController(ctx context.Context) error {
	for {
		_, err := b.controller.WaitView(ctx, func(v *cluster.View) bool {
			return v.Identity() != (cluster.Identity{}) && b.network != nil || b.controller.Leadership().Ready
		})
		switch {
		case err != nil:
			return fmt.Errorf("wait for the controller: %w", err)
		case b.controller.View().Identity() != (cluster.Identity{}):
			return nil
		}
		err = b.controller.Bootstrap(ctx, b.identity.cluster(), b.member.Restoring)
		if err != nil && (b.network == nil || ctx.Err() != nil) {
			return fmt.Errorf("bootstrap cluster: %w", err)
		}
	}
}

func (b *Broker) openPartitions(context.Context) error {
	b.parts = &partitions{
		node: b.cfg.NodeID, up: b.up, view: b.controller.View,
		identity: segment.Identity{ClusterID: b.identity.ClusterID, Incarnation: b.identity.Incarnation},
		hosts:    b.hosts, files: segment.NewCache(segmentFilesMax, segmentIndexBytesMax),
		budget:   partition.NewBudget(b.cfg.Memory/memoryShares*pendingShare, b.cfg.Memory/4),
		rot:      new(partition.Rot),
		settings: b.controller.Settings, restored: b.restored, log: b.log,
		leads: newLeadQueue(),
		byID:  map[record.PartitionID]*hosted{}, forgotten: map[record.TopicID]bool{},
		copies: copies{done: b.done},
	}
	if b.network != nil {
		b.parts.source, b.parts.fresh = segmentSource{b.network}, b.controller.Fresh
	}
	if b.tier != nil && !b.cfg.Replica {
		b.parts.tier = b.tier
		b.parts.pin = func(id record.PartitionID) (record.Offset, bool) {
			if b.tables == nil {
				return 0, false
			}
			return b.tables.pin(id)
		}
	}
	// The view may be old while no controller leads: what it has more than the
	// newest stops by itself, and what it lacks follows.
	err := b.parts.sync(b.controller.View())
	if errors.Is(err, errNotFresh) {
		b.log.Info("some partitions are opened later", "reason", err)
		return nil // the controller's loop comes back to them
	}
	return err
}

// sweep removes what deleted topics left behind, by a view that is the newest.
func (b *Broker) sweep() {
	if b.made {
		return // a controller without memory must not make others forget
	}
	if err := b.parts.sweep(b.controller.View()); err != nil {
		b.log.Warn("what deleted topics left behind could not be removed; the next start tries again", "error", err)
	}
}

func (b *Broker) openGroups(context.Context) error {
	var err error
	b.groups, err = group.Open(group.Config{
		Partitions: b.offsetsPartitions, Topics: groupTopics{b.controller}, Log: b.log,
		InitialDelay: groupDelay(b.cfg.GroupInitialDelay),
	})
	if err != nil {
		return fmt.Errorf("open group coordinator: %w", err)
	}
	return nil
}

// groupDelay is the delay as the coordinator takes it, where 0 is the default.
func groupDelay(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// openLoops starts what works in the background, when everything it touches
// is there.
func (b *Broker) openLoops(context.Context) error {
	b.loops.Go(func() error { return b.ended("controller", b.followController(b.done)) })
	b.loops.Go(func() error { return b.ended("leaders", b.reportLeaders(b.done)) })
	b.loops.Go(func() error { return b.ended("topics", b.followTopics(b.done)) })
	for _, d := range b.dirs {
		b.loops.Go(func() error { return b.ended("segments", b.writeSegments(b.done, d)) })
	}
	b.loops.Go(func() error { return b.ended("retention", b.retain(b.done)) })
	b.loops.Go(func() error { return b.ended("mend", b.mend(b.done)) })
	b.loops.Go(func() error { return b.ended("groups", b.groups.Run(b.done)) })
	if b.network == nil {
		b.caughtUp.Store(true)
	} else {
		b.loops.Go(func() error { return b.ended("catching up", b.catchUp(b.done)) })
	}
	b.openTier()
	if b.replica != nil {
		b.loop("follow", followEvery, b.replica.step)
	}
	b.wakeController()
	b.known.Store(true)
	return nil
}

// openServers serves clients, last of all. The broker is registered before the
// first of them is heard: one that came earlier would find a cluster without
// brokers, where no topic can be made.
func (b *Broker) openServers(ctx context.Context) error {
	var err, unregistered error
	b.kafka, err = kafka.Open(kafka.Config{
		Addr: b.cfg.KafkaAddr, NodeID: b.cfg.NodeID, Log: b.log, ListenerName: listenerKafka,
		Listening: func(at net.Addr) error {
			if unregistered = b.register(ctx, at.String()); unregistered == nil {
				b.sweep()
			}
			return unregistered
		},
		View: func() kafka.View { return b.controller.View() }, Cluster: topicAdmin{b.controller, b},
		Groups: b.groups, Partitions: b, MemoryBytesMax: b.cfg.Memory / 4,
		ControllerID:     func() int32 { return b.controller.Leadership().Leader },
		Alive:            b.alive,
		Answers:          b.answers,
		AutoCreateTopics: func() bool { return b.cfg.AutoCreateTopics },
		OffsetsTopic:     b.offsetsTopic(), LogDirs: b.logDirs,
	})
	if unregistered != nil {
		return unregistered
	}
	if err != nil {
		return fmt.Errorf("%w (choose another with --kafka-addr)", err)
	}
	b.registry.MustRegister(b.metrics(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return nil
}

// openAdmin tells from the first moment on that the broker lives and is not
// ready.
func (b *Broker) openAdmin(context.Context) error {
	if b.cfg.AdminAddr == "" {
		return nil
	}
	secure, err := b.cfg.adminTLS()
	if err != nil {
		return err
	}
	guard := newAdminGuard(&b.cfg, b.log)
	if b.cfg.AdminTokenFile == "" && !guard.loopback {
		b.log.Warn("the admin address is reached from other machines and has no token: it shows the cluster and changes nothing (admin-token-file)", "address", b.cfg.AdminAddr)
	}
	return b.serve("admin", "admin-addr", b.cfg.AdminAddr, secure, adminHandler(b.readiness, b.registry, guard, b.clusterHandlers))
}

// Partition implements kafka.Partitions: a log of this cluster, or one followed
// in another's bucket.
func (b *Broker) Partition(id record.PartitionID) (kafka.Partition, error) {
	if b.replica != nil {
		if p, ok := b.replica.partition(id); ok {
			return p, nil
		}
	}
	p, err := b.parts.Partition(id)
	if err != nil && b.controller.View().PartitionOf(id) != nil {
		return nil, fmt.Errorf("%w: %s has no replica here", logio.ErrNotLeader, id)
	}
	return p, err
}

// Leader implements kafka.Partitions.
func (b *Broker) Leader(id record.PartitionID) (int32, record.LeaderEpoch) {
	if b.replica != nil {
		return cluster.NoLeader, -1 // the controller is told of followed logs
	}
	return b.parts.Leader(id)
}

// InStep implements kafka.Partitions.
func (b *Broker) InStep(id record.PartitionID, node int32) bool {
	h, err := b.parts.get(id)
	return err == nil && b.network != nil && h.inStep(node, b.parts.view().PartitionOf(id))
}

// serve starts an HTTP server with a loop of its own.
func (b *Broker) serve(name, key, addr string, secure *tls.Config, h httpHandler) error {
	s, err := openHTTP(name, key, addr, secure, h, b.log)
	if err != nil {
		return err
	}
	b.http = append(b.http, s)
	b.loops.Go(s.run)
	return nil
}

// ended tells why a loop ended; the end of the broker is no failure.
func (b *Broker) ended(loop string, err error) error {
	if err == nil || b.done.Err() != nil {
		return nil
	}
	return fmt.Errorf("%s: %w", loop, err)
}

// Close stops serving, ends the loops and closes everything, in reverse order.
// What is acked is on disk already; nothing is lost by a Close that is cut.
func (b *Broker) Close() error {
	b.ready.Store(false)
	var errs []error
	if b.hosts != nil && b.handOver() && b.kafka != nil {
		<-time.After(farewell)
	}
	ctx, stop := context.WithTimeout(context.Background(), closeTimeout)
	defer stop()
	if b.kafka != nil {
		errs = append(errs, b.kafka.Close(ctx))
	}
	if b.hosts != nil {
		b.handOver() // what came back meanwhile
	}
	for _, s := range b.http {
		errs = append(errs, s.close(ctx))
	}
	b.cancel(errClosing)
	errs = append(errs, b.loops.Wait())
	if b.tables != nil {
		b.tables.close()
	}
	if b.parts != nil {
		errs = append(errs, b.writeAll(ctx))
	}
	if b.controller != nil && b.hosts != nil {
		errs = append(errs, b.checkpoint())
	}
	if b.hosts != nil {
		errs = append(errs, b.hosts.close())
	}
	if b.network != nil {
		errs = append(errs, b.network.Close())
	}
	if b.parts != nil {
		b.parts.copies.running.Wait()
		errs = append(errs, b.parts.close())
	}
	if b.controller != nil {
		errs = append(errs, b.controller.Close())
	}
	errs = append(errs, b.closeDirs())
	return errors.Join(errs...)
}

// checkpoint lets go of the controller's log at Close, so that the next start
// need not read what stands beside it in the journal.
func (b *Broker) checkpoint() error {
	if err := b.controller.Checkpoint(); err != nil && !errors.Is(err, multiraft.ErrStopped) {
		return err
	}
	return nil
}

// storageError is what a client gets for a disk that cannot be written.
func storageError(err error) error { return fmt.Errorf("%w: %w", logio.ErrStorage, err) }

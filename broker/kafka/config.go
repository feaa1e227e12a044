package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"tidewater/broker/cluster"
	"tidewater/broker/group"
)

// Defaults of Config, with the reason for each.
const (
	// RequestBytesMax is Kafka's socket.request.max.bytes: 100 MiB.
	defaultRequestBytesMax = 100 << 20
	// Messages other than Produce are decoded into structs several times their
	// size; the largest honest ones (assignments of big groups) are a few MiB.
	defaultMessageBytesMax = 8 << 20
	defaultMemoryBytesMax  = 256 << 20
	defaultConnectionsMax  = 10_000
	// Read-ahead of one connection. Idempotent producers have five requests
	// in flight.
	defaultPipelineMax  = 16
	defaultIdleTimeout  = 10 * time.Minute // Kafka's connections.max.idle.ms
	defaultHalfTimeout  = 30 * time.Second
	defaultWriteTimeout = 60 * time.Second
	// FetchBytesMax is Kafka's fetch.max.bytes on the broker: 55 MiB.
	defaultFetchBytesMax = 55 << 20
	// Answers being written to slow clients hold their batches.
	defaultFetchMemoryBytesMax = 256 << 20
	defaultFetchWaitMax        = 5 * time.Minute
	// Kafka's max.incremental.fetch.session.cache.slots.
	defaultFetchSessionsMax = 1000
	// A remembered partition takes about 150 bytes: 30 MB.
	defaultFetchSessionPartitionsMax = 200_000
)

// Config is everything a Server needs. Zero numbers mean the default.
type Config struct {
	// Addr is where to listen, "127.0.0.1:9092" when empty. Port 0 takes a
	// free one.
	Addr string
	// Listening is told the address with the real port before the first
	// connection is accepted, so that what clients ask for at once can be
	// prepared; an error ends Open. Nil for nobody.
	Listening func(net.Addr) error
	// NodeID is this broker's.
	NodeID int32

	// View gives the newest state of the cluster; it must be cheap.
	View       func() View
	Cluster    Cluster
	Groups     Groups
	Partitions Partitions
	Log        *slog.Logger
	// ControllerID is the node that leads the controller, negative for
	// unknown; nil is always unknown.
	ControllerID func() int32
	// Alive says whether another broker is up, as far as this one knows; nil
	// takes all as up.
	Alive func(node int32) bool
	// Answers asks another broker that is up for a sign, and says false when it
	// has ended since, which Alive learns a moment later; nil leaves it to Alive.
	Answers func(ctx context.Context, node int32) bool
	// ListenerName is the brokers' listener told to clients, "kafka" when empty.
	ListenerName string
	// LogDirs reports the data directories for DescribeLogDirs; nil reports none.
	LogDirs func() []LogDir

	// RequestBytesMax bounds a Produce request's claimed length
	// (socket.request.max.bytes), MessageBytesMax every other request's.
	RequestBytesMax, MessageBytesMax int
	// MemoryBytesMax is the total of request bytes held; above it no
	// connection starts to read another request.
	MemoryBytesMax int64
	// ConnectionsMax bounds all connections, ConnectionsPerIPMax those of one
	// client address (max.connections, max.connections.per.ip).
	ConnectionsMax, ConnectionsPerIPMax int
	// PipelineMax is how many requests of one connection wait for their answer
	// before the next is not read.
	PipelineMax int
	// IdleTimeout closes a connection without a request; HalfTimeout one whose
	// request makes no progress; WriteTimeout one that does not take its answer.
	IdleTimeout, HalfTimeout, WriteTimeout time.Duration
	// FetchBytesMax bounds a Fetch answer, except that one batch is always
	// given whole; FetchWaitMax bounds what a client may ask to wait.
	FetchBytesMax int
	FetchWaitMax  time.Duration
	// FetchMemoryBytesMax is the total of batches held by answers being
	// written; near it answers get smaller.
	FetchMemoryBytesMax int64
	// FetchSessionsMax and FetchSessionPartitionsMax bound the memory of
	// incremental fetches; beyond them clients fetch without a session.
	FetchSessionsMax, FetchSessionPartitionsMax int
	// AutoCreateTopics is auto.create.topics.enable; nil is off.
	AutoCreateTopics func() bool
	// OffsetsTopic is how __consumer_offsets is created when first needed. Its
	// Name is ignored; what is left zero is group.PartitionsDefault partitions,
	// the cluster's replication factor, and compaction.
	OffsetsTopic cluster.TopicSpec
	// BrokerConfigs are the broker's own properties for DescribeConfigs; nil
	// shows the dynamic ones only.
	BrokerConfigs func() []BrokerConfig
}

// Validate reports every fault of the config at once.
func (c *Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, a ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, a...))
		}
	}
	fault(c.View == nil, "kafka config: View is nil")
	fault(c.Cluster == nil, "kafka config: Cluster is nil")
	fault(c.Groups == nil, "kafka config: Groups is nil")
	fault(c.Partitions == nil, "kafka config: Partitions is nil")
	fault(c.NodeID < 0, "kafka config: NodeID %d is negative", c.NodeID)
	fault(c.RequestBytesMax < 0 || c.RequestBytesMax > 1<<30, "kafka config: RequestBytesMax %d is outside 0..1 GiB", c.RequestBytesMax)
	fault(c.MessageBytesMax < 0 || c.MessageBytesMax > 1<<28, "kafka config: MessageBytesMax %d is outside 0..256 MiB", c.MessageBytesMax)
	for name, n := range map[string]int64{
		"MemoryBytesMax": c.MemoryBytesMax, "ConnectionsMax": int64(c.ConnectionsMax),
		"ConnectionsPerIPMax": int64(c.ConnectionsPerIPMax), "PipelineMax": int64(c.PipelineMax),
		"IdleTimeout": int64(c.IdleTimeout), "HalfTimeout": int64(c.HalfTimeout), "WriteTimeout": int64(c.WriteTimeout),
		"FetchBytesMax": int64(c.FetchBytesMax), "FetchWaitMax": int64(c.FetchWaitMax),
		"FetchMemoryBytesMax": c.FetchMemoryBytesMax,
		"FetchSessionsMax":    int64(c.FetchSessionsMax), "FetchSessionPartitionsMax": int64(c.FetchSessionPartitionsMax),
	} {
		fault(n < 0, "kafka config: %s %d is negative", name, n)
	}
	return errors.Join(faults...)
}

func (c Config) withDefaults() Config {
	setDefault(&c.Addr, "127.0.0.1:9092")
	setDefault(&c.ListenerName, "kafka")
	setDefault(&c.OffsetsTopic.Partitions, group.PartitionsDefault)
	setDefault(&c.OffsetsTopic.ReplicationFactor, -1)
	if c.OffsetsTopic.Configs == nil {
		c.OffsetsTopic.Configs = map[string]string{"cleanup.policy": "compact"}
	}
	if c.AutoCreateTopics == nil {
		c.AutoCreateTopics = func() bool { return false }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	setDefault(&c.RequestBytesMax, defaultRequestBytesMax)
	setDefault(&c.MessageBytesMax, defaultMessageBytesMax)
	setDefault(&c.MemoryBytesMax, defaultMemoryBytesMax)
	setDefault(&c.ConnectionsMax, defaultConnectionsMax)
	setDefault(&c.ConnectionsPerIPMax, c.ConnectionsMax)
	setDefault(&c.PipelineMax, defaultPipelineMax)
	setDefault(&c.IdleTimeout, defaultIdleTimeout)
	setDefault(&c.HalfTimeout, defaultHalfTimeout)
	setDefault(&c.WriteTimeout, defaultWriteTimeout)
	setDefault(&c.FetchBytesMax, defaultFetchBytesMax)
	setDefault(&c.FetchMemoryBytesMax, defaultFetchMemoryBytesMax)
	setDefault(&c.FetchWaitMax, defaultFetchWaitMax)
	setDefault(&c.FetchSessionsMax, defaultFetchSessionsMax)
	setDefault(&c.FetchSessionPartitionsMax, defaultFetchSessionPartitionsMax)
	return c
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

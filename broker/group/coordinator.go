package group

import (
	"context"
	"time"

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

// Coordinator serves the groups whose __consumer_offsets partition is led here.
type Coordinator struct{}

// Open makes a Coordinator that leads nothing.
func Open(cfg Config) (*Coordinator, error) { panic("not built") }

// Config is everything a Coordinator needs.
type Config struct{}

// Partition is the __consumer_offsets partition of a group, of n partitions.
func Partition(group string, n int32) int32 { panic("not built") }

// Lead starts to serve the groups of a partition; they are loaded first.
func (c *Coordinator) Lead(partition int32, log Log) { panic("not built") }

// Resign drops the groups of a partition.
func (c *Coordinator) Resign(partition int32) { panic("not built") }

// Submit takes one of the requests JoinGroup, SyncGroup, Heartbeat, LeaveGroup,
// OffsetCommit, OffsetFetch, OffsetDelete, DescribeGroups, ListGroups,
// DeleteGroups (kmsg types, Version set) and calls done exactly once with the
// response (kmsg type, Version set). done must not block.
func (c *Coordinator) Submit(cl Client, req kmsg.Request, done func(kmsg.Response)) {
	panic("not built")
}

// Do is Submit for a caller that waits; the error is the context's.
func (c *Coordinator) Do(ctx context.Context, cl Client, req kmsg.Request) (kmsg.Response, error) {
	panic("not built")
}

// DeleteTopics forgets the offsets of deleted topics.
func (c *Coordinator) DeleteTopics(names []string) { panic("not built") }

// Step does what is due at now and returns when it wants to be called again.
func (c *Coordinator) Step(ctx context.Context, now time.Time) (next time.Time) { panic("not built") }

// Run calls Step until ctx ends.
func (c *Coordinator) Run(ctx context.Context) error { panic("not built") }

package partition

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/broker/segment"
	"tidewater/internal/disk"
	"tidewater/internal/logio"
	"tidewater/internal/record"
	"tidewater/internal/topicconfig"
)

const (
	// PendingBytesMaxDefault bounds one partition's bytes that are in no
	// segment yet: a few batches of the largest size.
	PendingBytesMaxDefault = 64 << 20
	// ProducerExpirationDefault is Kafka's producer.id.expiration.ms.
	ProducerExpirationDefault = 24 * time.Hour
	// chunkBytesMax is how many bytes WriteSegments puts into one chunk: large
	// enough that the device is the bound, small enough that memory is let go
	// in steps.
	chunkBytesMax = 4 << 20
)

// Config opens a Partition.
type Config struct {
	ID    record.PartitionID
	Topic string // for messages and logs
	// Identity stands in every file.
	Identity segment.Identity
	Host     Host
	FS       disk.FS
	// Dir belongs to this partition alone.
	Dir   string
	Cache *segment.Cache // shared by the partitions of one disk; may be nil
	// Mark is the group's mark as the journal had it (multiraft.Host.Recovered);
	// nil when the journal does not know the group.
	Mark *journal.Mark
	// Restored is where a partition made from a bucket begins; used when Mark is nil.
	Restored *Restored
	// Remote reads what is in the bucket only; nil for a topic without tiering
	// (SetRemote changes it).
	Remote   Remote
	Settings topicconfig.Settings
	// Budget is shared by all partitions of the broker.
	Budget *Budget
	// PendingBytesMax bounds this partition's bytes that are in no segment yet
	// (0: PendingBytesMaxDefault); beyond it appends are answered ErrBusy.
	PendingBytesMax int64
	// ProducerExpiration is how long an idle producer is remembered
	// (0: ProducerExpirationDefault).
	ProducerExpiration time.Duration
	Now                func() time.Time
	// Pending is called, maybe nil, on the shard loop when the first record
	// waits for a WriteSegments; it must not block.
	Pending func()
	// Fenced reports that a newer incarnation owns the bucket: nothing is
	// acked any more. nil: never.
	Fenced func() bool
	// InSync is how many replicas are up, this one included, as far as this
	// broker knows; acks=all is refused below min.insync.replicas. nil: all.
	InSync func() int
	// Pin is the offset that retention must not pass, because somebody (the
	// table) has not seen it yet; false for none. May be nil.
	Pin func() (record.Offset, bool)
	// Source reaches the segments of other brokers' replicas; nil: a replica that
	// its leader has left behind stays there.
	Source SegmentSource
	// Replicas gives the brokers that are up and have another replica of this
	// partition: damaged segments are mended from them. May be nil.
	Replicas func() []int32
	// Rot is shared by all partitions of the broker; nil counts for this one.
	Rot *Rot
	// Background runs a task once on a goroutine of the caller, which ends ctx
	// when it closes and waits for the task; it does not block. nil runs it at
	// once: a simulation in one goroutine.
	Background func(task func(ctx context.Context))
	// Wait blocks until done is closed, or gives an error when ctx ends
	// first. nil does just that; a simulation in one goroutine steps its world
	// instead.
	Wait func(ctx context.Context, done <-chan struct{}) error
	Log  *slog.Logger // nil is slog.Default
	// Fault plants errors that the simulation's checkers must catch.
	Fault Fault
}

// Fault switches off a rule. The zero value is the only one fit for data.
type Fault struct {
	// AckUncommittedDuplicates answers a duplicate before the original is committed.
	AckUncommittedDuplicates bool
	// TrimBeforeArchived lets local retention pass the archived end.
	TrimBeforeArchived bool
	// KeepProducers leaves the producers as they are when a truncation rolls
	// the log back.
	KeepProducers bool
	// AppendAnywhere lets a replica append that does not lead.
	AppendAnywhere bool
	// ShowUnconfirmed has a leader answer before its term is confirmed.
	ShowUnconfirmed bool
}

// Restored is a partition's state in a bucket: everything that a log which
// goes on at Next must know of what came before, none of it on this disk.
type Restored struct {
	Next     record.Offset // the first offset that this log will write
	LogStart record.Offset
	Archived record.Offset // end of what the manifest covers; equal to Next or below
	Manifest uint64
	Epochs   []logio.EpochStart
	// Producers is the producer snapshot at Next, as History gives it; nil
	// when there is none.
	Producers []byte
	// FloorTerm is the highest leader epoch found in the bucket; terms of the
	// new group begin above it.
	FloorTerm uint64
}

// Remote is the part of a tiered log that is in the bucket.
type Remote interface {
	// Read gives whole batches from the one that holds r.Offset on, and where
	// their bytes came from; Isolation and CurrentEpoch are not looked at.
	Read(ctx context.Context, r logio.ReadRequest) (logio.ReadResult, error)
	// Find gives the first record not older than ts; Offset -1 is none.
	Find(ctx context.Context, ts int64) (logio.FoundOffset, error)
	// FindMax gives the first record of [from, end) that has the greatest
	// timestamp; Offset -1 is none, or none as new as atLeast.
	FindMax(ctx context.Context, from, end record.Offset, atLeast int64) (logio.FoundOffset, error)
	// Keep gives the base offset of the oldest segment to keep: from the front
	// those go whose newest timestamp is below olderThan (ms; a negative one
	// keeps all) or that are not needed to hold bytesMax bytes (negative: no
	// bound). It is the end of the archived log when all go.
	Keep(ctx context.Context, olderThan, bytesMax int64) (record.Offset, error)
}

// Validate fills in defaults and names everything that is wrong.
func (c *Config) Validate() error {
	var faults []error
	need := func(ok bool, what string) {
		if !ok {
			faults = append(faults, errors.New(what))
		}
	}
	need(c.Host != nil, "Host is nil")
	need(c.FS != nil, "FS is nil")
	need(c.Dir != "", "Dir is empty")
	need(c.Now != nil, "Now is nil")
	need(c.Budget != nil, "Budget is nil")
	need(c.PendingBytesMax >= 0, "PendingBytesMax is negative")
	need(c.ProducerExpiration >= 0, "ProducerExpiration is negative")
	if c.PendingBytesMax == 0 {
		c.PendingBytesMax = PendingBytesMaxDefault
	}
	if c.ProducerExpiration == 0 {
		c.ProducerExpiration = ProducerExpirationDefault
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Rot == nil {
		c.Rot = new(Rot)
	}
	c.Identity.Partition = c.ID
	if len(faults) > 0 {
		return fmt.Errorf("configure partition %s-%d: %w", c.Topic, c.ID.Partition, errors.Join(faults...))
	}
	return nil
}

// Host is the place where the partition's group runs: a multiraft.Host by
// OnHost, a stepped shard in a simulation.
type Host interface {
	// Do runs task on the group's shard loop, after the tasks that the same
	// caller gave before.
	Do(id record.PartitionID, task func(Group)) error
	// Late says that the shard's loop stood still for so long that the last
	// Lead may be out of date.
	Late(id record.PartitionID) bool
}

// Group is the partition's Raft group, usable inside a task only.
type Group interface {
	Leadership() multiraft.Leadership
	// Propose appends data to the log; StateMachine.Append has been called
	// with it when this returns.
	Propose(data []byte) (record.Index, error)
	// AskHeld has Held called when an entry is in the memory of a majority,
	// unless Commit comes first.
	AskHeld(index record.Index)
	// ReadIndex calls done once a majority has confirmed that this replica
	// leads, or with the reason why not.
	ReadIndex(done func(record.Index, error))
	// Release says that every entry up to the mark is in synced segments.
	Release(m journal.Mark)
}

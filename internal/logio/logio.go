// Package logio holds the requests, answers and errors of a partition's log, so
// that its implementations (broker/partition, readreplica) and its readers and
// writers (broker/kafka, broker/group, tiering, iceberg) need not know each
// other. It has no behaviour.
package logio

import (
	"errors"
	"time"

	"tidewater/internal/record"
)

// Errors of a log. broker/kafka turns each into one Kafka code; they are
// wrapped with the facts a user needs.
var (
	ErrUnknownPartition = errors.New("no such partition here")
	ErrNotLeader        = errors.New("this broker does not lead the partition")
	ErrOffsetOutOfRange = errors.New("offset is outside the log")
	// ErrNotAvailable: a new leader does not know its high watermark yet, or
	// state is still loading. Clients retry.
	ErrNotAvailable = errors.New("offset is not available yet")
	ErrFencedEpoch  = errors.New("leader epoch is older than the partition's")
	ErrUnknownEpoch = errors.New("leader epoch is newer than the partition's")

	ErrOutOfOrderSequence   = errors.New("sequence number is out of order")
	ErrInvalidProducerEpoch = errors.New("producer epoch is older than the newest seen")
	ErrInvalidTxnState      = errors.New("batch does not fit the producer's transaction")
	ErrTooLarge             = errors.New("record batch is over max.message.bytes")
	ErrInvalidTimestamp     = errors.New("timestamp is outside the topic's bounds")
	ErrInvalidRecord        = errors.New("record is not valid for this topic")

	// ErrNotEnoughReplicas: fewer replicas are up than min.insync.replicas;
	// nothing was appended. Retriable.
	ErrNotEnoughReplicas = errors.New("fewer replicas are up than min.insync.replicas")
	// ErrBusy: a queue or memory bound is reached; retriable.
	ErrBusy = errors.New("broker is over its memory or queue bound")
	// ErrStorage: the disk failed or is full, or the bucket is needed and
	// unreachable; retriable on another leader or later.
	ErrStorage = errors.New("storage is not usable")
	// ErrFenced: a newer incarnation of the cluster owns the bucket; this one
	// must not ack.
	ErrFenced = errors.New("a newer incarnation of this cluster owns the bucket")
	// ErrReadOnly: the log is a read replica.
	ErrReadOnly = errors.New("partition is a read replica: produce to the source cluster")
	ErrClosed   = errors.New("partition is closed")
)

// Acks is when a producer is answered.
type Acks int16

// The values of Kafka's acks.
const (
	AcksNone   Acks = 0
	AcksLeader Acks = 1
	AcksAll    Acks = -1
)

// AppendRequest is one record batch to append.
type AppendRequest struct {
	// Batch has passed record.Batch.Check. The log owns its memory from now on
	// and stamps base offset and leader epoch in place; nobody else writes it.
	Batch record.Batch
	Acks  Acks
	// Internal appends (coordinators, transaction markers) may write control
	// batches and internal topics.
	Internal bool
	// Done is called exactly once, from a loop of the log: it must not block.
	Done func(AppendResult)
}

// AppendResult answers an append.
type AppendResult struct {
	Err error
	// BaseOffset is the first record's offset; for a duplicate the original's.
	BaseOffset record.Offset
	// AppendTime is milliseconds since the Unix epoch with LogAppendTime, else -1.
	AppendTime int64
	LogStart   record.Offset
}

// Isolation is how far a reader sees.
type Isolation int8

// ReadUncommitted stops at the high watermark, ReadCommitted at the last
// stable offset.
const (
	ReadUncommitted Isolation = 0
	ReadCommitted   Isolation = 1
)

// ReadRequest asks for whole batches from the one that holds Offset on.
type ReadRequest struct {
	Offset    record.Offset
	Isolation Isolation
	// BytesMax bounds the answer; the first batch is given whole whatever its
	// size if MinOne, else nothing is given when it does not fit.
	BytesMax int
	MinOne   bool
	// CurrentEpoch is the leader epoch the client believes in, -1 for unknown.
	CurrentEpoch record.LeaderEpoch
	// Follower: a replica that does not lead may answer too, up to what it
	// knows to be committed.
	Follower bool
}

// Source is where bytes of a read came from; for metrics and the demo.
type Source uint8

const (
	FromMemory Source = iota
	FromDisk
	FromCache // the disk cache of bucket chunks
	FromBucket
	sources
)

// SourceCount is the number of sources, for arrays indexed by Source.
const SourceCount = int(sources)

func (s Source) String() string { return [...]string{"memory", "disk", "cache", "bucket"}[s] }

// ReadResult is what a read found. Batches are whole record batches, in
// order, to be written one after the other; nobody writes to them.
type ReadResult struct {
	Offsets Offsets
	Batches [][]byte
	Aborted []AbortedTxn // for ReadCommitted
	// Followed: a replica that does not lead gave this answer.
	Followed bool
	Bytes    [SourceCount]int64
	// Release, where there is one, may be called once when nobody looks at
	// Batches any more: their memory serves other reads then.
	Release func()
}

// Size is the number of bytes in Batches.
func (r *ReadResult) Size() int {
	n := 0
	for _, b := range r.Batches {
		n += len(b)
	}
	return n
}

// AbortedTxn: records of ProducerID from FirstOffset on, up to its abort
// marker, are not to be shown.
type AbortedTxn struct {
	ProducerID  int64
	FirstOffset record.Offset
	// LastOffset is the abort marker's offset.
	LastOffset record.Offset
}

// Offsets are a partition's marks. LogStart is inclusive, the others exclusive ends.
type Offsets struct {
	LogStart      record.Offset
	LocalLogStart record.Offset // oldest on the hot tier
	Archived      record.Offset // end of what a checked manifest covers; 0 if not tiered
	LastStable    record.Offset
	HighWatermark record.Offset
	LogEnd        record.Offset
	Epoch         record.LeaderEpoch
}

// End is where a reader of the given isolation stops.
func (o Offsets) End(i Isolation) record.Offset {
	if i == ReadCommitted {
		return o.LastStable
	}
	return o.HighWatermark
}

// Kafka's special timestamps in ListOffsets.
const (
	TimeLatest        = -1
	TimeEarliest      = -2
	TimeMaxTimestamp  = -3
	TimeEarliestLocal = -4
	TimeLatestTiered  = -5
)

// FoundOffset answers a look-up by time. Offset -1 is "none".
type FoundOffset struct {
	Offset    record.Offset
	Timestamp int64
	Epoch     record.LeaderEpoch
}

// EpochEnd answers OffsetForLeaderEpoch: the largest epoch not above the asked
// one, and the offset where it ends. Epoch -1 is "unknown".
type EpochEnd struct {
	Epoch record.LeaderEpoch
	End   record.Offset
}

// EpochStart is one line of a leader-epoch history: Epoch's first record is at Start.
type EpochStart struct {
	Epoch record.LeaderEpoch
	Start record.Offset
}

// TrimTimeout bounds DeleteRecords and similar waits when a client names none.
const TrimTimeout = 30 * time.Second

package kafka

import (
	"context"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Partition is one partition as the Kafka API sees it: a broker/partition on
// its leader, or a readreplica. All methods are safe for concurrent use.
type Partition interface {
	// Append takes one checked batch; the answer comes to r.Done. Appends by
	// one goroutine are made in the order of the calls.
	Append(r logio.AppendRequest)
	Reader
	// Trim moves the log start to before (DeleteRecords; -1 is the high
	// watermark) and returns the log start once that is committed.
	Trim(ctx context.Context, before record.Offset) (record.Offset, error)
}

// Reader is the side of a partition that consumers and the table see.
type Reader interface {
	Offsets() (logio.Offsets, error)
	// Read gives what is there now: no batches and no error at the end of
	// what the isolation shows.
	Read(ctx context.Context, r logio.ReadRequest) (logio.ReadResult, error)
	// Notify calls fn once, soon after the end that the isolation shows passes
	// after (at once if it has); cancel forgets it. fn must not block.
	Notify(iso logio.Isolation, after record.Offset, fn func()) (cancel func())
	// Find looks up by time (milliseconds since the Unix epoch): the first
	// record not older than ts, or one of logio.Time….
	Find(ctx context.Context, ts int64, iso logio.Isolation) (logio.FoundOffset, error)
	// EpochEnd answers OffsetForLeaderEpoch.
	EpochEnd(epoch record.LeaderEpoch) (logio.EpochEnd, error)
}

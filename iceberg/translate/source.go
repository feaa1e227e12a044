package translate

import (
	"context"
	"fmt"
	"log/slog"

	ice "github.com/apache/iceberg-go"

	"tidewater/iceberg/schema"
	"tidewater/iceberg/tablefs"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Source is one partition of the topic on its leader; a broker/partition with
// its identity.
type Source interface {
	ID() record.PartitionID
	Offsets() (logio.Offsets, error)
	Read(ctx context.Context, r logio.ReadRequest) (logio.ReadResult, error)
}

// Action is what happens to a record whose value does not fit the schema
// (topic property tidewater.iceberg.invalid.record.action).
type Action uint8

// The actions. DeadLetter is the default.
const (
	DeadLetter Action = iota
	Drop
	Fail
)

// ParseAction reads the property's value; empty is the default.
func ParseAction(s string) (Action, error) {
	switch s {
	case "", "dlq_table":
		return DeadLetter, nil
	case "drop":
		return Drop, nil
	case "fail":
		return Fail, nil
	}
	return 0, fmt.Errorf("invalid record action %q: use dlq_table, drop or fail", s)
}

// Target is a table as files are written for it.
type Target struct {
	Schema   *ice.Schema
	Spec     ice.PartitionSpec
	Location string // of the table, in our bucket
}

// Range is what to translate of one partition: offsets in [From, To).
type Range struct {
	Source   Source
	From, To record.Offset
	// Decided holds the offsets from From on that are in the dead-letter table
	// already, because a crash came between its commit and the table's. They
	// are neither translated nor judged again.
	Decided map[record.Offset]bool
}

// Request is one round.
type Request struct {
	Table Target
	// Dead is where dead letters go; needed for the action DeadLetter in mode
	// json only.
	Dead *Target
	// Value is the type of values in mode json; nil is mode key_value.
	Value   *schema.Type
	Invalid Action
	Ranges  []Range
	// RangeBytesMax ends a range early once so many bytes of keys and values
	// were seen; 0 is no bound.
	RangeBytesMax int64
}

// Done is what became of a Range.
type Done struct {
	Partition record.PartitionID
	// From and To bound what is translated, To exclusive. To is less than was
	// asked when the log had no more to give.
	From, To record.Offset
	// Epoch is the leader epoch of the last batch, -1 if there was none.
	Epoch record.LeaderEpoch
	// Rows went to the table, Dead to dead letters, Dropped nowhere; Decided
	// were dead letters already.
	Rows, Dead, Dropped, Decided int64
	// Lost counts offsets at the start of the range that retention or
	// DeleteRecords had removed from the log.
	Lost int64
	// ValueBytes is the size of keys and values seen.
	ValueBytes int64
	// Checksum is the sum of RowSum over Rows; independent of order.
	Checksum uint64
}

// Result is a round's files and how far each partition came.
type Result struct {
	Files, DeadFiles []ice.DataFile
	Done             []Done
}

// Rows is the number of rows in Files.
func (r *Result) Rows() (n int64) {
	for _, f := range r.Files {
		n += f.Count()
	}
	return n
}

// Config is what a Translator needs; see Validate for the defaults.
type Config struct {
	FS tablefs.FS
	// Name gives a new unique name for a file, without ending.
	Name func() string
	Log  *slog.Logger
	// FileBytes is the size at which a file is closed and another begun.
	// Default 128 MiB.
	FileBytes int
	// RowGroupBytes is how much content is held as columns before it is
	// encoded. Default 16 MiB.
	RowGroupBytes int
	// ReadBytes is how much is asked of a partition at once. Default 1 MiB.
	ReadBytes int
	// PartitionsMax bounds the table partitions of one round. Default 64.
	PartitionsMax int
}

func (c *Config) withDefaults() {
	if c.FileBytes == 0 {
		c.FileBytes = 128 << 20
	}
	if c.RowGroupBytes == 0 {
		c.RowGroupBytes = 16 << 20
	}
	if c.ReadBytes == 0 {
		c.ReadBytes = 1 << 20
	}
	if c.PartitionsMax == 0 {
		c.PartitionsMax = 64
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// InvalidRecordError stops a round when the action is Fail.
type InvalidRecordError struct {
	Partition record.PartitionID
	Offset    record.Offset
	Reason    string
}

func (e *InvalidRecordError) Error() string {
	return fmt.Sprintf("record at partition %d offset %d does not fit the table: %s "+
		"(topic property tidewater.iceberg.invalid.record.action is fail: set dlq_table or drop, or change the schema)",
		e.Partition.Partition, e.Offset, e.Reason)
}

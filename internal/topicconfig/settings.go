package topicconfig

import (
	"time"

	"tidewater/internal/record"
)

// Unlimited is "no bound" for sizes, and for durations that may be without end.
const Unlimited = -1

// Settings are a topic's properties, typed, with defaults filled in. A
// duration of Unlimited (-1) is without end; longer than time.Duration can
// say is cut to its maximum, 292 years.
type Settings struct {
	// CleanupDelete and CleanupCompact come from cleanup.policy; neither keeps
	// everything.
	CleanupDelete  bool
	CleanupCompact bool

	// CompressionProducer keeps batches as they come; otherwise Compression is
	// the codec that every batch is brought to.
	CompressionProducer            bool
	Compression                    record.Codec
	GzipLevel, LZ4Level, ZstdLevel int

	DeleteRetention        time.Duration // how long tombstones stay after compaction
	MinCompactionLag       time.Duration
	MaxCompactionLag       time.Duration
	MinCleanableDirtyRatio float64

	FileDeleteDelay    time.Duration
	IndexIntervalBytes int
	MaxMessageBytes    int
	MinInsyncReplicas  int

	LogAppendTime      bool
	TimestampBeforeMax time.Duration // how far a timestamp may lie behind the broker's clock
	TimestampAfterMax  time.Duration // how far it may lie ahead

	Retention      time.Duration
	RetentionBytes int64 // per partition
	// LocalRetention and LocalRetentionBytes bound the hot tier of a tiered
	// topic; Kafka's -2 is already replaced by Retention and RetentionBytes.
	LocalRetention      time.Duration
	LocalRetentionBytes int64

	SegmentBytes  int64
	SegmentAge    time.Duration
	SegmentJitter time.Duration

	// Tiered is remote.storage.enable: sealed segments go to the bucket.
	Tiered bool
	// TieredReadOnly is remote.log.copy.disable: what is in the bucket stays
	// readable, nothing new goes there.
	TieredReadOnly bool
	// RemoteDeleteOnDisable lets Tiered be switched off, which gives up what
	// is only in the bucket.
	RemoteDeleteOnDisable bool
	// RemoteDelete: deleting the topic deletes its objects (after the grace
	// period).
	RemoteDelete bool

	// WriteCaching answers acks=all when a majority has the records in memory.
	WriteCaching bool

	// ReadReplica is the address of the source bucket; empty for a topic of
	// this cluster.
	ReadReplica string

	Iceberg Iceberg
}

// Iceberg is what a topic's table looks like.
type Iceberg struct {
	Mode Mode
	// JSONSchema is the JSON Schema text for ModeJSON.
	JSONSchema string
	Namespace  string
	// Partition is the parsed tidewater.iceberg.partition.spec; empty for an
	// unpartitioned table.
	Partition []PartitionTerm
	TargetLag time.Duration
	Invalid   InvalidAction
	// DeleteTable: deleting the topic drops its table.
	DeleteTable bool
}

// On reports whether the topic has a table.
func (i Iceberg) On() bool { return i.Mode != ModeDisabled }

// Mode is how a record becomes a row.
type Mode string

// The modes that are built.
const (
	ModeDisabled Mode = "disabled"
	ModeKeyValue Mode = "key_value"
	ModeJSON     Mode = "json"
)

// InvalidAction is what happens to a record that does not fit the table.
type InvalidAction string

// The actions for a record that does not fit.
const (
	InvalidToDLQ InvalidAction = "dlq_table"
	InvalidDrop  InvalidAction = "drop"
	InvalidFail  InvalidAction = "fail"
)

// Defaults are the settings of a topic without any property.
func Defaults() Settings {
	s, _ := Parse(nil)
	return s
}

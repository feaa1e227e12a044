package commit

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"tidewater/catalog"
	"tidewater/iceberg/schema"
	"tidewater/iceberg/tablefs"
	"tidewater/iceberg/translate"
	"tidewater/internal/record"
)

// DeadSuffix ends the name of a table's dead-letter table.
const DeadSuffix = "__dlq"

// Topic is what the topic's properties say of its table; it may change while
// the committer lives (Configure).
type Topic struct {
	// Value is the type of values in mode json, nil in mode key_value.
	Value *schema.Type
	// Invalid is what happens to values that do not fit.
	Invalid translate.Action
	// PartitionSpec is the text of tidewater.iceberg.partition.spec, such as
	// "(day(kafka_timestamp), carrier)"; empty or "()" is unpartitioned. It is
	// used when the table is made.
	PartitionSpec string
}

// Faults plants errors that checkers must find; for tests only.
type Faults struct {
	// CommitPastBucket lets commits pass BucketEnd.
	CommitPastBucket bool
}

// Config is what a Committer needs.
type Config struct {
	Catalog catalog.Catalog
	FS      tablefs.FS
	Ident   catalog.Ident
	Owner   Owner
	Topic   Topic

	// Sources gives the partitions, each on its leader, sorted by partition.
	Sources func() []translate.Source
	// BucketEnd gives the offset up to which the bucket holds the partition
	// for sure (exclusive); after a restore and for transactions, the cut.
	BucketEnd func(record.PartitionID) record.Offset
	// BucketStart gives the log start that the bucket was told of; a table does
	// not pass deleted records that a restore would bring back. Nil: they stay
	// deleted.
	BucketStart func(record.PartitionID) record.Offset

	Now func() time.Time
	// Random gives 64 random bits; for snapshot ids and names.
	Random func() uint64
	Log    *slog.Logger

	// Translate bounds files and memory; FS, Name and Log are filled in.
	Translate translate.Config
	// RoundBytes bounds the keys and values of a round. Default 256 MiB.
	RoundBytes int64
	// SnapshotsMin snapshots of main are kept whatever their age (default 20),
	// SnapshotsMax are kept at most (default 100), SnapshotAge is how long in
	// between (default 1 h).
	SnapshotsMin, SnapshotsMax int
	SnapshotAge                time.Duration

	Faults Faults
}

// Validate names all that is missing and fills in the defaults.
func (c *Config) Validate() error {
	var errs []error
	missing := func(bad bool, what string) {
		if bad {
			errs = append(errs, fmt.Errorf("configure committer: no %s", what))
		}
	}
	missing(c.Catalog == nil, "catalog")
	missing(c.FS.Store == nil || c.FS.Root == "", "store")
	missing(c.Owner.Topic.IsZero(), "topic id")
	missing(c.Sources == nil, "sources")
	missing(c.BucketEnd == nil, "bucket end")
	missing(c.Now == nil, "clock")
	missing(c.Random == nil, "random source")
	if err := c.Ident.Validate(); err != nil {
		errs = append(errs, err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&c.SnapshotsMin, 20)
	def(&c.SnapshotsMax, 100)
	if c.SnapshotAge == 0 {
		c.SnapshotAge = time.Hour
	}
	if c.RoundBytes == 0 {
		c.RoundBytes = 256 << 20
	}
	return errors.Join(errs...)
}

// deadIdent names the dead-letter table.
func (c *Config) deadIdent() catalog.Ident {
	return catalog.Ident{Namespace: c.Ident.Namespace, Name: c.Ident.Name + DeadSuffix}
}

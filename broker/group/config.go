package group

import (
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"time"
)

// PartitionsDefault is offsets.topic.num.partitions here. Kafka's 50 is for
// clusters of many brokers; each partition is a Raft group, and 8 spread the
// groups of a small cluster well enough. It cannot be changed once groups
// exist, since it decides where a group's records are.
const PartitionsDefault = 8

// Config is what a Coordinator needs. Zero fields take Kafka's defaults.
type Config struct {
	// Partitions is the number of partitions of __consumer_offsets, 0 while
	// the topic does not exist.
	Partitions func() int32
	// Topics answers which topics exist; nil takes every name as existing.
	Topics Topics

	SessionMin          time.Duration // group.min.session.timeout.ms, 6 s
	SessionMax          time.Duration // group.max.session.timeout.ms, 30 min
	InitialDelay        time.Duration // group.initial.rebalance.delay.ms, 3 s; negative is none
	MembersMax          int           // group.max.size, 10,000
	OffsetsRetention    time.Duration // offsets.retention.minutes, 7 days
	ExpireEvery         time.Duration // offsets.retention.check.interval.ms, 10 min
	MetadataBytesMax    int           // offset.metadata.max.bytes, 4096
	LoadBytes           int           // offsets.load.buffer.size, 1 MiB per Step
	NewMemberJoinWithin time.Duration // how long a member not yet in a generation may wait, 5 min

	Now    func() time.Time // time.Now
	Random io.Reader        // crypto/rand; for member ids
	Log    *slog.Logger     // slog.Default
}

// Validate reports every fault.
func (c *Config) Validate() error {
	var errs []error
	if c.Partitions == nil {
		errs = append(errs, errors.New("group: Partitions is missing"))
	}
	if c.SessionMax != 0 && c.SessionMax < c.SessionMin {
		errs = append(errs, errors.New("group: SessionMax is below SessionMin"))
	}
	if c.MembersMax < 0 || c.OffsetsRetention < 0 || c.MetadataBytesMax < 0 || c.LoadBytes < 0 {
		errs = append(errs, errors.New("group: a bound is negative"))
	}
	return errors.Join(errs...)
}

func orDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

func (c *Config) fill() {
	orDefault(&c.SessionMin, 6*time.Second)
	orDefault(&c.SessionMax, 30*time.Minute)
	orDefault(&c.InitialDelay, 3*time.Second)
	orDefault(&c.MembersMax, 10_000)
	orDefault(&c.OffsetsRetention, 7*24*time.Hour)
	orDefault(&c.ExpireEvery, 10*time.Minute)
	orDefault(&c.MetadataBytesMax, 4096)
	orDefault(&c.LoadBytes, 1<<20)
	orDefault(&c.NewMemberJoinWithin, 5*time.Minute)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

package topicconfig

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"tidewater/internal/record"
)

const maxLong = "9223372036854775807"

// definitions is the whole table, sorted by name; shared, so read only.
func definitions() []Definition { return table() }

// table is made at first use and never changes.
var table = sync.OnceValue(func() []Definition {
	all := slices.Concat(cleanupProperties(), compressionProperties(), timeProperties(), sizeProperties(),
		retentionProperties(), ignoredProperties(), tidewaterProperties())
	slices.SortFunc(all, func(a, b Definition) int { return strings.Compare(a.Name, b.Name) })
	return all
})

func cleanupProperties() []Definition {
	return []Definition{
		list([]string{"compact", "delete"}, func(s *Settings, v []string) {
			s.CleanupDelete, s.CleanupCompact = slices.Contains(v, "delete"), slices.Contains(v, "compact")
		}).named("cleanup.policy", "delete", Medium,
			"What happens to old records: delete by retention time and size, compact to the newest record of each key, "+
				"or both. An empty list keeps everything.", same("log.cleanup.policy")),
		millis(0, func(s *Settings, d time.Duration) { s.DeleteRetention = d }).named("delete.retention.ms", "86400000", Medium,
			"How long the tombstone of a deleted key stays in a compacted topic, so that slow readers see it.",
			same("log.cleaner.delete.retention.ms")),
		millis(1, func(s *Settings, d time.Duration) { s.MaxCompactionLag = d }).named("max.compaction.lag.ms", maxLong, Medium,
			"The longest a record of a compacted topic may wait for compaction.", same("log.cleaner.max.compaction.lag.ms")),
		millis(0, func(s *Settings, d time.Duration) { s.MinCompactionLag = d }).named("min.compaction.lag.ms", "0", Medium,
			"The shortest time a record stays uncompacted.", same("log.cleaner.min.compaction.lag.ms")),
		ratio(func(s *Settings, f float64) { s.MinCleanableDirtyRatio = f }).named("min.cleanable.dirty.ratio", "0.5", Medium,
			"The share of uncompacted bytes at which a log is compacted.", same("log.cleaner.min.cleanable.ratio")),
		millis(0, func(s *Settings, d time.Duration) { s.FileDeleteDelay = d }).named("file.delete.delay.ms", "60000", Medium,
			"How long a local segment file stays after it left the log.", same("log.segment.delete.delay.ms")),
	}
}

func compressionProperties() []Definition {
	codecs := map[string]record.Codec{"uncompressed": record.None, "gzip": record.Gzip, "snappy": record.Snappy,
		"lz4": record.LZ4, "zstd": record.Zstd}
	gzip := number(Int, -1, 9, func(s *Settings, n int64) { s.GzipLevel = int(n) })
	gzip.Allowed = "-1, 1 to 9"
	valid := gzip.check
	gzip.check = func(v string) bool { return valid(v) && strings.TrimSpace(v) != "0" }
	return []Definition{
		oneOf([]string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"}, func(s *Settings, v string) {
			s.CompressionProducer, s.Compression = v == "producer", codecs[v]
		}).named("compression.type", "producer", Medium,
			"The codec batches are stored in: producer keeps them as they come, any other re-encodes once, before the append.",
			same("compression.type")),
		gzip.named("compression.gzip.level", "-1", Medium, "The level when compression.type is gzip; -1 is the codec's own.",
			same("compression.gzip.level")),
		number(Int, 1, 17, func(s *Settings, n int64) { s.LZ4Level = int(n) }).named("compression.lz4.level", "9", Medium,
			"The level when compression.type is lz4.", same("compression.lz4.level")),
		number(Int, -131072, 22, func(s *Settings, n int64) { s.ZstdLevel = int(n) }).named("compression.zstd.level", "3", Medium,
			"The level when compression.type is zstd.", same("compression.zstd.level")),
	}
}

func timeProperties() []Definition {
	return []Definition{
		oneOf([]string{"CreateTime", "LogAppendTime"}, func(s *Settings, v string) { s.LogAppendTime = v == "LogAppendTime" }).
			named("message.timestamp.type", "CreateTime", Medium,
				"Whether a record keeps the producer's timestamp or gets the broker's at the append.", same("log.message.timestamp.type")),
		millis(0, func(s *Settings, d time.Duration) { s.TimestampBeforeMax = d }).named("message.timestamp.before.max.ms", maxLong, Medium,
			"How far a record's timestamp may lie behind the broker's clock with CreateTime; older ones are refused.",
			same("log.message.timestamp.before.max.ms")),
		millis(0, func(s *Settings, d time.Duration) { s.TimestampAfterMax = d }).named("message.timestamp.after.max.ms", "3600000", Medium,
			"How far a record's timestamp may lie ahead of the broker's clock with CreateTime; later ones are refused.",
			same("log.message.timestamp.after.max.ms")),
	}
}

func sizeProperties() []Definition {
	return []Definition{
		integer(0, func(s *Settings, n int64) { s.IndexIntervalBytes = int(n) }).named("index.interval.bytes", "4096", Medium,
			"The distance in bytes between two entries of a segment's offset index.", same("log.index.interval.bytes")),
		integer(0, func(s *Settings, n int64) { s.MaxMessageBytes = int(n) }).named("max.message.bytes", "1048588", Medium,
			"The largest record batch accepted, compressed, in bytes.", same("message.max.bytes")),
		integer(1, func(s *Settings, n int64) { s.MinInsyncReplicas = int(n) }).named("min.insync.replicas", "1", Medium,
			"How many replicas must be reachable for a produce with acks=all to be accepted. A majority is needed in any case.",
			same("min.insync.replicas")),
		integer(segmentBytesMin, func(s *Settings, n int64) { s.SegmentBytes = n }).named("segment.bytes", "1073741824", Medium,
			"The size in bytes at which a segment is sealed. A sealed segment is what goes to the bucket.", same("log.segment.bytes")),
		millis(1, func(s *Settings, d time.Duration) { s.SegmentAge = d }).named("segment.ms", "604800000", Medium,
			"The age at which a segment is sealed even if it is not full.",
			same("log.roll.ms"), Synonym{"log.roll.hours", 3600_000}),
		millis(0, func(s *Settings, d time.Duration) { s.SegmentJitter = d }).named("segment.jitter.ms", "0", Medium,
			"The most by which segment.ms is shortened at random, so that segments are not all sealed at once.",
			same("log.roll.jitter.ms"), Synonym{"log.roll.jitter.hours", 3600_000}),
		ignored(boolean(nil)).named("unclean.leader.election.enable", "false", Medium,
			"Kafka's leave to elect a leader that lacks acked records. Accepted without effect: elections here never do; "+
				"a partition that lost its majority is recovered by hand.", same("unclean.leader.election.enable")),
	}
}

// segmentBytesMin is Kafka's since 4.0: smaller segments cost more in files and
// objects than they hold.
const segmentBytesMin = 1 << 20

func retentionProperties() []Definition {
	return []Definition{
		millis(-1, func(s *Settings, d time.Duration) { s.Retention = d }).named("retention.ms", "604800000", Medium,
			"How long records are kept; -1 keeps them for ever.",
			same("log.retention.ms"), Synonym{"log.retention.minutes", 60_000}, Synonym{"log.retention.hours", 3600_000}),
		long(-1, func(s *Settings, n int64) { s.RetentionBytes = n }).named("retention.bytes", "-1", Medium,
			"How many bytes a partition keeps; -1 is no bound.", same("log.retention.bytes")),
		millis(-2, func(s *Settings, d time.Duration) { s.LocalRetention = d }).named("local.retention.ms", "-2", Medium,
			"How long records of a tiered topic stay on local disk once the bucket holds them; -2 is as retention.ms.",
			same("log.local.retention.ms")),
		long(-2, func(s *Settings, n int64) { s.LocalRetentionBytes = n }).named("local.retention.bytes", "-2", Medium,
			"How many bytes per partition of a tiered topic stay on local disk once the bucket holds them; -2 is as retention.bytes.",
			same("log.local.retention.bytes")),
		boolean(func(s *Settings, b bool) { s.Tiered = b }).named("remote.storage.enable", "false", Medium,
			"Whether sealed segments go to the bucket, and are read from there when they are no longer on local disk.").
			alias("redpanda.remote.write", "redpanda.remote.read"),
		boolean(func(s *Settings, b bool) { s.TieredReadOnly = b }).named("remote.log.copy.disable", "false", Medium,
			"Stops uploading a tiered topic; what the bucket holds stays readable."),
		boolean(func(s *Settings, b bool) { s.RemoteDeleteOnDisable = b }).named("remote.log.delete.on.disable", "false", Medium,
			"Allows remote.storage.enable to be switched off, which deletes the topic's records from the bucket."),
	}
}

// ignoredProperties are accepted because tools set them, and change nothing.
func ignoredProperties() []Definition {
	const throttle = "Kafka's throttle for moving replicas; accepted without effect."
	return []Definition{
		ignored(long(1, nil)).named("flush.messages", maxLong, Medium,
			"Accepted without effect: a record is on stable storage before it is acked with acks=all.", same("log.flush.interval.messages")),
		ignored(long(0, nil)).named("flush.ms", maxLong, Medium,
			"Accepted without effect: a record is on stable storage before it is acked with acks=all.", same("log.flush.interval.ms")),
		ignored(list(nil, nil)).named("follower.replication.throttled.replicas", "", Medium, throttle),
		ignored(list(nil, nil)).named("leader.replication.throttled.replicas", "", Medium, throttle),
		ignored(boolean(nil)).named("preallocate", "false", Medium,
			"Accepted without effect: the journal is always preallocated, segments never are.", same("log.preallocate")),
		ignored(number(Int, 4, math.MaxInt32, nil)).named("segment.index.bytes", "10485760", Medium,
			"Accepted without effect: a segment's index is as large as it needs to be.", same("log.index.size.max.bytes")),
	}
}

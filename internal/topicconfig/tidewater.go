package topicconfig

import (
	"strings"
	"time"
)

func tidewaterProperties() []Definition {
	return append(icebergProperties(),
		text("the address of a bucket with a prefix, as s3://bucket/prefix", func(v string) bool { return !strings.ContainsAny(v, " \t\n") },
			func(s *Settings, v string) { s.ReadReplica = v }).
			named("tidewater.readreplica", "", Medium,
				"The bucket of the cluster that this topic follows, read-only. Set when the topic is created.").
			alias("redpanda.remote.readreplica"),
		boolean(func(s *Settings, b bool) { s.RemoteDelete = b }).named("tidewater.remote.delete", "true", Low,
			"Whether deleting the topic deletes its objects from the bucket, after the grace period.").
			alias("redpanda.remote.delete"),
		boolean(func(s *Settings, b bool) { s.WriteCaching = b }).named("write.caching", "false", Medium,
			"Whether acks=all is answered when a majority of the replicas has the records in memory, on their way to the disk, "+
				"instead of on disk. Consumers, bucket and table still see only what a majority has on disk. "+
				"A record that was acked can be lost when replicas lose their memory (power, a crash) within that moment.",
			same("write.caching")).
			alias("tidewater.write.caching"),
	)
}

func icebergProperties() []Definition {
	return []Definition{
		oneOf([]string{"disabled", "key_value", "json"}, func(s *Settings, v string) { s.Iceberg.Mode = Mode(v) }).
			named("tidewater.iceberg.mode", "disabled", High,
				"Whether the topic is an Iceberg table too, and how a record becomes a row: key_value keeps the value as bytes, "+
					"json makes columns of it by tidewater.iceberg.json.schema. The topic must be tiered.").
			alias("redpanda.iceberg.mode"),
		text("a JSON Schema (an object), or no value", func(v string) bool { return v == "" || jsonObject(v) },
			func(s *Settings, v string) { s.Iceberg.JSONSchema = v }).
			named("tidewater.iceberg.json.schema", "", Medium, "The JSON Schema of the topic's values, for mode json."),
		text("names of letters, digits, _ and -, with dots between levels", func(v string) bool { return checkColumn(v) == nil },
			func(s *Settings, v string) { s.Iceberg.Namespace = v }).
			named("tidewater.iceberg.namespace", "topics", Medium,
				"The catalog namespace of the table; the table has the topic's name with dots turned into underscores."),
		text("columns and transforms, as in: hour(kafka_timestamp), bucket(16, kafka_key)",
			func(v string) bool { _, err := ParsePartitionSpec(v); return err == nil },
			func(s *Settings, v string) { s.Iceberg.Partition, _ = ParsePartitionSpec(v) }).
			named("tidewater.iceberg.partition.spec", "", Medium,
				"How the table is partitioned: a comma-separated list of columns or of identity, year, month, day, hour (column), "+
					"bucket, truncate (number, column). Empty is one partition.").
			alias("redpanda.iceberg.partition.spec"),
		millis(targetLagMsMin, func(s *Settings, d time.Duration) { s.Iceberg.TargetLag = d }).
			named("tidewater.iceberg.target.lag.ms", "5000", Medium,
				"How far the table may be behind the log, in milliseconds; a committer that can keep up commits this often.").
			alias("redpanda.iceberg.target.lag.ms"),
		oneOf([]string{"dlq_table", "drop", "fail"}, func(s *Settings, v string) { s.Iceberg.Invalid = InvalidAction(v) }).
			named("tidewater.iceberg.invalid.record.action", "dlq_table", Medium,
				"What happens to a record that does not fit the table: it goes to the dead-letter table, it is dropped, or the table stops.").
			alias("redpanda.iceberg.invalid.record.action"),
		boolean(func(s *Settings, b bool) { s.Iceberg.DeleteTable = b }).named("tidewater.iceberg.delete", "false", Medium,
			"Whether deleting the topic drops its table.").alias("redpanda.iceberg.delete"),
	}
}

// targetLagMsMin keeps a table from making more snapshots than engines can read.
const targetLagMsMin = 100

package broker

import (
	"sort"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/partition"
	"tidewater/internal/logio"
)

// metrics declares what /metrics shows, read off the packages' own counters.
func (b *Broker) metrics() collector {
	k := b.kafka.Stats
	r := b.hosts.stats
	c := collector{
		counters("kafka_requests_total", "Kafka requests answered, by API.", "api", func() []sample { return byAPI(k().Requests) }),
		counters("kafka_request_errors_total", "Kafka requests with an error code in the answer, by API.", "api", func() []sample { return byAPI(k().Errors) }),
		counter("kafka_received_bytes_total", "Bytes of Kafka requests.", func() float64 { return float64(k().BytesIn) }),
		counter("kafka_sent_bytes_total", "Bytes of Kafka answers.", func() float64 { return float64(k().BytesOut) }),
		counter("produce_bytes_total", "Bytes of record batches given to logs.", func() float64 { return float64(k().ProduceBytes) }),
		counters("fetch_bytes_total", "Bytes of record batches given to consumers, by where they came from.", "source", func() []sample {
			var out []sample
			for i, n := range k().FetchSources {
				out = append(out, sample{float64(n), []string{logio.Source(i).String()}})
			}
			return out
		}),
		gauge("kafka_connections", "Client connections now.", func() float64 { return float64(k().Connections) }),
		counter("kafka_malformed_total", "Connections closed because of bytes that are no request.", func() float64 { return float64(k().Malformed) }),
		gauge("raft_groups", "Raft groups running now.", func() float64 { return float64(r().Groups) }),
		counter("journal_flushes_total", "Flushes of the journal.", func() float64 { return float64(r().Flushes) }),
		counter("journal_bytes_total", "Bytes of entries given to the journal.", func() float64 { return float64(r().Bytes) }),
		gauge("journal_full", "1 while the journal refuses entries.", func() float64 { return flag(r().Full) }),
		gauge("disk_direct_io", "1 if all data directories are used without the page cache.", func() float64 { return flag(b.DirectIO()) }),
		gauge("log_pending_bytes", "Bytes of committed or appended batches in no segment yet.", func() float64 { p, _ := b.parts.budget.Use(); return float64(p) }),
		gauge("log_cached_bytes", "Bytes of batches kept in memory for readers.", func() float64 { _, c := b.parts.budget.Use(); return float64(c) }),
	}
	rot := func() *partition.Rot { return b.parts.rot }
	c = append(c,
		gauge("segments_damaged", "Segments that are known to be damaged and are not mended yet.", b.damaged),
		counter("segments_damaged_total", "Segments that were found damaged.", func() float64 { return float64(rot().Found.Load()) }),
		counter("segments_mended_total", "Damaged segments that were made anew from another replica or the bucket.", func() float64 { return float64(rot().Mended.Load()) }),
		counter("segments_given_total", "Damaged segments that were left to the bucket, which holds them.", func() float64 { return float64(rot().Given.Load()) }),
		counter("scrub_bytes_total", "Bytes of segments that were read to find damage.", func() float64 { return float64(rot().Checked.Load()) }),
	)
	if b.tier != nil {
		c = append(c, gauge("cache_bytes", "Bytes of bucket chunks in the disk cache.", func() float64 { return float64(b.tier.cache.Used()) }),
			gauge("bucket_fenced", "1 once a newer incarnation owns the bucket.", func() float64 { return flag(b.tier.fenced()) }))
	}
	c = append(c, b.dirMetrics()...)
	c = append(c, b.clusterMetrics()...)
	if b.replica != nil {
		c = append(c, gauges("replica_lag_seconds", "Time from the newest batch's timestamp until it could be read here.", []string{"topic", "partition"}, b.replica.lag))
	}
	return c
}

// dirMetrics tell the data directories apart.
func (b *Broker) dirMetrics() collector {
	each := func(read func(*dataDir) float64) func() []sample {
		return func() []sample {
			out := make([]sample, len(b.dirs))
			for i, d := range b.dirs {
				out[i] = sample{read(d), []string{d.path}}
			}
			return out
		}
	}
	dir := []string{"dir"}
	return collector{
		gauges("data_dir_free_bytes", "Bytes that a data directory's file system has free; -1 if it does not say.", dir, each(func(d *dataDir) float64 { return float64(d.free()) })),
		gauges("data_dir_replicas", "Replicas of partitions in a data directory.", dir, each(func(d *dataDir) float64 { return float64(b.hosts.replicas(d)) })),
		gauges("data_dir_direct_io", "1 if a data directory is used without the page cache.", dir, each(func(d *dataDir) float64 { return flag(d.disk.Direct()) })),
		gauges("data_dir_journal_full", "1 while the journal of a data directory refuses entries.", dir, each(func(d *dataDir) float64 { return flag(d.host.Stats().Full) })),
		counters("data_dir_journal_flushes_total", "Flushes of the journal of a data directory.", dir[0], each(func(d *dataDir) float64 { return float64(d.host.Stats().Flushes) })),
		counters("data_dir_journal_bytes_total", "Bytes of entries given to the journal of a data directory.", dir[0], each(func(d *dataDir) float64 { return float64(d.host.Stats().Bytes) })),
		counters("data_dir_held_entries_total", "Entries of a data directory's leaders that a majority had in memory before it had them on disk, and producers were answered for (write.caching).", dir[0], each(func(d *dataDir) float64 { return float64(d.host.Stats().HeldTold) })),
	}
}

func (b *Broker) damaged() float64 {
	n := 0
	for _, h := range b.parts.all() {
		n += len(h.Damaged())
	}
	return float64(n)
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// byAPI labels counts by API key with Kafka's names, in order of the keys.
func byAPI(counts map[int16]int64) []sample {
	keys := make([]int, 0, len(counts))
	for key := range counts {
		keys = append(keys, int(key))
	}
	sort.Ints(keys)
	out := make([]sample, 0, len(keys))
	for _, key := range keys {
		name := kmsg.NameForKey(int16(key))
		if name == "" {
			name = strconv.Itoa(key)
		}
		out = append(out, sample{float64(counts[int16(key)]), []string{name}})
	}
	return out
}

// Package generator is the load of the comparison with Apache Kafka: a process
// of its own that produces, consumes or both with franz-go, and says what it saw
// and what CPU it used. The same work goes to every broker under test.
//
//	bench ▸ Spec (JSON, stdin) ▸ generator process ▸ Result (JSON, stdout) ▸ bench
//
// Three kinds of work:
//
//   - produce: as fast as acks come, records of 1 KiB. A partition gets records
//     until a batch is full, then the next partition its turn, as Kafka's own
//     default partitioner does.
//   - latency: open loop. Record n is due at n/rate after the start whatever the
//     broker does, and its latency counts from then: a stall is seen by every
//     record that was due during it. A consumer in the same process reads
//     everything. At the end each acked record must have been read exactly once.
//   - fetch: reads a topic by plain Fetch requests and looks at batch headers
//     only, so that the broker is measured and not a consumer's decoding.
//
// Producers are idempotent with acks=all, five requests in flight: franz-go's and
// Kafka's defaults. Values are cut from pseudo-random bytes of a fixed seed.
//
// Run starts the goroutines it needs and waits for them. Nothing is kept.
package generator

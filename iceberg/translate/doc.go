// Package translate turns stable record batches of a topic's partitions into
// Parquet data files in the bucket, ready for a table commit.
//
//	Source (partition) --Read--> batches --record.Reader--> schema.Builder --row group--> file --> objstore
//	                                                            '-- does not fit --> dead-letter file
//
// One round takes offset ranges of several partitions of one table and makes
// one data file for all of them (per table partition, and a further one when
// the size target is reached), and one dead-letter file if needed. Rows of a
// Kafka partition stand in a file in the order of their offsets.
//
// Invariants: a range is translated from its first offset without a hole up to
// the end that the Result states; control records and records of aborted
// transactions are in no file; a batch that does not decode stops the round. A
// file is whole in the bucket before Translate returns it. What was written
// before an error or a crash is an orphan: names are never used again.
//
// Translate runs in its caller's goroutine and keeps no state between rounds
// but buffers. Memory is bounded by RowGroupBytes and FileBytes for the table
// and as much again for dead letters.
package translate

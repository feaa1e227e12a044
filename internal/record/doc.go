// Package record holds the words of a Kafka log that every other package
// speaks: offsets, leader epochs, topic ids, and the codec of a record batch
// (magic 2, Kafka's message format since 0.11).
//
// A batch is a []byte and stays one from the producer's socket to the
// consumer's: the accessors read its 61-byte header in place and the only
// writes are the fields outside its CRC (base offset, leader epoch). Records
// inside a batch are decoded by Reader, used where a value is looked at
// (table translation, compaction, group state), and made by Builder.
//
// It is a leaf: no goroutine, no clock, no I/O.
package record

// Package remote reads a partition back from the bucket: whole batches from an
// offset on, look-up by time, and the newest batches of a foreign cluster from
// its tail objects.
//
// It stands between tiering/manifest, which says what lies where, and its
// users: broker/partition for offsets that are no longer local, restore, and
// readreplica.
//
//	Read(offset) -> manifest entry -> index -> block -> chunk -> batches
//	                                                    ^ memory, else disk, else a ranged GET
//
//	          seen going on                bring              Fill
//	reader -> stream -> hungry -> Do(Ahead) ---> memory ---> queue -> Do(Fill) -> disk
//
// A segment object is read in chunks of whole index blocks. A read that finds a
// chunk nowhere asks for that one and answers; writing it to the disk waits
// until after. For a reader that goes on where it stopped, what comes next is
// read ahead beside it: up to twice the bytes it took so far and at most 16
// chunks, in requests that overlap. One who jumps is a new reader; what was
// read ahead for the old one is given up when it does not come for ten seconds,
// or eight others came, and requests on the way are ended.
//
// Work beside reads is done by Do, which whoever opened the cache calls when
// Wake says so: the broker from a few goroutines, the simulation as a step. A
// cache without Wake has none: a read then asks for twice as many chunks each
// time its reader goes on, and writes them to the disk before it answers.
//
// Invariants:
//   - Every byte given out was checked against the checksum of its block,
//     whether it came from the bucket or from the cache.
//   - The cache never holds more than its budget on disk: room is made and
//     taken before a byte is written. The same goes for chunks in memory, from
//     before they are asked for, and for what of them nobody has read yet.
//   - Bytes being fetched are bounded over all partitions that share a cache,
//     requests that read ahead by the number of callers of Do.
//   - Trouble with what is read ahead, or with the disk, is nobody's error: the
//     reader asks the bucket itself, and nothing more is read ahead for it
//     until it got something.
//   - A bucket that does not answer is logio.ErrStorage: the client tries
//     again, nothing else is affected.
//
// There is no goroutine. Partition, Cache and the small tables in them are safe
// for concurrent use; no mutex is held across disk, bucket or another lock. A
// read waits for another one's request when that brings its chunk; one who
// fetches waits for nobody but the bucket. Nothing survives a crash and nothing
// needs to: Open empties the cache.
package remote

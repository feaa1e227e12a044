// Package remote reads a partition back from the bucket: whole batches from an
// offset on, look-up by time, and the newest batches of a foreign cluster from
// its tail objects.
//
// It stands between tiering/manifest, which says what lies where, and its
// users: broker/partition for offsets that are no longer local, restore, and
// readreplica.
//
//	Read(offset) -> manifest entry -> index -> block -> chunk -> batches
//	                                                    ^ cache on disk, else a ranged GET
//
// A segment object is read in chunks of whole index blocks. A reader that goes
// on where it stopped is given more chunks per request, twice as many each
// time up to a bound; those not needed yet wait in the cache.
//
// Invariants:
//   - Every byte given out was checked against the checksum of its block,
//     whether it came from the bucket or from the cache.
//   - The cache never holds more than its budget on disk: room is made and
//     taken before a byte is written.
//   - Bytes being fetched are bounded over all partitions that share a cache.
//   - A bucket that does not answer is logio.ErrStorage: the client tries
//     again, nothing else is affected.
//
// There is no goroutine. Partition, Cache and the small tables in them are safe
// for concurrent use; no mutex is held across disk, bucket or another lock.
// Nothing survives a crash and nothing needs to: Open empties the cache.
package remote

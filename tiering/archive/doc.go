// Package archive puts a log into the bucket: sealed segments of every
// partition that this broker leads, the newest batches of all of them once a
// second, and what a restore needs to know of the cluster.
//
// It stands behind broker/partition, which it sees as a Source, and before
// objstore; the formats and the fence are tiering/manifest's.
//
//	Source --sealed segment, checked--> segment + index --> manifest N+1 --read back--> Source.SetArchived
//	Source --newest committed batches--> tail object of this broker, one a second
//	cluster state, offsets --> metadata, cut
//
// Invariants:
//   - What is uploaded was checked on the way: every batch's CRC, contiguity,
//     and that it is committed. A segment that does not check is not archived
//     and the error says where it broke.
//   - SetArchived is called for what a manifest covers that counts by the
//     fence and was read back, with its objects there in full size.
//   - A tail series belongs to one life of one broker. A number is tried again
//     only with the same bytes.
//   - An object is deleted only when a list in the bucket said so a grace
//     period ago, by the store's clock, and after the fence was checked.
//   - A crash at any call leaves orphans, never holes; Scrub finds them.
//
// Loops: Partition, Tails, Keeper are cores that belong to one caller at a
// time and have a RunOnce; Loop calls such a step in turn. Their getters are
// safe beside RunOnce; the mutex under them is never held across a call of
// anything else. No goroutine is started here except by Loop.Run's caller and
// by Set.RunWith, which waits for them.
//
// After a crash everything is read again from the bucket and the Source.
package archive

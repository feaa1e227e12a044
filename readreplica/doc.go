// Package readreplica serves a foreign cluster's partitions from its bucket,
// without a right to write there and without asking that cluster anything.
//
// It is a second implementation of kafka.Partition: segments are read by
// manifest through tiering/remote, the newest batches from the tail objects,
// which are kept in memory until a manifest covers them.
//
//	tail objects (one name per source broker) --> Cluster.RunOnce --> Partition: run of batches behind the manifest's end
//	manifests (when an extent announces a number) --/                        '--> high watermark, last stable, log start
//
// Invariants:
//   - What is shown is the contiguous run from the manifest's end: the high
//     watermark never passes a gap, never goes back, and neither do last
//     stable offset and log start.
//   - Only the newest incarnation is followed; when a newer one appears, the
//     partitions are opened anew there.
//   - Tail bytes in memory are bounded; at the bound the replica stops reading
//     tails until manifests have caught up, and its lag grows.
//
// Loops: Cluster.RunOnce is a core for one caller, called about twice a second
// by a loop of package broker. A Partition's methods are safe beside it;
// Partition.mu is never held across the bucket or a callback. Nothing survives
// a crash and nothing needs to.
package readreplica

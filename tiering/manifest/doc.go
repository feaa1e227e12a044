// Package manifest says what is in the bucket: the layout of keys, the format
// of every object of a tiered log, and the numbered manifests by which one
// writer at a time, fenced by incarnation and leader epoch, states which
// objects hold a partition.
//
// It stands between archive, which writes, and remote, restore and
// readreplica, which read. docs/formats/bucket.md is the contract that foreign
// clusters read by; the code follows it.
//
//	tenant/cluster/root/00000002                      an incarnation was taken
//	tenant/cluster/00000002/meta/0000000000000007     cluster metadata
//	                       /cut/0000000000000031      offsets that fit together
//	                       /series/1-3                broker 1, boot 3 writes tails
//	                       /tail/1-3/0000000000000044 newest batches of broker 1
//	                       /flights~<topic id>/0/manifest/0000000000000012
//	                       /flights~<topic id>/0/<base>-<last>-<epoch>-<writer>.segment
//	                       /flights~<topic id>/0/<base>-<last>-<epoch>-<writer>.index
//
// Invariants:
//   - Objects are immutable and uniquely named; names are never used again
//     with other bytes.
//   - Manifest N+1 counts only when, after it was created, N still exists and
//     nothing above N+1 does, neither a manifest nor a boundary. Manifests are
//     deleted upwards and only below a boundary that was raised before.
//   - A manifest's epoch never goes back along its numbers.
//   - Data before manifest: every key that a manifest names was stored before.
//   - A key leaves the bucket only when a manifest listed it as retired and
//     the grace period passed by the store's own clock.
//
// Writer and Reader belong to one caller at a time and start no goroutine.
// All their state can be had again from the bucket.
package manifest

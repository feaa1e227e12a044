// Package restore makes, from a bucket alone, what a cluster needs to go on:
// its metadata, and for every partition where the log begins and ends, its
// epochs and its producer state.
//
// It stands between the bucket and package broker, which applies the Plan to
// an empty data directory before it listens. No segment is copied: the new
// incarnation's first manifests name the old objects by their full keys, and
// reads fetch them when somebody asks.
//
// Steps, in this order:
//
//  1. find the newest incarnation that is complete (has cluster metadata)
//  2. take the next number: from here on the old cluster is fenced
//  3. read the newest metadata; take the tables over (Config.Fence), so that no
//     table passes what is read next; then the newest cut and all tail objects
//  4. per partition: the newest manifest, then the contiguous run of tail
//     batches behind it (highest epoch first, stop at a gap), for coordinator
//     partitions no further than the cut; what the manifest does not cover is
//     stored as one segment of the new incarnation, with the bytes as they were;
//     write the new incarnation's manifest 1
//  5. write the new incarnation's metadata: now it is complete
//
// Invariants: a restore that dies leaves an incomplete incarnation, which the
// next one passes over; nothing of the old incarnation is changed or deleted.
// Every group starts above FloorTerm, the counters above all that was seen.
//
// There is no goroutine. Tail data is held in memory while the plan is made;
// a source cluster bounds it per broker.
package restore

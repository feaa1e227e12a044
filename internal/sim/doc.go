// Package sim plays whole histories of a cluster from one seed and checks them
// against what is known to be true.
//
// It stands above everything: package broker wires the same packages for real,
// with loops, sockets and clocks; here the journal, the groups, segments,
// partitions, archive, tails, restore, committer, catalog and read replica run
// as they are, stepped by one goroutine, over disks, a network and a bucket in
// memory.
//
//	producers, readers, deleters ▸ partition ▸ witness ▸ multiraft.Node ▸ spy ▸ journal ▸ disk.Fault ▸ disk.Mem
//	                                                       └ network ▸ the other brokers
//	actors: segments, retain, archive, tail, keeper, table, root, members ▸ objstore.Fault ▸ ground ▸ objstore.Mem
//	restore, read replica, catalog ----------------------------------'
//
// A world has clusters, one per incarnation, of one or three brokers. A broker
// is a data directory (node) and the process on it (life); all groups have a
// replica on each. The controller is a group of its own here: its leader keeps
// metadata and cut; the table is committed by the leader of partition 0. Who
// gives out replica ids, and says that a disk has run one, is the world itself.
// Clients find leaders as clients do, by asking any broker and by being refused.
//
// Something that takes its time (a bucket call, a wait for other brokers, a
// copy of segments) lets everything else go on meanwhile, on top of the stack
// (world.during): other brokers, the network, clients, the own groups, but no
// second actor of the same process.
//
// What goes wrong, and why it must be survived:
//
//   - A process dies at any call to its disk or bucket, also while it starts:
//     a panic out of the call, after which nothing of the process is used again.
//     What was flushed is promised.
//   - The power is cut: of what was not synced a random part survives, by
//     sectors and by names.
//   - An fsync of the journal fails, and what it was to make durable can be
//     read and is lost with the power: the broker stops every replica and is
//     started again.
//   - The disk is full for a while, or slow.
//   - A disk comes back empty: under its replica ids the broker answers
//     nothing; it gets new ones, as learners that copy segments, and then
//     takes the place of the old voters in a joint change.
//   - Flushed bits rot: that is noticed and never served; a segment is mended by
//     its broker, any other file has the disk replaced.
//   - The network loses, delays, reorders and doubles messages, and is cut: one
//     broker alone, one not heard, one that hears nothing, two that do not reach
//     each other, a ring.
//   - A process is stopped and goes on as if nothing had been; clocks jump and
//     go at their own speed; leaders hand over.
//   - The bucket answers 503, loses replies of writes that happened, or takes
//     its time while clients go on. The catalog lives in the bucket, so commits
//     fail, conflict and stay undecided in the same ways.
//   - All data directories are lost, or left behind with their brokers still
//     running; a restore, which may die too, makes the next incarnation.
//   - Connections break under a request or an answer; clients send again.
//
// Checkers (Rule): what was acknowledged is readable at its offset with the
// same bytes, from memory, disk, bucket and replica, and after a restore as far
// as the bucket had confirmed, which the restore must reach; a batch lies behind
// all that was acknowledged before it was sent, so that the log of a partition
// is linearizable; idempotent records are there once and in order; offsets have
// no gap, and no client sees high watermark, last stable offset, log start or
// archived end go back, whoever leads; replicas commit the same entries and an
// epoch has one leader; the table equals the log (iceberg/verify) and never
// passes what the bucket holds; what a flush promised of votes, terms and
// members is there after every start; archived means that a manifest in the
// bucket says so; objects never change; a broker of the past acknowledges
// nothing once it knows, and leaves nothing in log or table; the journal stays
// bounded; no replica stops but for its disk; and when the faults end, all comes
// to rest: members are as assigned, replicas equal in log, epochs, producers
// and marks (partition.Agreed), everything is in bucket and table, also after a
// power cut and after a restore of that. Tests plant faults (Config) that these
// must catch.
//
// That a partition is linearizable is decided without searching for an order,
// as a general checker has to: an answered append tells its place. The order is
// that of the offsets, and it explains all answers if and only if no two batches
// share a place (same, once), what is in the log has no gap (offsets), and no
// batch lies before another that was answered when it was sent (ordered). Appends without an answer may lie anywhere behind those, or
// nowhere. Readers may be shown an older end, never one older than they, or an
// epoch that they name, were shown.
//
// In some histories producers are answered from memory (write.caching) and
// flushes come late. What was answered so may be lost when brokers came back
// without it, and a majority is without it, and in no other case (held.go).
//
// One seed gives one history: all decisions come from one PCG, the clock is
// virtual, events are ordered by (instant, sequence), no goroutine is started
// and no map is walked where the order would show. etcd/raft and uuids draw from
// crypto/rand, which tests replace by the seed (testing/cryptotest). The trace
// hashes every event, disk call, bucket call and answer; some seeds are played
// twice and must end equal.
package sim

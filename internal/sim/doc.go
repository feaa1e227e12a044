// Package sim plays whole histories of a cluster from one seed and checks them
// against what is known to be true.
//
// It stands above everything: package broker wires the same packages for real,
// with loops, sockets and clocks; here the journal, the groups, segments,
// partitions, archive, tails, restore, committer, catalog and read replica run
// as they are, stepped by one goroutine, over a disk and a bucket in memory.
//
//	producers, readers, deleters ▸ partition ▸ multiraft.Node ▸ spy ▸ journal ▸ disk.Fault ▸ disk.Mem
//	actors: segments, retain, archive, tail, keeper, table, root ▸ objstore.Fault ▸ ground ▸ objstore.Mem
//	restore, read replica, catalog ----------------------------------'
//
// A world has data directories (node), processes on them (life), clients, and
// the truth of each partition. Today one broker serves at a time, beside those
// that a restore left behind; groups are of one replica. More brokers are more
// nodes with a Transport between them.
//
// What goes wrong, and why it must be survived:
//
//   - A process dies at any call to its disk or bucket, also while it starts:
//     a panic out of the call, after which nothing of the process is used again.
//     What was flushed is promised.
//   - The power is cut: of what was not synced a random part survives.
//   - An fsync of the journal fails: the broker stops every replica and is
//     started again after a power cut.
//   - The disk is full for a while: appends are refused, reads go on.
//   - The bucket answers 503, loses replies of writes that happened, or takes
//     its time while clients go on. The catalog lives in the bucket, so commits
//     fail, conflict and stay undecided in the same ways.
//   - The data directory is lost, or left behind with its broker still running;
//     a restore, which may die too, makes the next incarnation from the bucket.
//   - Connections break under an answer; clients time out and send again.
//
// Checkers (Rule): what was acknowledged is readable at its offset with the
// same bytes, from memory, disk, bucket and replica, and after a restore as far
// as the bucket had confirmed, which the restore must reach; idempotent records
// are there once and in order; offsets have no gap, and high watermark, last
// stable offset, log start and archived end never go back; the table equals the
// log (iceberg/verify) and never passes what the bucket holds; what a flush
// promised of votes, terms and members is there after every start; archived
// means that a manifest in the bucket says so; objects never change; a broker of
// the past acknowledges nothing once it knows, and leaves nothing in log or
// table; the journal stays bounded; and when the faults end, all comes to rest:
// everything is in bucket and table, also after a power cut and after a restore
// of that. Tests plant faults (Config) that these must catch.
//
// One seed gives one history: all decisions come from one PCG, the clock is
// virtual, events are ordered by (instant, sequence), no goroutine is started
// and no map is walked where the order would show. etcd/raft and uuids draw from
// crypto/rand, which tests replace by the seed (testing/cryptotest). The trace
// hashes every event, disk call, bucket call and answer; some seeds are played
// twice and must end equal.
package sim

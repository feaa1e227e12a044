// Package commit brings a topic's records into its Iceberg table, exactly once.
//
//	Sources --plan--> ranges --translate--> data files, dead-letter files
//	                                             |
//	          dead-letter table <--commit first--'
//	          table             <--commit--------'   data and offsets in one snapshot
//
// There is one Committer per table. A round looks at how far table and
// partitions are, translates what lies between, commits the dead-letter table,
// then the table; now and then it expires snapshots. A Loop runs rounds.
//
// Invariants:
//   - The offsets a table has come to (Offsets) are one table property, set in
//     the same commit as the files, with the sequence number and the hash of
//     the property in the snapshot's summary. The newest snapshot of ours in
//     main's ancestry matches the property, or the committer stops
//     (StoppedError) until somebody chooses.
//   - Every commit asserts the table's uuid, main's snapshot and the schema id;
//     every move of offsets makes a snapshot. So of two committers that start
//     from the same offsets one wins, and the other drops its work.
//   - A dead letter is in the dead-letter table before the table passes its
//     offset. Offsets of dead letters above the table's are read back and
//     neither judged nor written again.
//   - No commit passes what BucketEnd gave before the log was read.
//   - Only the committer changes the table's schema, by a commit of its own
//     before any file uses the new columns.
//   - A change whose commit failed or is undecided keeps its files and its
//     snapshot id until it is known to be in or out.
//
// Loops and locks: Committer is a core for one caller at a time, without
// goroutine or clock of its own. Loop is its shell: one goroutine (Run) owns
// the Committer; Freshen and Status may be called from any.
//
// After a crash all is read back from the catalog; files that no commit took
// are orphans, found by CollectOrphans by age.
package commit

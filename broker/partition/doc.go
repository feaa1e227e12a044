// Package partition is the log of one partition as clients see it: offsets,
// leader epochs, producers and transactions, over a Raft group that decides
// what is in it and segments that keep it.
//
//	Append ▸ shard loop: check, stamp, Propose, move ▸ multiraft ▸ journal     Commit ▸ waiters answered
//	Read   ◂ tail (memory) | segment.Log (local disk) | Remote (bucket)
//	WriteSegments: tail ▸ segment ▸ sync ▸ producer snapshot ▸ Release(mark)
//
// In the flow it stands between broker/kafka, which it serves as
// kafka.Partition, and broker/multiraft, whose StateMachine it is. The archive
// and the table translator read from it (Marks, Sealed, Batches, History, Read).
//
// Invariants:
//   - Checking, stamping, Propose and the move of the next offset are one step
//     of the shard loop. A dropped proposal takes nothing back: nothing moved.
//   - An entry enters a replica only if its base offset is the replica's log
//     end and its leader epoch the entry's term; anything else stops it.
//   - Producer state follows the append and is rolled back by a truncation; a
//     duplicate is answered when the original's (Index, Term) is: once it is
//     committed, or with write.caching held by the memory of a majority (Held).
//     No mark, segment or reader moves by that.
//   - High watermark, last stable offset, log start and archived end follow
//     committed entries only and never go back.
//   - Segments get committed entries only. A local byte of a tiered topic goes
//     only below the committed archived end.
//   - Index and Offset are different types; the tail's entries, which carry
//     both, are the one place where one is turned into the other.
//
// There is no goroutine here. Append's second half, and the StateMachine calls,
// run on the shard loop of the group. WriteSegments and Retain are steps of
// background loops that the broker (or a simulation) runs; of these two one
// runs at a time, the other returns without doing anything. Repair and Scrub
// are those of another loop. All other methods may be called from anywhere.
// Partition.mu guards the state; it is never held
// across a disk, bucket, Raft or callback call. Budget.mu is taken inside no
// other lock and takes none.
//
// What survives a crash: entries in journal and segments; the state at the
// group's mark, in the mark's blob and in the newest producer snapshot before
// it. Open reads these and the batch headers behind the snapshot; the replay
// of the journal brings the rest through Append.
// Formats: docs/formats/producers.md, docs/formats/partition-mark.md and
// docs/formats/partition-commands.md.
package partition

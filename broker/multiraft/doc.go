// Package multiraft hosts a broker's Raft groups, one per partition, on few
// loops and one journal, so that ten thousand idle groups cost nothing and a
// thousand busy ones share their flushes.
//
// In the flow it stands between partition and journal: a partition stamps a
// batch and proposes it in one task on the loop that owns its group; the entry
// goes to the journal in the same flush as everything else that waits; when a
// majority has it on disk, the partition is told by Commit and answers the
// producer.
//
//	Do ▸ inbox ▸ shard loop ──Batch──▸ journal loop: Append…, one Flush
//	             ▲   │ messages ▸ Transport          │
//	             └───┴──────────── answers ◂─────────┘
//
// Cores and shells: Shard steps raft for some groups, committer gives batches
// to the journal; neither has a goroutine. Node drives both from one caller,
// for the simulation; Host runs them on loops.
//
// Invariants:
//   - Raft hears that a write is durable only after the flush that made it so,
//     and a vote or an acknowledgement leaves only then (raft's
//     AsyncStorageWrites). Commit tells of entries that are committed and
//     flushed on this node.
//     That a majority has entries in memory is told beside, to a machine that
//     asks (held.go); nothing but an answer may rest on it.
//   - A proposal is appended in the step that makes it, or nothing moved:
//     forwarding is off, and every refusal comes before raft is asked.
//   - A state machine may refuse an entry. Then the replica stops before the
//     entry is written or acknowledged.
//   - The journal gets a group's writes in the order raft made them, but for
//     states that pass entries without room. The commit
//     index in them is the applied one, and a ConfState stands in the same
//     write or before, so both agree after a crash.
//   - Terms stay below 2^31, since they are Kafka's leader epochs.
//   - A failed flush is final: every replica stops, nothing that waited for the
//     flush is said, nothing is retried. A full journal is not a failure: no
//     entries with data are proposed or accepted; those that raft holds fit, or
//     wait for room on a full disk, while states, votes, marks and removals pass
//     them (overtake.go).
//
// Membership: a replica founds its group, joins one, or goes on from what the
// journal has (Origin). Members come as learners and become voters when they
// get entries as they come; several changes at once go through a joint
// configuration; one is under way at a time. A replica that is left out stops
// with ErrRemoved, and its journal forgets the group. Replica ids are bound to
// the disk: one that should have a log and has none answers nothing.
//
// A replica whose log ends before the leader's begins is brought up to date by
// a RaftSnapshot: the machine copies what it needs in the background
// (Snapshotter), then mark and ConfState are journaled in one write.
//
// Clocks: a group of one leads from its start on and is never ticked. Others
// are ticked until they have nothing to do and then rest; the heartbeat between
// brokers (PeerUp, PeerDown) stands for theirs. The lease that readers of a
// leader rely on is in rest.go.
//
// Loops of a Host: one per shard (fed by its inbox: tasks, messages, ticks,
// flush answers), one for the journal (fed by the shards' batches), one for
// the clock. Host.mu guards which groups exist, inbox.mu a queue; neither is
// held across anything else. Queues, uncommitted bytes and bytes in memory are
// bounded by Config; at a bound callers get ErrBusy.
//
// What survives a crash is what the journal flushed: entries, terms, votes,
// memberships and marks of all groups.
package multiraft

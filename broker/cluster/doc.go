// Package cluster is the controller: what exists in the cluster, and the only
// way to change it. Brokers, topics with their partitions, replicas and
// properties, deletions, producer ids and the feature level are one replicated
// State, moved from Command to Command by Raft group 0 on every broker.
//
//	change ▸ planner (rules, placement, ids, times) ▸ Command ▸ Raft group 0
//	                                                              │ commit
//	View, subscribers, answer  ◂  Machine ◂ State.Apply ◂─────────┘
//	                                └ store (Pebble), synced by Checkpoint ▸ Raft log released
//
// A broker comes in by Joiner, which finds the cluster at the seeds or founds
// it, and gives it a Membership. Every broker follows group 0; up to five vote.
// Commands made on another broker than the leader are sent to it with a request
// id (do in forward.go), and answered where they were made when they are
// applied there. The leader's duties (lead.go) are to mark who is offline, to
// choose the voters (voters.go), to bring moves of partitions step by step to
// their end (drive.go), to begin moves that repair or even out (balance.go), and
// to keep leaders where they are preferred (leaders.go); what they decide is
// pure functions of the View and of what was heard.
//
// The Kafka API reads a View and calls the Controller's methods; package broker
// subscribes and opens, closes and configures partitions by what changed;
// tiering writes Export to the bucket and a restore begins with Import.
//
// Invariants:
//   - State.Apply uses only the command and the state. Everything that needs a
//     clock, randomness or a rule that may change between versions is done by
//     the planner, before the command is proposed. Commands made from a view
//     say what they saw (ConfigVersion, number of partitions); if it changed
//     meanwhile, Apply refuses and the change is planned again.
//   - A topic id, a Raft replica id and a producer id are never given out
//     twice, in this life of the cluster or in one restored from it.
//   - A cluster has one founding record; a data directory takes one in its
//     life, and a majority of those it names must have taken it before anything
//     is decided. Replica ids are bound to the disk id: another disk gets others.
//   - A command is applied once, however often its broker sent it.
//   - A replica begins its group as a first member only in a view that was the
//     newest, and before the partition's first move.
//   - A View never changes. A method's answer comes after the view shows it.
//   - After a recovery from a lost majority (recover.go) nothing that the old
//     members say reaches the replica that goes on: it has another id, in a
//     term far above theirs. Between two that each lead a controller, the one
//     with an id that the other never gave out stays.
//   - A command that a build cannot read stops its replica: skipping it would
//     part the replicas.
//
// Loops and locks: Machine's callbacks and tasks of Raft.Do run on the loop of
// group 0 and own State and waiters; views and leadership are atomic pointers;
// Machine.mu guards the list of subscribers, Controller.idMu the block of
// producer ids, Machine.requestMu who waits for a request, and none is held
// while anything is called. Run is three more loops: one syncs the store once a
// second, one does the leader's duties four times a second, one has a leader
// ask the others every five seconds whether it still has its place.
//
// After a crash: an answered change is in the journal of a majority. The store
// holds a prefix of the commands, at least up to what was released from the
// Raft log; the rest is applied again from there. A replica that is further
// behind than the others' logs reach gets the whole state, which is made durable
// beside its own before it is used (snapshot.go). Moves, modes and marks are in
// the state, so the next leader goes on where the last one was.
package cluster

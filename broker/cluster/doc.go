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
//   - A View never changes. A method's answer comes after the view shows it.
//   - A command that a build cannot read stops its replica: skipping it would
//     part the replicas.
//
// Loops and locks: Machine's callbacks and tasks of Raft.Do run on the loop of
// group 0 and own State and waiters; views and leadership are atomic pointers;
// Machine.mu guards the list of subscribers, Controller.idMu the block of
// producer ids, and neither is held while anything is called. Run is one more
// loop, which syncs the store once a second.
//
// After a crash: an answered change is in the journal of a majority. The store
// holds a prefix of the commands, at least up to what was released from the
// Raft log; the rest is applied again from there. A replica that is further
// behind than the others' logs reach cannot be brought up yet: that needs the
// store to be sent as a RaftSnapshot.
package cluster

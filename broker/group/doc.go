// Package group is the coordinator of consumer groups (Kafka's classic
// protocol) and the keeper of their committed offsets.
//
//	client ▸ kafka ▸ Coordinator ▸ core ▸ records ▸ __consumer_offsets ▸ committed
//	                     ▲           └ answer ◂───────────────────────────┘
//	                     └ Step: loads partitions, ends sessions and rebalances, expires offsets
//
// A group lives with the leader of its partition of __consumer_offsets, which
// is found by the hash of its id (Partition). Its whole state is records of
// that partition, in Kafka's own formats (records.go), so that Kafka's tools
// read them, and tiering and restore carry them like any topic. Requests and
// answers are kmsg types, and this package puts Kafka's codes in them: what a
// classic group answers is part of the protocol (a code decides whether a
// member rejoins, keeps its assignment or gives up), and a second set of
// errors would only repeat it.
//
// Invariants:
//   - An offset commit, a leader's assignment and a deletion are answered
//     after their record is committed, and seen by others not before.
//   - Records reach the log in the order in which the core made them, so that
//     a load, which lets the newest record of a key win, gives the same state.
//   - A group has at most one generation under way; a member is answered once
//     for each request.
//   - Until a partition is loaded its groups answer
//     COORDINATOR_LOAD_IN_PROGRESS, and NOT_COORDINATOR once it is lost.
//
// A core (one per partition) is a value stepped under the Coordinator's mutex:
// no goroutine, no clock, answers and records come out as effects. The
// Coordinator carries the effects out with the mutex free; writes are handed
// to the logs by one caller at a time. The log's answers arrive on its own
// loops, where only answers are given; writes that follow are left to Run.
// Run is the one loop: it calls Step when the earliest timer is due. There is
// no goroutine or timer per group.
//
// After a crash: everything answered is in the log. Members of a stable group
// are known after a load and get a whole session to show themselves; a
// rebalance that was under way begins anew when they do, also when what they
// ask for is their assignment (REBALANCE_IN_PROGRESS, where Kafka says
// UNKNOWN_MEMBER_ID, which some clients show their users).
package group

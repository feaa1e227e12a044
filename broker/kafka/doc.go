// Package kafka is the wire: it listens for Kafka clients, cuts their bytes
// into requests, checks them, and answers from the logs, the controller and the
// group coordinator. It knows every error code and no truth of its own: what it
// keeps (connections, fetch sessions, a block of producer ids) can be lost.
//
// In the flow it stands between the client's socket and broker/partition (or
// readreplica), which it sees as Partition; topics come from cluster.View.
//
//	socket ─ frame ─ header ─┬─ Produce: walked in place ─ checks ─ Partition.Append ┐
//	                         └─ others: shape checked, then kmsg ────────────────────┤ queue, in order
//	socket ─ vectored write ─ answer ◂─ Fetch: Partition.Read; others: handlers ◂────┘
//
// # Order
//
// A connection's answers have the order of its requests. Its reader makes the
// appends of a Produce as soon as it has read it, without waiting for earlier
// ones to commit, so an idempotent producer's requests in flight reach the log
// in order and together. Everything else is done by its writer, one after the
// other, when its turn to be answered has come: no client can see two of its
// requests overtake each other.
//
// # Invariants
//
//   - Record bytes are never copied here between socket and log nor between log
//     and socket. A Produce request's buffer belongs to the log from Append on
//     and is never used again here.
//   - Memory is taken as bytes arrive, not as a length field claims. No count in
//     a request makes more work or memory than its bytes pay for.
//   - Only what is served is advertised (api.go).
//   - Deeper packages give errors; errors.go and cluster.go alone turn them into
//     codes. Group answers come with theirs from broker/group.
//
// # Loops and locks
//
// One accept loop, and per connection a reader and a writer; nothing per
// partition. The reader feeds the writer by conn.queue (Config.PipelineMax) and
// stops reading when it is full. A Fetch that waits sleeps in its writer, woken
// by Partition.Notify. Logs answer appends from their own loops through
// AppendRequest.Done, which takes the call's lock for a few stores. Locks
// (Server.mu, memory.mu, fetchSessions.mu, conn.mu, produceCall.mu) are leaves:
// none is held while another is taken or anything is waited for.
//
// # Limits
//
// Connections in all and per address, requests read ahead, length of a request,
// bytes of all requests, bytes of all Fetch answers, sessions and their
// partitions, time for half a request, for taking an answer, for idling: all in
// Config. Clients that send no Kafka are named in the log once per address.
//
// # Crash
//
// Nothing survives and nothing needs to.
package kafka

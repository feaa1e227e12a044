// Package peer is the connections between brokers: raft messages of all
// groups, calls and streams, and the heartbeat that says who is up.
//
// In the flow it stands beside multiraft, whose Transport it is, and below the
// controller, which calls and asks through it:
//
//	shard loops ▸ Send ▸ outbox of a lane ▸ writer ──TCP──▸ reader ▸ Receive ▸ shard inboxes
//	Call, Stream ──────────▸ request lane ─────────TCP──▸ reader ▸ handler
//
// A broker dials each peer three times, once per lane, and sends its own
// messages and requests there; answers come back the same way, and what the
// peer wants to send comes on those that it dials. Lanes keep quick things
// from waiting behind large ones: control (heartbeats, votes,
// acknowledgements), append (MsgApp and MsgSnap), request (calls, streams).
//
// Invariants:
//   - Messages of a lane arrive in order or not at all, except around a
//     reconnect, where those of the old connection may come late. All MsgApp
//     of a group share a lane.
//   - An entry's bytes are written from where the raft log has them. On the
//     other end each message's bytes come to rest in one buffer of their own,
//     which belongs to the receiver for good: nothing is pooled that raft
//     keeps, and no group's bytes are held in memory by another's.
//   - Send never waits. Queues are bounded by bytes and messages; what finds no
//     room or no connection is dropped and counted, and raft sends it again.
//   - No claim of the other end is believed with more than a megabyte of memory
//     before its bytes arrive. A frame is used when its checksum is right.
//   - A peer is up while pings on the connection that we dialed come back and
//     the peer says the same of its own; each end judges by its own clock. A
//     connection that ends is tried again once before the peer is down.
//   - Both ends of a connection belong to one cluster (as soon as they know it)
//     and are the nodes they were taken for; who is not is refused by name.
//
// Loops: accept, clock and watch; per peer and lane a dialer that becomes the
// connection's reader, and its writer; two per accepted connection; one per
// call or stream that is being served. Close ends and waits for all of them.
// Locks: lane.mu may be held when peer.mu or an outbox is locked, peer.mu when
// an outbox or the watch is locked, not the other way; no lock is held across
// network, handler or watcher.
//
// Bytes are in docs/formats/peer.md. Nothing here survives a crash.
package peer

package multiraft

import (
	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/record"
)

// Message is one raft message between two replicas of a group.
type Message struct {
	Group record.PartitionID
	Node  int32 // the broker it goes to
	raftpb.Message
}

// Transport carries messages to other brokers. It may drop, delay and reorder
// them. Send is called by shard loops and must not block; the slice is the
// caller's again when it returns, what the messages point to never changes.
type Transport interface {
	Send(messages []Message)
}

// noTransport drops everything: a broker alone has no peers.
type noTransport struct{}

func (noTransport) Send([]Message) {}

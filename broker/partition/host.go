package partition

import (
	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

// OnHost runs partitions' groups on a multiraft.Host.
func OnHost(h *multiraft.Host) Host { return raftHost{h} }

type raftHost struct{ h *multiraft.Host }

func (r raftHost) Do(id record.PartitionID, task func(Group)) error {
	return r.h.Do(id, func(g *multiraft.Group) { task(g) })
}

func (r raftHost) Late(id record.PartitionID) bool { return r.h.Late(id) }

// OnNode runs partitions' groups on a multiraft.Node, which its caller steps.
func OnNode(n *multiraft.Node) Host { return raftNode{n} }

type raftNode struct{ n *multiraft.Node }

func (r raftNode) Do(id record.PartitionID, task func(Group)) error {
	return r.n.Do(id, func(g *multiraft.Group) { task(g) })
}

// Late implements Host: whoever steps the node steps it as time passes.
func (r raftNode) Late(record.PartitionID) bool { return false }

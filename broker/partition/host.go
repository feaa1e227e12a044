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

package cluster

import "slices"

// Move is a change of a partition's replicas under way: learners are added,
// catch up, and then one joint change makes the target the voters.
type Move struct {
	// Adding and Removing are ids of the partition's Replicas.
	Adding, Removing []uint64
	// Before are the ids there were when the partition was last at rest, in
	// their order, to go back to.
	Before []uint64
	// Joining: the joint change may have begun, and there is no way back.
	Joining   bool
	StartedMs int64 // milliseconds since the Unix epoch
}

// Nodes are the nodes of the partition's replicas, in order of preference,
// each once; during a move the target's come first.
func (p *Partition) Nodes() []int32 { return nodesOf(p.Replicas) }

// Target are the replicas there will be when the move is done, or that there
// are.
func (p *Partition) Target() []Replica {
	if p.Move == nil {
		return p.Replicas
	}
	return without(p.Replicas, p.Move.Removing)
}

// Adding and Removing are the nodes that a move brings in and out, nil without
// one. A node whose disk is replaced is in both.
func (p *Partition) Adding() []int32   { return p.moving(func(m *Move) []uint64 { return m.Adding }) }
func (p *Partition) Removing() []int32 { return p.moving(func(m *Move) []uint64 { return m.Removing }) }

func (p *Partition) moving(ids func(*Move) []uint64) []int32 {
	if p.Move == nil {
		return nil
	}
	return nodesOf(with(p.Replicas, ids(p.Move)))
}

// Joining says how a replica starts that its broker's journal does not know,
// in a view from Controller.Fresh: false is as one of the first members, which
// are the Replicas; true is without members, to be brought in by the group's
// leader. In an older view a replica may look like a first member that has
// left the group since, and that its journal was told to forget: it would begin
// the group a second time.
func (p *Partition) Joining() bool { return p.Moved }

// Voters are the ids of the first members, for a replica that is not Joining.
func (p *Partition) Voters() []uint64 { return idsOf(p.Replicas) }

// NodeOf gives the node of one of the partition's replicas.
func (p *Partition) NodeOf(id uint64) (int32, bool) {
	for _, r := range p.Replicas {
		if r.ID == id {
			return r.Node, true
		}
	}
	return 0, false
}

// ReplicaOn gives the replica of p that node is to have open; false if there
// is none, or if it was on a disk that the node has no more.
func (v *View) ReplicaOn(p *Partition, node int32) (Replica, bool) {
	b := v.brokers[node]
	for _, r := range p.Replicas {
		if r.Node == node && (b == nil || r.ID >= b.ReplicaFloor) {
			return r, true
		}
	}
	return Replica{}, false
}

func idsOf(rs []Replica) []uint64 {
	out := make([]uint64, len(rs))
	for i, r := range rs {
		out[i] = r.ID
	}
	return out
}

func nodesOf(rs []Replica) []int32 {
	out := make([]int32, 0, len(rs))
	for _, r := range rs {
		if !slices.Contains(out, r.Node) {
			out = append(out, r.Node)
		}
	}
	return out
}

// with and without keep the replicas whose ids are, or are not, in ids.
func with(rs []Replica, ids []uint64) []Replica {
	return slices.DeleteFunc(slices.Clone(rs), func(r Replica) bool { return !slices.Contains(ids, r.ID) })
}

func without(rs []Replica, ids []uint64) []Replica {
	return slices.DeleteFunc(slices.Clone(rs), func(r Replica) bool { return slices.Contains(ids, r.ID) })
}

package cluster

import (
	"slices"

	"tidewater/internal/record"
)

// Observer is what a broker knows that answers questions about the cluster,
// beside its view: the view is only as new as the controller's last word.
type Observer struct {
	// Up reports whether a broker answers the one asked.
	Up func(node int32) bool
	// Leader gives the leader that the asked broker's own replica knows, false
	// if it has no replica of the partition.
	Leader func(record.PartitionID) (node int32, epoch record.LeaderEpoch, ok bool)
}

// PartitionHealth is how one partition is.
type PartitionHealth struct {
	Topic     string
	Partition int32
	Leader    int32 // NoLeader when there is none, or its broker does not answer
	Epoch     record.LeaderEpoch
	Replicas  []int32 // most preferred first; during a move also those that leave
	// Missing are the nodes among Replicas that cannot vote: their broker does
	// not answer, is unknown, or has another disk.
	Missing []int32
	// Adding and Removing are the nodes that a move under way brings and takes.
	Adding, Removing []int32
	// Lost: so many replicas are missing that no leader can be elected before
	// one of them is back.
	Lost bool
}

// UnderReplicated reports whether a replica is missing.
func (h *PartitionHealth) UnderReplicated() bool { return len(h.Missing) > 0 }

// Leaderless reports whether nobody serves the partition.
func (h *PartitionHealth) Leaderless() bool { return h.Leader == NoLeader }

// Moving reports whether the replicas are being changed.
func (h *PartitionHealth) Moving() bool { return len(h.Adding)+len(h.Removing) > 0 }

// Health lists every partition, by topic name and number, as the broker that
// is asked sees it; it needs no controller.
func (v *View) Health(o Observer) []PartitionHealth {
	out := make([]PartitionHealth, 0, v.partitions)
	for _, t := range v.Topics() {
		for i := range t.Partitions {
			out = append(out, v.healthOf(t, int32(i), o))
		}
	}
	return out
}

func (v *View) healthOf(t *Topic, number int32, o Observer) PartitionHealth {
	p := &t.Partitions[number]
	h := PartitionHealth{Topic: t.Name, Partition: number, Leader: p.Leader, Epoch: p.LeaderEpoch,
		Replicas: p.Nodes(), Adding: p.Adding(), Removing: p.Removing()}
	if node, epoch, ok := o.Leader(record.PartitionID{Topic: t.ID, Partition: number}); ok {
		h.Leader, h.Epoch = node, epoch
	}
	if h.Leader != NoLeader && !o.Up(h.Leader) {
		h.Leader = NoLeader
	}
	voters, alive := 0, 0
	for _, r := range p.Replicas {
		b := v.brokers[r.Node]
		there := b != nil && r.ID >= b.ReplicaFloor && o.Up(r.Node)
		if !there && !slices.Contains(h.Missing, r.Node) {
			h.Missing = append(h.Missing, r.Node)
		}
		if p.Move == nil || !slices.Contains(p.Move.Adding, r.ID) {
			if voters++; there {
				alive++
			}
		}
	}
	h.Lost = h.Leader == NoLeader && alive <= voters/2
	return h
}

// Balance says how evenly the cluster's load lies on the brokers that may
// carry it.
type Balance struct {
	// Moves are the moves of partitions under way.
	Moves int
	// ReplicasMin and ReplicasMax are what the brokers carry that carry least
	// and most, LedMin and LedMax for how many they are the preferred leader.
	ReplicasMin, ReplicasMax int
	LedMin, LedMax           int
	// Waiting are replicas of brokers that drain, or that are unknown: they
	// are still to be brought elsewhere.
	Waiting int
}

// Even reports whether there is nothing that the balancer would do but copying
// for the sake of bytes.
func (b *Balance) Even() bool {
	return b.Moves == 0 && b.Waiting == 0 && b.ReplicasMax-b.ReplicasMin < 2 && b.LedMax-b.LedMin < 2
}

// Balance gives the state of the balance.
func (v *View) Balance() Balance {
	out := Balance{Moves: v.moves}
	first := true
	placed := 0
	for _, b := range v.Brokers() {
		l := v.Load(b.ID)
		placed += l.Replicas
		if b.Draining {
			out.Waiting += l.Replicas
		}
		if !b.Placeable() {
			continue
		}
		if first {
			out.ReplicasMin, out.LedMin, first = l.Replicas, l.First, false
		}
		out.ReplicasMin, out.ReplicasMax = min(out.ReplicasMin, l.Replicas), max(out.ReplicasMax, l.Replicas)
		out.LedMin, out.LedMax = min(out.LedMin, l.First), max(out.LedMax, l.First)
	}
	all := 0
	for _, l := range v.loads {
		all += l.Replicas
	}
	out.Waiting += all - placed
	return out
}

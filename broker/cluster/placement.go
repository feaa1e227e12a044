package cluster

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"tidewater/internal/record"
)

// Place chooses nodes for partitions [from, from+count) of a topic: replicas
// of a partition on different brokers, on different racks while there are
// enough, and leaders spread evenly. The topic id decides where the round
// begins, so that small topics do not all begin on the same broker.
func Place(brokers []*Broker, id record.TopicID, from, count, replicas int) ([][]int32, error) {
	if replicas < 1 || replicas > len(brokers) {
		return nil, fmt.Errorf("%w: replication factor %d, and %d brokers are available", ErrInvalidReplicationFactor, replicas, len(brokers))
	}
	order := alternateRacks(brokers)
	h := fnv.New32a()
	h.Write(id[:])
	start := int(h.Sum32() % uint32(len(order)))
	out := make([][]int32, count)
	for i := range out {
		p := from + i
		// The second replica moves on by one more with each full round, so
		// that one broker's load spreads over all others when it fails.
		out[i] = pick(order, (start+p)%len(order), p/len(order), replicas)
	}
	return out, nil
}

// pick takes the leader at first, then goes round from a shifted place,
// passing over racks already used in a first round.
func pick(order []*Broker, first, shift, replicas int) []int32 {
	nodes := []int32{order[first].ID}
	racks := []string{order[first].Rack}
	n := len(order)
	for _, anyRack := range []bool{false, true} {
		for i := range n - 1 {
			b := order[(first+1+(shift+i)%(n-1))%n]
			if len(nodes) == replicas {
				return nodes
			}
			if slices.Contains(nodes, b.ID) || !anyRack && b.Rack != "" && slices.Contains(racks, b.Rack) {
				continue
			}
			nodes, racks = append(nodes, b.ID), append(racks, b.Rack)
		}
	}
	return nodes
}

// alternateRacks orders brokers so that neighbours are on different racks.
func alternateRacks(brokers []*Broker) []*Broker {
	byRack := map[string][]*Broker{}
	var racks []string
	for _, b := range brokers {
		if byRack[b.Rack] == nil {
			racks = append(racks, b.Rack)
		}
		byRack[b.Rack] = append(byRack[b.Rack], b)
	}
	slices.Sort(racks)
	for _, r := range racks {
		slices.SortFunc(byRack[r], func(a, b *Broker) int { return int(a.ID) - int(b.ID) })
	}
	out := make([]*Broker, 0, len(brokers))
	for i := 0; len(out) < len(brokers); i++ {
		for _, r := range racks {
			if i < len(byRack[r]) {
				out = append(out, byRack[r][i])
			}
		}
	}
	return out
}

// checkAssignment applies Kafka's rules for one given by a client.
func checkAssignment(v *View, assignment [][]int32) error {
	for i, nodes := range assignment {
		if len(nodes) == 0 {
			return fmt.Errorf("%w: partition %d has no replica", ErrInvalidAssignment, i)
		}
		if len(nodes) != len(assignment[0]) {
			return fmt.Errorf("%w: partition %d has %d replicas, partition 0 has %d", ErrInvalidAssignment, i, len(nodes), len(assignment[0]))
		}
		for j, n := range nodes {
			if v.brokers[n] == nil {
				return fmt.Errorf("%w: partition %d: there is no broker %d, only %s", ErrInvalidAssignment, i, n, brokerList(v))
			}
			if slices.Contains(nodes[:j], n) {
				return fmt.Errorf("%w: partition %d names broker %d twice", ErrInvalidAssignment, i, n)
			}
		}
	}
	return nil
}

func brokerList(v *View) string {
	var ids []string
	for _, b := range v.Brokers() {
		ids = append(ids, fmt.Sprint(b.ID))
	}
	return strings.Join(ids, ", ")
}

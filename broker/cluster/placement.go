package cluster

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"tidewater/internal/record"
)

// Place chooses nodes for partitions [from, from+count) of a topic: replicas
// of a partition on different brokers, on different racks while there are
// enough, on the brokers that carry least, and first replicas where fewest
// are. Brokers that are offline come after all others and are never first;
// those that drain get nothing. The topic id and the partition's number decide
// between equals, so that partitions do not all share the same pairs.
func Place(v *View, id record.TopicID, from, count, replicas int) ([][]int32, error) {
	pl := newPlacer(v)
	if replicas < 1 || replicas > len(pl.brokers) {
		return nil, fmt.Errorf("%w: replication factor %d, and %d brokers are registered", ErrInvalidReplicationFactor, replicas, len(pl.brokers))
	}
	if !slices.ContainsFunc(pl.brokers, (*Broker).Placeable) {
		return nil, fmt.Errorf("%w: replication factor %d, and every broker is offline", ErrInvalidReplicationFactor, replicas)
	}
	out := make([][]int32, count)
	for i := range out {
		seed := record.PartitionID{Topic: id, Partition: int32(from + i)}
		for len(out[i]) < replicas {
			b := pl.pick(seed, out[i], len(out[i]) == 0)
			out[i] = append(out[i], b.ID)
			pl.add(b.ID, len(out[i]) == 1)
		}
	}
	return out, nil
}

// placer chooses brokers and counts what it gave them.
type placer struct {
	brokers []*Broker // that may hold replicas, by id
	racks   map[int32]string
	loads   map[int32]Load
}

func newPlacer(v *View) *placer {
	pl := &placer{racks: map[int32]string{}, loads: map[int32]Load{}}
	for _, b := range v.Brokers() {
		pl.racks[b.ID] = b.Rack
		if !b.Draining {
			pl.brokers = append(pl.brokers, b)
			pl.loads[b.ID] = v.Load(b.ID)
		}
	}
	return pl
}

func (pl *placer) add(node int32, first bool) {
	l := pl.loads[node]
	l.Replicas++
	if first {
		l.First++
	}
	pl.loads[node] = l
}

// pick gives the best broker for one more replica of a partition that has
// some already, nil if there is none. First replicas are never put on a broker
// that is offline.
func (pl *placer) pick(seed record.PartitionID, have []int32, first bool) *Broker {
	var best *Broker
	var bestRank [5]uint64
	for _, b := range pl.brokers {
		if slices.Contains(have, b.ID) || first && !b.Placeable() {
			continue
		}
		l := pl.loads[b.ID]
		rank := [5]uint64{flag(!b.Placeable()), pl.sharers(b.Rack, have), uint64(l.Replicas), 0, spread(seed, b.ID)}
		if first {
			rank[2], rank[3] = uint64(l.First), uint64(l.Replicas)
		}
		if best == nil || slices.Compare(rank[:], bestRank[:]) < 0 {
			best, bestRank = b, rank
		}
	}
	return best
}

func flag(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

// sharers counts the nodes on a rack; no rack is shared with nobody.
func (pl *placer) sharers(rack string, nodes []int32) uint64 {
	n := uint64(0)
	for _, id := range nodes {
		if rack != "" && pl.racks[id] == rack {
			n++
		}
	}
	return n
}

// spread orders equals differently for each partition.
func spread(p record.PartitionID, node int32) uint64 {
	h := fnv.New64a()
	h.Write(p.Topic[:])
	h.Write([]byte{byte(p.Partition), byte(p.Partition >> 8), byte(p.Partition >> 16), byte(node), byte(node >> 8), byte(node >> 16)})
	x := h.Sum64()
	x ^= x >> 33 // FNV alone leaves the last bytes in the low bits
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}

// checkAssignment applies Kafka's rules for one given by a client.
func checkAssignment(v *View, assignment [][]int32) error {
	for i, nodes := range assignment {
		if len(nodes) != len(assignment[0]) {
			return fmt.Errorf("%w: partition %d has %d replicas, partition 0 has %d", ErrInvalidAssignment, i, len(nodes), len(assignment[0]))
		}
		if err := checkNodes(v, i, nodes); err != nil {
			return err
		}
	}
	return nil
}

func checkNodes(v *View, partition int, nodes []int32) error {
	if len(nodes) == 0 {
		return fmt.Errorf("%w: partition %d has no replica", ErrInvalidAssignment, partition)
	}
	for j, n := range nodes {
		if v.brokers[n] == nil {
			return fmt.Errorf("%w: partition %d: there is no broker %d, only %s", ErrInvalidAssignment, partition, n, brokerList(v))
		}
		if slices.Contains(nodes[:j], n) {
			return fmt.Errorf("%w: partition %d names broker %d twice", ErrInvalidAssignment, partition, n)
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

// byLoad orders brokers by what they carry, least first, equals by id.
func (pl *placer) byLoad(brokers []*Broker, what func(Load) int) []*Broker {
	return slices.SortedFunc(slices.Values(brokers), func(a, b *Broker) int {
		return cmp.Or(cmp.Compare(what(pl.loads[a.ID]), what(pl.loads[b.ID])), cmp.Compare(a.ID, b.ID))
	})
}

package cluster

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"tidewater/internal/record"
)

func newRand(seed int) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 1)) }

func randomCommand(r *rand.Rand, v *View) Command {
	id := record.TopicID{byte(1 + r.IntN(12))}
	name := string(rune('a' + r.IntN(6)))
	if r.IntN(3) == 0 {
		name += []string{".x", "_x"}[r.IntN(2)]
	}
	node := int32(1 + r.IntN(3))
	partition := record.PartitionID{Topic: id, Partition: int32(r.IntN(2))}
	switch r.IntN(17) {
	case 0:
		return &RegisterBroker{Registration: Registration{ID: node, Boot: [16]byte{byte(r.IntN(3))}, Rack: name, Disk: [16]byte{byte(1 + r.IntN(2))},
			Session: r.Uint64N(3)}, ReplaceDisk: r.IntN(3) == 0}
	case 11:
		return &SetLiveness{NowMs: r.Int64N(9), Offline: []int32{node}, Online: []int32{1 + node%3}}
	case 12, 13:
		op := MoveOp{Partition: partition, Target: []int32{1 + node%3}}
		if p := v.PartitionOf(partition); p != nil && r.IntN(9) > 0 {
			op.Expected = idsOf(p.Replicas)
		}
		if r.IntN(4) == 0 {
			op.Target = nil
		}
		return &MovePartitions{NowMs: r.Int64N(9), Ops: []MoveOp{op}}
	case 14:
		cmd := &StepMove{Partition: partition, Done: r.IntN(2) == 0}
		if p := v.PartitionOf(partition); p != nil && p.Move != nil {
			cmd.Adding, cmd.Removing = p.Move.Adding, p.Move.Removing
		}
		return cmd
	case 15:
		return &SetBrokerMode{Node: node, Maintenance: r.IntN(2) == 0, Draining: r.IntN(2) == 0}
	case 16:
		return &UnregisterBroker{Node: node}
	case 1, 2, 3:
		return &CreateTopic{ID: id, Name: name, CreatedMs: r.Int64N(100), Assignment: [][]int32{{node}, {node}}, Configs: map[string]string{name: "1"}}
	case 4:
		return &DeleteTopic{Deletion{Topic: id, DeletedMs: r.Int64N(100), Namespace: name, KeepTable: r.IntN(2) == 0}}
	case 5:
		return &CreatePartitions{Topic: id, From: int32(r.IntN(5)), Assignment: [][]int32{{node}}}
	case 6:
		return &SetTopicConfigs{Topic: id, Expected: uint64(r.IntN(3)), Props: map[string]string{"k": name}}
	case 7:
		return &AllocateProducerIDs{Count: r.Int64N(5)}
	case 8:
		return &SetBrokerConfigs{Node: node - 2, Expected: uint64(r.IntN(2)), Props: map[string]string{"k": name}}
	case 9:
		return &ReportLeaders{[]LeaderReport{{record.PartitionID{Topic: id, Partition: int32(r.IntN(3))}, node, record.LeaderEpoch(r.IntN(9))}}}
	}
	return &ForgetDeletions{[]record.TopicID{id}}
}

// Two replicas that apply the same log are equal, whatever was read from one
// of them meanwhile; so is a third one made from what the store was told; and
// no view given away changes.
func TestReplicasEqual(t *testing.T) {
	for seed := range 20 {
		r := newRand(seed)
		a, b := NewState(), NewState()
		stored := map[string][]byte{}
		type given struct {
			v     *View
			bytes string
		}
		var views []given
		for i := range 300 {
			cmd := randomCommand(r, &a.v)
			_, errA := a.Apply(record.Index(i+1), 1, RequestID{}, cmd)
			_, decoded, err := DecodeCommand(EncodeCommand(nil, RequestID{}, cmd))
			if err != nil {
				t.Fatal(err)
			}
			_, errB := b.Apply(record.Index(i+1), 1, RequestID{}, decoded)
			if (errA == nil) != (errB == nil) || errA != nil && errA.Error() != errB.Error() {
				t.Fatalf("seed %d, command %d: answers differ: %v and %v", seed, i, errA, errB)
			}
			if r.IntN(10) == 0 {
				v := a.View()
				views = append(views, given{v, string(v.Export())})
			}
			for _, c := range a.Changes() {
				if c.Value == nil {
					delete(stored, c.Key)
				} else {
					stored[c.Key] = c.Value
				}
			}
		}
		if !equalExports(a.View(), b.View()) {
			t.Fatalf("seed %d: replicas differ", seed)
		}
		v := emptyView()
		for k, value := range stored {
			if err := v.load(k, value); err != nil {
				t.Fatal(err)
			}
		}
		if !equalExports(a.View(), &v) {
			t.Fatalf("seed %d: the store differs", seed)
		}
		for _, g := range views {
			if string(g.v.Export()) != g.bytes {
				t.Fatalf("seed %d: a view changed", seed)
			}
		}
	}
}

// Placement uses each broker once per partition, spreads leaders evenly, and
// uses every rack when there are enough replicas.
func TestPlace(t *testing.T) {
	v := viewOf("r1", "r1", "r2", "r2", "r3", "r3")
	for seed := range byte(10) {
		got, err := Place(v, record.TopicID{seed}, 0, 60, 3)
		if err != nil {
			t.Fatal(err)
		}
		leads := map[int32]int{}
		for _, nodes := range got {
			leads[nodes[0]]++
			used := map[string]bool{}
			for _, n := range nodes {
				used[v.Broker(n).Rack] = true
			}
			if len(nodes) != 3 || len(used) != 3 {
				t.Fatalf("partition on %v", nodes)
			}
		}
		for b, n := range leads {
			if n != 10 {
				t.Fatalf("broker %d leads %d of 60", b, n)
			}
		}
	}
	if nodes, err := Place(viewOf("r1", "r1"), record.TopicID{}, 0, 1, 2); err != nil || nodes[0][0] == nodes[0][1] {
		t.Errorf("two replicas on one rack: %v, %v", nodes, err)
	}
}

// viewOf is a cluster with a broker on each of the racks.
func viewOf(racks ...string) *View {
	v := emptyView()
	for i, r := range racks {
		id := int32(i + 1)
		v.brokers[id] = &Broker{ID: id, Rack: r, Controller: uint64(id), Listeners: []Listener{{Name: "kafka"}}}
	}
	return &v
}

// A broker that is offline gets replicas only when there are too few others,
// and never the first; one that drains gets none; the new ones go where least
// is.
func TestPlaceMindsBrokers(t *testing.T) {
	v := viewOf("a", "b", "c", "d")
	v.brokers[2].Offline = true
	for seed := range byte(20) {
		nodes, err := Place(v, record.TopicID{seed}, 0, 4, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if slices.Contains(n, 2) {
				t.Errorf("three of the others are there, and %v is chosen", n)
			}
		}
	}
	nodes, err := Place(v, record.TopicID{1}, 0, 8, 4)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n[3] != 2 {
			t.Errorf("the offline broker is not the last of %v", n)
		}
	}
	v.brokers[1].Draining = true
	if _, err := Place(v, record.TopicID{1}, 0, 1, 4); !errors.Is(err, ErrInvalidReplicationFactor) {
		t.Errorf("four replicas where one of four brokers drains: %v", err)
	}
	v = viewOf("a", "a", "a")
	v.loads = map[int32]Load{1: {Replicas: 9, First: 9}, 2: {Replicas: 5}, 3: {Replicas: 5}}
	if nodes, _ = Place(v, record.TopicID{1}, 0, 4, 1); slices.ContainsFunc(nodes, func(n []int32) bool { return n[0] == 1 }) {
		t.Errorf("the broker that carries most gets more: %v", nodes)
	}
}

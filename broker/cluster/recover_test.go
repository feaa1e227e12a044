package cluster

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/journal"
	"tidewater/internal/record"
)

// lossWorld is a state with n brokers, whose replicas of the controller's group
// are numbered as they are, and a topic whose partitions lie on the nodes given;
// the journals are those of one node.
func lossWorld(t *testing.T, n int32, node int32, partitions ...[]int32) (*State, record.TopicID, []journal.Group) {
	t.Helper()
	s := NewState()
	var founders []Member
	group := journal.Group{ID: GroupID(), HardState: raftpb.HardState{Term: 7, Commit: 3}}
	for i := int32(1); i <= n; i++ {
		founders = append(founders, Member{Node: i, Replica: uint64(i), Disk: [16]byte{byte(i)}, Addr: "h"})
		group.ConfState.Voters = append(group.ConfState.Voters, uint64(i))
	}
	id := record.TopicID{1}
	at := record.Index(0)
	apply := func(cmd Command) {
		t.Helper()
		at++
		if _, err := s.Apply(at, 1, RequestID{}, cmd); err != nil {
			t.Fatal(err)
		}
	}
	apply(&Bootstrap{Identity: Identity{[16]byte{9}, 1}, FeatureLevel: 1, Founders: founders})
	apply(&CreateTopic{ID: id, Name: "t", Assignment: partitions})
	groups := []journal.Group{group}
	for i := range partitions {
		p := &s.v.topics[id].Partitions[i]
		apply(&ReportLeaders{[]LeaderReport{{record.PartitionID{Topic: id, Partition: int32(i)}, partitions[i][0], 5}}})
		if _, held := s.v.ReplicaOn(p, node); held {
			groups = append(groups, journal.Group{ID: record.PartitionID{Topic: id, Partition: int32(i)}, HardState: raftpb.HardState{Term: 4, Commit: 1},
				ConfState: raftpb.ConfState{Voters: idsOf(p.Replicas)}, Entries: []raftpb.Entry{{Index: 1, Term: 4}, {Index: 2, Term: 4, Data: []byte("x")}}})
		}
	}
	return s, id, groups
}

// Shows that a recovery touches the groups that lost their majority and no
// others, under ids and above terms that nobody had, and lists what it cannot
// help.
func TestRecoveryTakesOnlyWhatIsLost(t *testing.T) {
	s, id, groups := lossWorld(t, 5, 1, []int32{2, 1, 3}, []int32{1, 4, 2}, []int32{2, 3, 4}, []int32{1})
	if _, err := s.Apply(99, 1, RequestID{}, &SetLiveness{NowMs: 1, Offline: []int32{2}, Online: []int32{3}}); err != nil {
		t.Fatal(err)
	}
	if _, err := PlanRecovery(s.View(), 1, []int32{2, 3}, groups); !errors.Is(err, ErrNoRecovery) || !strings.Contains(err.Error(), "broker 3 answers the controller") {
		t.Errorf("a broker that the controller hears is given up: %v", err)
	}
	s.v.brokers[3].Offline = true
	plan, err := PlanRecovery(s.View(), 1, []int32{2, 3}, groups)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Command.Controller != 0 {
		t.Error("the controller has three of five, and is recovered")
	}
	part := func(n int32) record.PartitionID { return record.PartitionID{Topic: id, Partition: n} }
	if len(plan.Groups) != 1 || plan.Groups[0].ID != part(0) || plan.Groups[0].AboveTerm < 5+recoverTermGap || plan.Groups[0].Replica < recoverIDGap {
		t.Errorf("groups are %+v", plan.Groups)
	}
	if !slices.Equal(plan.Gone, []record.PartitionID{part(2)}) {
		t.Errorf("gone are %v", plan.Gone)
	}
	before := s.View()
	if _, err := s.Apply(100, 9, RequestID{}, &plan.Command); err != nil {
		t.Fatal(err)
	}
	v := s.View()
	if p := v.PartitionOf(part(0)); len(p.Replicas) != 1 || p.Replicas[0] != (Replica{1, plan.Groups[0].Replica}) || p.Leader != NoLeader || !p.Joining() {
		t.Errorf("partition 0 is %+v", p)
	}
	for _, n := range []int32{1, 2, 3} {
		if !slices.Equal(idsOf(v.PartitionOf(part(n)).Replicas), idsOf(before.PartitionOf(part(n)).Replicas)) {
			t.Errorf("partition %d is touched", n)
		}
	}
	if v.Broker(2) != nil || v.Broker(3) != nil || v.Broker(4) == nil || v.nextReplicaID <= plan.Groups[0].Replica {
		t.Errorf("brokers are %v, the next replica id %d", brokerList(v), v.nextReplicaID)
	}
	for _, n := range []int32{2, 3} {
		if err := v.placed(n, uint64(n)); !errors.Is(err, ErrFenced) {
			t.Errorf("lost broker %d is told %v", n, err)
		}
	}

	// Again it changes nothing, also when a lost broker has joined with a new disk.
	if _, err := s.Apply(101, 9, RequestID{}, &RegisterBroker{Registration: Registration{ID: 2, Disk: [16]byte{77}, FeatureMin: 1, FeatureMax: 1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(102, 9, RequestID{}, &plan.Command); err != nil {
		t.Fatal(err)
	}
	if s.View().Broker(2) == nil || s.View().PartitionOf(part(0)).Replicas[0].ID != plan.Groups[0].Replica {
		t.Error("the recovery was applied twice")
	}
}

// Shows what is not recovered: a controller while others are left that could do
// the same, a node itself, nobody, and what has a majority.
func TestRecoveryIsRefused(t *testing.T) {
	s, _, groups := lossWorld(t, 5, 1, []int32{1, 4, 5})
	for _, c := range []struct {
		lost []int32
		says string
	}{{nil, "name the brokers"}, {[]int32{1}, "is this one"}, {[]int32{2, 2}, "twice"}, {[]int32{9}, "there is no broker 9, only 1, 2, 3, 4, 5"},
		{[]int32{2, 3}, "no group"}, {[]int32{2, 3, 4}, "brokers 5 are not named as lost"}} {
		if _, err := PlanRecovery(s.View(), 1, c.lost, groups); !errors.Is(err, ErrNoRecovery) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("lost %v: %v", c.lost, err)
		}
	}
	plan, err := PlanRecovery(s.View(), 1, []int32{2, 3, 4, 5}, groups)
	if err != nil || plan.Command.Controller < recoverIDGap || plan.Groups[0].ID != GroupID() || len(plan.Groups) != 2 {
		t.Fatalf("%+v, %v", plan, err)
	}
	if _, err := s.Apply(100, 9, RequestID{}, &plan.Command); err != nil {
		t.Fatal(err)
	}
	if b := s.View().Broker(1); b.Controller != plan.Command.Controller || s.View().nextControllerID <= b.Controller {
		t.Errorf("broker 1 is %+v", b)
	}
	m := plan.Recovered(Membership{Node: 1, Replica: 1, Members: []Member{{Node: 1, Replica: 1}, {Node: 2, Replica: 2}}})
	if m.Replica != plan.Command.Controller || len(m.Members) != 1 || m.validate() != nil {
		t.Errorf("membership is %+v", m)
	}
}

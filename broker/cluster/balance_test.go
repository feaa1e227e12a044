package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

// plannerWorld is a state that a balancer works on, without any group: moves
// end when the dice say so.
type plannerWorld struct {
	t     *testing.T
	r     *rand.Rand
	s     *State
	at    record.Index
	now   time.Time
	bytes map[record.PartitionID]int64
}

const testMovesMax, testBalanceMax = 6, 3

func (w *plannerWorld) apply(cmd Command) any {
	w.at++
	result, err := w.s.Apply(w.at, 1, RequestID{}, cmd)
	if err != nil {
		w.t.Fatalf("%T: %v", cmd, err)
	}
	return result
}

func (w *plannerWorld) register(id int32, racks int) {
	w.apply(&RegisterBroker{Registration: Registration{ID: id, Rack: fmt.Sprint("r", int(id)%racks), Disk: [16]byte{byte(id), byte(w.at), byte(w.at >> 8)},
		Listeners: []Listener{{Name: "kafka"}}}, ReplaceDisk: true})
}

// lead gives every partition of a topic its first leader.
func (w *plannerWorld) lead(id record.TopicID) {
	cmd := &ReportLeaders{}
	for i, p := range w.s.v.topics[id].Partitions {
		cmd.Reports = append(cmd.Reports, LeaderReport{Partition: record.PartitionID{Topic: id, Partition: int32(i)}, Leader: p.Replicas[0].Node})
	}
	w.apply(cmd)
}

func (w *plannerWorld) balancer() *balancer {
	return &balancer{v: w.s.View(), now: w.now, repairAfter: time.Minute, movesMax: testMovesMax, balanceMax: testBalanceMax, bytes: w.bytes}
}

// begin plans and begins moves; it checks what must hold of every plan.
func (w *plannerWorld) begin() int {
	b := w.balancer()
	ops := b.plan()
	if again := w.balancer().plan(); fmt.Sprint(again) != fmt.Sprint(ops) {
		w.t.Fatalf("two plans of one view differ:\n%v\n%v", ops, again)
	}
	for _, o := range ops {
		p := b.v.PartitionOf(o.Partition)
		if b.live(p) <= len(p.Replicas)/2 {
			w.t.Fatalf("partition %s is moved without a majority", o.Partition)
		}
		seen := map[int32]bool{}
		alive := 0
		for _, n := range o.Target {
			br := b.v.brokers[n]
			if seen[n] || br == nil {
				w.t.Fatalf("partition %s is to be on %v", o.Partition, o.Target)
			}
			seen[n] = true
			if !br.Offline {
				alive++
			}
		}
		if len(o.Target) != len(p.Replicas) || alive <= len(o.Target)/2 {
			w.t.Fatalf("partition %s has %d replicas and is to be on %v, of which %d live", o.Partition, len(p.Replicas), o.Target, alive)
		}
	}
	if len(ops) > 0 {
		for i, err := range w.apply(&MovePartitions{NowMs: w.now.UnixMilli(), Ops: ops}).([]error) {
			if err != nil {
				w.t.Fatalf("%+v: %v", ops[i], err)
			}
		}
	}
	if n := w.s.v.moves; n > testMovesMax {
		w.t.Fatalf("%d moves at a time", n)
	}
	return len(ops)
}

// end finishes some of the moves.
func (w *plannerWorld) end() {
	for _, id := range w.s.View().Moving() {
		if w.r.IntN(2) == 0 {
			continue
		}
		m := w.s.v.PartitionOf(id).Move
		w.apply(&StepMove{Partition: id, Adding: m.Adding, Removing: m.Removing})
		w.apply(&StepMove{Partition: id, Adding: m.Adding, Removing: m.Removing, Done: true})
	}
}

// rest plans and ends moves until nothing is to be done, which must come.
func (w *plannerWorld) rest() {
	for range 2000 {
		moving := w.s.v.moves
		if n := w.begin(); n+moving == 0 {
			return
		}
		w.end()
		w.now = w.now.Add(time.Second)
	}
	w.t.Fatalf("it never comes to rest: %v", w.balancer().plan())
}

// checkRest checks what must hold when nothing is planned.
func (w *plannerWorld) checkRest(racks int) {
	v := w.s.View()
	b := w.balancer()
	b.pl = b.targetLoads()
	used, unhealthy := map[string]bool{}, false
	for _, br := range b.placeable() {
		used[br.Rack] = true
	}
	for _, t := range v.Topics() {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			unhealthy = unhealthy || !b.healthy(p)
			on := map[string]bool{}
			ids := map[uint64]bool{}
			for _, r := range p.Replicas {
				on[b.pl.racks[r.Node]] = true
				ids[r.ID] = true
				if b.lost(r) && b.live(p) > len(p.Replicas)/2 && len(b.placeable()) >= len(p.Replicas) {
					w.t.Fatalf("replica %+v of %s is lost and stays", r, t.Name)
				}
			}
			if len(nodesOf(p.Replicas)) != len(p.Replicas) || len(ids) != len(p.Replicas) {
				w.t.Fatalf("replicas %v", p.Replicas)
			}
			if want := min(len(p.Replicas), len(used)); b.healthy(p) && len(on) < want {
				w.t.Fatalf("partition %s-%d is on racks %v, %d could be used", t.Name, i, on, want)
			}
		}
	}
	if racks > 1 || unhealthy {
		return // racks of different sizes cannot be even, nor what has no majority
	}
	low, high := 1<<30, 0
	for _, br := range b.placeable() {
		n := v.Load(br.ID).Replicas
		low, high = min(low, n), max(high, n)
	}
	if high-low > 1 && !slices.ContainsFunc(v.Brokers(), func(br *Broker) bool { return !br.Placeable() }) {
		w.t.Fatalf("brokers carry from %d to %d replicas", low, high)
	}
}

// Whatever happens to brokers, plans keep every partition's majority, put no
// two replicas on a node, are bounded, and come to rest with racks spread,
// nothing lost and the load even.
func TestBalancerComesToRest(t *testing.T) {
	for seed := range 60 {
		w := &plannerWorld{t: t, r: newRand(seed), s: NewState(), now: time.UnixMilli(1_000_000)}
		racks := 1 + w.r.IntN(4)
		n := int32(3 + w.r.IntN(4))
		for id := range n {
			w.register(id, racks)
		}
		if seed%3 == 0 {
			w.bytes = map[record.PartitionID]int64{}
		}
		for i := range 6 {
			id := record.TopicID{byte(i + 1)}
			nodes, err := Place(w.s.View(), id, 0, 1+w.r.IntN(8), min(1+2*w.r.IntN(2), int(n)))
			if err != nil {
				t.Fatal(err)
			}
			if w.r.IntN(2) == 0 { // a person placed them badly
				for j := range nodes {
					nodes[j] = nodes[0]
				}
			}
			w.apply(&CreateTopic{ID: id, Name: fmt.Sprint("t", i), Assignment: nodes})
			w.lead(id)
			for j := range nodes {
				if w.bytes != nil {
					w.bytes[record.PartitionID{Topic: id, Partition: int32(j)}] = w.r.Int64N(20 << 30)
				}
			}
		}
		for range 8 {
			w.rest()
			w.checkRest(racks)
			node := int32(w.r.IntN(int(n)))
			b := w.s.v.brokers[node]
			switch {
			case b == nil || w.r.IntN(5) == 0:
				n++
				w.register(n-1, racks)
			case w.r.IntN(3) == 0:
				w.register(node, racks) // another disk
			case w.r.IntN(2) == 0:
				w.apply(&SetBrokerMode{Node: node, Draining: !b.Draining})
			default:
				cmd := &SetLiveness{NowMs: w.now.UnixMilli(), Offline: []int32{node}}
				if b.Offline {
					cmd.Offline, cmd.Online = nil, cmd.Offline
				}
				w.apply(cmd)
				if w.r.IntN(2) == 0 {
					w.now = w.now.Add(2 * time.Minute)
				}
			}
		}
	}
}

// An exchange evens out disks and leaves the counts.
func TestBalancerEvensBytes(t *testing.T) {
	w := &plannerWorld{t: t, r: newRand(1), s: NewState(), now: time.UnixMilli(1_000_000), bytes: map[record.PartitionID]int64{}}
	for id := range int32(2) {
		w.register(id, 1)
	}
	w.apply(&CreateTopic{ID: record.TopicID{1}, Name: "t", Assignment: [][]int32{{0}, {0}, {0}, {1}, {1}, {1}}})
	w.lead(record.TopicID{1})
	for i := range 6 {
		w.bytes[record.PartitionID{Topic: record.TopicID{1}, Partition: int32(i)}] = []int64{90, 80, 70, 3, 2, 1}[i] << 30
	}
	w.rest()
	held := map[int32]int64{}
	for i, p := range w.s.v.topics[record.TopicID{1}].Partitions {
		held[p.Replicas[0].Node] += w.bytes[record.PartitionID{Topic: record.TopicID{1}, Partition: int32(i)}] >> 30
	}
	if w.s.v.loads[0].Replicas != 3 || max(held[0], held[1]) > 160 {
		t.Errorf("brokers hold %v GiB in %v", held, w.s.v.loads)
	}
}

// What a move takes next, from what its group's leader says.
func TestNextStep(t *testing.T) {
	members := func(match uint64, voters, learners []uint64) Members {
		m := Members{Voters: voters, Learners: learners}
		for _, id := range slices.Concat(voters, learners) {
			m.Replicas = append(m.Replicas, member(id, match, slices.Contains(voters, id)))
		}
		return m
	}
	p := &Partition{Replicas: []Replica{{4, 14}, {2, 2}, {1, 1}}, Leader: 1, Move: &Move{Adding: []uint64{14}, Removing: []uint64{1}}}
	joining := *p
	joining.Move = &Move{Adding: []uint64{14}, Removing: []uint64{1}, Joining: true}
	for name, tc := range map[string]struct {
		p    *Partition
		m    Members
		self uint64
		want string
	}{
		"a learner is added first":         {p, members(5, []uint64{1, 2}, nil), 1, "false false [l14] 0"},
		"it is waited for":                 {p, members(0, []uint64{1, 2}, []uint64{14}), 1, "false false [] 0"},
		"then there is no way back":        {p, members(5, []uint64{1, 2}, []uint64{14}), 1, "true false [] 0"},
		"all but the leader change":        {&joining, members(5, []uint64{1, 2}, []uint64{14}), 1, "false false [v14] 0"},
		"another leader removes the first": {&joining, members(5, []uint64{1, 2}, []uint64{14}), 2, "false false [v14 r1] 0"},
		"a leader that leaves hands over":  {&joining, members(5, []uint64{1, 2, 14}, nil), 1, "false false [] 14"},
		"done":                             {&joining, members(5, []uint64{2, 14}, nil), 2, "false true [] 0"},
		"a joint configuration ends first": {&joining, Members{Voters: []uint64{2, 14}, Outgoing: []uint64{1, 2}}, 2, "false false [] 0"},
	} {
		s := &GroupStatus{Leading: true, Replica: tc.self, Committed: 400, Members: tc.m}
		for i := range s.Members.Replicas {
			if s.Members.Replicas[i].Match > 0 {
				s.Members.Replicas[i].Match = 400
			}
		}
		if got := nextStep(tc.p, s).String(); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
}

// The controller's voters: as many as are wanted, odd, live, spread over racks;
// a voter that is gone is replaced only by one that is up to date.
func TestPlanVoters(t *testing.T) {
	now := time.UnixMilli(10_000_000)
	all := func(ids ...uint64) (m Members) {
		m.Voters = ids
		for id := range uint64(7) {
			m.Replicas = append(m.Replicas, member(id, 9, slices.Contains(ids, id)))
			if id > 0 && !slices.Contains(ids, id) {
				m.Learners = append(m.Learners, id)
			}
		}
		return m
	}
	five := viewOf("a", "a", "b", "b", "c")
	gone := viewOf("a", "b", "c", "d")
	gone.brokers[2].Offline, gone.brokers[2].OfflineSinceMs = true, now.Add(-time.Hour).UnixMilli()
	short := viewOf("a", "b", "c", "d")
	short.brokers[2].Offline, short.brokers[2].OfflineSinceMs = true, now.Add(-time.Second).UnixMilli()
	draining := viewOf("a", "b", "c", "d")
	draining.brokers[1].Draining = true
	for name, tc := range map[string]struct {
		v    *View
		m    Members
		self uint64
		want string
	}{
		"new brokers are learners": {viewOf("a", "b"), Members{Voters: []uint64{1}}, 1, "[l2] 0"},
		"two brokers, one voter":   {viewOf("a", "b"), Members{Voters: []uint64{1}, Learners: []uint64{2}, Replicas: all().Replicas}, 1, "[] 0"},
		"one becomes three at once": {viewOf("a", "b", "c"), Members{Voters: []uint64{1}, Learners: []uint64{2, 3}, Replicas: all().Replicas}, 1,
			"[v2 v3] 0"},
		"not before both are up to date": {viewOf("a", "b", "c"), Members{Voters: []uint64{1}, Learners: []uint64{2, 3}, Replicas: all().Replicas[:3]}, 1, "[] 0"},
		"racks are spread": {viewOf("a", "a", "b", "c"), Members{Voters: []uint64{1}, Learners: []uint64{2, 3, 4}, Replicas: all().Replicas}, 1,
			"[v3 v4] 0"},
		"all five vote": {five, Members{Voters: []uint64{1, 2, 3}, Learners: []uint64{4, 5}, Replicas: all().Replicas}, 1,
			"[v5 v4] 0"},
		"one who is away for long is replaced": {gone, Members{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}, Replicas: all().Replicas}, 1,
			"[v4 l2] 0"},
		"not one who is away for a moment": {short, Members{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}, Replicas: all().Replicas}, 1, "[] 0"},
		"a leader that drains hands over":  {draining, Members{Voters: []uint64{1, 2, 3}, Learners: []uint64{4}, Replicas: all(1, 2, 3).Replicas}, 1, "[] 2"},
		"an unregistered voter goes": {viewOf("a", "b", "c"), Members{Voters: []uint64{1, 2, 9}, Learners: []uint64{3}, Replicas: all().Replicas}, 1,
			"[v3 r9] 0"},
		"one change at a time": {viewOf("a", "b"), Members{Voters: []uint64{1}, Outgoing: []uint64{1}}, 1, "[] 0"},
	} {
		if got := planVoters(tc.v, tc.m, tc.self, now, time.Minute).String(); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
	for n, want := range []int{1, 1, 1, 3, 3, 5, 5, 5, 5} {
		if got := votersWanted(n); got != want {
			t.Errorf("%d brokers have %d voters, want %d", n, got, want)
		}
	}
}

func member(id, match uint64, voter bool) multiraft.Member {
	return multiraft.Member{Replica: id, Match: record.Index(match), Voter: voter, Active: match > 0}
}

func (s moveStep) String() string {
	return fmt.Sprintf("%v %v [%s] %d", s.joining, s.done, raftpb.ConfChangesToString(s.changes), s.transfer)
}

func (c voterChange) String() string {
	return fmt.Sprintf("[%s] %d", raftpb.ConfChangesToString(c.changes), c.transfer)
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidewater/broker/multiraft"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// inCluster runs fn in a cluster of n founders that are all online.
func inCluster(t *testing.T, n int, fn func(w *world)) {
	inWorld(t, n, func(w *world) {
		for _, b := range w.all() {
			b.start()
		}
		w.until("all are online", func() bool { return w.online() == n })
		fn(w)
	})
}

// follower is a broker that does not lead the controller.
func (w *world) follower() *node {
	l := w.leader()
	for _, n := range w.all() {
		if n != l && n.c != nil {
			return n
		}
	}
	w.t.Fatal("everybody leads")
	return nil
}

func (w *world) create(n *node, name string, partitions int32, replicas int16) *Topic {
	w.t.Helper()
	topic, err := n.c.CreateTopic(context.Background(), TopicSpec{Name: name, Partitions: partitions, ReplicationFactor: replicas}, false)
	if err != nil {
		w.t.Fatalf("create %s: %v", name, err)
	}
	return topic
}

// A change made on a follower is carried out by the leader, once, however many
// requests and answers are lost on the way; its answer is the command's own,
// and the follower's view shows it.
func TestForwardedOnce(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		ctx := context.Background()
		f := w.follower()
		var mu sync.Mutex
		calls := 0
		w.mu.Lock()
		w.onCall = func(_, _ string, m Method) (bool, bool) {
			mu.Lock()
			defer mu.Unlock()
			if m != MethodPropose {
				return false, false
			}
			calls++
			return calls%3 == 1, calls%3 == 2 // the third try is answered
		}
		w.mu.Unlock()
		seen := map[int64]bool{}
		for i := range 10 {
			topic := w.create(f, fmt.Sprint("t", i), 1, 3)
			if f.c.View().Topic(topic.ID) == nil {
				t.Errorf("topic %d was answered and is not seen", i)
			}
			if _, err := f.c.CreateTopic(ctx, TopicSpec{Name: topic.Name, Partitions: 1, ReplicationFactor: 3}, false); !errors.Is(err, ErrTopicExists) {
				t.Errorf("create a topic that is there: %v", err)
			}
			first, err := f.c.AllocateProducerIDs(ctx, 5)
			if err != nil || first != int64(5*i) || seen[first] {
				t.Fatalf("producer ids from %d, %v: a command was carried out twice, or not at all", first, err)
			}
		}
		if calls < 30 {
			t.Errorf("only %d calls: nothing was lost", calls)
		}
	})
}

// A leader that falls while a follower's command is on its way: the command
// happens once all the same, by the next leader.
func TestForwardedAcrossLeaders(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		f, l := w.follower(), w.leader()
		var once sync.Once
		w.mu.Lock()
		w.onCall = func(_, _ string, m Method) (bool, bool) {
			lost := false
			if m == MethodPropose {
				once.Do(func() { lost = true; go l.crash() })
			}
			return false, lost
		}
		w.mu.Unlock()
		first, err := f.c.AllocateProducerIDs(context.Background(), 7)
		if err != nil || first != 0 {
			t.Fatalf("first id %d, %v", first, err)
		}
		if now := w.leader(); now == l || now.c.View().NextProducerID() != 7 {
			t.Errorf("node %d leads, next producer id is %d", now.id, now.c.View().NextProducerID())
		}
		l.start()
		w.until("it is back", func() bool { return w.online() == 3 })
	})
}

// Without a majority a change ends at its deadline with an error that says what
// is missing, and nothing hangs.
func TestNoLeaderIsSaid(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		for _, id := range []int32{2, 3} {
			w.node(id).crash()
		}
		time.Sleep(10 * time.Second)
		ctx, stop := context.WithTimeout(context.Background(), 3*time.Second)
		defer stop()
		_, err := w.node(1).c.CreateTopic(ctx, TopicSpec{Name: "t", Partitions: 1, ReplicationFactor: 1}, false)
		if !errors.Is(err, ErrNotController) || !strings.Contains(err.Error(), "1 of 3 brokers answer") {
			t.Errorf("got %v", err)
		}
	})
}

// A broker that was away while the others' logs were released gets the whole
// state, and goes on from it across a crash; every change is there.
func TestLaggardGetsTheState(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		f := w.follower()
		f.crash()
		for i := range 20 {
			w.create(w.leader(), fmt.Sprint("t", i), 1, 1)
			time.Sleep(300 * time.Millisecond)
		}
		time.Sleep(3 * time.Second) // checkpoints
		f.start()
		w.until("it is back", func() bool { return w.online() == 3 && f.c.View().TopicCount() == 20 })
		w.until("the states are equal", func() bool {
			return string(f.c.View().Export()) == string(w.leader().c.View().Export())
		})
		f.crash()
		f.start()
		w.until("it is back again", func() bool { return w.online() == 3 && f.c.View().TopicCount() == 20 })
		w.create(f, "after", 1, 3)
		w.until("all have it", func() bool {
			return !slices.ContainsFunc(w.all(), func(n *node) bool { return n.c.View().TopicByName("after") == nil })
		})
	})
}

// A power cut of all brokers at once loses nothing that was answered.
func TestAllRestart(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		for round := range 3 {
			for i := range 5 {
				w.create(w.all()[i%3], fmt.Sprintf("t%d-%d", round, i), 1, 3)
			}
			for _, n := range w.all() {
				n.crash()
			}
			for _, n := range w.all() {
				n.start()
			}
			w.until("all are back", func() bool { return w.online() == 3 })
			if n := w.leader().c.View().TopicCount(); n != 5*(round+1) {
				t.Fatalf("round %d: %d topics", round, n)
			}
		}
	})
}

// A broker that does not answer is marked offline, and online again when it
// does; the marks are commands, not one per heartbeat.
func TestLiveness(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		f := w.follower()
		f.crash()
		w.until("it is offline", func() bool { return w.leader().c.View().Broker(f.id).Offline })
		since := w.leader().c.View().Broker(f.id).OfflineSinceMs
		if since == 0 {
			t.Error("it is not said since when")
		}
		at := w.leader().c.View().Applied()
		time.Sleep(time.Minute)
		if now := w.leader().c.View().Applied(); now != at {
			t.Errorf("%d commands in an idle minute", now-at)
		}
		f.start()
		w.until("it is online", func() bool { return w.online() == 3 })
	})
}

// A second broker with a node id that is in use is refused by name; one whose
// disk was lost takes the id over when the first is known to be gone, as a new
// replica of the controller; the old directory is then refused.
func TestNodeIDIsFenced(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		second := &node{w: w, id: 3, addr: "other:33145"}
		second.wipe()
		w.mu.Lock()
		w.nodes[second.addr] = second
		w.mu.Unlock()
		second.start()
		w.until("it is refused", func() bool { return errors.Is(second.failure(), ErrFenced) })
		if !strings.Contains(second.failure().Error(), "choose another --node-id") {
			t.Errorf("it is told %v", second.failure())
		}
		second.crash()
		w.mu.Lock()
		delete(w.nodes, second.addr)
		w.mu.Unlock()

		third := w.node(3)
		third.crash()
		old := *third.member
		disk, log, store, boots := third.diskID, third.log, third.store, third.boots
		third.wipe()
		third.start()
		w.until("it is in again", func() bool { return w.online() == 3 && third.member != nil })
		if third.member.Replica == old.Replica || third.member.Founder {
			t.Errorf("its replica is %+v, it was %d", third.member, old.Replica)
		}
		w.until("the old replica is gone", func() bool {
			m := w.members()
			return !slices.Contains(m.Voters, old.Replica) && slices.Contains(m.Voters, third.member.Replica) && len(m.Voters) == 3
		})
		// The old directory comes back in its place.
		third.crash()
		third.diskID, third.log, third.store, third.boots, third.member = disk, log, store, boots, &old
		third.start()
		w.until("it is refused", func() bool { return errors.Is(third.failure(), ErrFenced) })
	})
}

// Partitions follow their topic's target through joint changes while records
// come in; no acked one is lost, and replica ids are new.
func TestReassign(t *testing.T) {
	inCluster(t, 5, func(w *world) {
		ctx := context.Background()
		l := w.leader()
		topic, err := l.c.CreateTopic(ctx, TopicSpec{Name: "t", Assignment: [][]int32{{1, 2, 3}}}, false)
		if err != nil {
			t.Fatal(err)
		}
		id := record.PartitionID{Topic: topic.ID}
		acked := uint64(0)
		write := func(n int) {
			for range n {
				w.until("a record is acked", func() bool { return w.produce(id, acked) })
				acked++
			}
		}
		write(3)
		used := map[uint64]bool{}
		for _, target := range [][]int32{{4, 5, 3}, {1, 5, 3}, {2}, {3, 2, 1}, {5, 4, 3, 2, 1}, {1, 2, 3}} {
			for _, r := range w.leader().c.View().PartitionOf(id).Replicas {
				used[r.ID] = true
			}
			before := w.leader().c.View().PartitionOf(id).Nodes()
			errs, err := w.follower().c.AlterReassignments(ctx, []Reassignment{{id, target}})
			if err != nil || errs[0] != nil {
				t.Fatalf("reassign to %v: %v, %v", target, err, errs)
			}
			write(2)
			w.until(fmt.Sprint("it is on ", target), func() bool { return w.settled(id, acked, target...) })
			for _, r := range w.leader().c.View().PartitionOf(id).Replicas {
				if used[r.ID] && !slices.Contains(before, r.Node) {
					t.Errorf("replica id %d came back", r.ID)
				}
			}
			write(1)
		}
	})
}

// A move whose target does not come is taken back, and leaves what there was;
// a new one takes its place.
func TestReassignTakenBack(t *testing.T) {
	inCluster(t, 4, func(w *world) {
		ctx := context.Background()
		topic, err := w.leader().c.CreateTopic(ctx, TopicSpec{Name: "t", Assignment: [][]int32{{1, 2, 3}}}, false)
		if err != nil {
			t.Fatal(err)
		}
		id := record.PartitionID{Topic: topic.ID}
		alter := func(target []int32) error {
			errs, err := w.node(1).c.AlterReassignments(ctx, []Reassignment{{id, target}})
			return errors.Join(append(errs, err)...)
		}
		if err := alter(nil); !errors.Is(err, ErrNotMoving) {
			t.Errorf("take back nothing: %v", err)
		}
		w.node(4).crash()
		if err := alter([]int32{4, 2, 3}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if p := w.node(1).c.View().PartitionOf(id); p.Move == nil || p.Move.Joining {
			t.Errorf("with node 4 away the move is %+v", p.Move)
		}
		if err := alter(nil); err != nil {
			t.Errorf("take back: %v", err)
		}
		w.until("it is as it was", func() bool { return w.settled(id, 0, 1, 2, 3) })
		if err := alter([]int32{4, 2, 3}); err != nil {
			t.Fatal(err)
		}
		if err := alter([]int32{2, 3}); err != nil {
			t.Errorf("another move instead: %v", err)
		}
		w.until("it is on 2 and 3", func() bool { return w.settled(id, 0, 2, 3) })
		w.node(4).start()
	})
}

// A wiped disk: every replica on it is made anew under a new id, and the
// partitions lose nothing.
func TestWipedDiskIsRepaired(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		topic := w.create(w.leader(), "t", 4, 3)
		acked := map[record.PartitionID]uint64{}
		for i := range topic.Partitions {
			id := record.PartitionID{Topic: topic.ID, Partition: int32(i)}
			for range 3 {
				w.until("a record is acked", func() bool { return w.produce(id, acked[id]) })
				acked[id]++
			}
		}
		old := map[uint64]bool{}
		for _, p := range topic.Partitions {
			for _, r := range p.Replicas {
				old[r.ID] = r.Node == 2
			}
		}
		two := w.node(2)
		two.crash()
		two.wipe()
		two.start()
		for id, n := range acked {
			nodes := w.leader().c.View().PartitionOf(id).Nodes()
			w.until("it is whole again", func() bool {
				p := w.leader().c.View().PartitionOf(id)
				return w.settled(id, n, p.Nodes()...) && !slices.ContainsFunc(p.Replicas, func(r Replica) bool { return old[r.ID] })
			})
			if now := w.leader().c.View().PartitionOf(id).Nodes(); !slices.Equal(now, nodes) {
				t.Errorf("partition %d went from %v to %v", id.Partition, nodes, now)
			}
		}
	})
}

// A broker that drains loses its leads and replicas and can then be taken out;
// before, it cannot. What is left is spread, and it does not come back.
func TestDecommission(t *testing.T) {
	for _, asked := range []int32{2, 4} { // another, and the one that goes
		t.Run(fmt.Sprintf("broker %d is asked", asked), func(t *testing.T) { decommission(t, asked) })
	}
}

func decommission(t *testing.T, asked int32) {
	inCluster(t, 5, func(w *world) {
		ctx := context.Background()
		topic := w.create(w.leader(), "t", 10, 3)
		w.until("all lead", func() bool { return w.led(topic.ID) == 10 })
		c := w.node(2).c
		if err := c.UnregisterBroker(ctx, 4); !errors.Is(err, ErrInvalidRequest) {
			t.Errorf("unregister a broker with replicas: %v", err)
		}
		if err := c.SetDraining(ctx, 4, true); err != nil {
			t.Fatal(err)
		}
		w.until("it is empty", func() bool { return w.leader().c.View().Load(4).Replicas == 0 })
		if err := w.node(asked).c.UnregisterBroker(ctx, 4); err != nil {
			t.Fatal(err)
		}
		w.until("the group forgets it", func() bool {
			m := w.members()
			return len(m.Voters) == 3 && len(m.Learners) == 1 && len(m.Outgoing) == 0
		})
		four := w.node(4)
		w.until("it ends", func() bool { return errors.Is(four.failure(), ErrFenced) })
		four.crash()
		four.start()
		w.until("it is refused", func() bool { return four.failure() != nil })
		for i := range topic.Partitions {
			p := w.leader().c.View().PartitionOf(record.PartitionID{Topic: topic.ID, Partition: int32(i)})
			if len(p.Replicas) != 3 || slices.Contains(p.Nodes(), 4) {
				t.Errorf("partition %d is on %v", i, p.Nodes())
			}
		}
	})
}

// led counts the partitions of a topic whose leader is known and online.
func (w *world) led(id record.TopicID) int {
	n := 0
	v := w.leader().c.View()
	for _, p := range v.Topic(id).Partitions {
		if b := v.Broker(p.Leader); b != nil && !b.Offline {
			n++
		}
	}
	return n
}

// preferredLeads counts the partitions that their first replica leads.
func (w *world) preferredLeads(id record.TopicID) int {
	n := 0
	for _, p := range w.leader().c.View().Topic(id).Partitions {
		if p.Leader == p.Replicas[0].Node {
			n++
		}
	}
	return n
}

// Leadership goes to the preferred replicas by itself, away from a broker in
// maintenance, also across its restart, and back after it.
func TestMaintenance(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		ctx := context.Background()
		topic := w.create(w.leader(), "t", 9, 3)
		w.until("the preferred ones lead", func() bool { return w.preferredLeads(topic.ID) == 9 })
		if err := w.node(1).c.SetMaintenance(ctx, 2, true); err != nil {
			t.Fatal(err)
		}
		onTwo := func() int {
			n := 0
			for _, p := range w.leader().c.View().Topic(topic.ID).Partitions {
				if p.Leader == 2 {
					n++
				}
			}
			return n
		}
		w.until("node 2 leads nothing", func() bool { return onTwo() == 0 && w.led(topic.ID) == 9 })
		w.node(2).crash()
		w.node(2).start()
		w.until("it is back", func() bool { return w.online() == 3 })
		time.Sleep(20 * time.Second)
		if n := onTwo(); n != 0 {
			t.Errorf("after a restart in maintenance it leads %d", n)
		}
		id := record.PartitionID{Topic: topic.ID}
		for i, p := range w.leader().c.View().Topic(topic.ID).Partitions {
			if p.Replicas[0].Node == 2 {
				id.Partition = int32(i)
			}
		}
		if _, errs := w.node(1).c.ElectLeaders(ctx, []record.PartitionID{id}); !errors.Is(errs[0], ErrPreferredNotAvailable) {
			t.Errorf("elect a leader in maintenance: %v", errs)
		}
		if err := w.node(1).c.SetMaintenance(ctx, 2, false); err != nil {
			t.Fatal(err)
		}
		w.until("node 2 leads again", func() bool { return w.preferredLeads(topic.ID) == 9 })
		if _, errs := w.node(1).c.ElectLeaders(ctx, []record.PartitionID{id}); !errors.Is(errs[0], ErrElectionNotNeeded) {
			t.Errorf("elect the leader there is: %v", errs)
		}
	})
}

// New brokers get their share of the replicas, a few at a time, and then it is
// quiet.
func TestBalance(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		topic := w.create(w.leader(), "t", 8, 3)
		w.until("all lead", func() bool { return w.led(topic.ID) == 8 })
		w.node(4).start()
		w.until("it has its share", func() bool {
			v := w.leader().c.View()
			if len(v.Moving()) > 4 {
				t.Errorf("%d moves at a time", len(v.Moving()))
			}
			// It shares a rack with node 1, and every partition is on all racks.
			return v.Load(4).Replicas == 4 && v.Load(1).Replicas == 4 && len(v.Moving()) == 0
		})
		w.until("the preferred ones lead", func() bool { return w.preferredLeads(topic.ID) == 8 })
		w.until("it is quiet", func() bool {
			at := w.leader().c.View().Applied()
			time.Sleep(30 * time.Second)
			return w.leader().c.View().Applied() == at
		})
		if n := w.preferredLeads(topic.ID); n != 8 {
			t.Errorf("when all is even %d of 8 are led by the preferred one", n)
		}
	})
}

// A partition moves only once it has led; from then on a replica that its
// journal does not know joins, and never begins the group again. The same goes
// for a founder's replica of the controller whose store is not empty.
func TestUnknownReplicasJoinAfterAMove(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		l := w.leader()
		topic := w.create(l, "t", 1, 3)
		id := record.PartitionID{Topic: topic.ID}
		p := topic.Partitions[0]
		if p.Joining() || !slices.Equal(p.Voters(), idsOf(p.Replicas)) {
			t.Errorf("a new partition is %+v", p)
		}
		s := stateOf(*l.c.View())
		if _, err := s.moved(p, []int32{1, 2}, 0); !errors.Is(err, ErrNotReady) {
			t.Errorf("moved before it led: %v", err)
		}
		errs, err := l.c.AlterReassignments(context.Background(), []Reassignment{{id, []int32{1, 2}}})
		if err != nil || errs[0] != nil {
			t.Fatal(err, errs)
		}
		w.until("it is on 1 and 2", func() bool { return w.settled(id, 0, 1, 2) })
		if v, err := w.node(3).c.Fresh(context.Background()); err != nil || !v.PartitionOf(id).Joining() {
			t.Errorf("after a move a fresh view lets a replica begin the group: %v", err)
		}
		three := w.node(3)
		if gc := three.c.GroupConfig(); gc.Origin != multiraft.Founding {
			t.Errorf("on an empty store a founder is to be %v", gc.Origin)
		}
		time.Sleep(3 * time.Second) // a checkpoint
		three.crash()
		three.log = disk.NewMem(0) // the journal is gone, the store is not
		three.start()
		w.until("it does not begin again", func() bool { return errors.Is(three.failure(), multiraft.ErrMissing) })
	})
}

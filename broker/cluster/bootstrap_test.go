package cluster

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// Brokers with the same seeds make one cluster, whose voters are all seeds;
// all of them show it, with every broker online.
func TestBootstrapFromSeeds(t *testing.T) {
	for _, n := range []int{1, 3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inWorld(t, n, func(w *world) {
				for _, b := range w.all() {
					b.start()
					time.Sleep(time.Second)
				}
				w.until("all are online", func() bool { return w.online() == n })
				id := w.leader().c.View().Identity()
				for _, b := range w.all() {
					if b.member.Identity != id || id.Incarnation != 1 {
						t.Errorf("node %d is in %x, the cluster is %x", b.id, b.member.Identity, id)
					}
				}
				if got := w.voters(); len(got) != n {
					t.Errorf("voters are %v", got)
				}
			})
		})
	}
}

// online counts the brokers that the leader's view has online.
func (w *world) online() int {
	n := 0
	for _, b := range w.leader().c.View().Brokers() {
		if !b.Offline {
			n++
		}
	}
	return n
}

// Further brokers join as learners; the group grows to three and five voters,
// never to an even number, and no further.
func TestJoinGrowsTheGroup(t *testing.T) {
	inWorld(t, 1, func(w *world) {
		w.node(1).start()
		w.leader()
		for _, step := range []struct {
			id     int32
			voters []int32
		}{{2, []int32{1}}, {3, []int32{1, 2, 3}}, {4, []int32{1, 2, 3}}, {5, []int32{1, 2, 3, 4, 5}}, {6, []int32{1, 2, 3, 4, 5}}} {
			w.node(step.id).start()
			w.until("joined", func() bool { return w.online() == int(step.id) })
			w.until(fmt.Sprint("voters are ", step.voters), func() bool { return slices.Equal(w.voters(), step.voters) })
		}
		if n := w.node(6); n.member.Founder || n.member.Replica != 6 {
			t.Errorf("the last joined as %+v", n.member)
		}
	})
}

// foundingWithCrash founds a cluster of three and crashes the broker to which
// event number at happens, once; wiped says that its disk is lost as well. It
// gives the number of events.
func foundingWithCrash(t *testing.T, at int, wiped bool) (events int) {
	inWorld(t, 3, func(w *world) {
		var mu sync.Mutex
		crashed := make(chan struct{})
		happens := func(n *node, what string) bool {
			mu.Lock()
			defer mu.Unlock()
			if events++; events-1 != at {
				return false
			}
			go func() {
				n.crash()
				if wiped {
					n.wipe()
				}
				close(crashed)
			}()
			return true
		}
		founded := map[[16]byte]bool{}
		w.onCall = func(from, to string, m Method) (bool, bool) {
			if m != MethodHello {
				return false, false
			}
			w.mu.Lock()
			asker := w.nodes[from]
			w.mu.Unlock()
			return happens(asker, "asks"), happens(asker, "is answered")
		}
		w.onSave = func(n *node, m Membership) (before, after error) {
			if happens(n, "saves") {
				return errCut, nil
			}
			mu.Lock()
			founded[m.ClusterID] = true
			mu.Unlock()
			if happens(n, "saved") {
				return nil, errCut
			}
			return nil, nil
		}
		for _, n := range w.all() {
			n.start()
		}
		select {
		case <-crashed:
		case <-time.After(20 * time.Second):
		}
		for _, n := range w.all() {
			if n.stop == nil {
				n.start()
			}
		}
		w.until("all three are in", func() bool { return w.online() == 3 })
		id := w.leader().c.View().Identity()
		for _, n := range w.all() {
			if n.member == nil || n.member.Identity != id {
				t.Errorf("event %d, wiped %v: node %d is in %+v, the cluster is %x", at, wiped, n.id, n.member, id)
			}
		}
		w.until("three voters", func() bool { return slices.Equal(w.voters(), []int32{1, 2, 3}) })
	})
	return events
}

// A crash of any broker at any moment of the founding, with or without its
// disk, ends in one cluster of all three: no broker is left in another, though
// a founder may have named one that nobody else took.
func TestFoundingSurvivesCrashes(t *testing.T) {
	n := foundingWithCrash(t, -1, false)
	for at := range min(n, 24) {
		foundingWithCrash(t, at, false)
		foundingWithCrash(t, at, true)
	}
}

// Whatever is stale, lost or restarted under another node id while a cluster
// is founded: no two clusters ever have a majority, at one moment, of those
// that their records name, so at most one of them decides anything. Rounds of asking are cut into single answers, so that a
// decision is made on answers of different times.
func TestNeverTwoClusters(t *testing.T) {
	founded := 0
	for seed := range 1000 {
		r := newRand(seed)
		const n = 3
		type broker struct {
			id      int32
			disk    byte
			member  *Membership
			answers map[int]seedAnswer
		}
		seeds := []string{"a", "b", "c"}
		brokers := make([]broker, n)
		for i := range brokers {
			brokers[i] = broker{id: int32(i + 1), disk: byte(i + 1), answers: map[int]seedAnswer{}}
		}
		taken := map[[16]byte]map[byte]bool{} // by cluster: disks that took it
		names := map[[16]byte][]Member{}
		decided := map[[16]byte]bool{} // had a majority at some moment
		wipes, disks := 0, byte(n)
		for range 120 {
			i, k := r.IntN(n), r.IntN(n)
			b := &brokers[i]
			switch r.IntN(20) {
			case 0:
				if b.member == nil { // its memory is gone, and it has another id
					b.id, b.answers = int32(r.IntN(6)), map[int]seedAnswer{}
				}
			case 1:
				if wipes++; wipes <= 1 {
					disks++
					for _, by := range taken {
						delete(by, b.disk)
					}
					*b = broker{id: b.id, disk: disks, answers: map[int]seedAnswer{}}
				}
			default:
				if o := &brokers[k]; r.IntN(5) > 0 {
					h := hello{Node: o.id, Disk: [16]byte{o.disk}, Seeds: seedsHash(seeds), Member: o.member}
					b.answers[k] = seedAnswer{addr: seeds[k], hello: h}
					continue
				}
				if b.member != nil || len(b.answers) < n {
					continue
				}
				j := &Joiner{cfg: JoinConfig{Registration: Registration{ID: b.id, Disk: [16]byte{b.disk}}, Seeds: seeds, Random: &counting{byte(r.IntN(250))}}}
				var answers []seedAnswer
				for k := range n {
					answers = append(answers, b.answers[k])
				}
				if d, err := j.decide(answers); err == nil && d.via == "" {
					b.member = &d.member
					if taken[d.member.ClusterID] == nil {
						taken[d.member.ClusterID] = map[byte]bool{}
					}
					taken[d.member.ClusterID][b.disk] = true
					names[d.member.ClusterID] = d.member.Members
				}
			}
			for id, by := range taken {
				votes := 0
				for _, m := range names[id] {
					if by[m.Disk[0]] {
						votes++
					}
				}
				if votes > len(names[id])/2 {
					decided[id] = true
				}
			}
		}
		if len(decided) > 1 {
			t.Fatalf("seed %d: %d clusters had a majority each", seed, len(decided))
		}
		founded += len(decided)
	}
	if founded < 100 {
		t.Errorf("only %d of 1,000 worlds came to a cluster", founded)
	}
}

// What a person must mend is said, and not waited for.
func TestJoinRefuses(t *testing.T) {
	me := Registration{ID: 1, Disk: [16]byte{1}}
	seeds := []string{"a", "b"}
	hash := seedsHash(seeds)
	member := func(id byte) *Membership {
		return &Membership{Identity: Identity{ClusterID: [16]byte{id}, Incarnation: 1}, Node: 9, Replica: 1}
	}
	for name, answers := range map[string][]seedAnswer{
		"two clusters": {{addr: "a", hello: hello{Node: 3, Seeds: hash, Member: member(1)}}, {addr: "b", hello: hello{Node: 4, Seeds: hash, Member: member(2)}}},
		"two brokers of one id": {{addr: "a", hello: hello{Node: 1, Disk: [16]byte{1}, Seeds: hash}},
			{addr: "b", hello: hello{Node: 1, Disk: [16]byte{2}, Seeds: hash}}},
		"two restores": {{addr: "a", hello: hello{Node: 1, Disk: [16]byte{1}, Seeds: hash, Brings: true}}, {addr: "b", hello: hello{Node: 2, Seeds: hash, Brings: true}}},
	} {
		j := NewJoiner(JoinConfig{Registration: me, Seeds: seeds}, nil)
		if _, err := j.decide(answers); !errors.Is(err, ErrFenced) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, answers := range map[string][]seedAnswer{
		"a seed is silent": {{addr: "a", hello: hello{Node: 1, Disk: [16]byte{1}, Seeds: hash}}, {addr: "b", err: errCut}},
		"another list":     {{addr: "a", hello: hello{Node: 1, Disk: [16]byte{1}, Seeds: hash}}, {addr: "b", hello: hello{Node: 2, Seeds: [32]byte{1}}}},
		"another founds":   {{addr: "a", hello: hello{Node: 1, Disk: [16]byte{1}, Seeds: hash}}, {addr: "b", hello: hello{Node: 0, Disk: [16]byte{2}, Seeds: hash}}},
		"I am no seed":     {{addr: "a", hello: hello{Node: 2, Disk: [16]byte{2}, Seeds: hash}}, {addr: "b", hello: hello{Node: 3, Disk: [16]byte{3}, Seeds: hash}}},
	} {
		j := NewJoiner(JoinConfig{Registration: me, Seeds: seeds}, nil)
		if d, err := j.decide(answers); err == nil || errors.Is(err, ErrFenced) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

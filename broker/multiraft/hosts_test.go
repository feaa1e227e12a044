package multiraft

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidewater/broker/journal"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// hosts are brokers with loops of their own, joined by calls.
type hosts struct {
	mu  sync.Mutex
	all map[int32]*Host
}

func (h *hosts) get(node int32) *Host {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all[node]
}

// Send implements Transport.
func (h *hosts) Send(messages []Message) {
	for i := range messages {
		if to := h.get(messages[i].Node); to != nil {
			to.Receive(messages[i : i+1])
		}
	}
}

// openHosts opens three brokers that know that all are up.
func openHosts(tb testing.TB, fs func(node int32) disk.FS) *hosts {
	tb.Helper()
	h := &hosts{all: map[int32]*Host{}}
	for node := int32(1); node <= 3; node++ {
		one := openHost(tb, fs(node), func(c *Config) { c.Node, c.Transport = node, h })
		h.mu.Lock()
		h.all[node] = one
		h.mu.Unlock()
	}
	for a, one := range h.all {
		for b := range h.all {
			if a != b {
				one.PeerUp(b, 1)
			}
		}
	}
	return h
}

// lose closes a broker; the others are told.
func (h *hosts) lose(tb testing.TB, node int32) {
	tb.Helper()
	gone := h.get(node)
	h.mu.Lock()
	delete(h.all, node)
	h.mu.Unlock()
	if err := gone.Close(); err != nil {
		tb.Error(err)
	}
	for _, one := range h.all {
		one.PeerDown(node)
	}
}

// leads is a machine that says when its replica is Ready and how far it is.
type leads struct {
	node      int32
	ready     chan int32
	committed atomic.Uint64
	moved     chan struct{} // holds a token when committed has moved
}

func (l *leads) Append(Entry) error    { return nil }
func (l *leads) Truncate(record.Index) {}
func (l *leads) Stopped(error)         {}
func (l *leads) Lead(s Leadership) {
	if s.Ready {
		l.ready <- l.node
	}
}

func (l *leads) Commit(last record.Index) {
	l.committed.Store(uint64(last))
	select {
	case l.moved <- struct{}{}:
	default:
	}
}

// wait returns when index is committed.
func (l *leads) wait(index record.Index) {
	for l.committed.Load() < uint64(index) {
		<-l.moved
	}
}

// startThree founds groups on three brokers; it gives their machines by group
// and broker.
func startThree(tb testing.TB, h *hosts, groups int) [][4]*leads {
	tb.Helper()
	machines := make([][4]*leads, groups)
	for i := range machines {
		ready := make(chan int32, 64)
		for node := int32(1); node <= 3; node++ {
			machines[i][node] = &leads{node: node, ready: ready, moved: make(chan struct{}, 1)}
		}
	}
	for node, one := range h.all {
		var gcs []GroupConfig
		for i := range groups {
			gcs = append(gcs, GroupConfig{ID: groupID(i), Replica: uint64(node), Voters: []uint64{1, 2, 3}, StateMachine: machines[i][node],
				NodeOf: func(r uint64) (int32, bool) { return int32(r), true }})
		}
		for _, err := range one.StartAll(gcs) {
			if err != nil {
				tb.Fatal(err)
			}
		}
	}
	return machines
}

// A broker closes; each group that it led is led by another soon after that is
// known, on loops and clocks as they run in a broker.
func TestHostsFollowALostBroker(t *testing.T) {
	const groups = 30
	h := openHosts(t, func(int32) disk.FS { return disk.NewMem(0) })
	machines := startThree(t, h, groups)
	led := make([]int32, groups)
	var leads [4]int
	for i := range led {
		led[i] = <-machines[i][1].ready
		leads[led[i]]++
	}
	lost := int32(1)
	for node := range leads {
		if leads[node] > leads[lost] {
			lost = int32(node) // one that leads something, whoever was first
		}
	}
	began := time.Now()
	h.lose(t, lost)
	for i := range led {
		for led[i] == lost {
			led[i] = <-machines[i][1].ready
		}
	}
	t.Logf("%d groups of broker %d are led again after %s", leads[lost], lost, time.Since(began))
}

// BenchmarkThree asks how many entries of 16 KiB a second commit on three
// replicas, each with a journal of its own under the test's directory on one
// disk, with one entry in flight for each group:
// go test -run - -bench Three ./broker/multiraft
func BenchmarkThree(b *testing.B) {
	for _, groups := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(groups, "-groups"), func(b *testing.B) { benchThree(b, groups) })
	}
}

func benchThree(b *testing.B, groups int) {
	dir := b.TempDir()
	h := openHosts(b, func(node int32) disk.FS {
		fs, err := disk.NewOS(fmt.Sprint(dir, "/", node), nil)
		if err != nil {
			b.Fatal(err)
		}
		return fs
	})
	machines := startThree(b, h, groups)
	leader := make([]int32, groups)
	for i := range leader {
		leader[i] = <-machines[i][1].ready
	}
	data := make([]byte, 16<<10)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	b.ResetTimer()
	start := time.Now()
	var left atomic.Int64
	left.Store(int64(b.N))
	var moves atomic.Int64
	var wg sync.WaitGroup
	for i := range leader {
		wg.Go(func() { produceThree(h, machines[i], leader[i], groupID(i), data, &left, &moves) })
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "commits/s")
	b.ReportMetric(float64(moves.Load()), "leaders-lost")
}

// produceThree proposes one entry after another, to whoever leads, and waits for
// each to be committed; every eighth has all replicas let go.
func produceThree(h *hosts, of [4]*leads, at int32, id record.PartitionID, data []byte, left, moves *atomic.Int64) {
	proposed := make(chan record.Index, 1)
	for n := 0; left.Add(-1) >= 0; n++ {
		for node := int32(1); node <= 3 && n%8 == 7; node++ {
			_ = h.get(node).Do(id, func(g *Group) {
				at := g.Committed()
				term, _ := g.log.Term(uint64(at))
				g.Release(journal.Mark{Index: at, Term: term})
			})
		}
		for index := record.Index(0); index == 0; {
			err := h.get(at).Do(id, func(g *Group) {
				index, _ := g.Propose(data)
				proposed <- index
			})
			if err != nil {
				panic(err)
			}
			if index = <-proposed; index == 0 {
				at = at%3 + 1
				moves.Add(1)
				continue
			}
			of[at].wait(index)
		}
	}
}

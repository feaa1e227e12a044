package peer

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// wired is a broker as far as replication goes: a journal, a host of raft
// groups, a network between them, and a machine per group.
type wired struct {
	w        *wiring
	node     int32
	host     *multiraft.Host
	journal  *journal.Journal
	net      atomic.Pointer[Network]
	addr     string
	boots    uint64
	machines map[record.PartitionID]*ledger
}

// wiring is three brokers; every way from one to another has its own proxy.
type wiring struct {
	tb      testing.TB
	brokers []*wired
	proxies map[[2]int32]*proxy // from, to; none in a benchmark
	groups  []record.PartitionID
	// gates get a token when a group's leader commits, in a benchmark.
	gates map[record.PartitionID]chan struct{}
	again atomic.Int64 // proposals of a benchmark that were lost
	// changed holds a token when anything was committed or elected.
	changed chan struct{}
}

// Send implements multiraft.Transport over whatever network there is now.
func (b *wired) Send(ms []multiraft.Message) {
	if n := b.net.Load(); n != nil {
		n.Send(ms)
	}
}

// ledger is a machine that keeps its log.
type ledger struct {
	b  *wired
	id record.PartitionID

	mu        sync.Mutex // guards what follows
	log       []multiraft.Entry
	committed record.Index
	lead      multiraft.Leadership
	stopped   error
	// bare: in a benchmark entries are let go of as they commit, and the log
	// is only where its terms begin.
	bare    bool
	terms   []termAt
	commits int
}

type termAt struct {
	from record.Index
	term uint64
}

func (l *ledger) Append(e multiraft.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.bare {
		l.log = append(l.log, e)
	} else if n := len(l.terms); n == 0 || l.terms[n-1].term != e.Term {
		l.terms = append(l.terms, termAt{e.Index, e.Term})
	}
	return nil
}

func (l *ledger) Truncate(last record.Index) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.bare {
		l.log = l.log[:last]
		return
	}
	for n := len(l.terms); n > 0 && l.terms[n-1].from > last; n-- {
		l.terms = l.terms[:n-1]
	}
}

// releaseEvery is after how many commits a benchmark's replica lets go.
const releaseEvery = 8

func (l *ledger) Commit(last record.Index) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.committed = last
	if !l.bare {
		l.b.w.signal()
		return
	}
	if l.lead.Ready {
		select {
		case l.b.w.gates[l.id] <- struct{}{}:
		default:
		}
	}
	if l.commits++; l.commits%releaseEvery == 0 {
		i := len(l.terms) - 1
		for l.terms[i].from > last {
			i--
		}
		mark := journal.Mark{Index: last, Term: l.terms[i].term}
		go func() { _ = l.b.host.Do(l.id, func(g *multiraft.Group) { g.Release(mark) }) }()
	}
}

func (l *ledger) Lead(lead multiraft.Leadership) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lead = lead
	l.b.w.signal()
}

func (l *ledger) Stopped(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = err
}

func (w *wiring) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// until waits for a state of the whole.
func (w *wiring) until(what string, ok func() bool) {
	w.tb.Helper()
	timeout := time.After(3 * patience)
	for !ok() {
		select {
		case <-w.changed:
		case <-timeout:
			w.tb.Fatalf("%s never came", what)
		}
	}
}

// newWiring starts three brokers with groups replicated on all of them.
func newWiring(tb testing.TB, groups int, fs func(node int32) disk.FS, proxied, keep bool) *wiring {
	w := &wiring{tb: tb, proxies: map[[2]int32]*proxy{}, gates: map[record.PartitionID]chan struct{}{}, changed: make(chan struct{}, 1)}
	for i := range groups {
		id := record.PartitionID{Topic: record.TopicID{7}, Partition: int32(i)}
		w.groups = append(w.groups, id)
		w.gates[id] = make(chan struct{}, 1)
	}
	for node := int32(1); node <= 3; node++ {
		b := &wired{w: w, node: node, machines: map[record.PartitionID]*ledger{}}
		w.brokers = append(w.brokers, b)
		b.openHost(fs(node))
		b.openNetwork("127.0.0.1:0")
	}
	for _, from := range w.brokers {
		for _, to := range w.brokers {
			if proxied && from != to {
				w.proxies[[2]int32{from.node, to.node}] = newProxy(tb, to.addr)
			}
		}
	}
	w.connect()
	for _, b := range w.brokers {
		b.startGroups(keep)
	}
	return w
}

// connect tells every broker where the others are.
func (w *wiring) connect() {
	for _, from := range w.brokers {
		addrs := map[int32]string{}
		for _, to := range w.brokers {
			addrs[to.node] = to.addr
			if p := w.proxies[[2]int32{from.node, to.node}]; p != nil {
				addrs[to.node] = p.addr()
			}
		}
		if n := from.net.Load(); n != nil {
			n.SetPeers(addrs)
		}
	}
}

func (b *wired) openHost(fs disk.FS) {
	tb := b.w.tb
	j, known, err := journal.Open(journal.Config{FS: fs, Dir: "journal", FirstBytes: 16 << 20, Log: quiet()})
	if err != nil {
		tb.Fatal(err)
	}
	b.journal = j
	if b.host, err = multiraft.Open(multiraft.Config{Node: b.node, Journal: j, Recovered: known, Transport: b, Log: quiet()}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		b.closeNetwork()
		if err := errors.Join(b.host.Close(), j.Close()); err != nil {
			tb.Error(err)
		}
	})
}

func (b *wired) openNetwork(addr string) {
	b.boots++
	n, err := Open(Config{Node: b.node, Boot: b.boots, Addr: addr, Log: quiet(), Receive: b.host.Receive})
	if err != nil {
		b.w.tb.Fatal(err)
	}
	n.Watch(func(node int32, boot uint64, up bool) {
		if up {
			b.host.PeerUp(node, boot)
		} else {
			b.host.PeerDown(node)
		}
	})
	b.addr = n.Addr().String()
	b.net.Store(n)
}

func (b *wired) closeNetwork() {
	if n := b.net.Swap(nil); n != nil {
		if err := n.Close(); err != nil {
			b.w.tb.Error(err)
		}
		for _, o := range b.w.brokers {
			if o != b {
				b.host.PeerDown(o.node) // a broker without a network hears nobody
			}
		}
	}
}

func (b *wired) startGroups(keep bool) {
	var all []multiraft.GroupConfig
	for _, id := range b.w.groups {
		m := &ledger{b: b, id: id}
		m.bare = !keep
		b.machines[id] = m
		all = append(all, multiraft.GroupConfig{ID: id, Replica: uint64(b.node), Voters: []uint64{1, 2, 3}, StateMachine: m,
			NodeOf: func(r uint64) (int32, bool) { return int32(r), true }})
	}
	if err := errors.Join(b.host.StartAll(all)...); err != nil {
		b.w.tb.Fatal(err)
	}
}

// leader gives the broker that leads a group and may be asked, nil for none.
func (w *wiring) leader(id record.PartitionID) *wired {
	var best *wired
	term := uint64(0)
	for _, b := range w.brokers {
		m := b.machines[id]
		m.mu.Lock()
		if m.lead.Ready && m.lead.Term > term {
			best, term = b, m.lead.Term
		}
		m.mu.Unlock()
	}
	return best
}

// write has data committed in a group, proposing it again whenever it may be
// lost.
func (w *wiring) write(id record.PartitionID, data string) {
	w.tb.Helper()
	w.until(fmt.Sprintf("commit of %s in %s", data, id), func() bool {
		b := w.leader(id)
		if b == nil {
			return false
		}
		m := b.machines[id]
		m.mu.Lock()
		committed := slices.ContainsFunc(m.log[:m.committed], func(e multiraft.Entry) bool { return string(e.Data) == data })
		waiting := slices.ContainsFunc(m.log[m.committed:], func(e multiraft.Entry) bool { return string(e.Data) == data })
		m.mu.Unlock()
		if !committed && !waiting {
			_ = b.host.Do(id, func(g *multiraft.Group) { _, _ = g.Propose([]byte(data)) })
		}
		return committed
	})
}

func (w *wiring) writeAll(data string) {
	for _, id := range w.groups {
		w.write(id, data)
	}
}

// agree waits until all logs are whole and equal.
func (w *wiring) agree() {
	w.tb.Helper()
	for _, id := range w.groups {
		w.until("agreement in "+id.String(), func() bool {
			a, b, c := w.log(0, id), w.log(1, id), w.log(2, id)
			return a != "" && a == b && b == c
		})
	}
}

// log gives a replica's log if all of it is committed.
func (w *wiring) log(i int, id record.PartitionID) string {
	m := w.brokers[i].machines[id]
	m.mu.Lock()
	defer m.mu.Unlock()
	if int(m.committed) != len(m.log) {
		return ""
	}
	s := ""
	for _, e := range m.log {
		s += fmt.Sprintf("%d/%d %s\n", e.Index, e.Term, e.Data)
	}
	return s
}

// Three hosts over three networks elect leaders, commit, go on without a
// broker whose network ends, take it back, survive a way that is cut in one
// direction, and end with equal logs.
func TestThreeHosts(t *testing.T) {
	w := newWiring(t, 8, func(int32) disk.FS { return disk.NewMem(0) }, true, true)
	w.writeAll("first")
	w.writeAll("second")

	gone := w.leader(w.groups[0])
	gone.closeNetwork()
	began := time.Now()
	w.writeAll("without a broker")
	t.Logf("groups committed again %s after broker %d was gone", time.Since(began), gone.node)
	gone.openNetwork(gone.addr)
	w.connect()
	w.writeAll("with it again")
	w.agree()

	cut := w.leader(w.groups[0])
	for ways, p := range w.proxies {
		if ways[0] == cut.node {
			p.set(fault{holeOut: true})
		}
	}
	began = time.Now()
	w.writeAll("one way cut")
	t.Logf("groups committed again %s after broker %d could not send", time.Since(began), cut.node)
	for _, p := range w.proxies {
		p.set(fault{})
	}
	w.writeAll("mended")
	w.agree()
	for _, b := range w.brokers {
		for id, m := range b.machines {
			if m.stopped != nil {
				t.Errorf("broker %d group %s: %v", b.node, id, m.stopped)
			}
		}
	}
}

// BenchmarkReplicate asks how many entries of 16 KiB a second three replicas
// commit, each with a journal on the disk under the test's directory and all
// in this process, with one entry in flight for each group:
// go test -run - -bench Replicate ./broker/peer
func BenchmarkReplicate(b *testing.B) {
	for _, groups := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(groups, "-groups"), func(b *testing.B) { benchReplicate(b, groups) })
	}
}

func benchReplicate(b *testing.B, groups int) {
	dir := b.TempDir()
	w := newWiring(b, groups, func(node int32) disk.FS {
		fs, err := disk.NewOS(fmt.Sprintf("%s/%d", dir, node), nil)
		if err != nil {
			b.Fatal(err)
		}
		return fs
	}, false, false)
	data := make([]byte, 16<<10)
	w.produceAll(data, 16*int64(groups)) // journal files are there, marks are made
	flushes, cpu, dropped := w.flushes(), cpuTime(), w.dropped()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	b.ResetTimer()
	began := time.Now()
	w.produceAll(data, int64(b.N))
	b.StopTimer()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "commits/s")
	b.ReportMetric(float64(b.N)/float64(w.flushes()-flushes), "commits/flush")
	b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-us/commit")
	b.ReportMetric(float64(w.dropped()-dropped), "dropped")
	b.ReportMetric(float64(w.again.Load()), "lost")
}

// produceAll has so many entries committed, one at a time in each group.
func (w *wiring) produceAll(data []byte, entries int64) {
	var left atomic.Int64
	left.Store(entries)
	var producers sync.WaitGroup
	for _, id := range w.groups {
		producers.Go(func() {
			for left.Add(-1) >= 0 {
				w.produce(id, data)
			}
		})
	}
	producers.Wait()
}

func (w *wiring) dropped() int64 {
	n := int64(0)
	for _, b := range w.brokers {
		for _, p := range b.net.Load().Stats().Peers {
			for _, l := range p.Lanes {
				n += l.MessagesDropped
			}
		}
	}
	return n
}

func (w *wiring) flushes() int64 {
	n := int64(0)
	for _, b := range w.brokers {
		n += b.host.Stats().Flushes
	}
	return n
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// produce has one entry committed, whoever leads.
func (w *wiring) produce(id record.PartitionID, data []byte) {
	lost := time.NewTimer(0)
	defer lost.Stop()
	for {
		b := w.leader(id)
		if b == nil {
			time.Sleep(time.Millisecond)
			continue
		}
		result := make(chan error, 1)
		err := b.host.Do(id, func(g *multiraft.Group) { _, err := g.Propose(data); result <- err })
		if err == nil {
			err = <-result
		}
		if err != nil {
			time.Sleep(time.Millisecond) // marks or an election are on their way
			continue
		}
		lost.Reset(2 * time.Second)
		select {
		case <-w.gates[id]:
			return
		case <-lost.C:
			w.again.Add(1)
		}
	}
}

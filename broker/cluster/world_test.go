package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// world is several brokers' controllers on their real groups and journals,
// with memory for disks and network, in one synctest bubble.
type world struct {
	t     *testing.T
	seeds []string

	mu    sync.Mutex
	nodes map[string]*node // by address
	cut   map[[2]string]bool
	// onCall is asked about each call, and may lose the request or the answer;
	// onSave about each membership, and may fail before or after it is saved.
	onCall func(from, to string, m Method) (loseRequest, loseAnswer bool)
	onSave func(n *node, m Membership) (before, after error)
}

// node is one broker: what its disk holds, and what runs.
type node struct {
	w    *world
	id   int32
	addr string
	rack string

	// On its disk.
	log    *disk.Mem
	store  *vfs.MemFS
	diskID [16]byte
	boots  uint64
	member *Membership
	tapes  map[record.PartitionID]*tapeState

	// Running, nil when it is not.
	c        *Controller
	host     *multiraft.Host
	j        *journal.Journal
	handlers map[Method]Handler
	peers    map[int32]string
	stop     context.CancelFunc
	done     sync.WaitGroup
	failed   error // why it could not start
	dead     bool  // crashed: nothing leaves it or is saved any more
}

var errCut = errors.New("no way there")

func newWorld(t *testing.T, n int) *world {
	w := &world{t: t, nodes: map[string]*node{}, cut: map[[2]string]bool{}}
	for i := range n {
		w.seeds = append(w.seeds, w.addr(int32(i+1)))
	}
	for i := range n {
		w.node(int32(i + 1))
	}
	return w
}

func (w *world) addr(id int32) string { return fmt.Sprintf("host%d:33145", id) }

// node gives the broker with an id, made when it is new.
func (w *world) node(id int32) *node {
	addr := w.addr(id)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes[addr] == nil {
		n := &node{w: w, id: id, addr: addr, rack: fmt.Sprintf("rack%d", id%3)}
		n.wipe()
		w.nodes[addr] = n
	}
	return w.nodes[addr]
}

// wipe gives the broker an empty disk.
func (n *node) wipe() {
	n.log, n.store = disk.NewMem(0), vfs.NewCrashableMem()
	n.diskID = [16]byte{byte(n.id), byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32()), 1}
	n.boots, n.member, n.tapes = 0, nil, map[record.PartitionID]*tapeState{}
}

func (n *node) registration() Registration {
	return Registration{ID: n.id, Boot: [16]byte{byte(n.id), byte(n.boots)}, Rack: n.rack, Disk: n.diskID, RPCAddr: n.addr, Session: n.boots,
		FeatureMin: FeatureLevelMin, FeatureMax: FeatureLevelMax}
}

// start runs the broker: it joins, opens its controller and registers, in the
// background.
func (n *node) start() {
	ctx, stop := context.WithCancel(context.Background())
	n.w.mu.Lock()
	n.stop, n.failed = stop, nil
	n.boots++
	n.w.mu.Unlock()
	join := NewJoiner(JoinConfig{Registration: n.registration(), Seeds: n.w.seeds, Peers: n, Log: quiet(), Save: func(m Membership) error {
		if n.isDead() {
			return errCut
		}
		var before, after error
		if n.w.onSave != nil {
			before, after = n.w.onSave(n, m)
		}
		if before == nil {
			n.w.mu.Lock()
			n.member = &m
			n.w.mu.Unlock()
		}
		return errors.Join(before, after)
	}}, n.member)
	n.w.mu.Lock()
	n.handlers, n.dead = map[Method]Handler{MethodHello: join.Hello}, false
	n.w.mu.Unlock()
	n.done.Go(func() {
		n.fail(ctx, n.run(ctx, join))
	})
}

func (n *node) run(ctx context.Context, join *Joiner) error {
	m, err := join.Join(ctx)
	if err != nil {
		return err
	}
	var groups []journal.Group
	n.j, groups, err = journal.Open(journal.Config{FS: n.log, Dir: "journal", ClusterID: m.ClusterID, FileBytes: 8 << 20, FirstBytes: 1 << 20, Log: quiet()})
	if err != nil {
		return err
	}
	host, err := multiraft.Open(multiraft.Config{Node: n.id, Journal: n.j, Recovered: groups, Transport: n, Log: quiet()})
	if err != nil {
		return err
	}
	n.w.mu.Lock()
	n.host = host
	n.w.mu.Unlock()
	c, err := Open(Config{Node: n.id, Membership: m, Session: n.boots, Peers: n, Seeds: n.w.seeds, Raft: HostedBy(host),
		Groups: GroupsOn(host), FS: n.store, Dir: "controller", Log: quiet()})
	if err != nil {
		return err
	}
	n.w.mu.Lock()
	n.c = c
	if n.handlers != nil {
		c.Handle(func(m Method, h Handler) { n.handlers[m] = h })
	}
	n.w.mu.Unlock()
	if err := host.Start(c.GroupConfig()); err != nil {
		return err
	}
	n.done.Go(func() {
		n.fail(ctx, c.Run(ctx))
	})
	n.done.Go(func() { n.follow(ctx, c, host) })
	r := n.registration()
	r.Listeners = []Listener{{Name: "kafka", Host: "host", Port: 9092}}
	_, err = c.RegisterBroker(ctx, r)
	return err
}

// crash ends the broker; its disk keeps what was synced, and of the rest what
// the dice say.
func (n *node) crash() {
	if n.stop == nil {
		return
	}
	n.w.mu.Lock()
	n.handlers, n.dead = nil, true
	n.w.mu.Unlock()
	r := rand.New(rand.NewPCG(uint64(n.id), n.boots))
	log, store := n.log.CrashClone(r), n.store.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: r})
	n.stop()
	n.stop = nil
	n.done.Wait()
	if n.host != nil {
		_ = n.host.Close()
	}
	if n.c != nil {
		_ = n.c.Close()
	}
	if n.j != nil {
		_ = n.j.Close()
	}
	n.w.mu.Lock()
	n.c, n.host, n.j, n.log, n.store = nil, nil, nil, log, store
	n.w.mu.Unlock()
}

func (w *world) close() {
	for _, n := range w.all() {
		n.crash()
	}
}

func (w *world) all() []*node {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*node
	for _, n := range w.nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *node) int { return int(a.id - b.id) })
	return out
}

// reach gives the broker at an address, if the way there is open.
func (n *node) reach(addr string) *node {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	to := n.w.nodes[addr]
	if to == nil || n.dead || to.handlers == nil || n.w.cut[[2]string{n.addr, addr}] || n.w.cut[[2]string{addr, n.addr}] {
		return nil
	}
	return to
}

// fail notes why the broker cannot go on; a crash is no reason.
func (n *node) fail(ctx context.Context, err error) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		n.failed = err
	}
}

func (n *node) failure() error {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.failed
}

func (n *node) isDead() bool {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.dead
}

// The network.

func (n *node) Send(messages []multiraft.Message) {
	for _, m := range messages {
		n.w.mu.Lock()
		addr := n.peers[m.Node]
		n.w.mu.Unlock()
		if to := n.reach(addr); to != nil {
			n.w.mu.Lock()
			host := to.host
			n.w.mu.Unlock()
			if host != nil {
				m.Node = to.id
				host.Receive([]multiraft.Message{m})
			}
		}
	}
}

func (n *node) SetPeers(addrs map[int32]string) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.peers = addrs
}

func (n *node) Up(id int32) (uint64, bool) {
	n.w.mu.Lock()
	addr := n.peers[id]
	n.w.mu.Unlock()
	to := n.reach(addr)
	if to == nil || to.id != id {
		return 0, false
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return to.boots, true
}

func (n *node) Call(ctx context.Context, id int32, m Method, request []byte) ([]byte, error) {
	n.w.mu.Lock()
	addr := n.peers[id]
	n.w.mu.Unlock()
	if id == n.id {
		addr = n.addr
	}
	return n.Ask(ctx, addr, m, request)
}

func (n *node) Ask(ctx context.Context, addr string, m Method, request []byte) ([]byte, error) {
	to := n.reach(addr)
	if to == nil {
		return nil, errCut
	}
	n.w.mu.Lock()
	h, hook := to.handlers[m], n.w.onCall
	n.w.mu.Unlock()
	if h == nil {
		return nil, fmt.Errorf("no handler for method %d", m)
	}
	var loseRequest, loseAnswer bool
	if hook != nil {
		loseRequest, loseAnswer = hook(n.addr, addr, m)
	}
	if loseRequest {
		return nil, errCut
	}
	answer, err := h(ctx, n.id, request)
	if loseAnswer {
		return nil, errCut
	}
	return answer, err
}

// leader waits until one of the brokers leads, and all that run have applied
// what it has.
func (w *world) leader() *node {
	w.t.Helper()
	for range 600 {
		time.Sleep(100 * time.Millisecond)
		var leads *node
		same := true
		for _, n := range w.all() {
			w.mu.Lock()
			c := n.c
			w.mu.Unlock()
			if c != nil && c.Leadership().Ready {
				leads = n
			}
		}
		if leads == nil {
			continue
		}
		for _, n := range w.all() {
			w.mu.Lock()
			c := n.c
			w.mu.Unlock()
			same = same && (n.stop == nil || n.failure() != nil || c != nil && c.View().Applied() == leads.c.View().Applied())
		}
		if same {
			return leads
		}
	}
	w.t.Fatalf("no leader, or some are behind: %s", w.state())
	return nil
}

func (w *world) state() string {
	s := ""
	for _, n := range w.all() {
		s += fmt.Sprintf("\nnode %d runs %v failed %v", n.id, n.stop != nil, n.failure())
		if n.c != nil {
			s += fmt.Sprintf(" lead %+v applied %d brokers %d", n.c.Leadership(), n.c.View().Applied(), len(n.c.View().Brokers()))
		}
	}
	l := w.leader()
	for _, t := range l.c.View().Topics() {
		for i, p := range t.Partitions {
			id := record.PartitionID{Topic: t.ID, Partition: int32(i)}
			if p.Move == nil {
				continue
			}
			for _, n := range w.all() {
				if n.c == nil {
					continue
				}
				got := n.c.cfg.Groups.Status(context.Background(), []record.PartitionID{id})
				s += fmt.Sprintf("\n%s node %d %+v move %+v: %+v tape %+v", id, n.id, p.Replicas, p.Move, got, n.tapes[id])
			}
		}
	}
	return s
}

// until waits for something to hold.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for range 1200 {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Fatalf("never: %s:%s", what, w.state())
}

// members gives the controller's group as its leader has it.
func (w *world) members() (m Members) {
	l := w.leader()
	done := make(chan Members, 1)
	if err := l.c.cfg.Raft.Do(func(p Proposer) { done <- p.Members() }); err != nil {
		return m
	}
	return <-done
}

// voters are the nodes that vote in the controller's group, sorted; nil while
// a change is under way.
func (w *world) voters() []int32 {
	m := w.members()
	if len(m.Outgoing) > 0 {
		return nil
	}
	var out []int32
	for _, id := range m.Voters {
		n, _ := w.leader().c.NodeOf(id)
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func inWorld(t *testing.T, n int, fn func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, n)
		defer w.close()
		fn(w)
	})
}

package multiraft

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/cryptotest"

	"tidewater/broker/journal"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// cluster is three nodes, their disks, and a network that drops, doubles and
// reorders and cuts a node off for a while, driven by one random source. It knows what was ever committed, and checks
// that nobody tells another story.
type cluster struct {
	tb      testing.TB
	rng     *rand.Rand
	members []*clusterMember
	net     []Message
	calm    bool // nothing is lost
	dark    int  // the node that nobody reaches, 0 for none
	groups  int
	fault   Fault
	// committed is what any replica ever called committed, by group and index.
	committed map[int]map[record.Index]Entry
	leaders   map[string]int   // group and term: node
	held      map[string]Entry // group and index: the newest that a majority was said to have in memory
	powered   bool             // no power cuts
	proposed  int
	sent      int // messages
	restored  int // RaftSnapshots that became a replica's state
	confirmed int // leaders by ReadIndex
	trace     []string
	faults    []string
	onSend    func(m *clusterMember, messages []Message) // nil for nobody
}

type clusterMember struct {
	c    *cluster
	id   int
	disk *disk.Mem
	node *Node
	// fuse is the number of changes of the disk until the power goes; below
	// 0 it stays.
	fuse int
	tape map[int]*clusterTape
	// told is the highest index this node called committed, over its lives.
	told map[int]record.Index
	mark map[int]record.Index
	// installs are RaftSnapshots that machines are being brought to.
	installs []func(error)
	boots    uint64
	off      bool // neither ticks nor hears
}

// clusterTape is a tape whose calls are checked against the cluster.
type clusterTape struct {
	tape
	m     *clusterMember
	group int

	prepared  *Snapshot // installed, not yet used
	unsettled int       // restored, not yet durable
	asked     int       // calls of Snapshot
}

func (t *clusterTape) Commit(last record.Index) {
	from := t.committed + 1
	t.tape.Commit(last)
	c := t.m.c
	for i := from; i <= last && i <= t.last(); i++ {
		e := t.at(i)
		was, ok := c.committed[t.group][i]
		if ok && (was.Term != e.Term || string(was.Data) != string(e.Data)) {
			c.fail("group %d entry %d: node %d commits (%d, %q), (%d, %q) was committed", t.group, i, t.m.id, e.Term, e.Data, was.Term, was.Data)
		}
		c.committed[t.group][i] = e
	}
	t.m.told[t.group] = max(t.m.told[t.group], last)
}

// Snapshot gives any committed entry that will do.
func (t *clusterTape) Snapshot(least record.Index) (Snapshot, error) {
	t.asked++
	if least > t.committed || t.m.c.rng.IntN(8) == 0 {
		return Snapshot{}, ErrNotYet
	}
	at := least + record.Index(t.m.c.rng.IntN(int(t.committed-least)+1))
	return Snapshot{Index: at, Term: t.m.c.committed[t.group][at].Term, Data: fmt.Appendf(nil, "state at %d", at)}, nil
}

// Install ends some steps later, and not always well.
func (t *clusterTape) Install(s Snapshot, done func(error)) {
	if string(s.Data) != fmt.Sprintf("state at %d", s.Index) || t.prepared != nil {
		t.fault("install of %+v while %+v is", s, t.prepared)
	}
	t.m.installs = append(t.m.installs, func(err error) {
		if t.stopped == nil && err == nil {
			t.prepared = &s
		}
		done(err)
	})
}

func (t *clusterTape) Restore(s Snapshot) []byte {
	if t.prepared == nil || t.prepared.Index != s.Index || s.Index <= t.committed {
		t.fault("restore of %+v at %d, prepared %+v", s, t.committed, t.prepared)
	}
	if was := t.m.c.committed[t.group][s.Index]; was.Term != s.Term {
		t.fault("restore of entry %d of term %d, which was %+v", s.Index, s.Term, was)
	}
	t.prepared = nil
	t.base, t.committed, t.log = s.Index, s.Index, nil
	t.m.mark[t.group] = s.Index
	t.unsettled++
	return []byte{byte(s.Index)}
}

func (t *clusterTape) Restored() {
	t.unsettled--
	t.m.c.restored++
	t.m.told[t.group] = max(t.m.told[t.group], t.base)
}

func (t *clusterTape) Abandon() {
	if t.prepared == nil {
		t.fault("nothing to abandon")
	}
	t.prepared = nil
}

func (t *clusterTape) Lead(l Leadership) {
	t.tape.Lead(l)
	if !l.Leading {
		return
	}
	key := fmt.Sprint(t.group, "/", l.Term)
	c := t.m.c
	if was, ok := c.leaders[key]; ok && was != t.m.id {
		c.fail("group and term %s has leaders %d and %d", key, was, t.m.id)
	}
	c.leaders[key] = t.m.id
}

func (c *cluster) fail(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

// Send implements Transport; the network keeps copies.
func (m *clusterMember) Send(messages []Message) {
	m.c.sent += len(messages)
	if m.c.onSend != nil {
		m.c.onSend(m, messages)
	}
	for _, msg := range messages {
		if m.c.calm || m.c.rng.IntN(12) > 0 {
			m.c.net = append(m.c.net, msg)
		}
	}
}

func newCluster(tb testing.TB, seed uint64, groups int, fault Fault) *cluster {
	c := &cluster{tb: tb, rng: rand.New(rand.NewPCG(seed, 9)), groups: groups, fault: fault,
		committed: map[int]map[record.Index]Entry{}, leaders: map[string]int{}, held: map[string]Entry{}}
	for g := range groups {
		c.committed[g] = map[record.Index]Entry{}
	}
	for id := 1; id <= 3; id++ {
		m := &clusterMember{c: c, id: id, fuse: -1, disk: disk.NewMem(0), told: map[int]record.Index{}, mark: map[int]record.Index{}}
		c.members = append(c.members, m)
		m.boot()
	}
	return c
}

// boot opens the node on what its disk holds and checks that this is at least
// what the node ever called committed.
func (m *clusterMember) boot() {
	c := m.c
	m.fuse, m.installs = -1, nil
	m.boots++
	faulty := disk.NewFault(m.disk)
	faulty.Before(m.burn)
	m.node = newNode(c.tb, faulty, func(cfg *Config) {
		cfg.Node, cfg.Transport, cfg.Fault = int32(m.id), m, c.fault
	})
	m.tape = map[int]*clusterTape{}
	for g := range c.groups {
		t := &clusterTape{m: m, group: g}
		known, _ := m.node.Recovered(groupID(g))
		t.base, t.committed = known.Mark.Index, known.Mark.Index
		m.checkKept(g, known)
		m.tape[g] = t
		gc := GroupConfig{ID: groupID(g), Replica: uint64(m.id), Voters: []uint64{1, 2, 3}, StateMachine: t,
			NodeOf: func(r uint64) (int32, bool) { return int32(r), true }}
		if err := m.node.Start(gc); err != nil {
			c.fail("node %d: %v", m.id, err)
		}
	}
	for _, o := range c.members {
		if o != m {
			o.node.PeerUp(int32(m.id), m.boots)
			m.node.PeerUp(int32(o.id), o.boots)
		}
	}
}

// powerCut is what a disk call panics with when the power goes.
type powerCut struct{}

func (m *clusterMember) burn(call disk.Call) {
	if !call.Changes() || m.fuse < 0 {
		return
	}
	if m.fuse--; m.fuse < 0 {
		panic(powerCut{})
	}
}

// cut lets the power go inside the node's next step, or after it.
func (m *clusterMember) cut() {
	m.fuse = m.c.rng.IntN(4)
	func() {
		defer func() {
			if r := recover(); r != nil && r != any(powerCut{}) {
				panic(r)
			}
		}()
		m.node.Step()
	}()
	m.disk.Crash(m.c.rng)
	m.boot()
}

func (m *clusterMember) checkKept(g int, known journal.Group) {
	last := known.Mark.Index + record.Index(len(known.Entries))
	if last < m.told[g] {
		m.c.fail("group %d: node %d called %d committed, its journal ends at %d", g, m.id, m.told[g], last)
	}
	for i := range known.Entries {
		e := view(&known.Entries[i])
		if was, ok := m.c.committed[g][e.Index]; ok && e.Index <= m.told[g] && was.Term != e.Term {
			m.c.fail("group %d entry %d: node %d lost term %d, has %d", g, e.Index, m.id, was.Term, e.Term)
		}
	}
}

// step does one random thing.
func (c *cluster) step() {
	m := c.members[c.rng.IntN(len(c.members))]
	switch n := c.rng.IntN(1000); {
	case n < 400:
		m.node.Step()
	case n < 750:
		c.deliver(c.rng.IntN(max(len(c.net), 1)))
	case n < 850:
		m.node.Tick()
	case n < 940:
		c.propose(m)
	case n < 980:
		c.release(m)
	case n < 984:
		c.install(m, nil)
	case n < 986:
		c.install(m, errRefused)
	case n < 992:
		c.read(m)
	case n < 994:
		c.blink(m)
	case n < 995:
		c.dark = c.rng.IntN(4)
	case !c.powered:
		m.cut()
	}
}

func (c *cluster) deliver(i int) {
	if i >= len(c.net) {
		return
	}
	msg := c.net[i]
	if c.rng.IntN(20) > 0 || c.calm { // else it comes once more
		c.net = slices.Delete(c.net, i, i+1)
	}
	if c.dark != 0 && (msg.Node == int32(c.dark) || msg.From == uint64(c.dark)) {
		return
	}
	c.members[msg.Node-1].node.Receive([]Message{msg})
}

func (c *cluster) propose(m *clusterMember) {
	g := c.rng.IntN(c.groups)
	c.proposed++
	data := fmt.Appendf(nil, "%d by %d", c.proposed, m.id)
	_ = m.node.Do(groupID(g), func(g *Group) {
		if index, err := g.Propose(data); err == nil && c.powered {
			g.AskHeld(index)
		}
	})
}

// release marks anything that is committed, whoever lacks it.
func (c *cluster) release(m *clusterMember) {
	g := c.rng.IntN(c.groups)
	_ = m.node.Do(groupID(g), func(group *Group) {
		at := group.Committed()
		if i := at - record.Index(c.rng.IntN(3)); i <= at && i > m.tape[g].base && i > m.mark[g] {
			m.mark[g] = i
			group.Release(journal.Mark{Index: i, Term: m.tape[g].at(i).Term, Data: []byte{byte(i)}})
			if c.rng.IntN(2) == 0 {
				group.drop(true) // as if memory were short
			}
		}
	})
}

// install ends the oldest copy on a node.
func (c *cluster) install(m *clusterMember, err error) {
	if len(m.installs) > 0 {
		done := m.installs[0]
		m.installs = m.installs[1:]
		done(err)
	}
}

// read asks a leader for its confirmation: it must know of everything that was
// told to be committed before it was asked.
func (c *cluster) read(m *clusterMember) {
	g := c.rng.IntN(c.groups)
	_ = m.node.Do(groupID(g), func(group *Group) {
		floor := c.end(g)
		group.ReadIndex(func(at record.Index, err error) {
			if err == nil && at < floor {
				c.fail("group %d: node %d leads and knows of %d, %d was committed", g, m.id, at, floor)
			}
			if err == nil {
				c.confirmed++
			}
		})
	})
}

// end is the last entry that anybody called committed.
func (c *cluster) end(g int) record.Index {
	end := record.Index(0)
	for _, m := range c.members {
		end = max(end, m.told[g])
	}
	return end
}

// blink has a node take another for dead, for a moment.
func (c *cluster) blink(m *clusterMember) {
	o := c.members[c.rng.IntN(len(c.members))]
	if o == m {
		return
	}
	m.node.PeerDown(int32(o.id))
	if c.rng.IntN(2) == 0 {
		m.node.Step()
		c.deliver(c.rng.IntN(max(len(c.net), 1)))
	}
	m.node.PeerUp(int32(o.id), o.boots)
}

// settle makes the network and the machines behave until all logs agree.
func (c *cluster) settle() {
	c.net, c.calm, c.dark = nil, true, 0
	defer func() { c.calm = false }()
	for range 400 {
		for _, m := range c.members {
			m.node.Tick()
			rest(m.node)
			for len(m.installs) > 0 {
				c.install(m, nil)
				rest(m.node)
			}
		}
		for len(c.net) > 0 {
			c.deliver(0)
		}
		for _, m := range c.members {
			rest(m.node)
		}
	}
}

// agree checks that all logs are equal to their ends.
func (c *cluster) agree() {
	for g := range c.groups {
		a := c.members[0].tape[g]
		for _, m := range c.members {
			t := m.tape[g]
			if t.unsettled != 0 {
				c.fail("group %d: node %d was not told that its snapshot is durable", g, m.id)
			}
			if t.committed != a.committed || t.last() != t.committed {
				c.fail("group %d: node %d ends at %d, committed %d; node 1 committed %d", g, m.id, t.last(), t.committed, a.committed)
			}
		}
	}
}

func (c *cluster) run(steps int) {
	for range steps {
		c.step()
	}
	c.settle()
	c.agree()
	h := fnv.New64a()
	for g := range c.groups {
		for i := record.Index(1); i <= record.Index(len(c.committed[g])); i++ {
			e := c.committed[g][i]
			fmt.Fprintln(h, g, i, e.Term, string(e.Data))
		}
		c.trace = append(c.trace, fmt.Sprintf("group %d: %d entries, %x", g, len(c.committed[g]), h.Sum64()))
	}
	for _, m := range c.members {
		for g := range c.groups {
			for _, f := range m.tape[g].faults {
				c.fail("node %d group %d: %s", m.id, g, f)
			}
		}
	}
}

// Three nodes over a bad network, with power cuts, releases, RaftSnapshots,
// brokers taken for dead, rest and elections: what was committed stays, there is
// one leader a term, a confirmed leader knows what was committed, and all logs
// end equal.
func TestThreeNodesAgree(t *testing.T) {
	restored, confirmed := 0, 0
	defer func() {
		if restored < 15 || confirmed < 20 {
			t.Errorf("%d RaftSnapshots, %d confirmed leaders: the test tests nothing", restored, confirmed)
		}
	}()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed)
			c := newCluster(t, seed, 3, Fault{})
			c.run(10000)
			for _, f := range c.faults {
				t.Error(f)
			}
			for g := range c.groups {
				if c.end(g) < 10 {
					t.Errorf("group %d committed %d entries: the test tests nothing", g, c.end(g))
				}
			}
			restored += c.restored
			confirmed += c.confirmed
		})
	}
}

// One seed gives one history.
func TestSeedRepeats(t *testing.T) {
	var traces []string
	for range 2 {
		t.Run("run", func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, 5)
			c := newCluster(t, 5, 2, Fault{})
			c.run(2000)
			traces = append(traces, fmt.Sprint(c.trace))
		})
	}
	if traces[0] != traces[1] {
		t.Errorf("histories differ:\n%s\n%s", traces[0], traces[1])
	}
}

// The planted fault is caught by the same checks.
func TestAckBeforeFlushIsCaught(t *testing.T) {
	caught := 0
	for seed := range uint64(40) {
		if caught > 0 {
			break
		}
		t.Run("seed", func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, seed)
			c := newCluster(t, seed, 2, Fault{AckBeforeFlush: true})
			defer func() {
				if recover() != nil {
					caught++ // raft itself found that its log is short
				}
			}()
			c.run(5000)
			caught += min(len(c.faults), 1)
		})
	}
	if caught == 0 {
		t.Error("no seed caught it")
	}
}

// A follower whose machine refuses an entry stops before it acknowledges: the
// entry is not in its journal, and the other two go on.
func TestFollowerRefuses(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 3)
	c := newCluster(t, 3, 1, Fault{})
	c.settle()
	var odd *clusterMember
	for _, m := range c.members {
		if !m.tape[0].lead.Leading {
			odd = m
		}
	}
	odd.tape[0].refuse = func(e Entry) error {
		if string(e.Data) == "poison" {
			return errRefused
		}
		return nil
	}
	c.proposeOnLeader(func(g *Group) { _, _ = g.Propose([]byte("poison")) })
	c.settle()
	c.proposeOnLeader(func(g *Group) { _, _ = g.Propose([]byte("on")) })
	c.settle()
	for _, m := range c.members {
		tape := m.tape[0]
		if m == odd {
			if tape.stopped == nil || len(m.node.Groups()) != 0 {
				t.Errorf("node %d did not stop", m.id)
			}
			continue
		}
		if string(tape.at(tape.committed).Data) != "on" || tape.stopped != nil {
			t.Errorf("node %d committed up to %+v, stopped %v", m.id, tape.at(tape.committed), tape.stopped)
		}
	}
	_, groups := openJournal(t, odd.disk.CrashClone(c.rng))
	for _, e := range groups[0].Entries {
		if string(e.Data) == "poison" {
			t.Errorf("refused entry %d is in the journal", e.Index)
		}
	}
}

func (c *cluster) proposeOnLeader(task func(*Group)) {
	for _, m := range c.members {
		if m.tape[0].lead.Leading {
			_ = m.node.Do(groupID(0), task)
		}
	}
}

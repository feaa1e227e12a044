package multiraft

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"tidewater/broker/journal"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// tape is a state machine that keeps its log and checks the order of calls.
type tape struct {
	base      record.Index // below the first entry
	log       []Entry
	committed record.Index
	held      record.Index
	lead      Leadership
	stopped   error
	// refuse makes Append fail when it says so.
	refuse func(Entry) error
	faults []string
}

func (t *tape) fault(format string, args ...any) {
	t.faults = append(t.faults, fmt.Sprintf(format, args...))
}

func (t *tape) last() record.Index { return t.base + record.Index(len(t.log)) }

func (t *tape) Append(e Entry) error {
	if t.stopped != nil {
		t.fault("append of %d after stop", e.Index)
	}
	if e.Index != t.last()+1 {
		t.fault("append of %d after %d", e.Index, t.last())
	}
	if t.refuse != nil {
		if err := t.refuse(e); err != nil {
			return err
		}
	}
	t.log = append(t.log, e)
	return nil
}

func (t *tape) Truncate(last record.Index) {
	if last < t.committed || last > t.last() {
		t.fault("truncate to %d, committed %d, last %d", last, t.committed, t.last())
	}
	t.log = t.log[:last-t.base]
}

func (t *tape) Commit(last record.Index) {
	if last <= t.committed || last > t.last() {
		t.fault("commit of %d, committed %d, last %d", last, t.committed, t.last())
	}
	t.committed = last
}

func (t *tape) Lead(l Leadership) {
	if l == t.lead || l.Term < t.lead.Term || l.Ready && !l.Leading {
		t.fault("lead %+v after %+v", l, t.lead)
	}
	t.lead = l
}

func (t *tape) Stopped(err error) {
	if t.stopped != nil || err == nil {
		t.fault("stopped twice or without a reason: %v, %v", t.stopped, err)
	}
	t.stopped = err
}

func (t *tape) at(i record.Index) Entry { return t.log[i-t.base-1] }

func (t *tape) check(tb testing.TB) {
	tb.Helper()
	for _, f := range t.faults {
		tb.Errorf("state machine: %s", f)
	}
}

func groupID(n int) record.PartitionID {
	return record.PartitionID{Topic: record.TopicID{1, byte(n >> 16)}, Partition: int32(n)}
}

// openJournal opens the journal of a test's disk with small files.
func openJournal(tb testing.TB, fs disk.FS) (*journal.Journal, []journal.Group) {
	tb.Helper()
	j, groups, err := journal.Open(journal.Config{FS: fs, Dir: "journal", FileBytes: 1 << 20, FirstBytes: 64 << 10})
	if err != nil {
		tb.Fatalf("open journal: %v", err)
	}
	return j, groups
}

// newNode makes a node over the journal in fs.
func newNode(tb testing.TB, fs disk.FS, change func(*Config)) *Node {
	tb.Helper()
	j, groups := openJournal(tb, fs)
	cfg := Config{Node: 1, Shards: 2, Journal: j, Recovered: groups, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	n, err := NewNode(cfg)
	if err != nil {
		tb.Fatalf("new node: %v", err)
	}
	return n
}

// startOne starts group n as a group of one on its own tape.
func startOne(tb testing.TB, n *Node, group int) *tape {
	tb.Helper()
	m := &tape{}
	if known, ok := n.Recovered(groupID(group)); ok {
		m.base = known.Mark.Index
	}
	if err := n.Start(GroupConfig{ID: groupID(group), Replica: 1, StateMachine: m}); err != nil {
		tb.Fatalf("start group %d: %v", group, err)
	}
	return m
}

func rest(n *Node) {
	for n.Step() {
	}
}

// propose proposes data and gives the index or the refusal; it steps the node
// once for the task, not for what follows.
func propose(tb testing.TB, n *Node, group int, data string) (index record.Index, err error) {
	tb.Helper()
	if doErr := n.Do(groupID(group), func(g *Group) { index, err = g.Propose([]byte(data)) }); doErr != nil {
		return 0, doErr
	}
	n.Step()
	return index, err
}

var errRefused = errors.New("does not fit my log")

package multiraft

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"tidewater/broker/journal"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// counter is a machine that lets go of its entries as they commit, and opens
// a gate for its producer.
type counter struct {
	log   record.Index
	term  uint64
	ready chan struct{}
	gate  chan struct{}
	host  *Host
	id    record.PartitionID
	done  *atomic.Int64
	count int64
}

func (c *counter) Append(e Entry) error  { c.log, c.term = e.Index, e.Term; return nil }
func (c *counter) Truncate(record.Index) {}
func (c *counter) Stopped(error)         {}
func (c *counter) Lead(l Leadership) {
	if l.Ready {
		close(c.ready)
	}
}

func (c *counter) Commit(last record.Index) {
	select {
	case <-c.ready:
	default:
		return
	}
	c.done.Add(1)
	c.gate <- struct{}{}
}

// BenchmarkCommit asks how many entries of 16 KiB a second commit through one
// journal on the disk under the test's directory, with one entry in flight for
// each group: go test -run - -bench Commit ./broker/multiraft
func BenchmarkCommit(b *testing.B) {
	for _, groups := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(groups, "-groups"), func(b *testing.B) { benchCommit(b, groups) })
	}
}

func benchCommit(b *testing.B, groups int) {
	fs, err := disk.NewOS(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	h := openHost(b, fs, nil)
	var done atomic.Int64
	machines := make([]*counter, groups)
	for i := range machines {
		m := &counter{ready: make(chan struct{}), gate: make(chan struct{}, 4), host: h, id: groupID(i), done: &done}
		machines[i] = m
		if err := h.Start(GroupConfig{ID: m.id, Replica: 1, StateMachine: m}); err != nil {
			b.Fatal(err)
		}
	}
	for _, m := range machines {
		<-m.ready
	}
	data := make([]byte, 16<<10)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	b.ResetTimer()
	start, flushes := time.Now(), h.Stats().Flushes
	var left atomic.Int64
	left.Store(int64(b.N))
	finished := make(chan struct{}, groups)
	for _, m := range machines {
		go m.produce(data, &left, finished)
	}
	for range machines {
		<-finished
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "commits/s")
	b.ReportMetric(float64(b.N)/float64(h.Stats().Flushes-flushes), "commits/flush")
}

// produce proposes one entry after another until left is used up, and lets
// go of what is committed every eight.
func (c *counter) produce(data []byte, left *atomic.Int64, finished chan<- struct{}) {
	propose := func(g *Group) {
		if c.count++; c.count%8 == 0 {
			at := g.Committed()
			term, _ := g.log.Term(uint64(at))
			g.Release(journal.Mark{Index: at, Term: term})
		}
		if _, err := g.Propose(data); err != nil {
			panic(err)
		}
	}
	for left.Add(-1) >= 0 {
		if err := c.host.Do(c.id, propose); err != nil {
			panic(err)
		}
		<-c.gate
	}
	finished <- struct{}{}
}

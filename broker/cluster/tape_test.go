package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

// tapeState is a partition on a disk: how many records it has and their hash.
type tapeState struct {
	replica     uint64
	index       record.Index
	term        uint64
	count, hash uint64
}

// tape is a partition's replica, as far as the controller's leader is
// concerned with it: it counts its records, lets the log go of what it has
// counted, and can be copied.
type tape struct {
	n     *node
	id    record.PartitionID
	host  *multiraft.Host
	lead  func(multiraft.Leadership)
	stop  func(error)
	state *tapeState // guarded by n.w.mu, as tests read it

	entries []multiraft.Entry // of the shard's loop
}

func (t *tape) Append(e multiraft.Entry) error {
	t.entries = append(t.entries, e)
	return nil
}

func (t *tape) Truncate(last record.Index) {
	for len(t.entries) > 0 && t.entries[len(t.entries)-1].Index > last {
		t.entries = t.entries[:len(t.entries)-1]
	}
}

func (t *tape) Commit(last record.Index) {
	t.n.w.mu.Lock()
	s := t.state
	for len(t.entries) > 0 && t.entries[0].Index <= last {
		if e := t.entries[0]; e.Index > s.index {
			s.index, s.term = e.Index, e.Term
			if len(e.Data) > 0 {
				s.count++
				s.hash = s.hash*31 + binary.BigEndian.Uint64(e.Data)
			}
		}
		t.entries = t.entries[1:]
	}
	mark := journal.Mark{Index: s.index, Term: s.term}
	t.n.w.mu.Unlock()
	if mark.Index > last {
		return // the log is behind the disk after a crash
	}
	_ = t.host.Do(t.id, func(g *multiraft.Group) {
		if g.Replica() == t.state.replica {
			g.Release(mark)
		}
	})
}

func (t *tape) Lead(l multiraft.Leadership) { t.lead(l) }
func (t *tape) Stopped(err error)           { t.stop(err) }

func (t *tape) Snapshot(least record.Index) (multiraft.Snapshot, error) {
	t.n.w.mu.Lock()
	defer t.n.w.mu.Unlock()
	s := t.state
	if s.index < least {
		return multiraft.Snapshot{}, multiraft.ErrNotYet
	}
	return multiraft.Snapshot{Index: s.index, Term: s.term,
		Data: binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, s.count), s.hash)}, nil
}

func (t *tape) Install(_ multiraft.Snapshot, done func(error)) {
	time.AfterFunc(100*time.Millisecond, func() { done(nil) })
}

func (t *tape) Restore(s multiraft.Snapshot) []byte {
	t.n.w.mu.Lock()
	defer t.n.w.mu.Unlock()
	t.entries = nil
	t.state.index, t.state.term = s.Index, s.Term
	t.state.count, t.state.hash = binary.BigEndian.Uint64(s.Data), binary.BigEndian.Uint64(s.Data[8:])
	return nil
}

func (t *tape) Restored() {}
func (t *tape) Abandon()  {}

// follow opens and closes the partitions' replicas as the view says, and tells
// who leads: package broker in a few lines.
func (n *node) follow(ctx context.Context, c *Controller, host *multiraft.Host) {
	wake := make(chan struct{}, 1)
	nudge := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	var mu sync.Mutex
	open := map[record.PartitionID]uint64{}
	reports := map[record.PartitionID]LeaderReport{}
	defer c.Subscribe(func(_, _ *View) { nudge() })()
	nudge()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-time.After(time.Second):
		}
		v := c.View()
		mu.Lock()
		have := map[record.PartitionID]uint64{}
		for id, r := range open {
			have[id] = r
		}
		var tell []LeaderReport
		for id, r := range reports {
			tell = append(tell, r)
			delete(reports, id)
		}
		mu.Unlock()
		if len(tell) > 0 {
			if err := c.ReportLeaders(ctx, tell); err != nil {
				mu.Lock()
				for _, r := range tell {
					reports[r.Partition] = r
				}
				mu.Unlock()
			}
		}
		for id, replica := range have {
			if p := v.PartitionOf(id); p == nil || !onNode(v, p, n.id, replica) {
				_ = host.Remove(id)
				n.w.mu.Lock()
				delete(n.tapes, id)
				n.w.mu.Unlock()
				mu.Lock()
				delete(open, id)
				mu.Unlock()
				nudge()
			}
		}
		if b := v.Broker(n.id); b == nil || b.Disk != n.diskID {
			continue
		}
		if v, _ = c.Fresh(ctx); v == nil {
			nudge()
			continue
		}
		for _, t := range v.Topics() {
			for i := range t.Partitions {
				id := record.PartitionID{Topic: t.ID, Partition: int32(i)}
				r, ok := v.ReplicaOn(&t.Partitions[i], n.id)
				if _, has := have[id]; !ok || has {
					continue
				}
				n.w.mu.Lock()
				state := n.tapes[id]
				if state == nil || state.replica != r.ID {
					state = &tapeState{replica: r.ID}
					n.tapes[id] = state
				}
				n.w.mu.Unlock()
				gc := multiraft.GroupConfig{ID: id, Replica: r.ID, Voters: t.Partitions[i].Voters(), NodeOf: func(replica uint64) (int32, bool) {
					if p := c.View().PartitionOf(id); p != nil {
						return p.NodeOf(replica)
					}
					return 0, false
				}}
				if t.Partitions[i].Joining() {
					gc.Origin, gc.Voters = multiraft.Joining, nil
				}
				gc.StateMachine = &tape{n: n, id: id, host: host, state: state, lead: func(l multiraft.Leadership) {
					if l.Leading && l.Ready {
						mu.Lock()
						reports[id] = LeaderReport{Partition: id, Leader: n.id, Epoch: record.LeaderEpoch(l.Term)}
						mu.Unlock()
						nudge()
					}
				}, stop: func(err error) {
					if errors.Is(err, multiraft.ErrRemoved) {
						mu.Lock()
						delete(open, id)
						mu.Unlock()
					}
				}}
				mu.Lock()
				open[id] = r.ID
				mu.Unlock()
				if err := host.Start(gc); err != nil {
					mu.Lock()
					delete(open, id)
					mu.Unlock()
				}
			}
		}
	}
}

func onNode(v *View, p *Partition, node int32, replica uint64) bool {
	r, ok := v.ReplicaOn(p, node)
	return ok && r.ID == replica
}

// produce writes a record to a partition by its leader, and reports whether it
// was committed.
func (w *world) produce(id record.PartitionID, value uint64) bool {
	p := w.leader().c.View().PartitionOf(id)
	if p == nil || p.Leader == NoLeader {
		return false
	}
	n := w.node(p.Leader)
	w.mu.Lock()
	host := n.host
	w.mu.Unlock()
	if host == nil {
		return false
	}
	at := make(chan record.Index, 1)
	if host.Do(id, func(g *multiraft.Group) {
		if i, err := g.Propose(binary.BigEndian.AppendUint64(nil, value)); err == nil {
			at <- i
		}
		close(at)
	}) != nil {
		return false
	}
	index := <-at
	for range 100 {
		w.mu.Lock()
		s := n.tapes[id]
		done := index > 0 && s != nil && s.index >= index
		w.mu.Unlock()
		if done || index == 0 {
			return done
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

// settled reports whether a partition is at rest on just the target nodes,
// with equal replicas of at least count records.
func (w *world) settled(id record.PartitionID, count uint64, target ...int32) bool {
	p := w.leader().c.View().PartitionOf(id)
	if p == nil || p.Move != nil || len(p.Replicas) != len(target) || p.Leader == NoLeader {
		return false
	}
	var first *tapeState
	for i, r := range p.Replicas {
		w.mu.Lock()
		s := w.nodes[w.addr(r.Node)].tapes[id]
		w.mu.Unlock()
		if r.Node != target[i] || s == nil || s.replica != r.ID || s.count < count {
			return false
		}
		if first == nil {
			first = s
		} else if s.count != first.count || s.hash != first.hash {
			return false
		}
	}
	return true
}

package cluster

import (
	"slices"
	"time"

	"tidewater/internal/record"
)

// balancer plans moves: a pure function of the view, the sizes of partitions
// where they are known, and the time. What it returns, applied, brings the
// cluster nearer to rest, and at rest it returns nothing.
type balancer struct {
	v   *View
	now time.Time
	// repairAfter: brokers offline for longer lose their replicas.
	repairAfter time.Duration
	// movesMax bounds the moves under way, balanceMax those of them that only
	// make the load even.
	movesMax, balanceMax int
	bytes                map[record.PartitionID]int64 // nil when unknown

	pl   *placer
	room int
	ops  []MoveOp
	busy map[record.PartitionID]bool // moving, or in ops
}

// plan gives the moves to begin now.
func (b *balancer) plan() []MoveOp {
	b.pl, b.busy = b.targetLoads(), map[record.PartitionID]bool{}
	b.room = b.movesMax - b.v.moves
	for _, id := range b.v.Moving() {
		b.busy[id] = true
	}
	b.repair()
	if len(b.ops) == 0 && b.room > 0 {
		b.room = min(b.room, b.balanceMax-b.v.moves)
		b.spreadRacks()
		b.evenCounts()
		b.evenBytes()
		b.evenFirsts()
	}
	return b.ops
}

// targetLoads counts what brokers will carry when every move is done.
func (b *balancer) targetLoads() *placer {
	pl := newPlacer(b.v)
	for id := range pl.loads {
		pl.loads[id] = Load{}
	}
	for _, t := range b.v.topics {
		for i := range t.Partitions {
			for j, r := range t.Partitions[i].Target() {
				if _, ok := pl.loads[r.Node]; ok {
					pl.add(r.Node, j == 0)
				}
			}
		}
	}
	return pl
}

// each calls fn for every partition that has begun and is at rest, by topic name and number,
// while there is room.
func (b *balancer) each(fn func(id record.PartitionID, p *Partition)) {
	for _, t := range b.v.Topics() {
		for i := range t.Partitions {
			id := record.PartitionID{Topic: t.ID, Partition: int32(i)}
			if b.room <= 0 {
				return
			}
			if p := &t.Partitions[i]; !b.busy[id] && p.Leader != NoLeader {
				fn(id, p)
			}
		}
	}
}

// move plans one move and counts it.
func (b *balancer) move(id record.PartitionID, p *Partition, target []int32) {
	for i, n := range p.Nodes() {
		b.count(n, -1, i == 0)
	}
	for i, n := range target {
		b.count(n, 1, i == 0)
	}
	b.ops = append(b.ops, MoveOp{Partition: id, Expected: idsOf(p.Replicas), Target: target})
	b.busy[id] = true
	b.room--
}

func (b *balancer) count(node int32, n int, first bool) {
	l, ok := b.pl.loads[node]
	if !ok {
		return
	}
	if l.Replicas += n; first {
		l.First += n
	}
	b.pl.loads[node] = l
}

// lost reports whether a replica is to be made anew: its broker is gone,
// leaves, was away for too long, or has another disk.
func (b *balancer) lost(r Replica) bool {
	br := b.v.brokers[r.Node]
	return br == nil || br.Draining || r.ID < br.ReplicaFloor || b.away(br)
}

func (b *balancer) away(br *Broker) bool {
	return br.Offline && br.OfflineSinceMs > 0 && b.now.Sub(time.UnixMilli(br.OfflineSinceMs)) > b.repairAfter
}

// live counts the replicas that can vote now.
func (b *balancer) live(p *Partition) int {
	n := 0
	for _, r := range p.Replicas {
		if br := b.v.brokers[r.Node]; br != nil && !br.Offline && r.ID >= br.ReplicaFloor {
			n++
		}
	}
	return n
}

// repair replaces replicas that are lost or are to leave, in partitions where
// enough others are alive to agree on it.
func (b *balancer) repair() {
	b.each(func(id record.PartitionID, p *Partition) {
		if !slices.ContainsFunc(p.Replicas, b.lost) || b.live(p) <= len(p.Replicas)/2 {
			return
		}
		var kept []int32
		for _, r := range p.Replicas {
			if !b.lost(r) {
				kept = append(kept, r.Node)
			}
		}
		target, changed := make([]int32, 0, len(p.Replicas)), false
		for _, r := range p.Replicas {
			to := r.Node
			if b.lost(r) {
				to = b.replacement(id, r, slices.Concat(kept, target))
			}
			if to == NoLeader {
				return // nowhere to go yet
			}
			target = append(target, to)
			changed = changed || to != r.Node || b.lost(r)
		}
		if changed {
			b.move(id, p, target)
		}
	})
}

// replacement finds a node for a lost replica, its own if only its disk is
// new; NoLeader if there is none.
func (b *balancer) replacement(id record.PartitionID, r Replica, have []int32) int32 {
	if br := b.v.brokers[r.Node]; br != nil && br.Placeable() && !slices.Contains(have, r.Node) {
		return r.Node
	}
	if to := b.pl.pick(id, have, false); to != nil && to.Placeable() {
		return to.ID
	}
	return NoLeader
}

// placeable are the brokers that may get replicas, by id.
func (b *balancer) placeable() []*Broker {
	return slices.DeleteFunc(slices.Clone(b.pl.brokers), func(br *Broker) bool { return !br.Placeable() })
}

// healthy reports whether every replica of p can vote: only such partitions
// are moved to even out the load.
func (b *balancer) healthy(p *Partition) bool { return b.live(p) == len(p.Replicas) }

// shared counts how many of the nodes share a rack with one before them.
func (b *balancer) shared(nodes []int32) uint64 {
	n := uint64(0)
	for i, id := range nodes {
		n += min(b.pl.sharers(b.pl.racks[id], nodes[:i]), 1)
	}
	return n
}

// spreadRacks moves replicas that share a rack to one that none is on.
func (b *balancer) spreadRacks() {
	b.each(func(id record.PartitionID, p *Partition) {
		nodes := p.Nodes()
		if b.shared(nodes) == 0 || !b.healthy(p) {
			return
		}
		for i := len(nodes) - 1; i > 0; i-- {
			others := slices.Delete(slices.Clone(nodes), i, i+1)
			if b.pl.sharers(b.pl.racks[nodes[i]], others) == 0 {
				continue
			}
			to := b.pl.pick(id, nodes, false)
			if to == nil || !to.Placeable() || b.pl.sharers(to.Rack, others) > 0 {
				continue
			}
			b.move(id, p, replaced(nodes, nodes[i], to.ID))
			return
		}
	})
}

func replaced(nodes []int32, from, to int32) []int32 {
	out := slices.Clone(nodes)
	out[slices.Index(out, from)] = to
	return out
}

// evenCounts moves replicas from brokers with more to brokers with less while
// they differ by two or more, and racks allow it: each move lessens the sum of
// squares, so it ends.
func (b *balancer) evenCounts() {
	var order []*Broker // by what they carry; nil after a move
	even := false
	b.each(func(id record.PartitionID, p *Partition) {
		if order == nil {
			order = b.pl.byLoad(b.placeable(), func(l Load) int { return l.Replicas })
			even = len(order) < 2 || b.replicas(order[len(order)-1])-b.replicas(order[0]) < 2
		}
		if even || !b.healthy(p) {
			return
		}
		nodes := p.Nodes()
		for _, from := range slices.Backward(order) {
			if !slices.Contains(nodes, from.ID) {
				continue
			}
			for _, to := range order {
				if b.replicas(from)-b.replicas(to) < 2 {
					break
				}
				if target := replaced(nodes, from.ID, to.ID); !slices.Contains(nodes, to.ID) && b.shared(target) <= b.shared(nodes) {
					b.move(id, p, target)
					order = nil
					return
				}
			}
		}
	})
}

func (b *balancer) replicas(br *Broker) int { return b.pl.loads[br.ID].Replicas }

// evenFirsts gives another replica of a partition the preference, where a
// broker is preferred for two or more partitions less. Nothing is copied.
func (b *balancer) evenFirsts() {
	b.each(func(id record.PartitionID, p *Partition) {
		nodes := p.Nodes()
		if len(nodes) < 2 || !b.healthy(p) {
			return
		}
		first := func(n int32) int { return b.pl.loads[n].First }
		least := slices.MinFunc(nodes[1:], func(a, c int32) int { return first(a) - first(c) })
		if first(nodes[0])-first(least) >= 2 {
			target := slices.Clone(nodes)
			i := slices.Index(target, least)
			target[0], target[i] = target[i], target[0]
			b.move(id, p, target)
		}
	})
}

// bytesSlackMin is a difference between disks that is not worth copying for.
const bytesSlackMin = 1 << 30

// evenBytes exchanges a large replica on the fullest broker for a small one on
// the emptiest: the counts stay, and the difference lessens each time.
func (b *balancer) evenBytes() {
	brokers := b.placeable()
	if len(b.bytes) == 0 || len(brokers) < 2 || b.room < 2 || b.v.moves > 0 || len(b.ops) > 0 {
		return
	}
	held := map[int32]int64{}
	total := int64(0)
	for _, t := range b.v.topics {
		for i := range t.Partitions {
			n := b.bytes[record.PartitionID{Topic: t.ID, Partition: int32(i)}]
			for _, r := range t.Partitions[i].Replicas {
				held[r.Node] += n
				total += n
			}
		}
	}
	byHeld := func(x, y *Broker) int {
		if held[x.ID] != held[y.ID] {
			return int(min(max(held[x.ID]-held[y.ID], -1), 1))
		}
		return int(x.ID - y.ID)
	}
	full, empty := slices.MaxFunc(brokers, byHeld), slices.MinFunc(brokers, byHeld)
	diff := held[full.ID] - held[empty.ID]
	if diff < max(bytesSlackMin, total/int64(len(brokers))/10) {
		return
	}
	large, small := b.onOnly(full.ID, empty.ID), b.onOnly(empty.ID, full.ID)
	for _, l := range slices.Backward(large) {
		for _, s := range small {
			if gain := l.bytes - s.bytes; gain <= 0 || gain >= diff {
				continue
			}
			there, back := replaced(l.p.Nodes(), full.ID, empty.ID), replaced(s.p.Nodes(), empty.ID, full.ID)
			if b.shared(there) > b.shared(l.p.Nodes()) || b.shared(back) > b.shared(s.p.Nodes()) {
				continue
			}
			b.move(l.id, l.p, there)
			b.move(s.id, s.p, back)
			return
		}
	}
}

type sized struct {
	id    record.PartitionID
	p     *Partition
	bytes int64
}

// onOnly lists the healthy partitions on one node and not on the other,
// smallest first.
func (b *balancer) onOnly(on, not int32) []sized {
	var out []sized
	b.each(func(id record.PartitionID, p *Partition) {
		if nodes := p.Nodes(); slices.Contains(nodes, on) && !slices.Contains(nodes, not) && b.healthy(p) {
			out = append(out, sized{id, p, b.bytes[id]})
		}
	})
	slices.SortStableFunc(out, func(x, y sized) int { return int(min(max(x.bytes-y.bytes, -1), 1)) })
	return out
}

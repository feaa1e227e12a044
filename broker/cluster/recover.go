package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/journal"
	"tidewater/internal/record"
)

// Recovery from the loss of a majority, for good: one broker that is left makes
// a new start of the groups that cannot elect a leader any more, with what it
// has of them. It is planned with the broker's process ended (PlanRecovery),
// carried out at its next start: the groups are reformed in the journal
// (multiraft.Reform), then Recover is committed to the controller's log.
//
// Old members never make a second history with the new one: the replica has
// another id, so that no vote and no entry of theirs reaches it, and terms begin
// far above theirs. Their brokers are out of the cluster, and end as soon as
// they reach one that knows it: before they start their groups (StillPlaced),
// and while they lead a controller of their own (keepPlace).

const (
	// recoverTermGap is by how much terms rise at a recovery: the lost members
	// may have held elections that this one never heard of, some thousand an
	// hour at the most.
	recoverTermGap = 1 << 16
	// recoverIDGap is the same for ids that counters give out.
	recoverIDGap = 1 << 32
)

// RecoveryPlan is what a recovery will do.
type RecoveryPlan struct {
	Command Recover
	// Groups are the groups to reform, the controller's first if it is among
	// them, with the term that each is to begin above.
	Groups []ReformedGroup
	// Gone are partitions that have lost their majority and have no replica on
	// this broker.
	Gone []record.PartitionID
}

// ReformedGroup is one group of a RecoveryPlan.
type ReformedGroup struct {
	ID        record.PartitionID
	Replica   uint64 // its new id
	AboveTerm uint64
}

// ErrNoRecovery refuses a recovery; the message says why and what to do.
var ErrNoRecovery = errors.New("nothing was changed")

// RecoveredView reads a broker's controller store in dir and applies what the
// journal's group has behind it, committed or not, since all of it will be.
func RecoveredView(dir string, g *journal.Group, log *slog.Logger) (*View, error) {
	st, state, err := openStore(nil, dir, log)
	if err != nil {
		return nil, err
	}
	defer st.close()
	for i := range g.Entries {
		e := &g.Entries[i]
		if record.Index(e.Index) <= state.v.applied {
			continue
		}
		if e.Type != raftpb.EntryNormal || len(e.Data) == 0 {
			state.Skip(record.Index(e.Index), e.Term)
			continue
		}
		id, cmd, err := DecodeCommand(e.Data)
		if err != nil {
			return nil, fmt.Errorf("read controller command at Index %d: %w", e.Index, err)
		}
		_, _ = state.Apply(record.Index(e.Index), e.Term, id, cmd) // a refusal is an answer to whoever asked
	}
	return state.View(), nil
}

// PlanRecovery plans what node goes on with when the brokers lost are gone for
// good; groups are what its journal holds. A group that has a majority without
// them is left alone.
func PlanRecovery(v *View, node int32, lost []int32, groups []journal.Group) (*RecoveryPlan, error) {
	if err := v.checkLost(node, lost); err != nil {
		return nil, err
	}
	known := map[record.PartitionID]*journal.Group{}
	for i := range groups {
		known[groups[i].ID] = &groups[i]
	}
	r := &RecoveryPlan{Command: Recover{Node: node}}
	for _, n := range lost {
		r.Command.Lost = append(r.Command.Lost, LostBroker{Node: n, Disk: v.brokers[n].Disk})
	}
	if err := r.controller(v, node, lost, known[GroupID()]); err != nil {
		return nil, err
	}
	if err := r.unheard(v); err != nil {
		return nil, err
	}
	// Each node takes its new ids from a part of its own, so that two that
	// recover at the same time never share one.
	next := (v.nextReplicaID/recoverIDGap+1)*recoverIDGap + uint64(node)<<20
	for _, t := range v.Topics() {
		for i := range t.Partitions {
			id := record.PartitionID{Topic: t.ID, Partition: int32(i)}
			p := &t.Partitions[i]
			own, held := v.ReplicaOn(p, node)
			g := known[id]
			switch {
			case !v.lostMajority(p, g, lost):
			case !held || g == nil || !reformable(g, own.ID):
				r.Gone = append(r.Gone, id)
			default:
				r.Command.Partitions = append(r.Command.Partitions, RecoveredReplica{Partition: id, From: own.ID, To: next})
				r.Groups = append(r.Groups, ReformedGroup{ID: id, Replica: next, AboveTerm: max(g.HardState.Term, uint64(max(p.LeaderEpoch, 0))) + recoverTermGap})
				next++
			}
		}
	}
	if len(r.Groups) == 0 {
		return nil, fmt.Errorf("%w: no group with a replica on broker %d has lost its majority with brokers %v", ErrNoRecovery, node, lost)
	}
	r.Command.ReplicaIDFloor = next
	return r, nil
}

// checkLost refuses brokers that cannot be meant.
func (v *View) checkLost(node int32, lost []int32) error {
	for i, n := range lost {
		switch {
		case n == node:
			return fmt.Errorf("%w: broker %d is this one: name those that are gone", ErrNoRecovery, n)
		case slices.Contains(lost[:i], n):
			return fmt.Errorf("%w: broker %d is named twice", ErrNoRecovery, n)
		case v.brokers[n] == nil:
			return fmt.Errorf("%w: there is no broker %d, only %s", ErrNoRecovery, n, brokerList(v))
		}
	}
	if len(lost) == 0 {
		return fmt.Errorf("%w: name the brokers that are gone for good", ErrNoRecovery)
	}
	return nil
}

// controller plans for the controller's own group.
func (r *RecoveryPlan) controller(v *View, node int32, lost []int32, g *journal.Group) error {
	if g == nil || v.brokers[node] == nil {
		return fmt.Errorf("%w: this directory has no replica of the controller", ErrNoRecovery)
	}
	gone := func(id uint64) bool {
		for _, n := range lost {
			if v.brokers[n].Controller == id {
				return true
			}
		}
		return !slices.ContainsFunc(v.Brokers(), func(b *Broker) bool { return b.Controller == id })
	}
	if majorityLeft(g.ConfState.Voters, gone) && majorityLeft(g.ConfState.VotersOutgoing, gone) {
		return nil
	}
	var others []string
	for _, b := range v.Brokers() {
		if b.ID != node && !slices.Contains(lost, b.ID) {
			others = append(others, fmt.Sprint(b.ID))
		}
	}
	if len(others) > 0 {
		return fmt.Errorf("%w: the controller has lost its majority, and brokers %s are not named as lost: two of them could make two histories. "+
			"Bring one more broker back; or recover on the one that knows most, name these as lost too, and empty their directories before they join again",
			ErrNoRecovery, strings.Join(others, ", "))
	}
	id := v.nextControllerID + recoverIDGap
	r.Command.Controller, r.Command.ControllerIDFloor = id, id+1
	r.Command.ProducerIDFloor = v.nextProducerID + recoverIDGap
	r.Groups = append(r.Groups, ReformedGroup{ID: GroupID(), Replica: id, AboveTerm: max(g.HardState.Term, v.term) + recoverTermGap})
	return nil
}

// unheard refuses a broker that the controller hears, where there is one to
// ask: it may be this broker alone that does not reach it.
func (r *RecoveryPlan) unheard(v *View) error {
	for _, l := range r.Command.Lost {
		if r.Command.Controller == 0 && !v.brokers[l.Node].Offline {
			return fmt.Errorf("%w: broker %d answers the controller, as far as this broker knows: start this one, wait until "+
				"'tidewater cluster status' shows the other as offline for some seconds, end this one, and try again", ErrNoRecovery, l.Node)
		}
	}
	return nil
}

// lostMajority reports whether a partition cannot elect a leader without the
// lost brokers: by its members as the journal has them, else by the view.
func (v *View) lostMajority(p *Partition, g *journal.Group, lost []int32) bool {
	gone := func(id uint64) bool {
		node, ok := p.NodeOf(id)
		b := v.brokers[node]
		return !ok || b == nil || id < b.ReplicaFloor || slices.Contains(lost, node)
	}
	if g == nil || len(g.ConfState.Voters) == 0 {
		return !majorityLeft(idsOf(p.Replicas), gone)
	}
	return !majorityLeft(g.ConfState.Voters, gone) || !majorityLeft(g.ConfState.VotersOutgoing, gone)
}

func majorityLeft(ids []uint64, gone func(uint64) bool) bool {
	left := 0
	for _, id := range ids {
		if !gone(id) {
			left++
		}
	}
	return len(ids) == 0 || left > len(ids)/2
}

// reformable reports whether the journal has the replica as a member of its
// group: one that never got so far has nothing to go on with.
func reformable(g *journal.Group, replica uint64) bool {
	c := &g.ConfState
	return slices.Contains(slices.Concat(c.Voters, c.VotersOutgoing, c.Learners), replica)
}

// Recovered is the membership that the recovering broker has from then on.
func (r *RecoveryPlan) Recovered(m Membership) Membership {
	if r.Command.Controller == 0 {
		return m
	}
	m.Replica, m.Founder, m.Restoring = r.Command.Controller, true, false
	m.Members = slices.DeleteFunc(slices.Clone(m.Members), func(o Member) bool { return o.Node != m.Node })
	if len(m.Members) == 0 {
		m.Members = []Member{{Node: m.Node, Disk: m.Disk}}
	}
	m.Members = m.Members[:1]
	m.Members[0].Replica = m.Replica
	return m
}

// Recover commits a recovery to the controller's log.
func (c *Controller) Recover(ctx context.Context, cmd *Recover) error {
	if err := c.catchUp(ctx); err != nil {
		return err
	}
	_, err := c.do(ctx, cmd)
	return err
}

// StillPlaced asks the brokers at addrs whether one that has a membership still
// has its place, before it starts its groups. An ErrFenced says that it has
// not; anything else, or no answer within wait, says nothing.
func StillPlaced(ctx context.Context, peers Peers, addrs []string, r Registration, replica uint64, wait time.Duration) error {
	ctx, stop := context.WithTimeout(ctx, wait)
	defer stop()
	call := registerCall{Registration: r, Replica: replica}
	answers := make(chan error, len(addrs))
	for _, addr := range addrs {
		go func() { // ends with ctx
			b, err := peers.Ask(ctx, addr, MethodRegister, call.encode())
			if err == nil {
				_, err = decodeRegistered(b)
			}
			answers <- err
		}()
	}
	for range addrs {
		if err := <-answers; errors.Is(err, ErrFenced) {
			return err
		}
	}
	return nil
}

// placeEvery is how often a broker that leads the controller asks the others
// whether it still has its place: a majority that was taken for lost, and
// recovered from, learns it from the one that did.
const placeEvery = 5 * time.Second

// keepPlace runs until ctx ends or the cluster goes on without this broker.
func (c *Controller) keepPlace(ctx context.Context) error {
	t := time.NewTicker(placeEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if c.cfg.Peers == nil || !c.Leadership().Leading {
			continue
		}
		var addrs []string
		for _, addr := range c.View().peerAddrs(c.cfg.Node) {
			addrs = append(addrs, addr)
		}
		r := Registration{ID: c.cfg.Node, Disk: c.cfg.Membership.Disk}
		if err := StillPlaced(ctx, c.cfg.Peers, addrs, r, c.cfg.Membership.Replica, placeEvery); errors.Is(err, ErrFenced) {
			return err
		}
	}
}

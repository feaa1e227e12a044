package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/record"
)

// duties is what the broker that leads the controller does beside applying
// commands: it looks at the view and at what it hears of the others, and
// proposes what follows. Everything it needs to go on after a change of leaders
// is in the view.
type duties struct {
	c *Controller
	// term is the one that the rest belongs to; a new leader has heard of
	// nobody yet and gives everybody time.
	term     uint64
	heard    map[int32]time.Time // when each broker last answered
	leadless time.Time           // since when no leader is known

	ledAt     time.Time                        // of the last round of leaders
	refused   map[record.PartitionID]time.Time // until when a leader is left alone
	plannedAt time.Time                        // of the last balancer
	sizedAt   time.Time                        // of bytes
	bytes     map[record.PartitionID]int64     // of every partition, by its leader
}

// lookAfter runs the duties every DutyEvery until ctx ends or this broker is
// fenced.
func (c *Controller) lookAfter(ctx context.Context) error {
	d := &duties{c: c}
	t := time.NewTicker(c.cfg.DutyEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			err := d.step(ctx)
			if errors.Is(err, ErrFenced) {
				return err
			}
			if err != nil && ctx.Err() == nil {
				c.cfg.Log.Warn("controller: a duty was not done; it is tried again", "error", err)
			}
		}
	}
}

// step does what is to be done now. A duty that fails keeps none of the others
// from being done.
func (d *duties) step(ctx context.Context) error {
	c := d.c
	now := c.cfg.Now()
	l := c.Leadership()
	if !l.Leading {
		return d.seekLeader(ctx, l, now)
	}
	d.leadless = time.Time{}
	if !l.Ready {
		return nil
	}
	if d.term != l.Term {
		*d = duties{c: c, term: l.Term, heard: map[int32]time.Time{}, refused: map[record.PartitionID]time.Time{}}
	}
	var errs []error
	for _, duty := range []func(context.Context, time.Time) error{d.bootstrap, d.liveness, d.voters, d.moves, d.balance, d.leaders} {
		if err := duty(ctx, now); err != nil && !errors.Is(err, ErrNotController) && !errors.Is(err, ErrConflict) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// bootstrap gives a new cluster the identity that its founders agreed on.
func (d *duties) bootstrap(ctx context.Context, _ time.Time) error {
	m := &d.c.cfg.Membership
	if d.c.View().identity != (Identity{}) || m.Identity == (Identity{}) || !m.Founder || d.c.cfg.Peers == nil {
		return nil
	}
	cmd := &Bootstrap{Identity: m.Identity, FeatureLevel: FeatureLevelMax, Restoring: m.Restoring, Founders: m.Members}
	if err := d.propose(ctx, cmd); err != nil {
		return fmt.Errorf("bootstrap cluster: %w", err)
	}
	return nil
}

// propose has a command carried out by this replica or not at all: what a
// leader saw is not for the next one.
func (d *duties) propose(ctx context.Context, cmd Command) error {
	_, err := d.c.doHere(ctx, EncodeCommand(nil, RequestID{}, cmd))
	return err
}

// liveness marks brokers that were not heard of for a while, and those that
// came back.
func (d *duties) liveness(ctx context.Context, now time.Time) error {
	c := d.c
	if c.cfg.Peers == nil {
		return nil
	}
	cmd := &SetLiveness{NowMs: now.UnixMilli()}
	for _, b := range c.View().Brokers() {
		_, up := c.cfg.Peers.Up(b.ID)
		if last, known := d.heard[b.ID]; up || b.ID == c.cfg.Node || !known {
			d.heard[b.ID] = now
		} else if !b.Offline && now.Sub(last) > c.cfg.OfflineAfter {
			cmd.Offline = append(cmd.Offline, b.ID)
		}
		// Without a listener it was let in but does not serve yet.
		if b.Offline && len(b.Listeners) > 0 && (up || b.ID == c.cfg.Node) {
			cmd.Online = append(cmd.Online, b.ID)
		}
		if b.Offline && b.OfflineSinceMs == 0 && !up && b.ID != c.cfg.Node {
			cmd.Offline = append(cmd.Offline, b.ID) // a founder who never came: the time counts from now
		}
	}
	if len(cmd.Offline)+len(cmd.Online) == 0 {
		return nil
	}
	if err := d.propose(ctx, cmd); err != nil {
		return fmt.Errorf("mark brokers offline or online: %w", err)
	}
	for _, id := range cmd.Offline {
		c.cfg.Log.Warn("broker does not answer and is marked offline", "broker", id)
	}
	for _, id := range cmd.Online {
		c.cfg.Log.Info("broker answers again", "broker", id)
	}
	return nil
}

// voters keeps the members of the controller's group as planVoters says.
func (d *duties) voters(_ context.Context, now time.Time) error {
	c := d.c
	if c.cfg.Peers == nil || c.View().identity == (Identity{}) {
		return nil
	}
	return c.cfg.Raft.Do(func(p Proposer) {
		term, ok := p.Leading()
		if !ok {
			return
		}
		m := p.Members()
		c.caught.look(term, c.ownReplica(), m.Replicas, c.answers, now)
		plan := planVoters(c.View(), m, c.cfg.Membership.Replica, now, c.cfg.VoterAfter)
		if plan.transfer != 0 {
			p.Transfer(plan.transfer)
		}
		if len(plan.changes) > 0 {
			if err := p.Change(raftpb.ConfChangeV2{Changes: plan.changes}); err != nil {
				c.cfg.Log.Info("controller's members are not changed now", "changes", raftpb.ConfChangesToString(plan.changes), "error", err)
			} else {
				c.cfg.Log.Info("controller's members change", "changes", raftpb.ConfChangesToString(plan.changes))
			}
		}
	})
}

// balance begins the moves that the cluster needs.
func (d *duties) balance(ctx context.Context, now time.Time) error {
	c := d.c
	if c.cfg.Groups == nil || c.cfg.Peers == nil || now.Sub(d.plannedAt) < c.cfg.PlanEvery {
		return nil
	}
	d.plannedAt = now
	d.weigh(ctx, now)
	b := balancer{v: c.View(), now: now, repairAfter: c.cfg.RepairAfter, movesMax: c.cfg.MovesMax, balanceMax: c.cfg.BalanceMax, bytes: d.bytes}
	ops := b.plan()
	if len(ops) == 0 {
		return nil
	}
	if err := d.propose(ctx, &MovePartitions{NowMs: now.UnixMilli(), Ops: ops}); err != nil {
		return fmt.Errorf("begin moves: %w", err)
	}
	c.cfg.Log.Info("partitions are moved to repair or even out", "partitions", len(ops))
	return nil
}

// weighEvery is how often the partitions' sizes are asked for.
const weighEvery = time.Minute

// weigh asks every broker how large the partitions are that it leads. One that
// does not answer keeps what it said before.
func (d *duties) weigh(ctx context.Context, now time.Time) {
	if d.c.cfg.Sizes == nil || now.Sub(d.sizedAt) < weighEvery {
		return
	}
	d.sizedAt = now
	if d.bytes == nil {
		d.bytes = map[record.PartitionID]int64{}
	}
	for _, b := range d.c.View().Brokers() {
		if b.Offline {
			continue
		}
		sizes, err := d.c.sizes(ctx, b.ID)
		if err != nil {
			d.c.cfg.Log.Info("sizes of partitions are not known now", "broker", b.ID, "error", err)
			continue
		}
		maps.Copy(d.bytes, sizes)
	}
	v := d.c.View()
	maps.DeleteFunc(d.bytes, func(id record.PartitionID, _ int64) bool { return v.PartitionOf(id) == nil })
}

// seekAfter is how long there may be no leader before the seeds are asked
// where the brokers are: they may all have moved.
const seekAfter = 5 * time.Second

// seekLeader looks for what is wrong when this broker finds no leader: the
// others go on without it, or they have moved, which the seeds may know.
func (d *duties) seekLeader(ctx context.Context, l Leadership, now time.Time) error {
	c := d.c
	if l.Leader != NoLeader || c.cfg.Peers == nil {
		d.leadless = time.Time{}
		return nil
	}
	if d.leadless.IsZero() {
		d.leadless = now
	}
	if now.Sub(d.leadless) < seekAfter {
		return nil
	}
	d.leadless = now
	if fenced := c.askPlace(ctx, Registration{ID: c.cfg.Node, Disk: c.cfg.Membership.Disk}); fenced != nil {
		return fenced
	}
	if len(c.cfg.Seeds) == 0 {
		return nil
	}
	addrs := c.cfg.Membership.addrs()
	maps.Copy(addrs, c.View().peerAddrs(c.cfg.Node))
	for _, a := range askSeeds(ctx, c.cfg.Peers, c.cfg.Seeds) {
		if a.err == nil && a.Member != nil && a.Member.ClusterID == c.cfg.Membership.ClusterID && a.Node != c.cfg.Node {
			addrs[a.Node] = a.addr
		}
	}
	c.cfg.Peers.SetPeers(addrs)
	return nil
}

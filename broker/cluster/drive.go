package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/record"
)

// moveStep is the next thing that a move needs; zero is to wait.
type moveStep struct {
	joining  bool // note that the joint change is about to be asked for
	done     bool // note that the group has its new members
	changes  []raftpb.ConfChangeSingle
	transfer uint64
}

// nextStep says what a moving partition needs now, from what its leader says
// of its group: new replicas come as learners, catch up, and become voters in
// one joint change in which the old ones leave; a leader that is to leave hands
// over first. Whatever was done already is seen in the group's members, so a
// new leader of the controller goes on where the last one was.
func nextStep(p *Partition, s *GroupStatus) moveStep {
	m := &s.Members
	if !s.Leading || p.Move == nil || len(m.Outgoing) > 0 {
		return moveStep{}
	}
	target := idsOf(p.Target())
	isMember := func(id uint64) bool { return slices.Contains(m.Voters, id) || slices.Contains(m.Learners, id) }
	var add, join, leave []raftpb.ConfChangeSingle
	ready := true
	for _, id := range p.Move.Adding {
		switch {
		case !isMember(id):
			add = append(add, raftpb.ConfChangeSingle{Type: raftpb.ConfChangeAddLearnerNode, NodeID: id})
		case !slices.Contains(m.Voters, id):
			join = append(join, raftpb.ConfChangeSingle{Type: raftpb.ConfChangeAddNode, NodeID: id})
			ready = ready && closeBehind(s, id)
		}
	}
	for _, id := range slices.Concat(m.Voters, m.Learners) {
		if !slices.Contains(target, id) && id != s.Replica {
			leave = append(leave, raftpb.ConfChangeSingle{Type: raftpb.ConfChangeRemoveNode, NodeID: id})
		}
	}
	switch {
	case len(add) > 0:
		return moveStep{changes: add}
	case !ready || !majorityActive(m, target):
		return moveStep{}
	case !p.Move.Joining:
		return moveStep{joining: true}
	case len(join)+len(leave) > 0:
		return moveStep{changes: slices.Concat(join, leave)}
	case !slices.Contains(target, s.Replica):
		return moveStep{transfer: heir(s, target)}
	}
	return moveStep{done: true}
}

// heir is the first of ids that a leader can hand over to at once, 0 for none.
func heir(s *GroupStatus, ids []uint64) uint64 {
	for _, id := range ids {
		if slices.Contains(s.Members.Voters, id) && closeBehind(s, id) {
			return id
		}
	}
	return 0
}

// majorityActive reports whether enough of ids answer to go on without the
// others.
func majorityActive(m *Members, ids []uint64) bool {
	n := 0
	for _, r := range m.Replicas {
		if r.Active && slices.Contains(ids, r.Replica) {
			n++
		}
	}
	return n > len(ids)/2
}

// statusesMax bounds one call; the answer has some hundred bytes a partition.
const statusesMax = 1_000

// moves brings every move one step further.
func (d *duties) moves(ctx context.Context, _ time.Time) error {
	v := d.c.View()
	if v.moves == 0 || d.c.cfg.Groups == nil {
		return nil
	}
	byLeader := map[int32][]record.PartitionID{}
	for _, id := range v.Moving() {
		if leader := v.PartitionOf(id).Leader; leader != NoLeader && len(byLeader[leader]) < statusesMax {
			byLeader[leader] = append(byLeader[leader], id)
		}
	}
	var errs []error
	for _, b := range v.Brokers() {
		if ids := byLeader[b.ID]; len(ids) > 0 && !b.Offline {
			errs = append(errs, d.moveOn(ctx, v, b.ID, ids))
		}
	}
	return errors.Join(errs...)
}

// moveOn asks one broker for the groups it leads and takes the next steps.
func (d *duties) moveOn(ctx context.Context, v *View, node int32, ids []record.PartitionID) error {
	statuses, err := d.c.statuses(ctx, node, ids)
	if err != nil {
		return fmt.Errorf("ask for moving partitions: %w", err)
	}
	var ops []GroupOp
	for i := range statuses {
		s := &statuses[i]
		p := v.PartitionOf(s.Partition)
		if p == nil || p.Move == nil {
			continue
		}
		step := nextStep(p, s)
		if step.joining || step.done {
			cmd := &StepMove{Partition: s.Partition, Adding: p.Move.Adding, Removing: p.Move.Removing, Done: step.done}
			if err := d.propose(ctx, cmd); err != nil && !errors.Is(err, ErrConflict) {
				return fmt.Errorf("step move of partition %s: %w", s.Partition, err)
			}
		}
		if len(step.changes) > 0 || step.transfer != 0 {
			ops = append(ops, GroupOp{Partition: s.Partition, Term: s.Term, Changes: step.changes, Transfer: step.transfer})
		}
	}
	if len(ops) == 0 {
		return nil
	}
	refused, err := d.c.changeGroups(ctx, node, ops)
	if err != nil {
		return fmt.Errorf("change members of moving partitions: %w", err)
	}
	for i, err := range refused {
		if err != nil {
			d.c.cfg.Log.Debug("partition's members are not changed now", "partition", ops[i].Partition.String(), "error", err)
		}
	}
	return nil
}

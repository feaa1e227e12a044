package broker

import (
	"tidewater/broker/cluster"
	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

// The controller is a group like any other; these adapters turn multiraft's
// words into the controller's, which knows no journal.

// controllerRaft is the controller's group on this broker.
type controllerRaft struct{ host *multiraft.Host }

// Do implements cluster.Raft.
func (r controllerRaft) Do(task func(cluster.Proposer)) error {
	return r.host.Do(cluster.GroupID(), func(g *multiraft.Group) { task(controllerGroup{g}) })
}

// controllerGroup is the group inside a task.
type controllerGroup struct{ g *multiraft.Group }

// Leading implements cluster.Proposer.
func (c controllerGroup) Leading() (term uint64, ok bool) {
	l := c.g.Leadership()
	return l.Term, l.Leading && l.Ready
}

// Propose implements cluster.Proposer.
func (c controllerGroup) Propose(data []byte) (record.Index, error) { return c.g.Propose(data) }

// Release implements cluster.Proposer.
func (c controllerGroup) Release(at record.Index, term uint64) {
	c.g.Release(journal.Mark{Index: at, Term: term})
}

// controllerMachine is the controller's state machine as the group calls it.
type controllerMachine struct{ m *cluster.Machine }

// Append implements multiraft.StateMachine.
func (c controllerMachine) Append(e multiraft.Entry) error {
	return c.m.Append(e.Index, e.Term, e.Data)
}

// Truncate implements multiraft.StateMachine.
func (c controllerMachine) Truncate(last record.Index) { c.m.Truncate(last) }

// Commit implements multiraft.StateMachine.
func (c controllerMachine) Commit(last record.Index) { c.m.Commit(last) }

// Lead implements multiraft.StateMachine.
func (c controllerMachine) Lead(l multiraft.Leadership) {
	c.m.Lead(cluster.Leadership{Term: l.Term, Leader: l.Leader, Leading: l.Leading, Ready: l.Ready})
}

// Stopped implements multiraft.StateMachine.
func (c controllerMachine) Stopped(err error) { c.m.Stopped(err) }

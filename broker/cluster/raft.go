package cluster

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

// HostedBy makes the controller's group on a multiraft.Host the Raft of a
// Config.
func HostedBy(h Host) Raft { return hosted{h} }

// Host is what the controller calls of a multiraft.Host, or of a simulated
// shard.
type Host interface {
	Do(id record.PartitionID, task func(*multiraft.Group)) error
}

type hosted struct{ host Host }

func (h hosted) Do(task func(Proposer)) error {
	return h.host.Do(GroupID(), func(g *multiraft.Group) { task(proposer{g}) })
}

type proposer struct{ g *multiraft.Group }

func (p proposer) Leading() (term uint64, ok bool) {
	l := p.g.Leadership()
	return l.Term, l.Leading && l.Ready
}

func (p proposer) Propose(data []byte) (record.Index, error) { return p.g.Propose(data) }

func (p proposer) ReadIndex(done func(record.Index, error)) { p.g.ReadIndex(done) }

func (p proposer) Members() Members { return membersOf(p.g) }

func (p proposer) Change(cc raftpb.ConfChangeV2) error {
	_, err := p.g.ProposeConfChangeV2(cc)
	return err
}

func (p proposer) Transfer(to uint64) { p.g.Transfer(to, nil) }

// membersOf reads a group's membership on its loop.
func membersOf(g *multiraft.Group) Members {
	c := g.ConfState()
	return Members{Voters: c.Voters, Outgoing: c.VotersOutgoing, Learners: slices.Concat(c.Learners, c.LearnersNext), Replicas: g.Members()}
}

func (p proposer) Release(at record.Index, term uint64) {
	p.g.Release(journal.Mark{Index: at, Term: term})
}

// StateMachine is the Machine in multiraft's terms, for its GroupConfig.
func (m *Machine) StateMachine() multiraft.StateMachine { return stateMachine{m} }

type stateMachine struct{ *Machine }

func (s stateMachine) Append(e multiraft.Entry) error {
	return s.Machine.Append(e.Index, e.Term, e.Data)
}

func (s stateMachine) Lead(l multiraft.Leadership) { s.Machine.Lead(Leadership(l)) }

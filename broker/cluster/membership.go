package cluster

import (
	"errors"
	"fmt"

	"tidewater/broker/multiraft"
)

// Membership is a broker's place in a cluster. The broker keeps it in its data
// directory from before the controller's group is started for the first time,
// and never changes it, but in a recovery from a lost majority; only a directory
// without one goes through Joiner.Join.
type Membership struct {
	Identity
	// Node and Disk are whom it was given to: a copy under another node id or
	// in another directory counts for nothing.
	Node int32
	Disk [16]byte
	// Replica is the broker's id in the controller's group.
	Replica uint64
	// Members are the group's members when this was made, so that a replica
	// that knows nothing yet can answer them. For a founder they are the first
	// voters, the same for all of them.
	Members []Member
	// Founder: this broker is one of the first voters. Any other replica starts
	// without members and is brought in by the group's leader.
	Founder bool
	// Restoring: the cluster begins by an import; the same for all founders.
	Restoring bool
}

// Member is a replica of the controller's group.
type Member struct {
	Node    int32
	Replica uint64
	Disk    [16]byte
	Addr    string // host:port between brokers
}

// Alone is the membership of a cluster of one without seeds.
func Alone(id Identity, node int32, disk [16]byte) Membership {
	return Membership{Identity: id, Node: node, Disk: disk, Replica: 1, Founder: true,
		Members: []Member{{Node: node, Replica: 1, Disk: disk}}}
}

func (m *Membership) validate() error {
	var errs []error
	if m.Replica == 0 || len(m.Members) == 0 {
		errs = append(errs, errors.New("cluster: the membership has no replica or no members"))
	}
	mine := 0
	for _, o := range m.Members {
		if o.Replica == m.Replica && o.Node == m.Node {
			mine++
		}
	}
	if m.Founder && mine != 1 {
		errs = append(errs, fmt.Errorf("cluster: founder %d is not one of the membership's members", m.Node))
	}
	return errors.Join(errs...)
}

// addrs are the members' addresses, without this broker's own.
func (m *Membership) addrs() map[int32]string {
	out := map[int32]string{}
	for _, o := range m.Members {
		if o.Node != m.Node && o.Addr != "" {
			out[o.Node] = o.Addr
		}
	}
	return out
}

// GroupConfig is how this broker's replica of the controller's group starts. An
// ErrMissing from there means that the directory is to be emptied.
func (c *Controller) GroupConfig() multiraft.GroupConfig {
	m := &c.cfg.Membership
	g := multiraft.GroupConfig{ID: GroupID(), Replica: m.Replica, NodeOf: c.NodeOf, Origin: multiraft.Joining,
		StateMachine: c.machine.StateMachine(), Prompt: true}
	switch {
	case m.Founder && c.store.ran:
		// What the store holds was in the journal first. If it is not there, the
		// replica has left the group or lost its disk, and must not begin the
		// group a second time. One that joins begins nothing.
		g.Origin = multiraft.Resuming
	case m.Founder:
		g.Origin = multiraft.Founding
		for _, o := range m.Members {
			g.Voters = append(g.Voters, o.Replica)
		}
	}
	return g
}

// NodeOf gives the broker that holds a replica of the controller's group.
func (c *Controller) NodeOf(replica uint64) (int32, bool) {
	for _, b := range c.View().brokers {
		if b.Controller == replica {
			return b.ID, true
		}
	}
	for _, o := range c.cfg.Membership.Members {
		if o.Replica == replica {
			return o.Node, true
		}
	}
	return 0, false
}

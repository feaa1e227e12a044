package cluster

import (
	"context"
	"errors"
	"fmt"
)

// answerFenced is MethodRegister's answer with a text that says what a person
// must do; answerLater's text says what is waited for.
const (
	answerFenced = 4
	answerLater  = 5
)

func encodeRegister(r *Registration, passedOn bool) []byte {
	cmd := RegisterBroker{Registration: *r}
	return cmd.appendTo(appendBool([]byte{helloVersion}, passedOn))
}

func decodeRegister(b []byte) (r Registration, passedOn bool, err error) {
	c := &cursor{b: b}
	c.hello()
	passedOn = c.bool()
	var cmd RegisterBroker
	cmd.decode(c)
	return cmd.Registration, passedOn, c.end()
}

func decodeRegistered(b []byte) (Membership, error) {
	c := &cursor{b: b}
	c.hello()
	var m Membership
	var err error
	switch status := c.byte(); status {
	case answerDone:
		m = decodeMembership(c)
	case answerFenced:
		err = fmt.Errorf("%w: %s", ErrFenced, c.string())
	case answerLater:
		err = fmt.Errorf("%w: %s", ErrNotReady, c.string())
	default:
		c.fail(fmt.Sprintf("answer %d is not known", status))
	}
	if bad := c.end(); bad != nil {
		return Membership{}, bad
	}
	return m, err
}

// handleRegister takes a broker into the cluster, or has the leader do it. A
// broker that asks again gets the same answer.
func (c *Controller) handleRegister(ctx context.Context, _ int32, request []byte) ([]byte, error) {
	r, passedOn, err := decodeRegister(request)
	if err != nil {
		return nil, err
	}
	l := c.Leadership()
	if !l.Leading && !passedOn && l.Leader != NoLeader {
		return c.cfg.Peers.Call(ctx, l.Leader, MethodRegister, encodeRegister(&r, true))
	}
	m, err := c.takeIn(ctx, r)
	switch {
	case err == nil:
		return appendMembership([]byte{helloVersion, answerDone}, &m), nil
	case errors.Is(err, ErrFenced):
		return appendString([]byte{helloVersion, answerFenced}, err.Error()), nil
	}
	return appendString([]byte{helloVersion, answerLater}, err.Error()), nil
}

// takeIn registers a broker that has no membership and gives it one.
func (c *Controller) takeIn(ctx context.Context, r Registration) (Membership, error) {
	if err := c.leading(); err != nil {
		return Membership{}, err
	}
	v := c.View()
	if v.identity.ClusterID == [16]byte{} {
		return Membership{}, ErrNotReady
	}
	cmd := &RegisterBroker{Registration: r}
	if old := v.brokers[r.ID]; old != nil && old.Disk != r.Disk {
		if err := c.gone(ctx, old, r.Disk); err != nil {
			return Membership{}, err
		}
		cmd.ReplaceDisk = true
	}
	result, err := c.do(ctx, cmd)
	if err != nil {
		return Membership{}, err
	}
	b := result.(*Broker)
	m := Membership{Identity: v.identity, Node: b.ID, Disk: b.Disk, Replica: b.Controller}
	for _, o := range c.View().Brokers() {
		m.Members = append(m.Members, Member{Node: o.ID, Replica: o.Controller, Disk: o.Disk, Addr: o.RPCAddr})
	}
	return m, nil
}

// gone makes sure that a node's old data directory is not in use when another
// takes its place: either the new one answers at the broker's address, or
// nobody does and the broker has been offline for a while.
func (c *Controller) gone(ctx context.Context, old *Broker, disk [16]byte) error {
	if old.ID == c.cfg.Node {
		return fmt.Errorf("%w: node id %d is that of the broker at %s, which runs: choose another --node-id", ErrFenced, old.ID, old.RPCAddr)
	}
	if old.RPCAddr != "" && c.cfg.Peers != nil {
		ctx, stop := context.WithTimeout(ctx, attemptTimeout)
		defer stop()
		if b, err := c.cfg.Peers.Ask(ctx, old.RPCAddr, MethodHello, nil); err == nil {
			if h, err := decodeHello(b); err == nil && h.Node == old.ID && h.Disk == old.Disk {
				return fmt.Errorf("%w: node id %d is that of the broker at %s, which runs: choose another --node-id", ErrFenced, old.ID, old.RPCAddr)
			} else if err == nil && h.Node == old.ID && h.Disk == disk {
				return nil
			}
		}
	}
	if !old.Offline {
		return fmt.Errorf("%w: node id %d belongs to another data directory that was in use a moment ago; waiting until it is known to be gone",
			ErrNotReady, old.ID)
	}
	return nil
}

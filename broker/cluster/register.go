package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// answerFenced is MethodRegister's answer with a text that says what a person
// must do; answerLater's text says what is waited for.
const (
	answerFenced = 4
	answerLater  = 5
)

// registerCall is the request of MethodRegister.
type registerCall struct {
	Registration
	// Replica is the id in the controller's group of a broker that has a
	// membership and asks whether it still holds; 0 of one that has none.
	Replica uint64
	// PassedOn: it comes from another broker, for the leader.
	PassedOn bool
}

func (r *registerCall) encode() []byte {
	b := appendBool([]byte{helloVersion}, r.PassedOn)
	cmd := RegisterBroker{Registration: r.Registration}
	cmd.Registration.Build = "" // the cluster's level is not known before the answer
	return cmd.appendTo(binary.AppendUvarint(b, r.Replica))
}

func decodeRegister(b []byte) (registerCall, error) {
	c := &cursor{b: b}
	c.hello()
	r := registerCall{PassedOn: c.bool(), Replica: c.uvarint()}
	var cmd RegisterBroker
	cmd.decode(c)
	r.Registration = cmd.Registration
	return r, c.end()
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
	r, err := decodeRegister(request)
	if err != nil {
		return nil, err
	}
	l := c.Leadership()
	if !l.Leading && !r.PassedOn && l.Leader != NoLeader {
		r.PassedOn = true
		return c.cfg.Peers.Call(ctx, l.Leader, MethodRegister, r.encode())
	}
	m, err := c.takeIn(ctx, r)
	switch {
	case err == nil:
		return appendMembership([]byte{helloVersion, answerDone}, &m), nil
	case errors.Is(err, ErrFenced):
		return appendString([]byte{helloVersion, answerFenced}, strings.TrimPrefix(err.Error(), ErrFenced.Error()+": ")), nil
	}
	return appendString([]byte{helloVersion, answerLater}, err.Error()), nil
}

// takeIn registers a broker that has no membership and gives it one, or says
// whether the one that it has still holds.
func (c *Controller) takeIn(ctx context.Context, r registerCall) (Membership, error) {
	if err := c.leading(); err != nil {
		return Membership{}, err
	}
	v := c.View()
	if v.identity.ClusterID == [16]byte{} {
		return Membership{}, ErrNotReady
	}
	if r.Replica != 0 {
		return c.membershipOf(v.brokers[r.ID]), c.place(ctx, r.ID, r.Replica)
	}
	cmd := &RegisterBroker{Registration: r.Registration}
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
	return c.membershipOf(result.(*Broker)), nil
}

// place says whether a broker's replica of the controller is the one that the
// cluster knows. It sends nobody away before a majority confirmed that this
// broker leads, and knows the newest.
func (c *Controller) place(ctx context.Context, node int32, replica uint64) error {
	v := c.View()
	err := v.placed(node, replica)
	if !errors.Is(err, ErrFenced) {
		return err
	}
	if replica >= v.nextControllerID {
		// It has an id that was never given out here: it made a new start when
		// this majority was taken for lost. Not it is to end, but this one.
		return fmt.Errorf("%w: the controller that broker %d asks does not know of its recovery", ErrNotReady, node)
	}
	if late := c.confirm(ctx); late != nil {
		return fmt.Errorf("%w: %w", ErrNotController, late)
	}
	return c.View().placed(node, replica)
}

// membershipOf is what a broker that joins is told.
func (c *Controller) membershipOf(b *Broker) Membership {
	if b == nil {
		return Membership{}
	}
	m := Membership{Identity: c.View().identity, Node: b.ID, Disk: b.Disk, Replica: b.Controller}
	for _, o := range c.View().Brokers() {
		m.Members = append(m.Members, Member{Node: o.ID, Replica: o.Controller, Disk: o.Disk, Addr: o.RPCAddr})
	}
	return m
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

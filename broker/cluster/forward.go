package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"time"

	"tidewater/internal/record"
)

const (
	// requestsMax bounds a broker's requests under way, far below
	// sessionWindow, so that a repeated one is always told from a new one.
	requestsMax = sessionWindow / 4
	// requestTimeout is for callers without a deadline, attemptTimeout for one
	// call to the leader before another is looked for.
	requestTimeout = 30 * time.Second
	attemptTimeout = 5 * time.Second
	// retryEvery paces attempts, so that a broker without a leader is no load.
	retryEvery = 100 * time.Millisecond
)

// Answers to MethodPropose and MethodRead; docs/formats/controller.md.
const (
	answerDone      = 0 // Index
	answerNotLeader = 1 // nothing was proposed, or it was replaced
	answerUnknown   = 2 // it may still happen
	answerRefused   = 3 // text: it never can
)

// do has a command carried out, by whoever leads, and waits until it is
// applied here. A command that was lost on the way is sent again under the
// same request id, so that it happens once.
func (c *Controller) do(ctx context.Context, cmd Command) (any, error) {
	if c.cfg.Session == 0 {
		return c.doHere(ctx, EncodeCommand(nil, RequestID{}, cmd))
	}
	ctx, stop := withDeadline(ctx)
	defer stop()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %d requests are under way", ErrNotController, requestsMax)
	}
	id := RequestID{Node: c.cfg.Node, Session: c.cfg.Session, Seq: c.seq.Add(1)}
	answered, forget := c.machine.await(id)
	defer forget()
	data := EncodeCommand(nil, id, cmd)
	sent := false // an attempt may still come to something
	for {
		err := c.attempt(ctx, data)
		select {
		case o := <-answered:
			return o.result, o.err
		default:
		}
		switch {
		case err == nil, errors.Is(err, errRepeated):
			// A snapshot took this replica past the command, and its answer with it.
			return nil, fmt.Errorf("%w: it was carried out while this broker was behind", ErrUnknownOutcome)
		case errors.Is(err, ErrInvalidRequest), errors.Is(err, ErrClosed):
			return nil, err
		}
		sent = sent || errors.Is(err, ErrUnknownOutcome)
		if c.cfg.Peers == nil {
			return nil, err
		}
		select {
		case o := <-answered:
			return o.result, o.err
		case <-time.After(retryEvery):
		case <-ctx.Done():
			if sent {
				return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
			}
			return nil, fmt.Errorf("%w: %w", ErrNotController, err)
		}
	}
}

func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, requestTimeout)
}

// attempt gives a command to the leader, this broker or another, and returns
// without error when it is applied here.
func (c *Controller) attempt(ctx context.Context, data []byte) error {
	l := c.Leadership()
	if l.Leading || c.cfg.Peers == nil {
		_, err := c.doHere(ctx, data)
		return err
	}
	at, err := c.callLeader(ctx, l, MethodPropose, data)
	if err != nil {
		return err
	}
	if err := c.waitApplied(ctx, at); err != nil {
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return nil
}

// doHere proposes a command to this broker's own replica and waits for its
// result. A task that the group's loop never runs, because it stopped first,
// has no result.
func (c *Controller) doHere(ctx context.Context, data []byte) (any, error) {
	answered := make(chan outcome, 1)
	c.submit(data, func(result any, err error) { answered <- outcome{result, err} })
	select {
	case o := <-answered:
		return o.result, o.err
	case <-c.machine.stopped:
		select {
		case o := <-answered:
			return o.result, o.err
		default:
			return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, ErrClosed)
		}
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
	}
}

// callLeader makes a call that is answered with an Index of the log.
func (c *Controller) callLeader(ctx context.Context, l Leadership, m Method, request []byte) (record.Index, error) {
	if l.Leader == NoLeader {
		return 0, c.noLeader()
	}
	ctx, stop := context.WithTimeout(ctx, attemptTimeout)
	defer stop()
	answer, err := c.cfg.Peers.Call(ctx, l.Leader, m, request)
	if err != nil {
		return 0, fmt.Errorf("%w: ask the controller, broker %d: %w", ErrUnknownOutcome, l.Leader, err)
	}
	return decodeAnswer(answer)
}

// noLeader says what a person needs to know to bring the controller back.
func (c *Controller) noLeader() error {
	up, all := 0, 0
	for _, b := range c.View().brokers {
		if all++; b.ID == c.cfg.Node {
			up++
		} else if _, ok := c.cfg.Peers.Up(b.ID); ok {
			up++
		}
	}
	return fmt.Errorf("%w: no leader is known; %d of %d brokers answer, and a majority of the controller's voters is needed",
		ErrNotController, up, all)
}

// catchUp waits until this replica has applied what the leader had committed,
// so that a plan is made from a view that shows every earlier change.
func (c *Controller) catchUp(ctx context.Context) error {
	if c.cfg.Peers == nil {
		return c.leading()
	}
	ctx, stop := withDeadline(ctx)
	defer stop()
	for {
		l := c.Leadership()
		if l.Leading && l.Ready {
			return nil
		}
		err := fmt.Errorf("%w: %w", ErrNotController, ErrNotReady)
		if !l.Leading {
			var at record.Index
			if at, err = c.callLeader(ctx, l, MethodRead, nil); err == nil {
				return c.waitApplied(ctx, at)
			}
		}
		select {
		case <-time.After(retryEvery):
		case <-c.machine.stopped:
			return fmt.Errorf("%w: %w", ErrNotController, ErrClosed)
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrNotController, err)
		}
	}
}

// Fresh gives a view that shows everything that was committed before the call,
// as the controller's leader and a majority know it.
func (c *Controller) Fresh(ctx context.Context) (*View, error) {
	if err := c.catchUp(ctx); err != nil {
		return nil, err
	}
	return c.View(), nil
}

// leading refuses early what would be refused anyway, so that a plan is made
// from the newest view.
func (c *Controller) leading() error {
	if l := c.Leadership(); !l.Leading {
		return ErrNotController
	} else if !l.Ready {
		return fmt.Errorf("%w: %w", ErrNotController, ErrNotReady)
	}
	return nil
}

// waitApplied waits until the view shows the entry at and whoever waited for
// one up to it here has been answered.
func (c *Controller) waitApplied(ctx context.Context, at record.Index) error {
	return c.wait(ctx, func() bool { return c.machine.told.Load() >= uint64(at) })
}

// handlePropose carries out another broker's command here.
func (c *Controller) handlePropose(ctx context.Context, _ int32, data []byte) ([]byte, error) {
	if _, _, err := DecodeCommand(data); err != nil {
		return appendString([]byte{answerRefused}, err.Error()), nil
	}
	if !c.Leadership().Leading {
		return []byte{answerNotLeader}, nil
	}
	_, err := c.doHere(ctx, data)
	switch {
	case errors.Is(err, ErrNotController):
		return []byte{answerNotLeader}, nil
	case errors.Is(err, ErrUnknownOutcome):
		return []byte{answerUnknown}, nil
	case errors.Is(err, ErrInvalidRequest) && len(data) > CommandBytesMax:
		return appendString([]byte{answerRefused}, err.Error()), nil
	}
	// Whatever else Apply said, the asker's own replica says too.
	return c.answerIndex(), nil
}

// handleRead tells how far this replica is, if it leads and a majority agrees.
func (c *Controller) handleRead(ctx context.Context, _ int32, _ []byte) ([]byte, error) {
	if c.leading() != nil || c.confirm(ctx) != nil {
		return []byte{answerNotLeader}, nil
	}
	return c.answerIndex(), nil
}

// confirm has a majority say that this replica leads.
func (c *Controller) confirm(ctx context.Context) error {
	confirmed := make(chan error, 1)
	err := c.cfg.Raft.Do(func(p Proposer) { p.ReadIndex(func(_ record.Index, err error) { confirmed <- err }) })
	if err == nil {
		select {
		case err = <-confirmed:
		case <-c.machine.stopped:
			err = ErrClosed
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return err
}

func (c *Controller) answerIndex() []byte {
	return binary.AppendUvarint([]byte{answerDone}, uint64(c.View().applied))
}

func decodeAnswer(b []byte) (record.Index, error) {
	c := &cursor{b: b}
	var at record.Index
	var err error
	switch status := c.byte(); status {
	case answerDone:
		at = record.Index(c.uvarint())
	case answerNotLeader:
		err = fmt.Errorf("%w: the broker asked does not lead any more", ErrNotController)
	case answerUnknown:
		err = ErrUnknownOutcome
	case answerRefused:
		err = fmt.Errorf("%w: %s", ErrInvalidRequest, c.string())
	default:
		c.fail(fmt.Sprintf("answer %d is not known", status))
	}
	if bad := c.end(); bad != nil {
		return 0, fmt.Errorf("%w: read the controller's answer: %w", ErrUnknownOutcome, bad)
	}
	return at, err
}

// Handle gives each of the controller's handlers to register, before the
// network is told of the other brokers.
func (c *Controller) Handle(register func(Method, Handler)) {
	register(MethodPropose, c.handlePropose)
	register(MethodRead, c.handleRead)
	register(MethodRegister, c.handleRegister)
	register(MethodQuorum, c.handleQuorum)
	if c.cfg.Groups != nil {
		register(MethodGroups, c.handleGroups)
		register(MethodChange, c.handleChange)
	}
	if c.cfg.Sizes != nil {
		register(MethodSizes, c.handleSizes)
	}
}

// tellPeers gives the network the addresses of the newest view, and of the
// membership while the view has none.
func (c *Controller) tellPeers(v *View) {
	addrs := c.cfg.Membership.addrs()
	maps.Copy(addrs, v.peerAddrs(c.cfg.Node))
	c.cfg.Peers.SetPeers(addrs)
}

// peerAddrs are the addresses of the other brokers.
func (v *View) peerAddrs(self int32) map[int32]string {
	out := map[int32]string{}
	for _, b := range v.brokers {
		if b.ID != self && b.RPCAddr != "" {
			out[b.ID] = b.RPCAddr
		}
	}
	return out
}

// followPeers keeps the network's addresses as the view says.
func (c *Controller) followPeers() {
	if c.cfg.Peers == nil {
		return
	}
	c.tellPeers(c.View())
	c.Subscribe(func(old, now *View) {
		if !maps.Equal(old.peerAddrs(c.cfg.Node), now.peerAddrs(c.cfg.Node)) {
			c.tellPeers(now)
		}
	})
}

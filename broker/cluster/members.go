package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// Bootstrap gives a new cluster its identity; saying the same again is no
// error. With restoring, Import follows.
func (c *Controller) Bootstrap(ctx context.Context, id Identity, restoring bool) error {
	if id.ClusterID == [16]byte{} {
		return fmt.Errorf("%w: the cluster id is zero", ErrInvalidRequest)
	}
	_, err := c.do(ctx, &Bootstrap{Identity: id, FeatureLevel: FeatureLevelMax, Restoring: restoring, Founders: c.cfg.Membership.Members})
	return err
}

// RegisterBroker announces a broker or changes what is known of it. A new Boot
// raises the broker's BootCount. In a cluster of several it waits for a leader
// until ctx ends. ErrFenced: the broker has no place in the cluster any more.
func (c *Controller) RegisterBroker(ctx context.Context, r Registration) (*Broker, error) {
	if r.ID < 0 {
		return nil, fmt.Errorf("%w: broker id %d is negative", ErrInvalidRequest, r.ID)
	}
	for {
		b, err := c.register(ctx, r)
		if err == nil || c.cfg.Peers == nil || ctx.Err() != nil ||
			!errors.Is(err, ErrNotController) && !errors.Is(err, ErrNotReady) && !errors.Is(err, ErrUnknownOutcome) {
			return b, err
		}
		c.cfg.Log.Info("waiting to register with the controller", "reason", err)
		if fenced := c.askPlace(ctx, r); fenced != nil {
			return nil, fenced
		}
		select {
		case <-time.After(retryEvery):
		case <-ctx.Done():
		}
	}
}

func (c *Controller) register(ctx context.Context, r Registration) (*Broker, error) {
	if err := c.catchUp(ctx); err != nil {
		return nil, err
	}
	if c.cfg.Peers != nil && r.ID == c.cfg.Node {
		if err := c.View().placed(c.cfg.Node, c.cfg.Membership.Replica); err != nil {
			return nil, err
		}
	}
	if c.View().featureLevel < levelBuilds {
		r.Build = ""
	}
	result, err := c.do(ctx, &RegisterBroker{Registration: r})
	if err != nil {
		return nil, err
	}
	return result.(*Broker), nil
}

// placed refuses a broker whose replica of the controller is not the one that
// the cluster knows.
func (v *View) placed(node int32, replica uint64) error {
	if v.identity == (Identity{}) {
		return fmt.Errorf("%w: the cluster is being founded", ErrNotReady)
	}
	switch b := v.brokers[node]; {
	case b == nil:
		return fmt.Errorf("%w: node %d was unregistered; empty its data directory to bring it in again", ErrFenced, node)
	case b.Controller != replica:
		return fmt.Errorf("%w: another data directory took the place of this one as node %d; empty it, or give this broker another --node-id",
			ErrFenced, node)
	}
	return nil
}

// askPlace asks the others whether this broker still has a place: if not, no
// leader will ever speak to it. Any other answer, or none, says nothing.
func (c *Controller) askPlace(ctx context.Context, r Registration) error {
	if c.Leadership().Leader != NoLeader || ctx.Err() != nil {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, attemptTimeout)
	defer stop()
	addrs := c.cfg.Membership.addrs()
	maps.Copy(addrs, c.View().peerAddrs(c.cfg.Node))
	call := registerCall{Registration: r, Replica: c.cfg.Membership.Replica}
	for _, addr := range addrs {
		if b, err := c.cfg.Peers.Ask(ctx, addr, MethodRegister, call.encode()); err == nil {
			if _, err = decodeRegistered(b); errors.Is(err, ErrFenced) {
				return err
			}
		}
	}
	return nil
}

// ReportLeaders records who leads; what is older than known is left out, and
// nothing is proposed when all of it is.
func (c *Controller) ReportLeaders(ctx context.Context, reports []LeaderReport) error {
	v := c.View()
	var news []LeaderReport
	for _, r := range reports {
		if p := v.PartitionOf(r.Partition); p != nil && (r.Epoch > p.LeaderEpoch || r.Epoch == p.LeaderEpoch && p.Leader == NoLeader) {
			news = append(news, r)
		}
	}
	for len(news) > 0 {
		n := min(len(news), leaderReportsMax)
		if _, err := c.do(ctx, &ReportLeaders{Reports: news[:n]}); err != nil {
			return err
		}
		news = news[n:]
	}
	return nil
}

// leaderReportsMax keeps a command under CommandBytesMax: a report has at most
// 31 bytes.
const leaderReportsMax = 10_000

// AllocateProducerIDs hands out n producer ids, from first on, that nobody has
// seen before, in this life of the cluster or an earlier one.
func (c *Controller) AllocateProducerIDs(ctx context.Context, n int64) (first int64, err error) {
	result, err := c.do(ctx, &AllocateProducerIDs{Count: n})
	if err != nil {
		return 0, err
	}
	return result.(int64), nil
}

// producerIDBlock is how many ids a broker takes at a time, as in Kafka.
const producerIDBlock = 1000

// NextProducerID gives one producer id from this broker's block. What is left
// of a block at a restart is never used.
func (c *Controller) NextProducerID(ctx context.Context) (int64, error) {
	if id, ok := c.fromBlock(); ok {
		return id, nil
	}
	first, err := c.AllocateProducerIDs(ctx, producerIDBlock)
	if err != nil {
		return 0, err
	}
	c.idMu.Lock()
	defer c.idMu.Unlock()
	c.nextID, c.endID = first+1, first+producerIDBlock
	return first, nil
}

func (c *Controller) fromBlock() (int64, bool) {
	c.idMu.Lock()
	defer c.idMu.Unlock()
	if c.nextID >= c.endID {
		return 0, false
	}
	c.nextID++
	return c.nextID - 1, true
}

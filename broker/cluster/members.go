package cluster

import (
	"context"
	"fmt"
)

// FeatureLevel is what this build needs and gives to a new cluster.
const FeatureLevel uint32 = 1

// Bootstrap gives a new cluster its identity; saying the same again is no
// error. With restoring, Import follows.
func (c *Controller) Bootstrap(ctx context.Context, id Identity, restoring bool) error {
	if id.ClusterID == [16]byte{} {
		return fmt.Errorf("%w: the cluster id is zero", ErrInvalidRequest)
	}
	_, err := c.do(ctx, &Bootstrap{Identity: id, FeatureLevel: FeatureLevel, Restoring: restoring, Founders: c.cfg.Membership.Members})
	return err
}

// RegisterBroker announces a broker or changes what is known of it. A new Boot
// raises the broker's BootCount.
func (c *Controller) RegisterBroker(ctx context.Context, r Registration) (*Broker, error) {
	if r.ID < 0 {
		return nil, fmt.Errorf("%w: broker id %d is negative", ErrInvalidRequest, r.ID)
	}
	result, err := c.do(ctx, &RegisterBroker{Registration: r})
	if err != nil {
		return nil, err
	}
	return result.(*Broker), nil
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

package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tidewater/broker/cluster"
	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

// forgetTimeout bounds how long the deletion of a topic waits for the
// coordinators on other brokers; the loop that follows deletions makes up for
// those that are late.
const forgetTimeout = 2 * time.Second

// leadGroups gives or takes a partition of __consumer_offsets.
func (b *Broker) leadGroups(t *cluster.Topic, id record.PartitionID, l multiraft.Leadership) {
	if t.Name != cluster.ConsumerOffsetsTopic {
		return
	}
	h, err := b.parts.get(id)
	switch {
	case !l.Leading:
		b.groups.Resign(id.Partition)
	case l.Ready && err == nil:
		b.groups.Lead(id.Partition, h.Partition)
	}
}

// leadsHere says whether this broker's replica of a partition leads it.
func (b *Broker) leadsHere(id record.PartitionID, _ *cluster.Partition) bool {
	h, err := b.parts.get(id)
	return err == nil && h.Leadership().Leading
}

// offsetsLoaded says whether the groups of the partitions of __consumer_offsets
// that here picks are served by this broker.
func (b *Broker) offsetsLoaded(here func(record.PartitionID, *cluster.Partition) bool) error {
	t := b.controller.View().TopicByName(cluster.ConsumerOffsetsTopic)
	if t == nil {
		return nil
	}
	for n := range t.Partitions {
		if here(record.PartitionID{Topic: t.ID, Partition: int32(n)}, &t.Partitions[n]) && !b.groups.Loaded(int32(n)) {
			return fmt.Errorf("group offsets of %s-%d are being loaded", t.Name, n)
		}
	}
	return nil
}

// forgetOffsets has every coordinator of the cluster forget what groups
// committed of deleted topics. It fails while one cannot.
func (b *Broker) forgetOffsets(ctx context.Context, topics []string) error {
	v := b.controller.View()
	t := v.TopicByName(cluster.ConsumerOffsetsTopic)
	if t == nil {
		return nil
	}
	var nodes []int32
	for n := range t.Partitions {
		leader := t.Partitions[n].Leader
		if leader == cluster.NoLeader || !b.up(leader) {
			return fmt.Errorf("%s-%d has no leader", t.Name, n)
		}
		nodes = append(nodes, leader)
	}
	if err := b.offsetsLoaded(func(_ record.PartitionID, p *cluster.Partition) bool { return p.Leader == b.cfg.NodeID }); err != nil {
		return err
	}
	b.groups.DeleteTopics(topics)
	return b.tellForget(ctx, nodes, topics)
}

// tellForget asks other brokers' coordinators to forget topics.
func (b *Broker) tellForget(ctx context.Context, nodes []int32, topics []string) error {
	ctx, stop := context.WithTimeout(ctx, forgetTimeout)
	defer stop()
	told := map[int32]bool{b.cfg.NodeID: true}
	faults := make([]error, len(nodes))
	var asking sync.WaitGroup
	for i, node := range nodes {
		if told[node] || !b.up(node) {
			continue
		}
		told[node] = true
		asking.Go(func() {
			if _, err := (peers{b.network}).Call(ctx, node, methodForget, encodeNames(topics)); err != nil {
				faults[i] = fmt.Errorf("ask broker %d: %w", node, err)
			}
		})
	}
	asking.Wait()
	return errors.Join(faults...)
}

// answerForget implements methodForget.
func (b *Broker) answerForget(_ context.Context, _ int32, request []byte) ([]byte, error) {
	topics, err := decodeNames(request)
	if err != nil {
		return nil, err
	}
	if err := b.offsetsLoaded(b.leadsHere); err != nil {
		return nil, err
	}
	b.groups.DeleteTopics(topics)
	return nil, nil
}

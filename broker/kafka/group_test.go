package kafka

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidewater/broker/cluster"
	"tidewater/broker/group"
	"tidewater/internal/record"
)

// withCoordinator is a world whose groups are real, over fake logs.
func withCoordinator(t *testing.T) *world {
	const partitions = 3
	fake := newFakeCluster()
	coordinator, err := group.Open(group.Config{Partitions: func() int32 { return partitions }, Topics: groupTopics{fake}, InitialDelay: -1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var loop sync.WaitGroup
	loop.Go(func() { coordinator.Run(ctx) })
	t.Cleanup(func() { cancel(); loop.Wait() })
	w := openOver(t, fake, func(c *Config) { c.Groups = coordinator })
	w.topic(t, cluster.ConsumerOffsetsTopic, partitions)
	for p := range int32(partitions) {
		coordinator.Lead(p, w.cluster.log(cluster.ConsumerOffsetsTopic, p))
	}
	return w
}

// groupTopics is the coordinator's view of topics.
type groupTopics struct{ c *fakeCluster }

func (g groupTopics) ByName(name string) (record.TopicID, int32, bool) {
	if t := g.c.TopicByName(name); t != nil {
		return t.ID, int32(len(t.Partitions)), true
	}
	return record.TopicID{}, 0, false
}

func (g groupTopics) ByID(id record.TopicID) (string, int32, bool) {
	if t := g.c.Topic(id); t != nil {
		return t.Name, int32(len(t.Partitions)), true
	}
	return "", 0, false
}

// Shows a group's life with real clients: two members share a topic, one
// leaves, the other goes on from what was committed, and the group is listed,
// described, its lag told, and deleted.
func TestGroupOfTwoMembers(t *testing.T) {
	w := withCoordinator(t)
	w.topic(t, "flights", 4)
	producer := w.client(t, kgo.DefaultProduceTopic("flights"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	member := func() *kgo.Client {
		return w.client(t, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("flights"), kgo.DisableAutoCommit(),
			kgo.Balancers(kgo.RoundRobinBalancer()), kgo.HeartbeatInterval(20*time.Millisecond))
	}
	add := func() {
		for p := range int32(4) {
			producer.Produce(within(t), &kgo.Record{Partition: p, Value: []byte("v")}, nil)
		}
		if err := producer.Flush(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	adm := w.admin(t)
	state := func() kadm.DescribedGroup {
		d, err := adm.DescribeGroups(within(t), "g")
		if err != nil {
			t.Fatal(err)
		}
		return d["g"]
	}
	one, two := member(), member()
	var loops sync.WaitGroup
	polling, stop := context.WithCancel(t.Context())
	for _, m := range []*kgo.Client{one, two} {
		loops.Go(func() {
			for polling.Err() == nil && !m.PollFetches(polling).IsClientClosed() {
				m.AllowRebalance()
				if err := m.CommitUncommittedOffsets(polling); err != nil && polling.Err() == nil {
					continue // a rebalance came between; the next round commits
				}
			}
		})
	}
	until(t, "both are members", func() bool { d := state(); return d.State == "Stable" && len(d.Members) == 2 })
	add()
	committed := func() (n int64) {
		offsets, err := adm.FetchOffsets(within(t), "g")
		if err != nil {
			t.Fatal(err)
		}
		offsets.Each(func(o kadm.OffsetResponse) { n += o.At })
		return n
	}
	until(t, "all is committed", func() bool { return committed() == 4 })
	one.LeaveGroup()
	until(t, "one is left", func() bool { d := state(); return d.State == "Stable" && len(d.Members) == 1 })
	add()
	until(t, "the rest is committed", func() bool { return committed() == 8 })
	lags, err := adm.Lag(within(t), "g")
	if err != nil || lags["g"].Lag.Total() != 0 {
		t.Errorf("lag: %+v, %v", lags, err)
	}
	stop()
	loops.Wait()
	two.LeaveGroup()
	until(t, "the group is empty", func() bool { return state().State == "Empty" })
	if listed, err := adm.ListGroups(within(t)); err != nil || len(listed.Groups()) != 1 {
		t.Errorf("list: %v, %v", listed, err)
	}
	if deleted, err := adm.DeleteGroups(within(t), "g"); err != nil || deleted["g"].Err != nil {
		t.Errorf("delete: %v, %v", deleted, err)
	}
}

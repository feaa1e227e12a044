package broker

import (
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// early counts the entries that brokers answered for before they were committed.
func (ns *nodes) early() (n int64) {
	for _, one := range ns.all {
		n += one.hosts.stats().HeldTold
	}
	return n
}

// Shows that a topic with write.caching is answered from memory and no other
// is, as the property is described and changed: for a topic, for all as the
// brokers' default, and not to what is no truth value.
func TestWriteCachingIsATopicsProperty(t *testing.T) {
	t.Parallel()
	ns := openNodes(t, threeOf(t, testConfig))
	admin := kadm.NewClient(ns.client())
	ns.topic(0, "plain", 1, nil)
	ns.topic(1, "cached", 1, map[string]string{"write.caching": "true"})
	client := ns.client()
	produce := func(topic string) {
		if r := client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("v")}); r.FirstErr() != nil {
			t.Fatal(r.FirstErr())
		}
	}
	for range 20 {
		produce("plain")
	}
	if n := ns.early(); n != 0 {
		t.Errorf("%d records of an ordinary topic were answered from memory", n)
	}
	early := func(topic string) {
		t.Helper()
		before := ns.early()
		until(t, topic+" is answered from memory", func() error {
			if produce(topic); ns.early() == before {
				return errors.New("it is answered after the flush")
			}
			return nil
		})
	}
	early("cached")

	described := func(topic, want string, source kmsg.ConfigSource) {
		t.Helper()
		until(t, "the property is described", func() error {
			rs, err := admin.DescribeTopicConfigs(t.Context(), topic)
			if err != nil {
				return err
			}
			for _, c := range rs[0].Configs {
				if c.Key == "write.caching" && c.MaybeValue() == want && c.Source == source {
					return nil
				}
			}
			return fmt.Errorf("%s: %+v", topic, rs[0].Configs)
		})
	}
	described("cached", "true", kmsg.ConfigSourceDynamicTopicConfig)
	described("plain", "false", kmsg.ConfigSourceDefaultConfig)
	for _, bad := range []string{"maybe", "1", ""} {
		value := bad
		rs, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "write.caching", Value: &value}}, "plain")
		if err != nil || !errors.Is(rs[0].Err, kerr.InvalidConfig) {
			t.Errorf("write.caching=%q: %v, %+v", bad, err, rs)
		}
	}
	yes := "true"
	rs, err := admin.AlterBrokerConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "write.caching", Value: &yes}})
	if err != nil || rs[0].Err != nil {
		t.Fatalf("the brokers' default: %v, %+v", err, rs)
	}
	described("plain", "true", kmsg.ConfigSourceDynamicDefaultBrokerConfig)
	ns.topic(2, "later", 1, nil)
	early("later")
}

// Shows that a kill -9 of one broker, the leader and another, loses nothing that
// was answered from memory, doubles nothing, and is no more than that for an
// ordinary topic beside it.
func TestWriteCachingSurvivesAKilledBroker(t *testing.T) {
	t.Parallel()
	cfgs := threeOf(t, testConfig)
	kids := startChildren(t, cfgs)
	var seeds []string
	for i, c := range kids {
		cfgs[i].KafkaAddr = c.addr
		seeds = append(seeds, c.addr)
	}
	open := func(opts ...kgo.Opt) *kgo.Client {
		c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(seeds...))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	admin := kadm.NewClient(open())
	yes := "true"
	var loads []*load
	topics := []string{"cached", "plain"}
	for i, configs := range []map[string]*string{{"write.caching": &yes}, nil} {
		if _, err := admin.CreateTopic(t.Context(), 1, 3, configs, topics[i]); err != nil {
			t.Fatal(err)
		}
		loads = append(loads, startLoad(t, open(kgo.DefaultProduceTopic(topics[i]), kgo.ProducerLinger(0))))
	}
	more := func(n int) {
		t.Helper()
		for _, l := range loads {
			l.more(t, n)
		}
	}
	more(50)
	meta, err := admin.Metadata(t.Context(), "cached")
	if err != nil {
		t.Fatal(err)
	}
	leader := int(meta.Topics["cached"].Partitions[0].Leader)
	for _, victim := range []int{leader - 1, leader % 3} {
		kids[victim].kill()
		more(30) // what was in memory when it died is committed by those that have it
		kids[victim] = startChild(t, cfgs[victim])
		more(30)
	}
	for i, l := range loads {
		l.end(t)
		sameLog(t, open(), topics[i], 1, l)
	}
}

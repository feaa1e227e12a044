package kafka

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"tidewater/broker/cluster"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Shows that a real client's records come back as they went, with each codec,
// onto a topic made by its first use, idempotent or not.
func TestProduceAndConsumeWithEveryCodec(t *testing.T) {
	w := open(t, nil)
	for name, codec := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		for _, idempotent := range []bool{true, false} {
			topic := fmt.Sprintf("%s-%v", name, idempotent)
			opts := []kgo.Opt{kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(codec)}
			if !idempotent {
				opts = append(opts, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()))
			}
			produceMany(t, w.client(t, opts...), 300)
			got := consume(t, w.client(t, kgo.ConsumeTopics(topic)), 300)
			for i, r := range got {
				if want := fmt.Sprintf("value %d %s", i, strings.Repeat("x", i)); string(r.Value) != want || r.Offset != int64(i) || r.LeaderEpoch != 7 {
					t.Fatalf("%s: record %d is %q at offset %d in epoch %d", topic, i, r.Value, r.Offset, r.LeaderEpoch)
				}
			}
		}
	}
}

func produceMany(t *testing.T, cl *kgo.Client, n int) {
	t.Helper()
	for i := range n {
		cl.Produce(within(t), kgo.StringRecord(fmt.Sprintf("value %d %s", i, strings.Repeat("x", i))), func(r *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
	}
	if err := cl.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
}

func consume(t *testing.T, cl *kgo.Client, n int) []*kgo.Record {
	t.Helper()
	var got []*kgo.Record
	for len(got) < n {
		fs := cl.PollFetches(within(t))
		if err := fs.Err0(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(got), n, err)
		}
		for _, e := range fs.Errors() {
			t.Fatalf("fetch %s-%d: %v", e.Topic, e.Partition, e.Err)
		}
		got = append(got, fs.Records()...)
	}
	return got
}

// Shows that old clients are served: the same round by clients pinned to the
// versions of their time, down to Produce v3 and Fetch v4.
func TestClientsOfOldVersions(t *testing.T) {
	w := open(t, nil)
	for name, versions := range map[string]*kversion.Versions{
		"0.11": kversion.V0_11_0(), "1.0": kversion.V1_0_0(), "2.1": kversion.V2_1_0(), "2.4": kversion.V2_4_0(),
		"2.8": kversion.V2_8_0(), "3.1": kversion.V3_1_0(), "3.9": kversion.V3_9_0(), "4.0": kversion.V4_0_0(),
	} {
		topic := "by-" + name
		cl := w.client(t, kgo.MaxVersions(versions), kgo.DefaultProduceTopic(topic), kgo.ConsumeTopics(topic))
		produceMany(t, cl, 50)
		if got := consume(t, cl, 50); string(got[49].Value) != "value 49 "+strings.Repeat("x", 49) {
			t.Errorf("%s: last record is %q", name, got[49].Value)
		}
	}
}

// Shows that a consumer of many partitions in one session gets everything, in
// order within a partition, while producers go on.
func TestConsumeManyPartitions(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "wide", 40)
	cl := w.client(t, kgo.DefaultProduceTopic("wide"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	consumer := w.client(t, kgo.ConsumeTopics("wide"), kgo.FetchMaxPartitionBytes(1000), kgo.FetchMaxBytes(5000))
	next := map[int32]int64{}
	for round := range 5 {
		for p := range int32(40) {
			for range 3 {
				cl.Produce(within(t), &kgo.Record{Partition: p, Value: make([]byte, 300)}, nil)
			}
		}
		if err := cl.Flush(within(t)); err != nil {
			t.Fatal(err)
		}
		for _, r := range consume(t, consumer, 120) {
			if r.Offset != next[r.Partition] {
				t.Fatalf("round %d: partition %d gave offset %d, want %d", round, r.Partition, r.Offset, next[r.Partition])
			}
			next[r.Partition]++
		}
	}
	if st := w.Stats(); st.FetchSessions == 0 || st.FetchSessionPartitions < 40 {
		t.Errorf("no session was used: %+v", st)
	}
}

// Shows that a group member gets its partitions and its committed offset back.
func TestConsumeWithGroup(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "flights", 1)
	produceMany(t, w.client(t, kgo.DefaultProduceTopic("flights")), 10)
	member := func() *kgo.Client {
		return w.client(t, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("flights"), kgo.DisableAutoCommit(), kgo.ClientID("me"))
	}
	first := member()
	consume(t, first, 10)
	first.CommitOffsetsSync(within(t), map[string]map[int32]kgo.EpochOffset{"flights": {0: {Epoch: 7, Offset: 6}}}, nil)
	first.Close()
	if r := consume(t, member(), 4); r[0].Offset != 6 {
		t.Errorf("the next member starts at %d, want 6", r[0].Offset)
	}
	w.groups.mu.Lock()
	defer w.groups.mu.Unlock()
	if w.groups.client.ID != "me" || w.groups.client.Host != "/127.0.0.1" {
		t.Errorf("coordinator saw client %+v", w.groups.client)
	}
}

// Shows the offsets of each special timestamp and by time.
func TestListOffsets(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "t", 1)
	log := w.cluster.log("t", 0)
	cl := w.client(t)
	for i := range 10 {
		r := &kgo.Record{Topic: "t", Timestamp: time.UnixMilli(1000 + int64(i)*10), Value: []byte("v")}
		if err := cl.ProduceSync(within(t), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	log.with(func(l *fakeLog) { l.offsets.LogStart, l.offsets.Archived, l.offsets.LastStable = 2, 5, 8 })
	for _, c := range []struct {
		ts, want int64
		iso      int8
	}{{-1, 10, 0}, {-1, 8, 1}, {-2, 2, 0}, {-3, 9, 0}, {-4, 2, 0}, {-5, 4, 0}, {-6, 5, 0}, {1035, 4, 0}, {5000, -1, 0}} {
		req := kmsg.NewPtrListOffsetsRequest()
		req.IsolationLevel = c.iso
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = "t"
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Timestamp = c.ts
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		resp, err := req.RequestWith(within(t), cl)
		if err != nil {
			t.Fatal(err)
		}
		if p := resp.Topics[0].Partitions[0]; p.Offset != c.want || p.ErrorCode != 0 {
			t.Errorf("timestamp %d, isolation %d: offset %d (code %d), want %d", c.ts, c.iso, p.Offset, p.ErrorCode, c.want)
		}
	}
}

// Shows that topics are made, described, grown and deleted, and that what
// cannot be done gets Kafka's code and a sentence.
func TestTopicAdministration(t *testing.T) {
	w := open(t, nil)
	adm := w.admin(t)
	value := "1000"
	created, err := adm.CreateTopic(within(t), 3, 1, map[string]*string{"retention.ms": &value}, "made")
	if err != nil || created.NumPartitions != 3 || created.ID == (kadm.TopicID{}) {
		t.Fatalf("create: %+v, %v", created, err)
	}
	for _, c := range []struct {
		name       string
		partitions int32
		replicas   int16
		config     string
		want       *kerr.Error
	}{
		{"made", 1, 1, "1", kerr.TopicAlreadyExists},
		{"bad name!", 1, 1, "1", kerr.InvalidTopicException},
		{"..", 1, 1, "1", kerr.InvalidTopicException},
		{strings.Repeat("x", 250), 1, 1, "1", kerr.InvalidTopicException},
		{"__consumer_offsets", 1, 1, "1", kerr.InvalidTopicException},
		{"no-parts", 0, 1, "1", kerr.InvalidPartitions},
		{"replicas", 1, 3, "1", kerr.InvalidReplicationFactor},
		{"config", 1, 1, "soon", kerr.InvalidConfig},
	} {
		got, err := adm.CreateTopic(within(t), c.partitions, c.replicas, map[string]*string{"retention.ms": &c.config}, c.name)
		if !errors.Is(err, c.want) || got.ErrMessage == "" {
			t.Errorf("create %q: %v (%q), want %v", c.name, err, got.ErrMessage, c.want)
		}
	}
	if got, err := adm.CreatePartitions(within(t), 2, "made", "absent"); err != nil || got["made"].Err != nil || !errors.Is(got["absent"].Err, kerr.UnknownTopicOrPartition) {
		t.Errorf("create partitions: %+v, %v", got, err)
	}
	topics, err := adm.ListTopics(within(t), "made")
	if err != nil || len(topics["made"].Partitions) != 5 || topics["made"].ID != created.ID {
		t.Errorf("describe: %+v, %v", topics, err)
	}
	deleted, err := adm.DeleteTopics(within(t), "made", "absent")
	if err != nil || deleted["made"].Err != nil || !errors.Is(deleted["absent"].Err, kerr.UnknownTopicOrPartition) {
		t.Errorf("delete: %+v, %v", deleted, err)
	}
}

// Shows the answers for topics that are asked for and are not there.
func TestMetadataOfMissingTopics(t *testing.T) {
	var auto atomic.Bool
	w := open(t, func(c *Config) { c.AutoCreateTopics = auto.Load })
	cl := w.client(t)
	ask := func(name string, allow bool) int16 {
		req := kmsg.NewPtrMetadataRequest()
		req.AllowAutoTopicCreation = allow
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = &name
		req.Topics = append(req.Topics, rt)
		resp, err := req.RequestWith(within(t), cl)
		if err != nil {
			t.Fatal(err)
		}
		if *resp.ClusterID == "" || resp.ControllerID != 1 || len(resp.Brokers) != 1 {
			t.Errorf("cluster is described as %+v", resp)
		}
		return resp.Topics[0].ErrorCode
	}
	for _, c := range []struct {
		name        string
		auto, allow bool
		want        int16
	}{
		{"a", true, false, kerr.UnknownTopicOrPartition.Code},
		{"a", false, true, kerr.UnknownTopicOrPartition.Code},
		{"a", true, true, 0},
		{"a", false, false, 0},
		{"no/slash", true, true, kerr.InvalidTopicException.Code},
		{cluster.ConsumerOffsetsTopic, true, true, kerr.UnknownTopicOrPartition.Code},
	} {
		auto.Store(c.auto)
		if got := ask(c.name, c.allow); got != c.want {
			t.Errorf("%q with auto creation %v, allowed %v: code %d, want %d", c.name, c.auto, c.allow, got, c.want)
		}
	}
}

// Shows that properties are described with their source, changed one by one,
// and refused with the reason.
func TestConfigs(t *testing.T) {
	w := open(t, func(c *Config) {
		c.BrokerConfigs = func() []BrokerConfig {
			return []BrokerConfig{{Name: "log.retention.ms", Value: "5000"}, {Name: "secret", Value: "s", Sensitive: true}}
		}
	})
	w.topic(t, "t", 1)
	adm := w.admin(t)
	get := func() map[string]kadm.Config {
		cs, err := adm.DescribeTopicConfigs(within(t), "t")
		if err != nil || cs[0].Err != nil {
			t.Fatal(err, cs)
		}
		out := map[string]kadm.Config{}
		for _, c := range cs[0].Configs {
			out[c.Key] = c
		}
		return out
	}
	if c := get()["retention.ms"]; c.MaybeValue() != "5000" || c.Source != kmsg.ConfigSourceStaticBrokerConfig {
		t.Errorf("from the broker's file: %+v", c)
	}
	if c := get()["segment.bytes"]; c.MaybeValue() != "1073741824" || c.Source != kmsg.ConfigSourceDefaultConfig {
		t.Errorf("default: %+v", c)
	}
	set := func(name, value string) error {
		rs, err := adm.AlterTopicConfigs(within(t), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, "t")
		if err != nil {
			t.Fatal(err)
		}
		if rs[0].Err != nil && rs[0].ErrMessage == "" {
			t.Error("refused without a word")
		}
		return rs[0].Err
	}
	if err := set("retention.ms", "777"); err != nil {
		t.Error(err)
	}
	if c := get()["retention.ms"]; c.MaybeValue() != "777" || c.Source != kmsg.ConfigSourceDynamicTopicConfig || len(c.Synonyms) < 3 {
		t.Errorf("set: %+v", c)
	}
	if err := set("retention.ms", "never"); !errors.Is(err, kerr.InvalidConfig) {
		t.Errorf("bad value: %v", err)
	}
	if rs, err := adm.AlterTopicConfigsState(within(t), []kadm.AlterConfig{}, "t"); err != nil || rs[0].Err != nil {
		t.Error(err, rs)
	}
	if c := get()["retention.ms"]; c.MaybeValue() != "5000" {
		t.Errorf("after replacing all: %+v", c)
	}
	bs, err := adm.DescribeBrokerConfigs(within(t), 1)
	if err != nil || bs[0].Err != nil || len(bs[0].Configs) != 2 || bs[0].Configs[1].Value != nil {
		t.Errorf("broker: %+v, %v", bs, err)
	}
}

// Shows that records are deleted up to an offset, and epochs' ends are told.
func TestDeleteRecordsAndEpochs(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "t", 1)
	produceMany(t, w.client(t, kgo.DefaultProduceTopic("t"), kgo.ProducerLinger(0)), 10)
	adm := w.admin(t)
	var to kadm.Offsets
	to.AddOffset("t", 0, 4, -1)
	got, err := adm.DeleteRecords(within(t), to)
	if p, _ := got.Lookup("t", 0); err != nil || p.Err != nil || p.LowWatermark != 4 {
		t.Errorf("delete records: %+v, %v", p, err)
	}
	to.AddOffset("t", 0, 99, -1)
	got, err = adm.DeleteRecords(within(t), to)
	if p, _ := got.Lookup("t", 0); err != nil || !errors.Is(p.Err, kerr.OffsetOutOfRange) {
		t.Errorf("beyond the end: %+v, %v", p, err)
	}
	var req kadm.OffsetForLeaderEpochRequest
	req.Add("t", 0, 7)
	ends, err := adm.OffsetForLeaderEpoch(within(t), req)
	if e := ends["t"][0]; err != nil || e.Err != nil || e.EndOffset != 10 || e.LeaderEpoch != 7 {
		t.Errorf("epoch end: %+v, %v", e, err)
	}
}

// Shows that every error of a log reaches the client as its code, that those
// said to be retriable are so for the client, and that a read replica's is not.
func TestErrorsOfLogs(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "t", 1)
	log := w.cluster.log("t", 0)
	cl := w.client(t, kgo.DisableIdempotentWrite(), kgo.RecordRetries(0), kgo.RequestRetries(0))
	for _, c := range []struct {
		err  error
		want *kerr.Error
	}{
		{logio.ErrTooLarge, kerr.MessageTooLarge},
		{logio.ErrInvalidTimestamp, kerr.InvalidTimestamp},
		{logio.ErrInvalidRecord, kerr.InvalidRecord},
		{logio.ErrStorage, kerr.KafkaStorageError},
		{logio.ErrBusy, kerr.RequestTimedOut},
		{logio.ErrNotAvailable, kerr.NotLeaderForPartition},
		{logio.ErrReadOnly, kerr.PolicyViolation},
		{errors.New("never seen"), kerr.UnknownServerError},
	} {
		log.with(func(l *fakeLog) { l.appendErr = fmt.Errorf("append to t-0: %w", c.err) })
		err := cl.ProduceSync(within(t), &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr()
		if !errors.Is(err, c.want) && !(c.want.Retriable && errors.Is(err, kgo.ErrRecordRetries)) {
			t.Errorf("%v: client saw %v, want %v", c.err, err, c.want)
		}
	}
	for err, retriable := range map[error]bool{logio.ErrReadOnly: false, logio.ErrStorage: true, logio.ErrBusy: true, record.ErrCodec: false, record.ErrCorrupt: true} {
		if got := logCode(err); got.Retriable != retriable {
			t.Errorf("%v is answered with %v, retriable %v", err, got, got.Retriable)
		}
	}
}

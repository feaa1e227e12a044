package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tidewater/internal/record"
)

// What is wrong with a topic is refused with the error that names it, and
// nothing is proposed.
func TestCreateTopicRefuses(t *testing.T) {
	c, raft, _ := cluster(t, 1, 2)
	mustCreate(t, c, "a.b", 1)
	before := len(raft.entries)
	long := strings.Repeat("x", 250)
	for _, tc := range []struct {
		spec TopicSpec
		want error
	}{
		{TopicSpec{Name: "", Partitions: 1, ReplicationFactor: 1}, ErrInvalidTopicName},
		{TopicSpec{Name: ".", Partitions: 1, ReplicationFactor: 1}, ErrInvalidTopicName},
		{TopicSpec{Name: "..", Partitions: 1, ReplicationFactor: 1}, ErrInvalidTopicName},
		{TopicSpec{Name: "a/b", Partitions: 1, ReplicationFactor: 1}, ErrInvalidTopicName},
		{TopicSpec{Name: "gr\u00fcn", Partitions: 1, ReplicationFactor: 1}, ErrInvalidTopicName},
		{TopicSpec{Name: long, Partitions: 1, ReplicationFactor: 1}, ErrInvalidTopicName},
		{TopicSpec{Name: "a.b", Partitions: 1, ReplicationFactor: 1}, ErrTopicExists},
		{TopicSpec{Name: "n", Partitions: 0, ReplicationFactor: 1}, ErrInvalidPartitions},
		{TopicSpec{Name: "n", Partitions: -2, ReplicationFactor: 1}, ErrInvalidPartitions},
		{TopicSpec{Name: "n", Partitions: 1, ReplicationFactor: 3}, ErrInvalidReplicationFactor},
		{TopicSpec{Name: "n", Partitions: 1, ReplicationFactor: 0}, ErrInvalidReplicationFactor},
		{TopicSpec{Name: "n", Partitions: 1_000_000, ReplicationFactor: 1}, ErrPolicy},
		{TopicSpec{Name: "n", Assignment: [][]int32{{1, 1}}}, ErrInvalidAssignment},
		{TopicSpec{Name: "n", Assignment: [][]int32{{1, 2}, {1}}}, ErrInvalidAssignment},
		{TopicSpec{Name: "n", Assignment: [][]int32{{9}}}, ErrInvalidAssignment},
		{TopicSpec{Name: "n", Assignment: [][]int32{{}}}, ErrInvalidAssignment},
		{TopicSpec{Name: "n", Partitions: 2, Assignment: [][]int32{{1}}}, ErrInvalidRequest},
		{TopicSpec{Name: "n", Partitions: 1, ReplicationFactor: 1, Configs: map[string]string{"retention.ms": "x"}}, ErrInvalidConfig},
	} {
		if _, err := c.CreateTopic(context.Background(), tc.spec, false); !errors.Is(err, tc.want) {
			t.Errorf("create %.20q %+v: got %v, want %v", tc.spec.Name, tc.spec.Assignment, err, tc.want)
		}
	}
	if len(raft.entries) != before {
		t.Errorf("%d commands were proposed for refused topics", len(raft.entries)-before)
	}
	// The collision of '.' and '_' is found when the command is applied.
	if _, err := c.CreateTopic(context.Background(), TopicSpec{Name: "a_b", Partitions: 1, ReplicationFactor: 1}, false); !errors.Is(err, ErrInvalidTopicName) {
		t.Errorf("create a_b beside a.b: got %v", err)
	}
}

// An answered change is in the view; validateOnly changes nothing.
func TestTopicLife(t *testing.T) {
	ctx := context.Background()
	c, _, _ := cluster(t, 1, 2, 3)
	if planned, err := c.CreateTopic(ctx, TopicSpec{Name: "t", Partitions: 2, ReplicationFactor: 2}, true); err != nil ||
		len(planned.Partitions) != 2 || c.View().TopicByName("t") != nil {
		t.Fatalf("validate only: %+v, %v", planned, err)
	}
	topic, err := c.CreateTopic(ctx, TopicSpec{Name: "t", Partitions: -1, ReplicationFactor: -1,
		Configs: map[string]string{"redpanda.remote.write": "true"}}, false)
	if err != nil || topic.Configs["remote.storage.enable"] != "true" || len(topic.Partitions) != 1 || topic.Partitions[0].Leader != NoLeader {
		t.Fatalf("create: %+v, %v", topic, err)
	}
	if grown, err := c.CreatePartitions(ctx, topic.ID, 3, nil, false); err != nil || len(grown.Partitions) != 3 {
		t.Fatalf("create partitions: %v", err)
	}
	for _, count := range []int32{3, 2, 0} {
		if _, err := c.CreatePartitions(ctx, topic.ID, count, nil, false); !errors.Is(err, ErrInvalidPartitions) {
			t.Errorf("grow 3 partitions to %d: got %v", count, err)
		}
	}
	seen := map[uint64]bool{}
	for _, p := range c.View().Topic(topic.ID).Partitions {
		if id := p.Replicas[0].ID; id == 0 || seen[id] {
			t.Errorf("replica id %d is not new", id)
		} else {
			seen[id] = true
		}
	}
	if err := c.DeleteTopic(ctx, topic.ID); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteTopic(ctx, topic.ID); !errors.Is(err, ErrUnknownTopic) {
		t.Errorf("delete twice: got %v", err)
	}
	d := c.View().Deletions()
	if len(d) != 1 || d[0].Name != "t" || !d[0].Tiered || d[0].KeepObjects || d[0].Partitions != 3 {
		t.Errorf("deletion: %+v", d)
	}
	again := mustCreate(t, c, "t", 1)
	if again.ID == topic.ID || seen[again.Partitions[0].Replicas[0].ID] {
		t.Error("an id was given out twice")
	}
	if err := c.ForgetDeletions(ctx, []record.TopicID{topic.ID}); err != nil || len(c.View().Deletions()) != 0 {
		t.Errorf("forget deletion: %v", err)
	}
}

// A deleted topic's table is kept, and noted, unless its property says to drop it.
func TestDeletedTopicKeepsTable(t *testing.T) {
	ctx := context.Background()
	c, _, _ := cluster(t, 1)
	for name, drop := range map[string]string{"kept": "false", "dropped": "true"} {
		topic, err := c.CreateTopic(ctx, TopicSpec{Name: name, Partitions: 1, ReplicationFactor: 1, Configs: map[string]string{
			"remote.storage.enable": "true", "tidewater.iceberg.mode": "key_value", "tidewater.iceberg.delete": drop}}, false)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.DeleteTopic(ctx, topic.ID); err != nil {
			t.Fatal(err)
		}
	}
	kept := c.View().KeptTables()
	if len(kept) != 1 || kept[0].Name != "kept" || kept[0].Namespace != "topics" {
		t.Fatalf("kept tables: %+v", kept)
	}
	if err := c.ForgetKeptTable(ctx, kept[0].Topic); err != nil || len(c.View().KeptTables()) != 0 {
		t.Errorf("forget kept table: %v", err)
	}
}

func TestAlterConfigs(t *testing.T) {
	ctx := context.Background()
	c, _, _ := cluster(t, 1)
	id := mustCreate(t, c, "t", 1).ID
	alter := func(kind ConfigOpKind, name, value string) error {
		return c.AlterTopicConfigs(ctx, id, []ConfigOp{{kind, name, value}}, false)
	}
	get := func(name string) string { return c.View().Topic(id).Configs[name] }
	if err := alter(ConfigAppend, "cleanup.policy", "compact"); err != nil || get("cleanup.policy") != "delete,compact" {
		t.Errorf("append to the default: %q, %v", get("cleanup.policy"), err)
	}
	if err := alter(ConfigSubtract, "cleanup.policy", "delete"); err != nil || get("cleanup.policy") != "compact" {
		t.Errorf("subtract: %q, %v", get("cleanup.policy"), err)
	}
	if err := alter(ConfigDelete, "cleanup.policy", ""); err != nil || get("cleanup.policy") != "" {
		t.Errorf("delete: %v", err)
	}
	if err := alter(ConfigAppend, "retention.ms", "1"); !errors.Is(err, ErrInvalidConfig) {
		t.Errorf("append to a number: %v", err)
	}
	if err := alter(ConfigSet, "no.such", "1"); !errors.Is(err, ErrInvalidConfig) {
		t.Errorf("unknown property: %v", err)
	}
	if err := alter(9, "retention.ms", "1"); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("unknown operation: %v", err)
	}
	err := c.ReplaceTopicConfigs(ctx, id, map[string]string{"remote.storage.enable": "true", "retention.ms": "-1"}, false)
	if err != nil || !c.Settings(c.View().Topic(id)).Tiered {
		t.Errorf("replace: %v", err)
	}
	// Switching tiering off gives up records and needs a second word.
	if err := alter(ConfigSet, "remote.storage.enable", "false"); !errors.Is(err, ErrInvalidConfig) {
		t.Errorf("switch tiering off: %v", err)
	}
	var faults *ConfigError
	if err := alter(ConfigSet, "segment.bytes", "12"); !errors.As(err, &faults) || faults.Faults[0].Name != "segment.bytes" {
		t.Errorf("bad value: %v", err)
	}
}

// Dynamic broker properties are the topics' defaults.
func TestBrokerConfigs(t *testing.T) {
	ctx := context.Background()
	c, _, _ := cluster(t, 1)
	topic := mustCreate(t, c, "t", 1)
	if err := c.AlterBrokerConfigs(ctx, ClusterDefault, []ConfigOp{{ConfigSet, "log.retention.hours", "2"}}, false); err != nil {
		t.Fatal(err)
	}
	if got := c.Settings(topic).Retention.Hours(); got != 2 {
		t.Errorf("retention is %v h", got)
	}
	if err := c.AlterBrokerConfigs(ctx, 1, []ConfigOp{{ConfigSet, "node.id", "2"}}, false); !errors.Is(err, ErrInvalidConfig) {
		t.Errorf("static property: %v", err)
	}
	if err := c.ReplaceBrokerConfigs(ctx, 7, nil, false); !errors.Is(err, ErrUnknownBroker) {
		t.Errorf("unknown broker: %v", err)
	}
	if err := c.ReplaceBrokerConfigs(ctx, ClusterDefault, nil, false); err != nil || len(c.View().BrokerConfigs(ClusterDefault)) != 0 {
		t.Errorf("replace with nothing: %v", err)
	}
}

// A leader's epoch never goes back, and a repeated report proposes nothing.
func TestReportLeaders(t *testing.T) {
	ctx := context.Background()
	c, raft, _ := cluster(t, 1, 2)
	id := record.PartitionID{Topic: mustCreate(t, c, "t", 1).ID}
	report := func(leader int32, epoch record.LeaderEpoch) {
		t.Helper()
		if err := c.ReportLeaders(ctx, []LeaderReport{{id, leader, epoch}}); err != nil {
			t.Fatal(err)
		}
	}
	report(1, 5)
	n := len(raft.entries)
	report(1, 5)
	report(2, 4)
	if p := c.View().PartitionOf(id); p.Leader != 1 || p.LeaderEpoch != 5 || len(raft.entries) != n {
		t.Errorf("after old reports: %+v, %d commands", p, len(raft.entries)-n)
	}
	report(2, 6)
	if p := c.View().PartitionOf(id); p.Leader != 2 || p.LeaderEpoch != 6 {
		t.Errorf("after a new report: %+v", p)
	}
}

// The leaders of all ten thousand partitions of a topic come in one report: the
// topic is copied once, and a second report in it about one of them counts.
func TestReportOfManyLeaders(t *testing.T) {
	const many = 10_000
	c, _, _ := cluster(t, 1, 2)
	topic := mustCreate(t, c, "t", many)
	s := stateOf(*c.View())
	cmd := &ReportLeaders{}
	for n := range int32(many) {
		cmd.Reports = append(cmd.Reports, LeaderReport{record.PartitionID{Topic: topic.ID, Partition: n}, 1, 1})
	}
	cmd.Reports = append(cmd.Reports, LeaderReport{record.PartitionID{Topic: topic.ID, Partition: 7}, 2, 2},
		LeaderReport{record.PartitionID{Topic: topic.ID, Partition: many}, 2, 2}, LeaderReport{Leader: 2, Epoch: 2})
	before := s.v.topics[topic.ID]
	epoch := record.LeaderEpoch(0)
	allocs := testing.AllocsPerRun(1, func() {
		epoch += 2 // the run before is old then
		for i := range cmd.Reports {
			cmd.Reports[i].Epoch += epoch
		}
		if _, err := cmd.apply(s); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 100 {
		t.Errorf("%v allocations", allocs)
	}
	for n, p := range s.v.topics[topic.ID].Partitions {
		want := int32(1)
		if n == 7 {
			want = 2
		}
		if p.Leader != want || before.Partitions[n].Leader == 2 && n == 7 {
			t.Fatalf("partition %d is led by %d", n, p.Leader)
		}
	}
}

// A broker that does not lead says so; a command whose term is over has an
// unknown outcome; one that was replaced did not happen.
func TestNotController(t *testing.T) {
	ctx := context.Background()
	c, raft, _ := cluster(t, 1)
	raft.leading = false
	if _, err := c.AllocateProducerIDs(ctx, 1); !errors.Is(err, ErrNotController) {
		t.Errorf("not leading: %v", err)
	}
	raft.leading, raft.hold = true, true
	outcome := func() *error {
		got := new(error)
		c.Submit(&AllocateProducerIDs{Count: 1}, func(_ any, err error) { *got = err })
		return got
	}
	lost := outcome()
	c.Machine().Lead(Leadership{Term: raft.term + 1, Leader: 2})
	if !errors.Is(*lost, ErrUnknownOutcome) {
		t.Errorf("leadership lost: %v", *lost)
	}
	if _, err := c.CreateTopic(ctx, TopicSpec{Name: "x", Partitions: 1, ReplicationFactor: 1}, false); !errors.Is(err, ErrNotController) {
		t.Errorf("create on a follower: %v", err)
	}
	replaced := outcome()
	c.Machine().Truncate(record.Index(len(raft.entries) - 1))
	if !errors.Is(*replaced, ErrNotController) {
		t.Errorf("replaced: %v", *replaced)
	}
	raft.entries = raft.entries[:len(raft.entries)-1]
	stopped := outcome()
	c.Machine().Stopped(nil)
	if !errors.Is(*stopped, ErrUnknownOutcome) || !errors.Is(*stopped, ErrClosed) {
		t.Errorf("stopped: %v", *stopped)
	}
}

// A change planned on an old view is planned again: two appends to one list
// both count.
func TestConcurrentChangesBothCount(t *testing.T) {
	c, _, _ := cluster(t, 1)
	topic := mustCreate(t, c, "t", 1)
	other := false
	_, err := c.change(context.Background(), false, func(p planner) (Command, error) {
		cmd, err := p.setTopicConfigs(topic.ID, func(own map[string]string) (map[string]string, error) {
			return p.topicOps(own, []ConfigOp{{ConfigAppend, "cleanup.policy", "compact"}})
		})
		if !other {
			other = true
			if err := c.AlterTopicConfigs(context.Background(), topic.ID, []ConfigOp{{ConfigSet, "retention.ms", "5"}}, false); err != nil {
				t.Fatal(err)
			}
		}
		return cmd, err
	})
	got := c.View().Topic(topic.ID)
	if err != nil || got.Configs["retention.ms"] != "5" || got.Configs["cleanup.policy"] != "delete,compact" || got.ConfigVersion != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Whatever a crash leaves of the store, what was answered is there after the
// log is replayed, and no id comes twice: the store is cut at every step, with
// all, none or some of its unsynced bytes.
func TestAckedSurvivesCrash(t *testing.T) {
	ctx := context.Background()
	fs, raft := vfs.NewCrashableMem(), &fakeRaft{}
	c := open(t, fs, raft)
	bootstrap(t, c, 1)
	var acked []string
	ids := map[int64]bool{}
	for step := range 24 {
		name := string(rune('a' + step))
		mustCreate(t, c, name, 1)
		acked = append(acked, name)
		first, err := c.AllocateProducerIDs(ctx, 10)
		if err != nil || ids[first] {
			t.Fatalf("step %d: producer id %d, %v", step, first, err)
		}
		ids[first] = true
		if step%3 == 1 {
			if err := c.Checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
		want := c.View()
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 100, 50}[step%3], RNG: newRand(step)})
		_ = c.Close() // the old process is gone; the clone does not see this
		fs = crashed
		c = open(t, fs, raft)
		for _, name := range acked {
			if c.View().TopicByName(name) == nil {
				t.Fatalf("step %d: topic %s is gone", step, name)
			}
		}
		if c.View().NextProducerID() != want.NextProducerID() {
			t.Fatalf("step %d: next producer id is %d, was %d", step, c.View().NextProducerID(), want.NextProducerID())
		}
	}
	_ = c.Close()
}

// A store that is behind what its log still has is refused: commands in
// between are lost.
func TestStoreBehindLogIsRefused(t *testing.T) {
	c, raft, _ := cluster(t, 1)
	mustCreate(t, c, "t", 1)
	fresh := newMachine(c.store, NewState())
	last := record.Index(len(raft.entries))
	if err := fresh.Append(last, 1, nil); !errors.Is(err, ErrFormat) {
		t.Errorf("got %v", err)
	}
}

func TestProducerIDBlocks(t *testing.T) {
	c, raft, _ := cluster(t, 1)
	n := len(raft.entries)
	for want := range int64(producerIDBlock) + 2 {
		if got, err := c.NextProducerID(context.Background()); err != nil || got != want {
			t.Fatalf("got %d, %v; want %d", got, err, want)
		}
	}
	if len(raft.entries) != n+2 {
		t.Errorf("%d commands for two blocks", len(raft.entries)-n)
	}
}

// Subscribers see each change once, in order; WaitView returns the first that
// fits.
func TestSubscribe(t *testing.T) {
	c, _, _ := cluster(t, 1)
	var seen []int
	cancel := c.Subscribe(func(old, now *View) { seen = append(seen, now.TopicCount()-old.TopicCount()) })
	mustCreate(t, c, "a", 1)
	mustCreate(t, c, "b", 1)
	cancel()
	mustCreate(t, c, "c", 1)
	if len(seen) != 2 || seen[0] != 1 || seen[1] != 1 {
		t.Errorf("changes seen: %v", seen)
	}
	v, err := c.WaitView(context.Background(), func(v *View) bool { return v.TopicByName("c") != nil })
	if err != nil || v.TopicCount() != 3 {
		t.Errorf("wait: %v", err)
	}
}

// A restore keeps ids, properties and epochs, and raises the counters; run
// again after it was cut off it changes nothing more.
func TestImport(t *testing.T) {
	ctx := context.Background()
	old, _, _ := cluster(t, 1, 2)
	var topics []*Topic
	for _, name := range []string{"x", "y", "z"} {
		topics = append(topics, mustCreate(t, old, name, 2))
	}
	if err := old.ReportLeaders(ctx, []LeaderReport{{record.PartitionID{Topic: topics[0].ID}, 2, 41}}); err != nil {
		t.Fatal(err)
	}
	if err := old.DeleteTopic(ctx, topics[2].ID); err != nil {
		t.Fatal(err)
	}
	if _, err := old.AllocateProducerIDs(ctx, 77); err != nil {
		t.Fatal(err)
	}
	from, err := DecodeView(old.View().Export())
	if err != nil {
		t.Fatal(err)
	}

	raft := &fakeRaft{}
	now := open(t, vfs.NewCrashableMem(), raft)
	defer now.Close()
	if err := now.Import(ctx, from, ImportOptions{}); err == nil {
		t.Error("import into a cluster that is not being restored")
	}
	if err := now.Bootstrap(ctx, Identity{testIdentity.ClusterID, 2}, true); err != nil {
		t.Fatal(err)
	}
	if _, err := now.RegisterBroker(ctx, Registration{ID: 9, Listeners: []Listener{{Name: "kafka"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := now.CreateTopic(ctx, TopicSpec{Name: "new", Partitions: 1, ReplicationFactor: 1}, false); !errors.Is(err, ErrNotReady) {
		t.Errorf("create during a restore: %v", err)
	}
	cmds, err := planImport(now.View(), from, ImportOptions{ProducerIDFloor: 5000})
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range cmds[:len(cmds)-1] { // cut off before the last
		if _, err := now.do(ctx, cmd); err != nil {
			t.Fatal(err)
		}
	}
	if err := now.Import(ctx, from, ImportOptions{ProducerIDFloor: 5000}); err != nil {
		t.Fatal(err)
	}
	v := now.View()
	x := v.TopicByName("x")
	if v.Restoring() || x == nil || x.ID != topics[0].ID || x.Partitions[0].LeaderEpoch != 41 || x.Partitions[0].Leader != NoLeader ||
		x.Partitions[0].Replicas[0].Node != 9 || x.Partitions[0].Replicas[0].ID < from.nextReplicaID {
		t.Errorf("restored topic: %+v", x)
	}
	if v.NextProducerID() <= 5000 || v.TopicCount() != 2 || len(v.Deletions()) != 1 {
		t.Errorf("restored: next producer id %d, %d topics, %d deletions", v.NextProducerID(), v.TopicCount(), len(v.Deletions()))
	}
}

// lazyRaft takes tasks and never runs them, as a loop that is about to end.
type lazyRaft struct{ *fakeRaft }

func (lazyRaft) Do(func(Proposer)) error { return nil }

// Nobody waits for a group that stopped.
func TestStoppedGroupAnswersNobody(t *testing.T) {
	c, raft, _ := cluster(t, 1)
	c.cfg.Raft = lazyRaft{raft}
	answered := make(chan error)
	go func() {
		_, err := c.AllocateProducerIDs(context.Background(), 1)
		answered <- err
	}()
	c.Machine().Stopped(nil)
	if err := <-answered; !errors.Is(err, ErrClosed) || !errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("got %v", err)
	}
}

// Shows that a store of a feature level that this build cannot work at is
// refused by both, whatever else is in it.
func TestStoreOfAnotherLevelIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	st, _, err := openStore(fs, "c", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	v := sampleView()
	v.featureLevel = FeatureLevelMax + 1
	if err := st.replace(v); err != nil {
		t.Fatal(err)
	}
	if err := st.write([]Change{{Key: nodeKey(keyBroker, 7), Value: []byte{entityVersion + 1}}}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(st.sync(), st.close()); err != nil {
		t.Fatal(err)
	}
	_, _, err = openStore(fs, "c", slog.New(slog.DiscardHandler))
	if want := fmt.Sprintf("works at feature level %d, this build at %d to %d", FeatureLevelMax+1, FeatureLevelMin, FeatureLevelMax); !errors.Is(err, ErrFenced) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Shows that a feature level is raised when every registered broker can, never
// lowered, and that what it brings is not said before.
func TestFeatureLevelIsRaisedByAll(t *testing.T) {
	s := NewState()
	apply := func(cmd Command) error {
		_, err := s.Apply(s.v.applied+1, 1, RequestID{}, cmd)
		return err
	}
	if err := apply(&Bootstrap{Identity: Identity{[16]byte{1}, 1}, FeatureLevel: 1, Founders: []Member{{Node: 1, Replica: 1}, {Node: 2, Replica: 2}}}); err != nil {
		t.Fatal(err)
	}
	join := func(node int32, least, most uint32) error {
		return apply(&RegisterBroker{Registration: Registration{ID: node, Disk: [16]byte{byte(node)}, FeatureMin: least, FeatureMax: most}})
	}
	for _, c := range []struct {
		node        int32
		least, most uint32
		refused     string
	}{{1, 1, 2, "broker 2 has not said"}, {2, 1, 1, "broker 2's build works at 1 to 1"}, {2, 1, 2, ""}} {
		if err := join(c.node, c.least, c.most); err != nil {
			t.Fatal(err)
		}
		err := apply(&SetFeatureLevel{Level: 2})
		if (err != nil) != (c.refused != "") || err != nil && (!errors.Is(err, ErrFeatureLevel) || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("raised with broker %d at %d to %d: %v, want %q", c.node, c.least, c.most, err, c.refused)
		}
	}
	if err := apply(&SetFeatureLevel{Level: 1}); !errors.Is(err, ErrFeatureLevel) {
		t.Errorf("lowered: %v", err)
	}
	for _, c := range []struct{ least, most uint32 }{{1, 1}, {3, 4}} {
		if err := join(3, c.least, c.most); !errors.Is(err, ErrFenced) {
			t.Errorf("a build of %d to %d joins: %v", c.least, c.most, err)
		}
	}
	if r := (&Registration{ID: 1, Build: "b"}); !s.v.Lacks(r) {
		t.Error("a build that there was no room for is not missed at level 2")
	}
}

package kafka

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// three makes a world of brokers 1, 2 and 3 on racks a, b and b, of which 3 is
// down, and a topic with a replica on each.
func three(t *testing.T) (*world, *cluster.Topic) {
	t.Helper()
	return threeOf(t, func(cfg *Config) { cfg.Alive = func(node int32) bool { return node != 3 } })
}

// threeOf is three with a configuration of the test's.
func threeOf(t *testing.T, change func(*Config)) (*world, *cluster.Topic) {
	t.Helper()
	c := newFakeCluster()
	for _, id := range []int32{2, 3} {
		c.others = append(c.others, &cluster.Broker{ID: id, Rack: "b", Listeners: []cluster.Listener{{Name: "kafka", Host: "far", Port: 9000 + id}}})
	}
	w := openOver(t, c, change)
	topic := w.topic(t, "t", 1)
	c.mu.Lock()
	topic.Partitions[0].Replicas = []cluster.Replica{{Node: 1, ID: 1}, {Node: 3, ID: 3}, {Node: 2, ID: 2}}
	c.mu.Unlock()
	return w, topic
}

// Shows that a client that asks a broker which does not lead is told who does
// and where, in Produce and Fetch, from the newest that this broker knows, and
// only in the versions that have room for it (KIP-951).
func TestWrongBrokerNamesTheLeader(t *testing.T) {
	w, topic := three(t)
	w.cluster.mu.Lock()
	w.cluster.lookupErr = logio.ErrNotLeader
	w.cluster.led = leading{2, 30}
	w.cluster.mu.Unlock()
	c := w.dial(t)
	for i, v := range []int16{9, 10, 13} {
		req := produceOf(v, "t", topic.ID, 0, -1, batchOf(t, 1, record.None))
		c.send(frameOf(int32(i), req))
		resp := c.answer(int32(i), req).(*kmsg.ProduceResponse)
		p := resp.Topics[0].Partitions[0]
		wantLeader(t, v, p.ErrorCode, p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch, v >= 10)
		if v >= 10 && (len(resp.Brokers) != 1 || resp.Brokers[0].NodeID != 2 || resp.Brokers[0].Host != "far" || resp.Brokers[0].Port != 9002 || *resp.Brokers[0].Rack != "b") {
			t.Errorf("Produce v%d: endpoints %+v", v, resp.Brokers)
		}
	}
	for i, v := range []int16{11, 12, 16} {
		req := fetchOf(v, "t", topic.ID, 0)
		c.send(frameOf(int32(i), req))
		resp := c.answer(int32(i), req).(*kmsg.FetchResponse)
		p := resp.Topics[0].Partitions[0]
		wantLeader(t, v, p.ErrorCode, p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch, v >= 12)
		if v >= 16 != (len(resp.Brokers) == 1) {
			t.Errorf("Fetch v%d: endpoints %+v", v, resp.Brokers)
		}
	}
}

func wantLeader(t *testing.T, version, code int16, node, epoch int32, told bool) {
	t.Helper()
	if code != kerr.NotLeaderForPartition.Code {
		t.Errorf("v%d: %v", version, kerr.ErrorForCode(code))
	}
	if told != (node == 2 && epoch == 30) {
		t.Errorf("v%d: leader %d in epoch %d", version, node, epoch)
	}
}

// Shows that metadata has the newest leader, and brokers that are down neither
// among the brokers nor in sync; they are listed as offline, and as fenced
// when asked for.
func TestMetadataOfBrokersThatAreDown(t *testing.T) {
	w, _ := three(t)
	w.cluster.mu.Lock()
	w.cluster.led = leading{2, 30}
	w.cluster.mu.Unlock()
	m := kmsg.NewPtrMetadataRequest()
	m.Version = 12
	r := w.Server.metadata(within(t), &request{}, m).(*kmsg.MetadataResponse)
	p := r.Topics[0].Partitions[0]
	if len(r.Brokers) != 2 || p.Leader != 2 || p.LeaderEpoch != 30 || !slices.Equal(p.Replicas, []int32{1, 3, 2}) ||
		!slices.Equal(p.ISR, []int32{1, 2}) || !slices.Equal(p.OfflineReplicas, []int32{3}) {
		t.Errorf("%d brokers, partition %+v", len(r.Brokers), p)
	}
	d := kmsg.NewPtrDescribeClusterRequest()
	d.Version, d.EndpointType, d.IncludeFencedBrokers = 2, 1, true
	if got := w.Server.describeCluster(within(t), &request{}, d).(*kmsg.DescribeClusterResponse).Brokers; len(got) != 3 || got[1].IsFenced || !got[2].IsFenced {
		t.Errorf("described %+v", got)
	}
}

// Shows that metadata waits for the election after a leader's broker is lost,
// also when this broker has not noticed yet: clients that are told the old
// leader, or none, may ask again only after seconds. Nobody waits for an
// election that cannot be.
func TestMetadataWaitsForAnElection(t *testing.T) {
	for _, c := range []struct {
		name     string
		alive    []int32 // as far as this broker knows
		elected  leading
		wantNode int32
		wantAsks int // at most; 0 for any number
	}{
		{"known to be down", []int32{1, 2}, leading{2, 30}, 2, 0},
		{"not noticed", []int32{1, 2, 3}, leading{2, 30}, 2, 0},
		{"no majority", []int32{1}, leading{}, cluster.NoLeader, 1},
		{"no election", []int32{1, 2}, leading{}, cluster.NoLeader, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, _ := threeOf(t, func(cfg *Config) {
				cfg.Alive = func(node int32) bool { return slices.Contains(c.alive, node) }
				cfg.Answers = func(_ context.Context, node int32) bool { return node != 3 }
			})
			w.cluster.mu.Lock()
			w.cluster.led, w.cluster.elected = leading{3, 29}, c.elected
			w.cluster.mu.Unlock()
			m := kmsg.NewPtrMetadataRequest()
			m.Version = 12
			p := w.Server.metadata(within(t), &request{}, m).(*kmsg.MetadataResponse).Topics[0].Partitions[0]
			if p.Leader != c.wantNode || (p.ErrorCode == kerr.LeaderNotAvailable.Code) != (c.wantNode == cluster.NoLeader) {
				t.Errorf("partition %+v", p)
			}
			w.cluster.mu.Lock()
			defer w.cluster.mu.Unlock()
			if c.wantAsks > 0 && w.cluster.lookups > c.wantAsks {
				t.Errorf("asked %d times for a leader", w.cluster.lookups)
			}
		})
	}
}

// Shows that a broker that is cut off lists the others, so that clients find
// them, and does not call itself leader when its replica does not lead.
func TestMetadataOfABrokerThatIsCutOff(t *testing.T) {
	w, topic := threeOf(t, func(cfg *Config) { cfg.Alive = func(int32) bool { return false } })
	for _, c := range []struct {
		replica leading
		want    int32
	}{{leading{1, 7}, 1}, {leading{-1, 7}, -1}} {
		w.cluster.mu.Lock()
		topic.Partitions[0].Leader, topic.Partitions[0].LeaderEpoch = 1, 7
		w.cluster.led = c.replica
		w.cluster.mu.Unlock()
		m := kmsg.NewPtrMetadataRequest()
		m.Version = 12
		r := w.Server.metadata(within(t), &request{}, m).(*kmsg.MetadataResponse)
		if p := r.Topics[0].Partitions[0]; len(r.Brokers) != 3 || p.Leader != c.want {
			t.Errorf("replica %+v: %d brokers, leader %d, want 3 and %d", c.replica, len(r.Brokers), p.Leader, c.want)
		}
	}
}

// Shows that a leader sends consumers that name their rack to a replica there
// that is up, with no records, and serves all others itself.
func TestConsumersAreSentToTheirRack(t *testing.T) {
	w, topic := three(t)
	c := w.dial(t)
	produced := produceOf(9, "t", topic.ID, 0, -1, batchOf(t, 1, record.None))
	c.send(frameOf(0, produced))
	c.answer(0, produced)
	for i, line := range []struct {
		rack string
		want int32
	}{{"", -1}, {"a", -1}, {"b", 2}, {"c", -1}} {
		req := fetchOf(11, "t", topic.ID, 0)
		req.Rack = line.rack
		c.send(frameOf(int32(i), req))
		p := c.answer(int32(i), req).(*kmsg.FetchResponse).Topics[0].Partitions[0]
		if p.ErrorCode != 0 || p.PreferredReadReplica != line.want || (len(p.RecordBatches) == 0) != (line.want >= 0) || p.HighWatermark != 1 {
			t.Errorf("rack %q: %+v", line.rack, p)
		}
	}
}

// Shows that clients are told what the cluster's brokers rely on of each other,
// and that it is raised with Kafka's request, by a step that all can take.
func TestFeatures(t *testing.T) {
	w, _ := three(t)
	versions := kmsg.NewPtrApiVersionsRequest()
	versions.Version, versions.ClientSoftwareName, versions.ClientSoftwareVersion = 4, "test", "1"
	said := w.Server.apiVersions(within(t), &request{}, versions).(*kmsg.ApiVersionsResponse)
	if len(said.FinalizedFeatures) != 1 || said.FinalizedFeatures[0].MaxVersionLevel != 1 || said.FinalizedFeaturesEpoch != 7 ||
		len(said.SupportedFeatures) != 1 || said.SupportedFeatures[0].MaxVersion != int16(cluster.FeatureLevelMax) {
		t.Errorf("clients are told %+v", said)
	}
	for _, c := range []struct {
		feature string
		level   int16
		want    error
	}{
		{featureLevel, 2, nil}, {featureLevel, 3, kerr.InvalidUpdateVersion}, {featureLevel, 0, kerr.InvalidUpdateVersion}, {"metadata.version", 2, kerr.InvalidRequest},
	} {
		for version := range int16(3) {
			raise := kmsg.NewPtrUpdateFeaturesRequest()
			one := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
			one.Feature, one.MaxVersionLevel = c.feature, c.level
			raise.FeatureUpdates, raise.Version = append(raise.FeatureUpdates, one), version
			r := w.Server.updateFeatures(within(t), &request{}, raise).(*kmsg.UpdateFeaturesResponse)
			if got := kerr.ErrorForCode(r.ErrorCode); !errors.Is(got, c.want) {
				t.Errorf("%s to %d: %v, want %v", c.feature, c.level, got, c.want)
			}
			if want := 1 - int(version)/2; len(r.Results) != want {
				t.Errorf("v%d has %d results, want %d", version, len(r.Results), want)
			}
		}
	}
}

// Shows that moves are begun, listed and taken back with Kafka's requests, that
// leaders are elected cleanly or not at all, and that brokers are unregistered.
func TestReassignments(t *testing.T) {
	w, _ := three(t)
	adm := w.admin(t)
	var to kadm.AlterPartitionAssignmentsReq
	to.Assign("t", 0, []int32{3})
	to.Assign("absent", 0, []int32{3})
	begun, err := adm.AlterPartitionAssignments(within(t), to)
	if err != nil || begun["t"][0].Err != nil || !errors.Is(begun["absent"][0].Err, kerr.UnknownTopicOrPartition) {
		t.Errorf("%+v, %v", begun, err)
	}
	list, err := adm.ListPartitionReassignments(within(t), kadm.TopicsSet{"t": {0: {}}})
	if p := list["t"][0]; err != nil || !slices.Equal(p.Replicas, []int32{1, 3, 2}) || !slices.Equal(p.AddingReplicas, []int32{3}) {
		t.Errorf("%+v, %v", list, err)
	}
	var back kadm.AlterPartitionAssignmentsReq
	back.CancelAssign("t", 0)
	if r, err := adm.AlterPartitionAssignments(within(t), back); err != nil || !errors.Is(r["t"][0].Err, kerr.NoReassignmentInProgress) {
		t.Errorf("%+v, %v", r, err)
	}
	for how, want := range map[kadm.ElectLeadersHow]error{kadm.ElectPreferredReplica: kerr.ElectionNotNeeded, kadm.ElectLiveReplica: kerr.EligibleLeadersNotAvailable} {
		r, err := adm.ElectLeaders(within(t), how, kadm.TopicsSet{"t": {0: {}}})
		if err != nil || !errors.Is(r["t"][0].Err, want) {
			t.Errorf("%v: %+v, %v", how, r, err)
		}
	}
	gone := kmsg.NewPtrUnregisterBrokerRequest()
	for _, id := range []int32{1, 9} {
		gone.BrokerID = id
		if r := w.Server.unregisterBroker(within(t), &request{}, gone).(*kmsg.UnregisterBrokerResponse); (r.ErrorCode == 0) != (id == 1) {
			t.Errorf("unregister %d: %v", id, kerr.ErrorForCode(r.ErrorCode))
		}
	}
}

// Shows the controller's group as kafka-metadata-quorum reads it, with offsets
// exclusive; no other topic has a quorum.
func TestDescribeQuorum(t *testing.T) {
	w := open(t, nil)
	w.cluster.others = []*cluster.Broker{{ID: 2, RPCAddr: "h:33145"}, {ID: 3}}
	req := kmsg.NewPtrDescribeQuorumRequest()
	req.Version = 2
	ask := func(topic string, partition int32) kmsg.DescribeQuorumResponseTopicPartition {
		req.Topics = []kmsg.DescribeQuorumRequestTopic{{Topic: topic, Partitions: []kmsg.DescribeQuorumRequestTopicPartition{{Partition: partition}}}}
		r := w.Server.describeQuorum(within(t), &request{}, req).(*kmsg.DescribeQuorumResponse)
		if n := r.Nodes; len(n) != 3 || len(n[2].Listeners) != 0 || n[1].Listeners[0].Host != "h" || n[1].Listeners[0].Port != 33145 {
			t.Errorf("nodes: %+v", n)
		}
		return r.Topics[0].Partitions[0]
	}
	p := ask("__cluster_metadata", 0)
	if p.ErrorCode != 0 || p.LeaderID != 1 || p.LeaderEpoch != 4 || p.HighWatermark != 21 || len(p.CurrentVoters) != 2 || len(p.Observers) != 1 {
		t.Fatalf("%+v", p)
	}
	if v := p.CurrentVoters[1]; v.ReplicaID != 2 || v.LogEndOffset != 10 || v.LastFetchTimestamp != 40 || v.LastCaughtUpTimestamp != -1 {
		t.Errorf("voter: %+v", v)
	}
	for topic, n := range map[string]int32{"__cluster_metadata": 1, "t": 0} {
		if p := ask(topic, n); p.ErrorCode != kerr.UnknownTopicOrPartition.Code || p.LeaderID != -1 {
			t.Errorf("%s-%d: %+v", topic, n, p)
		}
	}
}

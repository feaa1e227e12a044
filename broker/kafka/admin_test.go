package kafka

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Shows that producer ids are never given twice, and that a transactional id is
// refused with a code that no client tries again.
func TestInitProducerID(t *testing.T) {
	w := open(t, nil)
	cl := w.strictClient(t)
	seen := map[int64]bool{}
	for i := range producerIDBlock + 2 {
		req := kmsg.NewPtrInitProducerIDRequest()
		if i%2 == 1 {
			req.ProducerID, req.ProducerEpoch = 4000, 3
		}
		resp, err := req.RequestWith(within(t), cl)
		if err != nil || resp.ErrorCode != 0 || resp.ProducerEpoch != 0 || seen[resp.ProducerID] {
			t.Fatalf("%d: %+v, %v", i, resp, err)
		}
		seen[resp.ProducerID] = true
	}
	c := w.dial(t)
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version, req.TransactionalID = 4, kmsg.StringPtr("txn")
	c.send(frameOf(1, req))
	if err := kerr.ErrorForCode(c.answer(1, req).(*kmsg.InitProducerIDResponse).ErrorCode); err == nil || kerr.IsRetriable(err) {
		t.Errorf("transactional id: %v", err)
	}
}

// Shows that __consumer_offsets is made by the first question for a
// coordinator, in old and new versions, and that other kinds are refused.
func TestFindCoordinator(t *testing.T) {
	w := open(t, nil)
	c := w.dial(t)
	for v := int16(0); v <= 6; v++ {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.Version, req.CoordinatorKey, req.CoordinatorKeys = v, "g", []string{"g", "h"}
		c.send(frameOf(1, req))
		resp := c.answer(1, req).(*kmsg.FindCoordinatorResponse)
		if v >= 4 {
			if len(resp.Coordinators) != 2 {
				t.Fatalf("v%d: %+v", v, resp)
			}
			k := resp.Coordinators[1]
			resp.ErrorCode, resp.NodeID, resp.Port = k.ErrorCode, k.NodeID, k.Port
		}
		if resp.ErrorCode != 0 || resp.NodeID != 1 || resp.Port != w.cluster.Brokers()[0].Listeners[0].Port {
			t.Errorf("v%d: %+v", v, resp)
		}
	}
	if t0 := w.cluster.TopicByName(cluster.ConsumerOffsetsTopic); t0 == nil || len(t0.Partitions) != 3 {
		t.Error("no topic for offsets")
	}
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.Version, req.CoordinatorType, req.CoordinatorKeys = 4, 1, []string{"txn"}
	c.send(frameOf(1, req))
	if k := c.answer(1, req).(*kmsg.FindCoordinatorResponse).Coordinators[0]; k.ErrorCode != kerr.InvalidRequest.Code || k.ErrorMessage == nil {
		t.Errorf("transactions: %+v", k)
	}
}

// Shows what is told of the cluster and its disks.
func TestDescribeClusterAndLogDirs(t *testing.T) {
	var sizes map[record.PartitionID]int64
	w := open(t, func(c *Config) {
		c.LogDirs = func() []LogDir {
			return []LogDir{{Path: "/data", TotalBytes: 100, UsableBytes: 50, Sizes: sizes}, {Path: "/bad", Err: logio.ErrStorage}}
		}
	})
	topic := w.topic(t, "t", 2)
	sizes = map[record.PartitionID]int64{{Topic: topic.ID, Partition: 1}: 77}
	c := w.dial(t)
	for v := int16(0); v <= 2; v++ {
		req := kmsg.NewPtrDescribeClusterRequest()
		req.Version, req.EndpointType = v, 1
		c.send(frameOf(1, req))
		if r := c.answer(1, req).(*kmsg.DescribeClusterResponse); r.ClusterID != w.clusterID() || r.ControllerID != 1 || len(r.Brokers) != 1 || r.Brokers[0].Host != "127.0.0.1" {
			t.Errorf("v%d: %+v", v, r)
		}
	}
	for v := int16(1); v <= 4; v++ {
		req := kmsg.NewPtrDescribeLogDirsRequest()
		req.Version = v
		c.send(frameOf(1, req))
		r := c.answer(1, req).(*kmsg.DescribeLogDirsResponse)
		if len(r.Dirs) != 2 || r.Dirs[0].Topics[0].Partitions[0].Size != 77 || r.Dirs[1].ErrorCode != kerr.KafkaStorageError.Code {
			t.Errorf("v%d: %+v", v, r)
		}
	}
}

// Shows that a read replica's partition refuses Produce with a code no client
// tries again and a message that names the source, and still serves Fetch.
func TestReadReplicaRefusesProduce(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "t", 1)
	log := w.cluster.log("t", 0)
	log.with(func(l *fakeLog) {
		l.appendErr = fmt.Errorf("%w (source bucket s3://source/tidewater)", logio.ErrReadOnly)
	})
	c := w.dial(t)
	req := produceOf(9, "t", record.TopicID{}, 0, -1, batchOf(t, 1, record.None))
	c.send(frameOf(1, req))
	p := c.answer(1, req).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); !errors.Is(err, kerr.PolicyViolation) || kerr.IsRetriable(err) || !strings.Contains(*p.ErrorMessage, "s3://source") {
		t.Errorf("%v: %s", err, *p.ErrorMessage)
	}
	fetch := fetchOf(11, "t", record.TopicID{}, 0)
	c.send(frameOf(2, fetch))
	if p := c.answer(2, fetch).(*kmsg.FetchResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 {
		t.Error(p.ErrorCode)
	}
}

// Shows that each error of the controller has its code.
func TestErrorsOfTheController(t *testing.T) {
	s := newServer(newWorld(newFakeCluster()).config().withDefaults())
	for err, want := range map[error]*kerr.Error{
		cluster.ErrNotController: kerr.NotController, cluster.ErrNotReady: kerr.NotController, cluster.ErrPolicy: kerr.PolicyViolation,
		cluster.ErrUnknownOutcome: kerr.RequestTimedOut, &cluster.ConfigError{}: kerr.InvalidConfig, cluster.ErrInvalidAssignment: kerr.InvalidReplicaAssignment,
		refuse(kerr.InvalidRequest, "why"): kerr.InvalidRequest, errors.New("new"): kerr.UnknownServerError,
	} {
		r := &request{}
		if code, _ := s.code(r, fmt.Errorf("create: %w", err)); code != want.Code || !r.failed {
			t.Errorf("%v: code %d, want %v", err, code, want)
		}
	}
}

// Shows that a config says all that is wrong with it.
func TestConfigIsValidated(t *testing.T) {
	_, err := Open(Config{NodeID: -1, PipelineMax: -1})
	for _, fault := range []string{"View", "Cluster", "Groups", "Partitions", "NodeID", "PipelineMax"} {
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("nothing about %s: %v", fault, err)
		}
	}
	w := open(t, nil)
	cfg := w.config()
	cfg.Addr = w.Addr().String()
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), cfg.Addr) {
		t.Errorf("taken port: %v", err)
	}
}

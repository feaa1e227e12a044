package kafka

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
)

// DescribeQuorum (key 55): v0-v2.
//
// Behaviour decided:
//   - The controller's Raft group is described as Kafka's __cluster_metadata-0,
//     which has no records here: offsets are Indexes of its log, plus one where
//     Kafka's are exclusive. Any broker answers; it asks the controller's leader.
//   - Observers are the brokers that follow the controller without a vote.
//     "Fetched last" is when the leader last heard of the broker.
//   - Replica directories are zero: votes are bound to replica ids that are
//     never given twice. Nodes are told with the listener between brokers, under
//     Kafka's usual name for a controller's.
//
// Versions: v1 timestamps; v2 error messages, replica directories, nodes.
func (s *Server) describeQuorum(ctx context.Context, r *request, m *kmsg.DescribeQuorumRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.DescribeQuorumResponse)
	ctx, cancel := context.WithTimeout(ctx, adminTimeoutDefault)
	defer cancel()
	quorum := sync.OnceValues(func() (cluster.Quorum, error) { return s.cfg.Cluster.Quorum(ctx) })
	for _, t := range m.Topics {
		rt := kmsg.NewDescribeQuorumResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewDescribeQuorumResponseTopicPartition()
			rp.Partition, rp.LeaderID, rp.LeaderEpoch, rp.HighWatermark = p.Partition, -1, -1, -1
			rp.ErrorCode, rp.ErrorMessage = s.message(r, describeQuorum(quorum, t.Topic, &rp))
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	resp.Nodes = s.quorumNodes()
	return resp
}

// clusterMetadataTopic is what Kafka calls the controller's log.
const clusterMetadataTopic = "__cluster_metadata"

func describeQuorum(quorum func() (cluster.Quorum, error), topic string, rp *kmsg.DescribeQuorumResponseTopicPartition) error {
	if topic != clusterMetadataTopic || rp.Partition != 0 {
		return refuse(kerr.UnknownTopicOrPartition, fmt.Sprintf("the only quorum is that of %s-0, the controller", clusterMetadataTopic))
	}
	q, err := quorum()
	if err != nil {
		return err
	}
	rp.LeaderID, rp.LeaderEpoch, rp.HighWatermark = q.Leader, int32(q.Term), int64(q.Committed)+1
	rp.CurrentVoters, rp.Observers = quorumReplicas(q.Voters), quorumReplicas(q.Observers)
	return nil
}

func quorumReplicas(rs []cluster.QuorumReplica) []kmsg.DescribeQuorumResponseTopicPartitionReplicaState {
	var out []kmsg.DescribeQuorumResponseTopicPartitionReplicaState
	for _, r := range rs {
		state := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
		state.ReplicaID, state.LogEndOffset = r.Node, int64(r.Match)+1
		state.LastFetchTimestamp, state.LastCaughtUpTimestamp = r.HeardMs, r.CaughtUpMs
		out = append(out, state)
	}
	return out
}

func (s *Server) quorumNodes() []kmsg.DescribeQuorumResponseNode {
	var out []kmsg.DescribeQuorumResponseNode
	for _, b := range s.cfg.View().Brokers() {
		n := kmsg.NewDescribeQuorumResponseNode()
		n.NodeID = b.ID
		host, port, err := net.SplitHostPort(b.RPCAddr)
		if number, bad := strconv.ParseUint(port, 10, 16); err == nil && bad == nil {
			l := kmsg.NewDescribeQuorumResponseNodeListener()
			l.Name, l.Host, l.Port = "CONTROLLER", host, uint16(number)
			n.Listeners = append(n.Listeners, l)
		}
		out = append(out, n)
	}
	return out
}

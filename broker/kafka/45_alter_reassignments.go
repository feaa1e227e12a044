package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
	"tidewater/internal/record"
)

// AlterPartitionReassignments (key 45): v0-v1.
//
// Behaviour decided:
//   - The answer comes when the moves have begun; ListPartitionReassignments
//     tells how they go. Replicas null takes back a move under way.
//   - The number of replicas may change unless v1 forbids it:
//     INVALID_REPLICATION_FACTOR.
//
// Versions: both flexible; v1 may forbid another number of replicas.
func (s *Server) alterReassignments(ctx context.Context, r *request, m *kmsg.AlterPartitionAssignmentsRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.AlterPartitionAssignmentsResponse)
	ctx, cancel := context.WithTimeout(ctx, boundedTimeout(m.TimeoutMillis))
	defer cancel()
	var moves []cluster.Reassignment
	var answers []*kmsg.AlterPartitionAssignmentsResponseTopicPartition // of moves
	for _, t := range m.Topics {
		rt := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		rt.Topic = t.Topic
		rt.Partitions = make([]kmsg.AlterPartitionAssignmentsResponseTopicPartition, len(t.Partitions))
		for i, p := range t.Partitions {
			rp := &rt.Partitions[i]
			*rp = kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			rp.Partition = p.Partition
			move, err := s.reassignment(m, t.Topic, p)
			if rp.ErrorCode, rp.ErrorMessage = s.message(r, err); err == nil {
				moves, answers = append(moves, move), append(answers, rp)
			}
		}
		resp.Topics = append(resp.Topics, rt)
	}
	if len(moves) == 0 {
		return resp
	}
	errs, err := s.cfg.Cluster.AlterReassignments(ctx, moves)
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = s.message(r, err)
		return resp
	}
	for i, rp := range answers {
		rp.ErrorCode, rp.ErrorMessage = s.message(r, errs[i])
	}
	return resp
}

func (s *Server) reassignment(m *kmsg.AlterPartitionAssignmentsRequest, topic string, p kmsg.AlterPartitionAssignmentsRequestTopicPartition) (cluster.Reassignment, error) {
	t, err := s.resolve([]byte(topic), record.TopicID{}, false)
	if err != nil {
		return cluster.Reassignment{}, err
	}
	if p.Partition < 0 || int(p.Partition) >= len(t.partitions) {
		return cluster.Reassignment{}, refuse(kerr.UnknownTopicOrPartition, fmt.Sprintf("topic %s has no partition %d", topic, p.Partition))
	}
	have := len(t.partitions[p.Partition].Target())
	if m.Version >= 1 && !m.AllowReplicationFactorChange && p.Replicas != nil && len(p.Replicas) != have {
		return cluster.Reassignment{}, refuse(kerr.InvalidReplicationFactor, fmt.Sprintf("the partition has %d replicas, the request names %d", have, len(p.Replicas)))
	}
	if p.Replicas != nil && len(p.Replicas) == 0 {
		return cluster.Reassignment{}, refuse(kerr.InvalidReplicaAssignment, "a partition needs a replica")
	}
	return cluster.Reassignment{Partition: record.PartitionID{Topic: t.id, Partition: p.Partition}, Target: p.Replicas}, nil
}

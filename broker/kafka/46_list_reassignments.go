package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
)

// ListPartitionReassignments (key 46): v0.
//
// Behaviour decided:
//   - Only partitions that are being moved are listed; a topic that does not
//     exist is not being moved.
func (s *Server) listReassignments(_ context.Context, _ *request, m *kmsg.ListPartitionReassignmentsRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.ListPartitionReassignmentsResponse)
	view := s.cfg.View()
	if m.Topics == nil {
		for _, t := range view.Topics() {
			addReassignments(resp, t, nil)
		}
		return resp
	}
	for i := range m.Topics {
		if t := view.TopicByName(m.Topics[i].Topic); t != nil {
			addReassignments(resp, t, m.Topics[i].Partitions)
		}
	}
	return resp
}

// addReassignments lists the moves among a topic's partitions, of all with nil.
func addReassignments(resp *kmsg.ListPartitionReassignmentsResponse, t *cluster.Topic, partitions []int32) {
	if partitions == nil {
		for n := range t.Partitions {
			partitions = append(partitions, int32(n))
		}
	}
	rt := kmsg.NewListPartitionReassignmentsResponseTopic()
	rt.Topic = t.Name
	for _, n := range partitions {
		if n < 0 || int(n) >= len(t.Partitions) || t.Partitions[n].Move == nil {
			continue
		}
		p := &t.Partitions[n]
		rp := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
		rp.Partition, rp.Replicas, rp.AddingReplicas, rp.RemovingReplicas = n, p.Nodes(), p.Adding(), p.Removing()
		rt.Partitions = append(rt.Partitions, rp)
	}
	if len(rt.Partitions) > 0 {
		resp.Topics = append(resp.Topics, rt)
	}
}

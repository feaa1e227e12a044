package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreatePartitions (key 37): v0-v3.
//
// Behaviour decided:
//   - A topic named twice is INVALID_REQUEST. Internal topics keep their number,
//     since the hash of groups depends on it: INVALID_REQUEST.
//
// Versions: v2 flexible; v3 may be throttled.
func (s *Server) createPartitions(ctx context.Context, r *request, m *kmsg.CreatePartitionsRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.CreatePartitionsResponse)
	ctx, cancel := context.WithTimeout(ctx, boundedTimeout(m.TimeoutMillis))
	defer cancel()
	seen := map[string]bool{}
	for _, t := range m.Topics {
		rt := kmsg.NewCreatePartitionsResponseTopic()
		rt.Topic = t.Topic
		var err error
		if seen[t.Topic] {
			err = refuse(kerr.InvalidRequest, fmt.Sprintf("topic %s is in the request more than once", t.Topic))
		} else {
			err = s.growTopic(ctx, t, m.ValidateOnly)
		}
		seen[t.Topic] = true
		rt.ErrorCode, rt.ErrorMessage = s.message(r, err)
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (s *Server) growTopic(ctx context.Context, t kmsg.CreatePartitionsRequestTopic, validateOnly bool) error {
	topic := s.cfg.View().TopicByName(t.Topic)
	switch {
	case topic == nil:
		return refuse(kerr.UnknownTopicOrPartition, fmt.Sprintf("unknown topic %q", t.Topic))
	case topic.Internal:
		return refuse(kerr.InvalidRequest, fmt.Sprintf("topic %s is internal: its partitions cannot change", t.Topic))
	}
	var assignment [][]int32
	for _, a := range t.Assignment {
		assignment = append(assignment, a.Replicas)
	}
	_, err := s.cfg.Cluster.CreatePartitions(ctx, topic.ID, t.Count, assignment, validateOnly)
	return err
}

package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
	"tidewater/internal/record"
)

// DeleteTopics (key 20): v1-v6.
//
// Behaviour decided:
//   - The answer waits for the commit; files and objects go later.
//   - Internal topics stay: INVALID_REQUEST.
//
// Versions:
//   - v4 flexible; v5 error message; v6 topic ids
func (s *Server) deleteTopics(ctx context.Context, r *request, m *kmsg.DeleteTopicsRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.DeleteTopicsResponse)
	ctx, cancel := context.WithTimeout(ctx, boundedTimeout(m.TimeoutMillis))
	defer cancel()
	topics := m.Topics
	for _, name := range m.TopicNames {
		topics = append(topics, kmsg.DeleteTopicsRequestTopic{Topic: &name})
	}
	for _, t := range topics {
		rt := kmsg.NewDeleteTopicsResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		found, err := s.deletable(t.Topic, t.TopicID)
		if err == nil {
			rt.Topic, rt.TopicID = &found.Name, found.ID
			err = s.cfg.Cluster.DeleteTopic(ctx, found.ID)
		}
		rt.ErrorCode, rt.ErrorMessage = s.message(r, err)
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (s *Server) deletable(name *string, id record.TopicID) (*cluster.Topic, error) {
	var t *cluster.Topic
	switch {
	case name != nil && !id.IsZero():
		return nil, refuse(kerr.InvalidRequest, "a topic is named or given by id, not both")
	case name == nil:
		if t = s.cfg.View().Topic(id); t == nil {
			return nil, refuse(kerr.UnknownTopicID, fmt.Sprintf("no topic has the id %s", id))
		}
	default:
		if t = s.cfg.View().TopicByName(*name); t == nil {
			return nil, refuse(kerr.UnknownTopicOrPartition, fmt.Sprintf("unknown topic %q", *name))
		}
	}
	if t.Internal {
		return nil, refuse(kerr.InvalidRequest, fmt.Sprintf("topic %s is internal and cannot be deleted", t.Name))
	}
	return t, nil
}

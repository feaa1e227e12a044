package kafka

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
	"tidewater/internal/topicconfig"
)

// CreateTopics (key 19): v2-v7.
//
// Behaviour decided:
//   - A topic named twice in one request is INVALID_REQUEST, both times.
//   - Names are checked here, all else by the controller, whose sentences are
//     the error messages. Internal topics are made by the broker itself.
//   - The answer waits for the commit, at most for the request's timeout.
//
// Versions:
//   - v4 -1 partitions or replicas means the broker's default
//   - v5 flexible; partitions, replication factor and properties in the answer
//   - v7 topic ids
func (s *Server) createTopics(ctx context.Context, r *request, m *kmsg.CreateTopicsRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.CreateTopicsResponse)
	ctx, cancel := context.WithTimeout(ctx, boundedTimeout(m.TimeoutMillis))
	defer cancel()
	seen := map[string]int{}
	for _, t := range m.Topics {
		seen[t.Topic]++
	}
	for _, t := range m.Topics {
		if seen[t.Topic] == 0 {
			continue // a double, answered once
		}
		rt := kmsg.NewCreateTopicsResponseTopic()
		rt.Topic = t.Topic
		rt.NumPartitions, rt.ReplicationFactor = -1, -1
		var err error
		if seen[t.Topic] > 1 {
			seen[t.Topic] = 0
			err = refuse(kerr.InvalidRequest, fmt.Sprintf("topic %s is in the request more than once", t.Topic))
		} else {
			err = s.createTopic(ctx, t, m.ValidateOnly, &rt)
		}
		rt.ErrorCode, rt.ErrorMessage = s.message(r, err)
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// The longest a client may let an administrative request wait, and what holds
// if it says nothing.
const (
	adminTimeoutMax     = 2 * time.Minute
	adminTimeoutDefault = 30 * time.Second
)

// boundedTimeout reads a timeout field.
func boundedTimeout(ms int32) time.Duration {
	if ms <= 0 {
		return adminTimeoutDefault
	}
	return min(time.Duration(ms)*time.Millisecond, adminTimeoutMax)
}

func (s *Server) createTopic(ctx context.Context, t kmsg.CreateTopicsRequestTopic, validateOnly bool, rt *kmsg.CreateTopicsResponseTopic) error {
	if err := checkTopicName(t.Topic); err != nil {
		return err
	}
	if cluster.InternalTopic(t.Topic) {
		return refuse(kerr.InvalidTopicException, fmt.Sprintf("topic %s is internal: the broker creates it when it is first needed", t.Topic))
	}
	spec := cluster.TopicSpec{Name: t.Topic, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor, Configs: map[string]string{}}
	var err error
	if spec.Assignment, err = assignment(t.ReplicaAssignment); err != nil {
		return err
	}
	if spec.Assignment != nil && (t.NumPartitions > 0 || t.ReplicationFactor > 0) {
		return refuse(kerr.InvalidRequest, "either an assignment or numbers of partitions and replicas, not both")
	}
	for _, c := range t.Configs {
		if c.Value == nil {
			return refuse(kerr.InvalidConfig, fmt.Sprintf("%s has no value", c.Name))
		}
		spec.Configs[c.Name] = *c.Value
	}
	made, err := s.cfg.Cluster.CreateTopic(ctx, spec, validateOnly)
	if err != nil {
		return err
	}
	rt.NumPartitions, rt.ReplicationFactor = int32(len(made.Partitions)), int16(made.ReplicationFactor())
	if !validateOnly {
		rt.TopicID = made.ID
	}
	rt.Configs = createdConfigs(made)
	return nil
}

// assignment orders a manual assignment by partition; partitions must be
// numbered from 0 without a gap.
func assignment(list []kmsg.CreateTopicsRequestTopicReplicaAssignment) ([][]int32, error) {
	if len(list) == 0 {
		return nil, nil
	}
	out := make([][]int32, len(list))
	for _, a := range list {
		if a.Partition < 0 || int(a.Partition) >= len(out) || out[a.Partition] != nil || len(a.Replicas) == 0 {
			return nil, refuse(kerr.InvalidReplicaAssignment, "an assignment numbers its partitions from 0, each once, each with replicas")
		}
		out[a.Partition] = a.Replicas
	}
	return out, nil
}

func createdConfigs(t *cluster.Topic) []kmsg.CreateTopicsResponseTopicConfig {
	var out []kmsg.CreateTopicsResponseTopicConfig
	for _, d := range topicconfig.Definitions() {
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Source = d.Name, int8(kmsg.ConfigSourceDefaultConfig)
		value := d.Default
		if own, ok := t.Configs[d.Name]; ok {
			value, c.Source = own, int8(kmsg.ConfigSourceDynamicTopicConfig)
		}
		c.Value = &value
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b kmsg.CreateTopicsResponseTopicConfig) int { return strings.Compare(a.Name, b.Name) })
	return out
}

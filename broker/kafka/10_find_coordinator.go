package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
	"tidewater/broker/group"
	"tidewater/internal/record"
)

// FindCoordinator (key 10): v0-v6.
//
// Behaviour decided:
//   - A group's coordinator leads its partition of __consumer_offsets, by
//     Kafka's own hash. The topic is created when it is first asked for.
//   - Transaction and share coordinators do not exist yet: INVALID_REQUEST with
//     a message, which clients do not try again for ever.
//
// Versions:
//   - v1 key type, error message, throttle time; v3 flexible
//   - v4 several keys; v5 for transactions v2; v6 share groups
func (s *Server) findCoordinator(ctx context.Context, r *request, m *kmsg.FindCoordinatorRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.FindCoordinatorResponse)
	if m.Version < 4 {
		c := s.coordinator(ctx, r, m.CoordinatorType, m.CoordinatorKey)
		resp.ErrorCode, resp.ErrorMessage = c.ErrorCode, c.ErrorMessage
		resp.NodeID, resp.Host, resp.Port = c.NodeID, c.Host, c.Port
		return resp
	}
	for _, key := range m.CoordinatorKeys {
		resp.Coordinators = append(resp.Coordinators, s.coordinator(ctx, r, m.CoordinatorType, key))
	}
	return resp
}

const coordinatorGroup = 0

func (s *Server) coordinator(ctx context.Context, r *request, kind int8, key string) kmsg.FindCoordinatorResponseCoordinator {
	c := kmsg.NewFindCoordinatorResponseCoordinator()
	c.Key, c.NodeID, c.Port = key, -1, -1
	b, err := s.coordinatorBroker(ctx, kind, key)
	if err != nil {
		c.ErrorCode, c.ErrorMessage = s.message(r, err)
		return c
	}
	l := s.clientListener(b)
	c.NodeID, c.Host, c.Port = b.ID, l.Host, l.Port
	return c
}

func (s *Server) coordinatorBroker(ctx context.Context, kind int8, key string) (*cluster.Broker, error) {
	if kind != coordinatorGroup {
		return nil, refuse(kerr.InvalidRequest, fmt.Sprintf("coordinators of type %d (transactions, share groups) are not served", kind))
	}
	t, err := s.offsetsTopic(ctx)
	if err != nil {
		return nil, err
	}
	n := group.Partition(key, int32(len(t.Partitions)))
	leader := s.leader(record.PartitionID{Topic: t.ID, Partition: n}, &t.Partitions[n]).node
	for _, b := range s.cfg.View().Brokers() {
		if b.ID == leader && s.alive(leader) {
			return b, nil
		}
	}
	return nil, refuse(kerr.CoordinatorNotAvailable, "the coordinator's partition has no leader yet")
}

// offsetsTopic finds __consumer_offsets, or creates it.
func (s *Server) offsetsTopic(ctx context.Context) (*cluster.Topic, error) {
	t := s.cfg.View().TopicByName(cluster.ConsumerOffsetsTopic)
	if t == nil {
		spec := s.cfg.OffsetsTopic
		spec.Name = cluster.ConsumerOffsetsTopic
		ctx, cancel := context.WithTimeout(ctx, autoCreateTimeout)
		defer cancel()
		made, err := s.cfg.Cluster.CreateTopic(ctx, spec, false)
		switch {
		case err == nil:
			t = made
		case !errors.Is(err, cluster.ErrTopicExists):
			return nil, refuse(kerr.CoordinatorNotAvailable, fmt.Sprintf("create %s: %v", spec.Name, err))
		default:
			t = s.cfg.View().TopicByName(spec.Name)
		}
	}
	if t == nil || len(t.Partitions) == 0 {
		return nil, refuse(kerr.CoordinatorNotAvailable, cluster.ConsumerOffsetsTopic+" is being created")
	}
	return t, nil
}

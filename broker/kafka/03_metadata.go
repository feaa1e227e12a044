package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
	"tidewater/internal/record"
)

// Metadata (key 3): v0-v13.
//
// Behaviour decided:
//   - An unknown topic is created with the broker's defaults when
//     auto.create.topics.enable is on and the request allows it (older versions
//     than v4 always do), and its answer already has the partitions. Internal
//     topics, names that are not valid and more than createdPerRequestMax new
//     topics in one request are not created.
//   - The in-sync replicas are those on brokers that are up: membership in a
//     Raft majority is not a list. Brokers that are down are left out, and the
//     replicas on them are offline; a broker that sees no majority of brokers
//     lists all, so that its clients know whom else to ask.
//   - The leader is the newest that this broker knows, from the controller or
//     its own replica. While a partition has none that is up and a majority of
//     its replicas could elect one, the answer waits for it within metadataWait.
//     After that it is LEADER_NOT_AVAILABLE.
//   - Authorized operations are "unknown" until there are ACLs.
//
// Versions:
//   - v0 an empty list is all topics; v1 null is all, empty is none; controller
//   - v2 cluster id; v3 throttle time; v4 allow auto creation
//   - v5 offline replicas; v7 leader epoch; v8 authorized operations
//   - v9 flexible; v10 topic ids; v12 look-up by id; v13 error code on top
func (s *Server) metadata(ctx context.Context, r *request, m *kmsg.MetadataRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.MetadataResponse)
	id := s.clusterID()
	resp.ClusterID = &id
	resp.ControllerID = s.controllerID()
	resp.Brokers = s.metadataBrokers()
	h := newHints(ctx, metadataWait)
	if all := m.Topics == nil || m.Version == 0 && len(m.Topics) == 0; all {
		for _, t := range s.cfg.View().Topics() {
			resp.Topics = append(resp.Topics, s.metadataTopic(h, r, t))
		}
		return resp
	}
	create := createdPerRequestMax
	if m.Version >= 4 && !m.AllowAutoTopicCreation || !s.cfg.AutoCreateTopics() {
		create = 0
	}
	for _, asked := range m.Topics {
		resp.Topics = append(resp.Topics, s.metadataFor(h, r, asked, &create))
	}
	return resp
}

const (
	// createdPerRequestMax bounds what one request can create.
	createdPerRequestMax = 100
	autoCreateTimeout    = 15 * time.Second
)

func (s *Server) metadataFor(h *hints, r *request, asked kmsg.MetadataRequestTopic, create *int) kmsg.MetadataResponseTopic {
	var t *cluster.Topic
	err := error(nil)
	switch id := record.TopicID(asked.TopicID); {
	case asked.Topic != nil && !id.IsZero():
		err = refuse(kerr.InvalidRequest, "a topic is asked for by name or by id")
	case asked.Topic == nil:
		if t = s.cfg.View().Topic(id); t == nil {
			err = refuse(kerr.UnknownTopicID, "unknown topic id")
		}
	default:
		t, err = s.topicOrCreate(h.ctx, *asked.Topic, create)
	}
	if err == nil {
		return s.metadataTopic(h, r, t)
	}
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.TopicID = asked.Topic, asked.TopicID
	rt.ErrorCode, _ = s.code(r, err)
	return rt
}

// topicOrCreate finds a topic by name; while create is above 0 it creates a
// missing one.
func (s *Server) topicOrCreate(ctx context.Context, name string, create *int) (*cluster.Topic, error) {
	if t := s.cfg.View().TopicByName(name); t != nil {
		return t, nil
	}
	if err := checkTopicName(name); err != nil {
		return nil, err
	}
	if *create <= 0 || cluster.InternalTopic(name) {
		return nil, refuse(kerr.UnknownTopicOrPartition, "unknown topic")
	}
	*create--
	ctx, cancel := context.WithTimeout(ctx, autoCreateTimeout)
	defer cancel()
	t, err := s.cfg.Cluster.CreateTopic(ctx, cluster.TopicSpec{Name: name, Partitions: -1, ReplicationFactor: -1}, false)
	if errors.Is(err, cluster.ErrTopicExists) {
		if t := s.cfg.View().TopicByName(name); t != nil {
			return t, nil
		}
		return nil, refuse(kerr.LeaderNotAvailable, "topic is being created")
	}
	return t, err
}

// topicNameBytesMax is Kafka's: a file name with the partition has to fit.
const topicNameBytesMax = 249

// checkTopicName is Kafka's rule.
func checkTopicName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return refuse(kerr.InvalidTopicException, fmt.Sprintf("topic name %q is not allowed", name))
	case len(name) > topicNameBytesMax:
		return refuse(kerr.InvalidTopicException, fmt.Sprintf("topic name has %d bytes, at most %d are allowed", len(name), topicNameBytesMax))
	}
	for i := range len(name) {
		c := name[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '.' || c == '_' || c == '-') {
			return refuse(kerr.InvalidTopicException, fmt.Sprintf("topic name %q has other characters than ASCII letters, digits, '.', '_' and '-'", name))
		}
	}
	return nil
}

// metadataBrokers are those that are up; all of them when this broker sees no
// majority of them, since then it is the one that is cut off.
func (s *Server) metadataBrokers() []kmsg.MetadataResponseBroker {
	all := s.cfg.View().Brokers()
	var out, up []kmsg.MetadataResponseBroker
	for _, b := range all {
		out = append(out, s.metadataBroker(b))
		if s.alive(b.ID) {
			up = append(up, out[len(out)-1])
		}
	}
	if len(up) > len(all)/2 {
		return up
	}
	return out
}

func (s *Server) metadataBroker(b *cluster.Broker) kmsg.MetadataResponseBroker {
	rb := kmsg.NewMetadataResponseBroker()
	l := s.clientListener(b)
	rb.NodeID, rb.Host, rb.Port = b.ID, l.Host, l.Port
	if b.Rack != "" {
		rb.Rack = &b.Rack
	}
	return rb
}

func (s *Server) metadataTopic(h *hints, r *request, t *cluster.Topic) kmsg.MetadataResponseTopic {
	rt := kmsg.NewMetadataResponseTopic()
	rt.Topic, rt.TopicID, rt.IsInternal = &t.Name, t.ID, t.Internal
	rt.Partitions = make([]kmsg.MetadataResponseTopicPartition, 0, len(t.Partitions))
	for i := range t.Partitions {
		p := &t.Partitions[i]
		rp := kmsg.NewMetadataResponseTopicPartition()
		l := s.livingLeader(h, record.PartitionID{Topic: t.ID, Partition: int32(i)}, p)
		rp.Partition, rp.LeaderEpoch = int32(i), int32(l.epoch)
		rp.Replicas = p.Nodes()
		for _, n := range rp.Replicas {
			if s.alive(n) {
				rp.ISR = append(rp.ISR, n)
			} else {
				rp.OfflineReplicas = append(rp.OfflineReplicas, n)
			}
		}
		rp.Leader = l.node
		if l.node == cluster.NoLeader {
			rp.ErrorCode, _ = s.code(r, refuse(kerr.LeaderNotAvailable, "no leader yet"))
		}
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt
}

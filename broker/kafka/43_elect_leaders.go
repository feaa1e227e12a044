package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/record"
)

// ElectLeaders (key 43): v0-v2.
//
// Behaviour decided:
//   - The lead goes to the preferred replica, the first of the assignment,
//     without a gap in the log: the leader hands over.
//   - Unclean elections are refused with ELIGIBLE_LEADERS_NOT_AVAILABLE: a
//     replica that may lack what was acked never leads.
//   - Without a list all partitions are meant, and only those are answered
//     where another led.
//
// Versions: v1 election type and error on top; v2 flexible.
func (s *Server) electLeaders(ctx context.Context, r *request, m *kmsg.ElectLeadersRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.ElectLeadersResponse)
	ctx, cancel := context.WithTimeout(ctx, boundedTimeout(m.TimeoutMillis))
	defer cancel()
	if m.Topics == nil {
		s.electAll(ctx, r, m, resp)
		return resp
	}
	for _, t := range m.Topics {
		rt := kmsg.NewElectLeadersResponseTopic()
		rt.Topic = t.Topic
		for _, n := range t.Partitions {
			rp := kmsg.NewElectLeadersResponseTopicPartition()
			rp.Partition = n
			rp.ErrorCode, rp.ErrorMessage = s.message(r, s.electLeader(ctx, m, t.Topic, n))
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// electionUnclean is the election type of a request that takes any replica.
const electionUnclean = 1

func checkElection(m *kmsg.ElectLeadersRequest) error {
	if m.Version >= 1 && m.ElectionType == electionUnclean {
		return refuse(kerr.EligibleLeadersNotAvailable, "an unclean election could lose what was acked: it is never made")
	}
	return nil
}

func (s *Server) electLeader(ctx context.Context, m *kmsg.ElectLeadersRequest, topic string, partition int32) error {
	if err := checkElection(m); err != nil {
		return err
	}
	t, err := s.resolve([]byte(topic), record.TopicID{}, false)
	if err != nil {
		return err
	}
	if partition < 0 || int(partition) >= len(t.partitions) {
		return refuse(kerr.UnknownTopicOrPartition, fmt.Sprintf("topic %s has no partition %d", topic, partition))
	}
	_, errs := s.cfg.Cluster.ElectLeaders(ctx, []record.PartitionID{{Topic: t.id, Partition: partition}})
	return errs[0]
}

// electAll hands the lead of every partition to its preferred replica.
func (s *Server) electAll(ctx context.Context, r *request, m *kmsg.ElectLeadersRequest, resp *kmsg.ElectLeadersResponse) {
	if err := checkElection(m); err != nil {
		resp.ErrorCode, _ = s.code(r, err)
		return
	}
	ids, errs := s.cfg.Cluster.ElectLeaders(ctx, nil)
	for i, id := range ids {
		t := s.cfg.View().Topic(id.Topic)
		if t == nil {
			continue
		}
		rp := kmsg.NewElectLeadersResponseTopicPartition()
		rp.Partition = id.Partition
		rp.ErrorCode, rp.ErrorMessage = s.message(r, errs[i])
		n := len(resp.Topics)
		if n == 0 || resp.Topics[n-1].Topic != t.Name {
			rt := kmsg.NewElectLeadersResponseTopic()
			rt.Topic = t.Name
			resp.Topics = append(resp.Topics, rt)
			n++
		}
		resp.Topics[n-1].Partitions = append(resp.Topics[n-1].Partitions, rp)
	}
}

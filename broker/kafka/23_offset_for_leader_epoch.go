package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/record"
)

// OffsetForLeaderEpoch (key 23): v2-v4.
//
// Behaviour decided:
//   - Answers the largest epoch not above the asked one and where it ends; -1
//     for both when nothing is known. A leader answers only when it knows its
//     high watermark.
//
// Versions:
//   - v2 the client's current leader epoch; v3 replica id; v4 flexible
func (s *Server) offsetForLeaderEpoch(_ context.Context, r *request, m *kmsg.OffsetForLeaderEpochRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
	for _, t := range m.Topics {
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			rp.Partition, rp.LeaderEpoch, rp.EndOffset = p.Partition, -1, -1
			rp.ErrorCode, _ = s.code(r, s.epochEnd(t.Topic, p, &rp))
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (s *Server) epochEnd(topic string, p kmsg.OffsetForLeaderEpochRequestTopicPartition, rp *kmsg.OffsetForLeaderEpochResponseTopicPartition) error {
	log, err := s.find(topic, p.Partition)
	if err != nil {
		return err
	}
	offsets, err := log.Offsets()
	if err != nil {
		return err
	}
	if err := checkEpoch(offsets.Epoch, p.CurrentLeaderEpoch); err != nil {
		return err
	}
	end, err := log.EpochEnd(record.LeaderEpoch(p.LeaderEpoch))
	if err != nil {
		return err
	}
	rp.LeaderEpoch, rp.EndOffset = int32(end.Epoch), int64(end.End)
	return nil
}

package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/record"
)

// DeleteRecords (key 21): v0-v2.
//
// Behaviour decided:
//   - The log start moves by an entry in the partition's own log; the answer
//     waits for its commit. Offset -1 is the high watermark.
//   - Internal topics are refused with POLICY_VIOLATION, as are read replicas.
//
// Versions: v2 flexible.
func (s *Server) deleteRecords(ctx context.Context, r *request, m *kmsg.DeleteRecordsRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.DeleteRecordsResponse)
	ctx, cancel := context.WithTimeout(ctx, boundedTimeout(m.TimeoutMillis))
	defer cancel()
	for _, t := range m.Topics {
		rt := kmsg.NewDeleteRecordsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewDeleteRecordsResponseTopicPartition()
			rp.Partition = p.Partition
			start, err := s.trim(ctx, t.Topic, p)
			if rp.ErrorCode, _ = s.code(r, err); err != nil {
				start = -1
			}
			rp.LowWatermark = int64(start)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func (s *Server) trim(ctx context.Context, topic string, p kmsg.DeleteRecordsRequestTopicPartition) (record.Offset, error) {
	t, err := s.resolve([]byte(topic), record.TopicID{}, false)
	if err != nil {
		return -1, err
	}
	if t.internal {
		return -1, refuse(kerr.PolicyViolation, "records of internal topics are not deleted by clients")
	}
	if p.Offset < -1 {
		return -1, refuse(kerr.OffsetOutOfRange, "offset is negative")
	}
	log, err := s.partition(t, p.Partition)
	if err != nil {
		return -1, err
	}
	return log.Trim(ctx, record.Offset(p.Offset))
}

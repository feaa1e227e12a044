package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// ListOffsets (key 2): v1-v11.
//
// Behaviour decided:
//   - Timestamps: >= 0 first record not older; -1 latest (end of what the
//     isolation shows); -2 earliest; -3 largest timestamp; -4 earliest on the
//     hot tier; -5 last in the bucket; -6 first not yet in the bucket. One that
//     the version does not know is UNSUPPORTED_VERSION.
//   - A look-up by time in the bucket may take a while: v10's timeout bounds it.
//   - A leader that does not know its high watermark yet answers
//     OFFSET_NOT_AVAILABLE, to older clients LEADER_NOT_AVAILABLE.
//
// Versions:
//   - v1 one offset with its timestamp; v2 isolation level; v4 leader epochs
//   - v6 flexible; v7 -3; v8 -4; v9 -5; v10 timeout; v11 -6
func (s *Server) listOffsets(ctx context.Context, r *request, m *kmsg.ListOffsetsRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.ListOffsetsResponse)
	ctx, cancel := context.WithTimeout(ctx, boundedTimeout(m.TimeoutMillis))
	defer cancel()
	for _, t := range m.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition = p.Partition
			rp.Offset, rp.Timestamp, rp.LeaderEpoch = -1, -1, -1
			found, err := s.listOffset(ctx, m, t.Topic, p)
			if rp.ErrorCode, _ = s.code(r, err); rp.ErrorCode == kerr.OffsetNotAvailable.Code && m.Version < 5 {
				rp.ErrorCode = kerr.LeaderNotAvailable.Code
			}
			if err == nil {
				rp.Offset, rp.Timestamp, rp.LeaderEpoch = int64(found.Offset), found.Timestamp, int32(found.Epoch)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

// timeEarliestPending is "first offset not yet in the bucket" (KIP-1023).
const timeEarliestPending = -6

func (s *Server) listOffset(ctx context.Context, m *kmsg.ListOffsetsRequest, topic string, p kmsg.ListOffsetsRequestTopicPartition) (logio.FoundOffset, error) {
	none := logio.FoundOffset{Offset: -1, Timestamp: -1, Epoch: -1}
	if since, ok := map[int64]int16{
		logio.TimeLatest: 1, logio.TimeEarliest: 1, logio.TimeMaxTimestamp: 7,
		logio.TimeEarliestLocal: 8, logio.TimeLatestTiered: 9, timeEarliestPending: 11,
	}[p.Timestamp]; p.Timestamp < 0 && (!ok || m.Version < since) {
		return none, refuse(kerr.UnsupportedVersion, "unknown special timestamp")
	}
	log, err := s.find(topic, p.Partition)
	if err != nil {
		return none, err
	}
	offsets, err := log.Offsets()
	if err != nil {
		return none, err
	}
	if err := checkEpoch(offsets.Epoch, p.CurrentLeaderEpoch); err != nil {
		return none, err
	}
	if p.Timestamp != timeEarliestPending {
		return log.Find(ctx, p.Timestamp, isolation(m.IsolationLevel))
	}
	if offsets.Archived > 0 {
		none.Offset, none.Epoch = max(offsets.Archived, offsets.LogStart), offsets.Epoch
	}
	return none, nil
}

// checkEpoch compares the leader epoch a client believes in, -1 for unknown,
// with the partition's.
func checkEpoch(have record.LeaderEpoch, client int32) error {
	switch {
	case client < 0 || record.LeaderEpoch(client) == have:
		return nil
	case record.LeaderEpoch(client) < have:
		return logio.ErrFencedEpoch
	}
	return logio.ErrUnknownEpoch
}

func isolation(level int8) logio.Isolation {
	if level == int8(logio.ReadCommitted) {
		return logio.ReadCommitted
	}
	return logio.ReadUncommitted
}

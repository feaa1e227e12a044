package kafka

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/record"
)

// DescribeLogDirs (key 35): v1-v4.
//
// Behaviour decided:
//   - Sizes are of the hot tier, in bytes on disk. A directory whose disk failed
//     is listed with KAFKA_STORAGE_ERROR.
//
// Versions: v2 flexible; v3 error code on top; v4 total and usable bytes.
func (s *Server) describeLogDirs(_ context.Context, r *request, m *kmsg.DescribeLogDirsRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.DescribeLogDirsResponse)
	if s.cfg.LogDirs == nil {
		return resp
	}
	for _, d := range s.cfg.LogDirs() {
		rd := kmsg.NewDescribeLogDirsResponseDir()
		rd.Dir, rd.TotalBytes, rd.UsableBytes = d.Path, d.TotalBytes, d.UsableBytes
		rd.ErrorCode, _ = s.code(r, d.Err)
		rd.Topics = s.logDirTopics(d, m.Topics)
		resp.Dirs = append(resp.Dirs, rd)
	}
	return resp
}

// LogDir is one data directory.
type LogDir struct {
	Path                    string
	TotalBytes, UsableBytes int64 // of its file system; -1 unknown
	Err                     error // logio.ErrStorage once its disk failed
	// Sizes are the bytes of each partition's files.
	Sizes map[record.PartitionID]int64
}

// logDirTopics lists the partitions of a directory that were asked for; null
// asks for all.
func (s *Server) logDirTopics(d LogDir, asked []kmsg.DescribeLogDirsRequestTopic) []kmsg.DescribeLogDirsResponseDirTopic {
	var out []kmsg.DescribeLogDirsResponseDirTopic
	for _, t := range s.cfg.View().Topics() {
		i := slices.IndexFunc(asked, func(a kmsg.DescribeLogDirsRequestTopic) bool { return a.Topic == t.Name })
		if asked != nil && i < 0 {
			continue
		}
		rt := kmsg.NewDescribeLogDirsResponseDirTopic()
		rt.Topic = t.Name
		for p := range int32(len(t.Partitions)) {
			size, here := d.Sizes[record.PartitionID{Topic: t.ID, Partition: p}]
			if !here || asked != nil && !slices.Contains(asked[i].Partitions, p) {
				continue
			}
			rp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			rp.Partition, rp.Size = p, size
			rt.Partitions = append(rt.Partitions, rp)
		}
		if len(rt.Partitions) > 0 {
			out = append(out, rt)
		}
	}
	return out
}

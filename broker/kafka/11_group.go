package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/group"
)

// The classic group protocol is answered by the coordinator (broker/group), in
// kmsg's types with their codes: OffsetCommit (8) v2-v10, OffsetFetch (9)
// v1-v10, JoinGroup (11) v0-v9, Heartbeat (12) v0-v4, LeaveGroup (13) v0-v5,
// SyncGroup (14) v0-v5, DescribeGroups (15) v0-v6, ListGroups (16) v0-v5,
// DeleteGroups (42) v0-v2, OffsetDelete (47) v0.
//
// Behaviour decided:
//   - JoinGroup and SyncGroup may wait for other members; when the client goes
//     away or the server drains, the connection ends without their answer, and
//     the member is still the coordinator's to expire.
//   - An error of the coordinator itself (not of a group) ends the connection
//     too: the client asks for the coordinator again.
func (s *Server) group(ctx context.Context, r *request) kmsg.Response {
	resp, err := s.cfg.Groups.Do(ctx, group.Client{ID: r.clientID, Host: r.clientHost}, r.msg)
	if err != nil {
		r.failed = true
		return nil
	}
	return resp
}

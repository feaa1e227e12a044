package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// UnregisterBroker (key 64): v0.
//
// Behaviour decided:
//   - The broker must hold no replica any more: its replicas are moved away
//     first. If it runs, it ends.
func (s *Server) unregisterBroker(ctx context.Context, r *request, m *kmsg.UnregisterBrokerRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.UnregisterBrokerResponse)
	ctx, cancel := context.WithTimeout(ctx, adminTimeoutDefault)
	defer cancel()
	resp.ErrorCode, resp.ErrorMessage = s.message(r, s.cfg.Cluster.UnregisterBroker(ctx, m.BrokerID))
	return resp
}

package kafka

import (
	"context"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster (key 60): v0-v2.
//
// Behaviour decided:
//   - Only brokers can be asked for (endpoint type 1); asking for controllers
//     is MISMATCHED_ENDPOINT_TYPE, as on Kafka's broker listener.
//
// Versions: v1 endpoint type; v2 fenced brokers: those that are down.
func (s *Server) describeCluster(_ context.Context, r *request, m *kmsg.DescribeClusterRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.DescribeClusterResponse)
	resp.ClusterAuthorizedOperations = math.MinInt32 // unknown
	resp.EndpointType = 1
	resp.ControllerID = -1
	if m.Version >= 1 && m.EndpointType != 1 {
		resp.ErrorCode, resp.ErrorMessage = s.message(r, refuse(kerr.MismatchedEndpointType, "this listener is a broker's"))
		return resp
	}
	resp.ClusterID = s.clusterID()
	resp.ControllerID = s.controllerID()
	for _, b := range s.cfg.View().Brokers() {
		fenced := !s.alive(b.ID)
		if fenced && !m.IncludeFencedBrokers {
			continue
		}
		rb := kmsg.NewDescribeClusterResponseBroker()
		l := s.clientListener(b)
		rb.NodeID, rb.Host, rb.Port, rb.IsFenced = b.ID, l.Host, l.Port, fenced
		if b.Rack != "" {
			rb.Rack = &b.Rack
		}
		resp.Brokers = append(resp.Brokers, rb)
	}
	return resp
}

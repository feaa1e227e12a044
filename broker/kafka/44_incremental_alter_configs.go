package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
)

// IncrementalAlterConfigs (key 44): v0-v1, for topics and brokers.
//
// Behaviour decided:
//   - Set, delete, append and subtract (the latter two for lists, which the
//     controller checks). A property named twice, an unknown operation, or a
//     null value other than for delete is INVALID_REQUEST.
//   - A resource named twice is INVALID_REQUEST the second time.
//
// Versions: v1 flexible.
func (s *Server) incrementalAlterConfigs(ctx context.Context, r *request, m *kmsg.IncrementalAlterConfigsRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
	ctx, cancel := context.WithTimeout(ctx, adminTimeoutDefault)
	defer cancel()
	var seen seenResources
	for _, res := range m.Resources {
		rr := kmsg.NewIncrementalAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = res.ResourceType, res.ResourceName
		err := seen.add(res.ResourceType, res.ResourceName)
		if err == nil {
			err = s.changeConfigs(ctx, res, m.ValidateOnly)
		}
		rr.ErrorCode, rr.ErrorMessage = s.message(r, err)
		resp.Resources = append(resp.Resources, rr)
	}
	return resp
}

func (s *Server) changeConfigs(ctx context.Context, res kmsg.IncrementalAlterConfigsRequestResource, validateOnly bool) error {
	ops := make([]cluster.ConfigOp, 0, len(res.Configs))
	named := map[string]bool{}
	for _, c := range res.Configs {
		op := cluster.ConfigOp{Kind: cluster.ConfigOpKind(c.Op), Name: c.Name}
		switch {
		case op.Kind < cluster.ConfigSet || op.Kind > cluster.ConfigSubtract:
			return refuse(kerr.InvalidRequest, fmt.Sprintf("unknown operation %d on %s", c.Op, c.Name))
		case named[c.Name]:
			return refuse(kerr.InvalidRequest, fmt.Sprintf("%s is in the request more than once", c.Name))
		case c.Value == nil && op.Kind != cluster.ConfigDelete:
			return refuse(kerr.InvalidRequest, fmt.Sprintf("%s has no value", c.Name))
		case c.Value != nil:
			op.Value = *c.Value
		}
		named[c.Name] = true
		ops = append(ops, op)
	}
	topic, node, err := s.configResource(res.ResourceType, res.ResourceName)
	switch {
	case err != nil:
		return err
	case topic != nil:
		return s.cfg.Cluster.AlterTopicConfigs(ctx, topic.ID, ops, validateOnly)
	}
	return s.cfg.Cluster.AlterBrokerConfigs(ctx, node, ops, validateOnly)
}

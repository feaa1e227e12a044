package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
)

// AlterConfigs (key 33): v0-v2, for topics and brokers.
//
// Behaviour decided:
//   - The request's properties become all of the resource's: what is not named
//     goes back to its default, as in Kafka. A null value is INVALID_REQUEST.
//   - A resource named twice is INVALID_REQUEST the second time.
//
// Versions: v2 flexible.
func (s *Server) alterConfigs(ctx context.Context, r *request, m *kmsg.AlterConfigsRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.AlterConfigsResponse)
	ctx, cancel := context.WithTimeout(ctx, adminTimeoutDefault)
	defer cancel()
	var seen seenResources
	for _, res := range m.Resources {
		rr := kmsg.NewAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = res.ResourceType, res.ResourceName
		err := seen.add(res.ResourceType, res.ResourceName)
		if err == nil {
			err = s.replaceConfigs(ctx, res, m.ValidateOnly)
		}
		rr.ErrorCode, rr.ErrorMessage = s.message(r, err)
		resp.Resources = append(resp.Resources, rr)
	}
	return resp
}

func (s *Server) replaceConfigs(ctx context.Context, res kmsg.AlterConfigsRequestResource, validateOnly bool) error {
	props := map[string]string{}
	for _, c := range res.Configs {
		if c.Value == nil {
			return refuse(kerr.InvalidRequest, fmt.Sprintf("%s has no value", c.Name))
		}
		if _, twice := props[c.Name]; twice {
			return refuse(kerr.InvalidRequest, fmt.Sprintf("%s is in the request more than once", c.Name))
		}
		props[c.Name] = *c.Value
	}
	topic, node, err := s.configResource(res.ResourceType, res.ResourceName)
	switch {
	case err != nil:
		return err
	case topic != nil:
		return s.cfg.Cluster.ReplaceTopicConfigs(ctx, topic.ID, props, validateOnly)
	}
	return s.cfg.Cluster.ReplaceBrokerConfigs(ctx, node, props, validateOnly)
}

// configResource finds what properties are to be changed: a topic, or a
// broker if topic is nil.
func (s *Server) configResource(t kmsg.ConfigResourceType, name string) (topic *cluster.Topic, node int32, err error) {
	switch t {
	case kmsg.ConfigResourceTypeTopic:
		if topic = s.cfg.View().TopicByName(name); topic == nil {
			return nil, 0, refuse(kerr.UnknownTopicOrPartition, fmt.Sprintf("unknown topic %q", name))
		}
		return topic, 0, nil
	case kmsg.ConfigResourceTypeBroker:
		node, err = s.brokerResource(name)
		return nil, node, err
	}
	return nil, 0, noSuchResource(t)
}

// seenResources refuses a resource that is in a request twice.
type seenResources map[string]bool

func (s *seenResources) add(t kmsg.ConfigResourceType, name string) error {
	if *s == nil {
		*s = seenResources{}
	}
	key := fmt.Sprintf("%d/%s", t, name)
	if (*s)[key] {
		return refuse(kerr.InvalidRequest, fmt.Sprintf("%q is in the request more than once", name))
	}
	(*s)[key] = true
	return nil
}

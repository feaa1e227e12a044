package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
	"tidewater/internal/topicconfig"
)

// DescribeConfigs (key 32): v1-v4, for topics and brokers.
//
// Behaviour decided:
//   - A topic shows every property that topicconfig knows, with the layer its
//     value comes from: the topic, the broker's dynamic properties, the
//     cluster's dynamic ones, the broker's file, the default. An alias may be
//     asked for; the answer has the name asked for.
//   - A broker shows its own properties; an empty name is the cluster's default.
//   - Other resources (loggers, groups, client metrics): INVALID_REQUEST.
//
// Versions: v1 synonyms and source; v3 types and documentation; v4 flexible.
func (s *Server) describeConfigs(_ context.Context, r *request, m *kmsg.DescribeConfigsRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.DescribeConfigsResponse)
	for _, res := range m.Resources {
		rr := kmsg.NewDescribeConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = res.ResourceType, res.ResourceName
		var err error
		switch res.ResourceType {
		case kmsg.ConfigResourceTypeTopic:
			rr.Configs, err = s.describeTopicConfigs(m, res)
		case kmsg.ConfigResourceTypeBroker:
			rr.Configs, err = s.describeBrokerConfigs(m, res)
		default:
			err = noSuchResource(res.ResourceType)
		}
		rr.ErrorCode, rr.ErrorMessage = s.message(r, err)
		resp.Resources = append(resp.Resources, rr)
	}
	return resp
}

func noSuchResource(t kmsg.ConfigResourceType) error {
	return refuse(kerr.InvalidRequest, fmt.Sprintf("configs of resource type %d are not served, only topics and brokers", t))
}

// BrokerConfig is one property of the broker's own configuration.
type BrokerConfig struct {
	Name, Value string
	// Default: the value is not set, it is what holds without being set.
	Default   bool
	Sensitive bool // the value is never shown
	Type      topicconfig.Type
	Doc       string
}

// configLayer is a set of values below the topic's own.
type configLayer struct {
	source kmsg.ConfigSource
	values map[string]string
}

// defaultLayers are the topic properties that broker properties stand for,
// strongest first.
func (s *Server) defaultLayers() []configLayer {
	layer := func(source kmsg.ConfigSource, props map[string]string) configLayer {
		values, _ := topicconfig.BrokerDefaults(props) // faults were refused when they were set
		return configLayer{source, values}
	}
	static := map[string]string{}
	for _, c := range s.brokerConfigs() {
		if !c.Default {
			static[c.Name] = c.Value
		}
	}
	return []configLayer{
		layer(kmsg.ConfigSourceDynamicBrokerConfig, s.cfg.View().BrokerConfigs(s.cfg.NodeID)),
		layer(kmsg.ConfigSourceDynamicDefaultBrokerConfig, s.cfg.View().BrokerConfigs(cluster.ClusterDefault)),
		layer(kmsg.ConfigSourceStaticBrokerConfig, static),
	}
}

func (s *Server) brokerConfigs() []BrokerConfig {
	if s.cfg.BrokerConfigs == nil {
		return nil
	}
	return s.cfg.BrokerConfigs()
}

func (s *Server) describeTopicConfigs(m *kmsg.DescribeConfigsRequest, res kmsg.DescribeConfigsRequestResource) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	t := s.cfg.View().TopicByName(res.ResourceName)
	if t == nil {
		return nil, refuse(kerr.UnknownTopicOrPartition, fmt.Sprintf("unknown topic %q", res.ResourceName))
	}
	layers := append([]configLayer{{kmsg.ConfigSourceDynamicTopicConfig, t.Configs}}, s.defaultLayers()...)
	var out []kmsg.DescribeConfigsResponseResourceConfig
	for _, d := range topicconfig.Definitions() {
		for _, name := range append([]string{d.Name}, d.Aliases...) {
			if res.ConfigNames == nil && name == d.Name || slices.Contains(res.ConfigNames, name) {
				out = append(out, describeProperty(m, d, name, layers))
			}
		}
	}
	return out, nil
}

func describeProperty(m *kmsg.DescribeConfigsRequest, d topicconfig.Definition, name string, layers []configLayer) kmsg.DescribeConfigsResponseResourceConfig {
	c := kmsg.NewDescribeConfigsResponseResourceConfig()
	c.Name, c.ConfigType = name, kmsg.ConfigType(d.Type)
	c.Source = kmsg.ConfigSourceUnknown
	layers = append(slices.Clip(layers), configLayer{kmsg.ConfigSourceDefaultConfig, map[string]string{d.Name: d.Default}})
	for _, l := range layers {
		value, ok := l.values[d.Name]
		if !ok {
			continue
		}
		if c.Value == nil {
			c.Value, c.Source, c.IsDefault = &value, l.source, l.source == kmsg.ConfigSourceDefaultConfig
		}
		if m.IncludeSynonyms {
			syn := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			syn.Name, syn.Value, syn.Source = synonymName(d, l.source), &value, l.source
			c.ConfigSynonyms = append(c.ConfigSynonyms, syn)
		}
	}
	if m.IncludeDocumentation {
		c.Documentation = &d.Doc
	}
	return c
}

// synonymName is the broker property behind a topic property's default.
func synonymName(d topicconfig.Definition, source kmsg.ConfigSource) string {
	if source != kmsg.ConfigSourceDynamicTopicConfig && len(d.Synonyms) > 0 {
		return d.Synonyms[0].Name
	}
	return d.Name
}

func (s *Server) describeBrokerConfigs(m *kmsg.DescribeConfigsRequest, res kmsg.DescribeConfigsRequestResource) ([]kmsg.DescribeConfigsResponseResourceConfig, error) {
	node, err := s.brokerResource(res.ResourceName)
	if err != nil {
		return nil, err
	}
	all := map[string]kmsg.DescribeConfigsResponseResourceConfig{}
	if node != cluster.ClusterDefault {
		for _, c := range s.brokerConfigs() {
			all[c.Name] = describeStatic(m, c)
		}
		addDynamic(all, kmsg.ConfigSourceDynamicDefaultBrokerConfig, s.cfg.View().BrokerConfigs(cluster.ClusterDefault))
		addDynamic(all, kmsg.ConfigSourceDynamicBrokerConfig, s.cfg.View().BrokerConfigs(node))
	} else {
		addDynamic(all, kmsg.ConfigSourceDynamicDefaultBrokerConfig, s.cfg.View().BrokerConfigs(node))
	}
	var out []kmsg.DescribeConfigsResponseResourceConfig
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if res.ConfigNames == nil || slices.Contains(res.ConfigNames, name) {
			out = append(out, all[name])
		}
	}
	return out, nil
}

func describeStatic(m *kmsg.DescribeConfigsRequest, c BrokerConfig) kmsg.DescribeConfigsResponseResourceConfig {
	rc := kmsg.NewDescribeConfigsResponseResourceConfig()
	rc.Name, rc.ReadOnly, rc.IsSensitive = c.Name, true, c.Sensitive
	rc.ConfigType, rc.Source, rc.IsDefault = kmsg.ConfigType(c.Type), kmsg.ConfigSourceStaticBrokerConfig, c.Default
	if c.Default {
		rc.Source = kmsg.ConfigSourceDefaultConfig
	}
	if !c.Sensitive {
		rc.Value = &c.Value
	}
	if m.IncludeDocumentation && c.Doc != "" {
		rc.Documentation = &c.Doc
	}
	return rc
}

func addDynamic(all map[string]kmsg.DescribeConfigsResponseResourceConfig, source kmsg.ConfigSource, props map[string]string) {
	for name, value := range props {
		rc, ok := all[name]
		if !ok {
			rc = kmsg.NewDescribeConfigsResponseResourceConfig()
			rc.Name, rc.ConfigType = name, kmsg.ConfigTypeString
		}
		rc.Source, rc.IsDefault, rc.ReadOnly = source, false, false
		if !rc.IsSensitive {
			rc.Value = &value
		}
		all[name] = rc
	}
}

// brokerResource reads a broker's name: a node id, or empty for all brokers.
func (s *Server) brokerResource(name string) (int32, error) {
	if name == "" {
		return cluster.ClusterDefault, nil
	}
	id, err := strconv.ParseInt(name, 10, 32)
	if err == nil {
		for _, b := range s.cfg.View().Brokers() {
			if b.ID == int32(id) {
				return b.ID, nil
			}
		}
	}
	return 0, refuse(kerr.InvalidRequest, fmt.Sprintf("no broker has the id %q", name))
}

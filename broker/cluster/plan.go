package cluster

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"tidewater/internal/record"
	"tidewater/internal/topicconfig"
)

// planner turns a wish into a command for a given view: it holds the rules
// that may change between versions, which Apply must not.
type planner struct {
	cfg *Config
	v   *View
}

// props are a topic's properties over the broker's defaults.
func (p planner) props(own map[string]string) map[string]string {
	broker := topicconfig.Merge(p.cfg.BrokerConfigs, p.v.BrokerConfigs(ClusterDefault))
	broker = topicconfig.Merge(broker, p.v.BrokerConfigs(p.cfg.Node))
	defaults, _ := topicconfig.BrokerDefaults(broker) // faults were refused when set
	return topicconfig.Merge(defaults, own)
}

// checked gives own properties under canonical names, with the settings they
// make.
func (p planner) checked(own map[string]string) (map[string]string, topicconfig.Settings, error) {
	canonical, faults := topicconfig.Normalize(own)
	settings, more := topicconfig.Parse(p.props(canonical))
	if faults = append(faults, more...); len(faults) > 0 {
		return nil, settings, &ConfigError{Faults: faults}
	}
	return canonical, settings, nil
}

func (p planner) createTopic(s TopicSpec) (*CreateTopic, error) {
	if err := CheckTopicName(s.Name); err != nil {
		return nil, err
	}
	if p.v.TopicByName(s.Name) != nil {
		return nil, fmt.Errorf("%w: %s", ErrTopicExists, s.Name)
	}
	canonical, _, err := p.checked(s.Configs)
	if err != nil {
		return nil, err
	}
	cmd := &CreateTopic{ID: s.ID, Name: s.Name, Internal: InternalTopic(s.Name),
		CreatedMs: p.cfg.Now().UnixMilli(), Configs: canonical}
	if cmd.ID.IsZero() {
		if cmd.ID, err = newTopicID(p.cfg.Random); err != nil {
			return nil, err
		}
	}
	if cmd.Assignment, err = p.assignment(s, cmd.ID); err != nil {
		return nil, err
	}
	return cmd, p.roomFor(len(cmd.Assignment))
}

func (p planner) assignment(s TopicSpec, id record.TopicID) ([][]int32, error) {
	if s.Assignment != nil {
		if s.Partitions > 0 || s.ReplicationFactor > 0 {
			return nil, fmt.Errorf("%w: topic %s has both an assignment and a number of partitions or replicas", ErrInvalidRequest, s.Name)
		}
		if len(s.Assignment) == 0 {
			return nil, fmt.Errorf("%w: no partition", ErrInvalidAssignment)
		}
		return s.Assignment, checkAssignment(p.v, s.Assignment)
	}
	partitions, replicas := s.Partitions, s.ReplicationFactor
	if partitions == -1 {
		partitions = p.cfg.DefaultPartitions
	}
	if replicas == -1 {
		replicas = p.defaultReplicas(s.Name)
	}
	if partitions < 1 {
		return nil, fmt.Errorf("%w: %d, at least 1 is needed", ErrInvalidPartitions, partitions)
	}
	if err := p.roomFor(int(partitions)); err != nil {
		return nil, err
	}
	return Place(p.v, id, 0, int(partitions), int(replicas))
}

// defaultReplicas is the number for a topic that names none. What groups and
// transactions depend on is to outlast a broker where that is possible.
func (p planner) defaultReplicas(name string) int16 {
	if n := p.cfg.DefaultReplicationFactor; !InternalTopic(name) || len(p.v.brokers) < internalReplicas {
		return n
	} else {
		return max(n, internalReplicas)
	}
}

const internalReplicas = 3

// roomFor checks the cluster's bound on partitions.
func (p planner) roomFor(more int) error {
	have := p.v.partitions
	if have+more > p.cfg.PartitionsMax {
		return fmt.Errorf("%w: %d partitions more than the %d there are would pass the bound of %d", ErrPolicy, more, have, p.cfg.PartitionsMax)
	}
	return nil
}

func (p planner) topic(id record.TopicID) (*Topic, error) {
	t := p.v.Topic(id)
	if t == nil {
		return nil, fmt.Errorf("%w: topic id %s", ErrUnknownTopic, id)
	}
	return t, nil
}

func (p planner) deleteTopic(id record.TopicID) (*DeleteTopic, error) {
	t, err := p.topic(id)
	if err != nil {
		return nil, err
	}
	// Properties that this build finds faulty still say what they can.
	s, _ := topicconfig.Parse(p.props(t.Configs))
	d := Deletion{Topic: t.ID, DeletedMs: p.cfg.Now().UnixMilli(), Tiered: s.Tiered && s.ReadReplica == "",
		KeepObjects: !s.RemoteDelete || s.ReadReplica != ""}
	if s.Iceberg.On() {
		d.Namespace, d.KeepTable = s.Iceberg.Namespace, !s.Iceberg.DeleteTable
	}
	return &DeleteTopic{Deletion: d}, nil
}

func (p planner) createPartitions(id record.TopicID, count int32, assignment [][]int32) (*CreatePartitions, error) {
	t, err := p.topic(id)
	if err != nil {
		return nil, err
	}
	have := int32(len(t.Partitions))
	if count <= have {
		return nil, fmt.Errorf("%w: topic %s has %d partitions, %d are asked for", ErrInvalidPartitions, t.Name, have, count)
	}
	if err := p.roomFor(int(count - have)); err != nil {
		return nil, err
	}
	cmd := &CreatePartitions{Topic: id, From: have, Assignment: assignment}
	if assignment == nil {
		cmd.Assignment, err = Place(p.v, id, int(have), int(count-have), t.ReplicationFactor())
		return cmd, err
	}
	if len(assignment) != int(count-have) {
		return nil, fmt.Errorf("%w: %d partitions are added, %d are assigned", ErrInvalidAssignment, count-have, len(assignment))
	}
	if err := checkAssignment(p.v, assignment); err != nil {
		return nil, err
	}
	if n := len(assignment[0]); n != t.ReplicationFactor() {
		return nil, fmt.Errorf("%w: topic %s has %d replicas, %d are assigned", ErrInvalidAssignment, t.Name, t.ReplicationFactor(), n)
	}
	return cmd, nil
}

func (p planner) setTopicConfigs(id record.TopicID, change func(own map[string]string) (map[string]string, error)) (*SetTopicConfigs, error) {
	t, err := p.topic(id)
	if err != nil {
		return nil, err
	}
	own, err := change(t.Configs)
	if err != nil {
		return nil, err
	}
	canonical, now, err := p.checked(own)
	if err != nil {
		return nil, err
	}
	old, _ := topicconfig.Parse(p.props(t.Configs))
	if faults := topicconfig.CheckChange(old, now); len(faults) > 0 {
		return nil, &ConfigError{Faults: faults}
	}
	return &SetTopicConfigs{Topic: id, Expected: t.ConfigVersion, Props: canonical}, nil
}

// topicOps applies ops to a topic's own properties.
func (p planner) topicOps(own map[string]string, ops []ConfigOp) (map[string]string, error) {
	out := topicconfig.Merge(nil, own)
	defaults := p.props(nil)
	for _, op := range ops {
		d, ok := topicconfig.Lookup(op.Name)
		if !ok {
			return nil, &ConfigError{Faults: []topicconfig.Fault{{Name: op.Name, Reason: "unknown topic property"}}}
		}
		now, set := out[d.Name]
		if !set {
			if now, set = defaults[d.Name]; !set {
				now = d.Default
			}
		}
		if err := applyOp(out, d.Name, now, d.Type == topicconfig.List, op); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// applyOp carries out one op on props; now is the value in force.
func applyOp(props map[string]string, name, now string, isList bool, op ConfigOp) error {
	switch op.Kind {
	case ConfigSet:
		props[name] = op.Value
		return nil
	case ConfigDelete:
		delete(props, name)
		return nil
	case ConfigAppend, ConfigSubtract:
	default:
		return fmt.Errorf("%w: unknown operation %d on %s", ErrInvalidRequest, op.Kind, op.Name)
	}
	if !isList {
		return &ConfigError{Faults: []topicconfig.Fault{{Name: name, Value: op.Value,
			Reason: "append and subtract are for lists", Allowed: "set or delete"}}}
	}
	items := topicconfig.SplitList(now)
	for _, it := range topicconfig.SplitList(op.Value) {
		at := slices.Index(items, it)
		if op.Kind == ConfigAppend && at < 0 {
			items = append(items, it)
		}
		if op.Kind == ConfigSubtract && at >= 0 {
			items = slices.Delete(items, at, at+1)
		}
	}
	props[name] = strings.Join(items, ",")
	return nil
}

func (p planner) setBrokerConfigs(node int32, change func(own map[string]string) (map[string]string, error)) (*SetBrokerConfigs, error) {
	if node != ClusterDefault && p.v.Broker(node) == nil {
		return nil, fmt.Errorf("%w: %d", ErrUnknownBroker, node)
	}
	cmd := &SetBrokerConfigs{Node: node}
	old := p.v.brokerConfigs[node]
	var own map[string]string
	if old != nil {
		own, cmd.Expected = old.props, old.version
	}
	var err error
	if cmd.Props, err = change(own); err != nil {
		return nil, err
	}
	if faults := p.brokerFaults(cmd.Props); len(faults) > 0 {
		return nil, &ConfigError{Faults: faults}
	}
	return cmd, nil
}

func (p planner) brokerFaults(props map[string]string) []topicconfig.Fault {
	_, faults := topicconfig.BrokerDefaults(props)
	if p.cfg.CheckBrokerConfigs != nil {
		return append(faults, p.cfg.CheckBrokerConfigs(props)...)
	}
	known := map[string]bool{}
	for _, d := range topicconfig.Definitions() {
		for _, s := range d.Synonyms {
			known[s.Name] = true
		}
	}
	for name, value := range props {
		if !known[name] {
			faults = append(faults, topicconfig.Fault{Name: name, Value: value, Reason: "cannot be changed while the broker runs"})
		}
	}
	slices.SortFunc(faults, func(a, b topicconfig.Fault) int { return strings.Compare(a.Name, b.Name) })
	return faults
}

// brokerOps applies ops to a broker's dynamic properties.
func brokerOps(own map[string]string, ops []ConfigOp) (map[string]string, error) {
	out := topicconfig.Merge(nil, own)
	for _, op := range ops {
		if err := applyOp(out, op.Name, out[op.Name], true, op); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// newTopicID draws an id. Its text must not begin with '-', which command
// lines would take for a flag, and the first two numbers are Kafka's own.
func newTopicID(random io.Reader) (record.TopicID, error) {
	for {
		var id record.TopicID
		if _, err := io.ReadFull(random, id[:]); err != nil {
			return id, fmt.Errorf("draw topic id: %w", err)
		}
		id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // a version 4 UUID
		if id.String()[0] != '-' {
			return id, nil
		}
	}
}

package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"tidewater/internal/record"
)

// State is the controller's state machine: a value that Apply moves from
// command to command. It uses no clock, no randomness and no rule that may
// change between versions, so that equal commands give equal states on every
// replica.
type State struct {
	v View
	// shared marks the maps of v that a View given away also has; a map is
	// cloned before its first write after that.
	shared struct{ brokers, topics, deletions, keptTables, brokerConfigs, sessions, loads bool }
	// plain maps a topic's name with dots as underscores to its id: two names
	// that are equal there would be one metric and one table.
	plain map[string]record.TopicID
	dirty map[string]struct{} // keys changed since the last Changes
}

// NewState is the state before the first command.
func NewState() *State {
	return &State{v: emptyView(), plain: map[string]record.TopicID{}, dirty: map[string]struct{}{}}
}

func emptyView() View {
	return View{
		brokers: map[int32]*Broker{}, topics: map[record.TopicID]*Topic{}, names: map[string]*Topic{},
		deletions: map[record.TopicID]*Deletion{}, keptTables: map[record.TopicID]*KeptTable{},
		brokerConfigs: map[int32]*brokerConfig{}, sessions: map[int32]*session{}, loads: map[int32]Load{}, nextReplicaID: 1, nextControllerID: 1,
	}
}

// stateOf makes v, which nobody else may hold, a state.
func stateOf(v View) *State {
	v.loads, v.partitions, v.moves = map[int32]Load{}, 0, 0
	s := &State{v: v, plain: map[string]record.TopicID{}, dirty: map[string]struct{}{}}
	for id, t := range v.topics {
		s.plain[plainName(t.Name)] = id
		s.count(t, 1)
	}
	return s
}

func plainName(name string) string { return strings.ReplaceAll(name, ".", "_") }

// View gives the state as it is, never to change.
func (s *State) View() *View {
	s.shared.brokers, s.shared.topics, s.shared.deletions = true, true, true
	s.shared.keptTables, s.shared.brokerConfigs, s.shared.sessions, s.shared.loads = true, true, true, true
	v := s.v
	return &v
}

// Apply carries out the command at the given place of the Raft log. An error
// is an answer to whoever proposed it; the state is then as before, but for
// its Applied and for id, which is known from now on. A command whose id was
// known already is passed over with errRepeated.
func (s *State) Apply(at record.Index, term uint64, id RequestID, cmd Command) (result any, err error) {
	if at <= s.v.applied {
		panic(fmt.Sprintf("controller applies Index %d after %d", at, s.v.applied))
	}
	s.Skip(at, term)
	if !s.once(id) {
		return nil, errRepeated
	}
	return cmd.apply(s)
}

// Skip moves past an entry without a command.
func (s *State) Skip(at record.Index, term uint64) {
	s.v.applied, s.v.term = at, term
	s.dirty[string(byte(keyMeta))] = struct{}{}
}

// Change is a key of the store with its new value, nil for a removed one.
type Change struct {
	Key   string
	Value []byte
}

// Changes gives, sorted by key, what changed since the last call.
func (s *State) Changes() []Change {
	out := make([]Change, 0, len(s.dirty))
	for _, k := range slices.Sorted(maps.Keys(s.dirty)) {
		out = append(out, Change{Key: k, Value: s.v.stored(k)})
	}
	clear(s.dirty)
	return out
}

func own[K comparable, V any](m *map[K]V, shared *bool) {
	if *shared {
		*m, *shared = maps.Clone(*m), false
	}
}

// The put methods are the only writers of the maps. A nil value removes.

func (s *State) putTopic(id record.TopicID, t *Topic) {
	if s.shared.topics {
		s.v.names = maps.Clone(s.v.names)
	}
	own(&s.v.topics, &s.shared.topics)
	old := s.v.topics[id]
	if old != nil {
		s.count(old, -1)
	}
	if t != nil {
		s.count(t, 1)
	}
	if old != nil && t == nil {
		delete(s.v.topics, id)
		delete(s.v.names, old.Name)
		delete(s.plain, plainName(old.Name))
	}
	if t != nil {
		s.v.topics[id], s.v.names[t.Name] = t, t
		s.plain[plainName(t.Name)] = id
	}
	s.dirty[topicKey(keyTopic, id)] = struct{}{}
}

func (s *State) putBroker(id int32, b *Broker) {
	own(&s.v.brokers, &s.shared.brokers)
	if s.v.brokers[id] = b; b == nil {
		delete(s.v.brokers, id)
	}
	s.dirty[nodeKey(keyBroker, id)] = struct{}{}
}

func (s *State) putDeletion(id record.TopicID, d *Deletion) {
	own(&s.v.deletions, &s.shared.deletions)
	if s.v.deletions[id] = d; d == nil {
		delete(s.v.deletions, id)
	}
	s.dirty[topicKey(keyDeletion, id)] = struct{}{}
}

func (s *State) putKeptTable(id record.TopicID, k *KeptTable) {
	own(&s.v.keptTables, &s.shared.keptTables)
	if s.v.keptTables[id] = k; k == nil {
		delete(s.v.keptTables, id)
	}
	s.dirty[topicKey(keyKeptTable, id)] = struct{}{}
}

func (s *State) putSession(node int32, k *session) {
	own(&s.v.sessions, &s.shared.sessions)
	if s.v.sessions[node] = k; k == nil {
		delete(s.v.sessions, node)
	}
	s.dirty[nodeKey(keySession, node)] = struct{}{}
}

func (s *State) putBrokerConfig(node int32, k *brokerConfig) {
	own(&s.v.brokerConfigs, &s.shared.brokerConfigs)
	if s.v.brokerConfigs[node] = k; len(k.props) == 0 && k.version == 0 {
		delete(s.v.brokerConfigs, node)
	}
	s.dirty[nodeKey(keyBrokerConfig, node)] = struct{}{}
}

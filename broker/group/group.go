package group

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// state is a group's, under Kafka's names.
type state string

const (
	empty                state = "Empty" // no members; maybe offsets
	preparingRebalance   state = "PreparingRebalance"
	completingRebalance  state = "CompletingRebalance"
	stable               state = "Stable"
	dead                 state = "Dead" // being removed
	consumerProtocolType       = "consumer"
)

// group is one consumer group. It is owned by its core.
type group struct {
	id           string
	state        state
	since        time.Time // when state was entered
	protocolType string    // empty for a group that only commits
	protocol     string    // of the current generation
	generation   int32
	leader       string // member id
	members      []*member
	pending      map[string]time.Time // ids given out (KIP-394) and when they lapse

	// rebalanceAt is when a rebalance goes on without those who are missing;
	// in the first one of an empty group, when it is looked at again.
	rebalanceAt time.Time
	initial     *initialDelay
	// syncAt is when members that did not ask for their assignment are dropped.
	syncAt time.Time

	offsets map[place]offset
	// committing counts commits that are in the log and not yet committed
	// there, by place; writes counts all records of the group on their way.
	committing map[place]int
	writes     int

	timerAt time.Time // of the group's live entry in the heap, zero for none
}

// initialDelay lets the members of a new group arrive before its first
// generation.
type initialDelay struct {
	remaining time.Duration
	joined    bool // somebody came since the delay was last set
}

func newGroup(id string, now time.Time) *group {
	return &group{id: id, state: empty, since: now, pending: map[string]time.Time{},
		offsets: map[place]offset{}, committing: map[place]int{}}
}

// member is one member of a group.
type member struct {
	id        string
	instance  *string // static membership (KIP-345)
	client    Client
	session   time.Duration
	rebalance time.Duration
	protocols []kmsg.JoinGroupRequestProtocol
	// assignment is of the current generation, set when the group is stable.
	assignment []byte

	join *waitingJoin // not nil while the member waits for a generation
	sync *waitingSync // not nil while it waits for its assignment
	// joining: never been in a generation.
	joining  bool
	deadline time.Time // of its session
}

type waitingJoin struct {
	req   *kmsg.JoinGroupRequest
	reply func(kmsg.Response)
}

type waitingSync struct {
	req   *kmsg.SyncGroupRequest
	reply func(kmsg.Response)
}

func (m *member) waiting() bool { return m.join != nil || m.sync != nil }

// metadata is what the member said under a protocol.
func (m *member) metadata(protocol string) []byte {
	for _, p := range m.protocols {
		if p.Name == protocol {
			return p.Metadata
		}
	}
	return nil
}

func (m *member) supports(protocol string) bool {
	return slices.ContainsFunc(m.protocols, func(p kmsg.JoinGroupRequestProtocol) bool { return p.Name == protocol })
}

// matches reports whether the member's protocols are the given ones, in order
// and content.
func (m *member) matches(protocols []kmsg.JoinGroupRequestProtocol) bool {
	return slices.EqualFunc(m.protocols, protocols, func(a, b kmsg.JoinGroupRequestProtocol) bool {
		return a.Name == b.Name && string(a.Metadata) == string(b.Metadata)
	})
}

func (g *group) enter(s state, now time.Time) { g.state, g.since = s, now }

func (g *group) member(id string) *member {
	for _, m := range g.members {
		if m.id == id {
			return m
		}
	}
	return nil
}

func (g *group) byInstance(instance string) *member {
	for _, m := range g.members {
		if m.instance != nil && *m.instance == instance {
			return m
		}
	}
	return nil
}

func (g *group) add(m *member) {
	if len(g.members) == 0 {
		g.leader = m.id
	}
	g.members = append(g.members, m)
}

// remove takes a member out; the oldest one left becomes leader if it led.
func (g *group) remove(m *member) {
	g.members = slices.DeleteFunc(g.members, func(o *member) bool { return o == m })
	if g.leader == m.id {
		g.leader = ""
		if len(g.members) > 0 {
			g.leader = g.members[0].id
		}
	}
}

func (g *group) allJoined() bool {
	return len(g.pending) == 0 && !slices.ContainsFunc(g.members, func(m *member) bool { return m.join == nil })
}

// accepts reports whether a member with these protocols can join: the type is
// the group's, and some protocol is known to every member.
func (g *group) accepts(protocolType string, protocols []kmsg.JoinGroupRequestProtocol) bool {
	if protocolType == "" || len(protocols) == 0 {
		return false
	}
	if len(g.members) == 0 {
		return true
	}
	return g.protocolType == protocolType && slices.ContainsFunc(protocols, func(p kmsg.JoinGroupRequestProtocol) bool {
		return g.known(p.Name)
	})
}

// known reports whether every member supports a protocol.
func (g *group) known(protocol string) bool {
	return !slices.ContainsFunc(g.members, func(m *member) bool { return !m.supports(protocol) })
}

// choose takes a vote: each member votes for the first protocol of its own
// list that all know; most votes win, the first name in case of a tie.
func (g *group) choose() string {
	votes := map[string]int{}
	for _, m := range g.members {
		for _, p := range m.protocols {
			if g.known(p.Name) {
				votes[p.Name]++
				break
			}
		}
	}
	best := ""
	for _, name := range slices.Sorted(maps.Keys(votes)) {
		if best == "" || votes[name] > votes[best] {
			best = name
		}
	}
	return best
}

// rebalanceTimeout is the longest of the members'.
func (g *group) rebalanceTimeout() time.Duration {
	var d time.Duration
	for _, m := range g.members {
		d = max(d, m.rebalance)
	}
	return d
}

func (g *group) protocolOrNil() *string {
	if g.protocol == "" {
		return nil
	}
	return &g.protocol
}

func (g *group) leaderOrNil() *string {
	if g.leader == "" {
		return nil
	}
	return &g.leader
}

// subscribed lists the topics that members of the consumer protocol read; ok
// is false when that cannot be known.
func (g *group) subscribed() (topics map[string]bool, ok bool) {
	if g.protocolType != consumerProtocolType || g.protocol == "" {
		return nil, false
	}
	topics = map[string]bool{}
	for _, m := range g.members {
		var s kmsg.ConsumerMemberMetadata
		if s.ReadFrom(m.metadata(g.protocol)) != nil {
			return nil, false
		}
		for _, t := range s.Topics {
			topics[t] = true
		}
	}
	return topics, true
}

// places lists where the group has offsets, or will have: sorted.
func (g *group) places() []place {
	all := slices.Collect(maps.Keys(g.offsets))
	for p := range g.committing {
		if _, have := g.offsets[p]; !have {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b place) int {
		if c := strings.Compare(a.topic, b.topic); c != 0 {
			return c
		}
		return int(a.partition) - int(b.partition)
	})
	return all
}

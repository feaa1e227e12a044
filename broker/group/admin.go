package group

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupNotFoundVersion is the DescribeGroups version from which an unknown
// group is an error; before, it is a dead one.
const groupNotFoundVersion = 6

func (c *core) describe(version int16, id string) kmsg.DescribeGroupsResponseGroup {
	out := kmsg.NewDescribeGroupsResponseGroup()
	out.Group = id
	if out.ErrorCode = c.blocked(id); out.ErrorCode != 0 {
		return out
	}
	g := c.groups[id]
	if g == nil {
		out.State = string(dead)
		if version >= groupNotFoundVersion {
			out.ErrorCode = kerr.GroupIDNotFound.Code
			out.ErrorMessage = kmsg.StringPtr("Group " + id + " not found.")
		}
		return out
	}
	out.State, out.ProtocolType = string(g.state), g.protocolType
	if g.state == stable {
		out.Protocol = g.protocol
	}
	for _, m := range g.members {
		d := kmsg.DescribeGroupsResponseGroupMember{MemberID: m.id, InstanceID: m.instance,
			ClientID: m.client.ID, ClientHost: m.client.Host, ProtocolMetadata: []byte{}, MemberAssignment: []byte{}}
		if g.state == stable {
			d.ProtocolMetadata, d.MemberAssignment = notNil(m.metadata(g.protocol)), notNil(m.assignment)
		}
		out.Members = append(out.Members, d)
	}
	return out
}

// list gives the groups that pass the filters of ListGroups, sorted. Names of
// states and types are compared without regard to case.
func (c *core) list(req *kmsg.ListGroupsRequest) []kmsg.ListGroupsResponseGroup {
	const classic = "classic"
	passes := func(filter []string, v string) bool {
		return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, v) })
	}
	var out []kmsg.ListGroupsResponseGroup
	for _, id := range slices.Sorted(maps.Keys(c.groups)) {
		g := c.groups[id]
		if passes(req.StatesFilter, string(g.state)) && passes(req.TypesFilter, classic) {
			out = append(out, kmsg.ListGroupsResponseGroup{Group: id, ProtocolType: g.protocolType, GroupState: string(g.state), GroupType: classic})
		}
	}
	return out
}

// delete removes a group without members, with its offsets.
func (c *core) delete(now time.Time, id string, done func(code int16)) {
	answer := func(code int16) { c.effects = append(c.effects, effect{answer: func() { done(code) }}) }
	if code := c.blocked(id); code != 0 {
		answer(code)
		return
	}
	g := c.groups[id]
	switch {
	case g == nil || g.state == dead:
		answer(kerr.GroupIDNotFound.Code)
	case g.state != empty || len(g.pending) > 0:
		answer(kerr.NonEmptyGroup.Code)
	default:
		c.bury(g, now, answer)
	}
}

// bury writes tombstones for all of a group. It is dead meanwhile, and empty
// again if they did not get there.
func (c *core) bury(g *group, now time.Time, done func(code int16)) {
	g.enter(dead, now)
	places := g.places()
	c.tombstone(g, now, places, func(now time.Time, code int16) {
		if code != 0 {
			g.enter(empty, now)
			done(code)
			return
		}
		c.write(g, now, []kv{{key: groupKey(g.id)}}, func(now time.Time, code int16) {
			if code != 0 {
				g.enter(empty, now)
			} else if c.groups[g.id] == g {
				delete(c.groups, g.id)
			}
			done(code)
		})
	})
}

// tombstonesMax bounds the records of one batch, to stay far below
// max.message.bytes.
const tombstonesMax = 1000

// tombstone deletes offsets; done is called when all are, or with the first
// failure.
func (c *core) tombstone(g *group, now time.Time, places []place, done func(now time.Time, code int16)) {
	if len(places) == 0 {
		done(now, 0)
		return
	}
	some := places[:min(len(places), tombstonesMax)]
	records := make([]kv, len(some))
	for i, p := range some {
		records[i] = kv{key: offsetKey(g.id, p)}
	}
	c.write(g, now, records, func(now time.Time, code int16) {
		if code != 0 {
			done(now, code)
			return
		}
		for _, p := range some {
			delete(g.offsets, p)
		}
		c.tombstone(g, now, places[len(some):], done)
	})
}

// forgetTopics deletes the offsets of deleted topics.
func (c *core) forgetTopics(now time.Time, names map[string]bool) {
	if c.loading || c.dropped {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(c.groups)) {
		g := c.groups[id]
		gone := slices.DeleteFunc(g.places(), func(p place) bool { return !names[p.topic] })
		c.tombstone(g, now, gone, func(time.Time, int16) {}) // what is left expires later
	}
}

// expireOffsets deletes offsets past their time, and groups that have nothing
// left. The time runs, as in Kafka, for a group with members from the commit
// of a topic that none of them reads; for one without from when the last left;
// for one that never had any from the commit.
func (c *core) expireOffsets(now time.Time) {
	for _, id := range slices.Sorted(maps.Keys(c.groups)) {
		g := c.groups[id]
		if g.writes > 0 || g.state != empty && g.state != stable {
			continue
		}
		gone := c.expired(g, now)
		last := g.state == empty && len(g.pending) == 0 && len(gone) == len(g.offsets)
		switch {
		case last && (g.generation > 0 || len(gone) > 0):
			c.bury(g, now, func(int16) {})
		case len(gone) > 0:
			c.tombstone(g, now, gone, func(time.Time, int16) {})
		}
	}
}

func (c *core) expired(g *group, now time.Time) []place {
	reads, known := map[string]bool(nil), true
	if g.state == stable {
		if reads, known = g.subscribed(); !known {
			return nil
		}
	}
	return slices.DeleteFunc(g.places(), func(p place) bool {
		o, committed := g.offsets[p]
		if !committed || reads[p.topic] {
			return true
		}
		if o.expires >= 0 {
			return now.UnixMilli() < o.expires
		}
		from := o.committed
		if g.state == empty && g.protocolType != "" {
			from = max(from, g.since.UnixMilli())
		}
		return now.UnixMilli()-from < c.cfg.OffsetsRetention.Milliseconds()
	})
}

package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupsVersion is the version of OffsetFetch from which one request asks for
// several groups.
const groupsVersion = 8

// fetchGroup answers one group of an OffsetFetch of version 8 and up; older
// ones are turned into this form and back.
func (c *core) fetchGroup(version int16, ask kmsg.OffsetFetchRequestGroup) kmsg.OffsetFetchResponseGroup {
	out := kmsg.OffsetFetchResponseGroup{Group: ask.Group}
	if out.ErrorCode = c.blocked(ask.Group); out.ErrorCode != 0 {
		return out
	}
	g := c.groups[ask.Group]
	if ask.Topics == nil {
		out.Topics = c.allOffsets(version, g)
		return out
	}
	for _, t := range ask.Topics {
		topic := kmsg.OffsetFetchResponseGroupTopic{Topic: t.Topic, TopicID: t.TopicID}
		name, code := t.Topic, int16(0)
		if version >= topicIDVersion {
			name, _, code = c.topic(version, "", t.TopicID)
		}
		for _, p := range t.Partitions {
			topic.Partitions = append(topic.Partitions, fetchOne(g, place{name, p}, code))
		}
		out.Topics = append(out.Topics, topic)
	}
	return out
}

// fetchOne answers one partition; offset -1 is "none committed".
func fetchOne(g *group, p place, code int16) kmsg.OffsetFetchResponseGroupTopicPartition {
	none := kmsg.OffsetFetchResponseGroupTopicPartition{Partition: p.partition, Offset: -1, LeaderEpoch: -1,
		Metadata: kmsg.StringPtr(""), ErrorCode: code}
	if g == nil || code != 0 {
		return none
	}
	o, ok := g.offsets[p]
	if !ok {
		return none
	}
	return kmsg.OffsetFetchResponseGroupTopicPartition{Partition: p.partition, Offset: o.offset, LeaderEpoch: o.epoch, Metadata: &o.metadata}
}

// allOffsets lists every committed offset, sorted by topic and partition. A
// topic that no longer exists has no id and is left out where ids are asked.
func (c *core) allOffsets(version int16, g *group) []kmsg.OffsetFetchResponseGroupTopic {
	if g == nil {
		return nil
	}
	var out []kmsg.OffsetFetchResponseGroupTopic
	for _, p := range g.places() {
		if _, committed := g.offsets[p]; !committed {
			continue
		}
		if n := len(out); n == 0 || out[n-1].Topic != p.topic {
			t := kmsg.OffsetFetchResponseGroupTopic{Topic: p.topic}
			if version >= topicIDVersion {
				id, ok := c.topicID(p.topic)
				if !ok {
					continue
				}
				t.TopicID = id
			}
			out = append(out, t)
		}
		last := &out[len(out)-1]
		last.Partitions = append(last.Partitions, fetchOne(g, p, 0))
	}
	return out
}

func (c *core) topicID(name string) ([16]byte, bool) {
	if c.cfg.Topics == nil {
		return [16]byte{}, false
	}
	id, _, ok := c.cfg.Topics.ByName(name)
	return id, ok
}

// oneGroup is an OffsetFetch before version 8 in the form of the newer ones.
func oneGroup(req *kmsg.OffsetFetchRequest) kmsg.OffsetFetchRequestGroup {
	ask := kmsg.OffsetFetchRequestGroup{Group: req.Group}
	if req.Topics != nil {
		ask.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	}
	for _, t := range req.Topics {
		ask.Topics = append(ask.Topics, kmsg.OffsetFetchRequestGroupTopic{Topic: t.Topic, Partitions: t.Partitions})
	}
	return ask
}

// answerOne puts the answer for one group into the form before version 8.
// Versions 0 and 1 have no place for the group's code but the partitions.
func answerOne(req *kmsg.OffsetFetchRequest, r *kmsg.OffsetFetchResponse, a kmsg.OffsetFetchResponseGroup) {
	r.ErrorCode = a.ErrorCode
	if a.ErrorCode != 0 && req.Version < 2 {
		for _, t := range req.Topics {
			topic := kmsg.OffsetFetchResponseGroupTopic{Topic: t.Topic}
			for _, p := range t.Partitions {
				topic.Partitions = append(topic.Partitions, fetchOne(nil, place{t.Topic, p}, a.ErrorCode))
			}
			a.Topics = append(a.Topics, topic)
		}
	}
	for _, t := range a.Topics {
		topic := kmsg.OffsetFetchResponseTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			topic.Partitions = append(topic.Partitions, kmsg.OffsetFetchResponseTopicPartition{Partition: p.Partition,
				Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Metadata: p.Metadata, ErrorCode: p.ErrorCode})
		}
		r.Topics = append(r.Topics, topic)
	}
}

// deleteOffsets handles OffsetDelete: of a group without members any, else
// those of topics that no member reads.
func (c *core) deleteOffsets(now time.Time, req *kmsg.OffsetDeleteRequest, reply func(kmsg.Response)) {
	r := req.ResponseKind().(*kmsg.OffsetDeleteResponse)
	g := c.groups[req.Group]
	var reads map[string]bool
	switch code := c.blocked(req.Group); {
	case code != 0:
		r.ErrorCode = code
	case g == nil || g.state == dead:
		r.ErrorCode = kerr.GroupIDNotFound.Code
	case g.state != empty:
		var known bool
		if reads, known = g.subscribed(); !known {
			r.ErrorCode = kerr.NonEmptyGroup.Code
		}
	}
	if r.ErrorCode != 0 {
		c.answer(reply, r)
		return
	}
	var gone []place
	for _, t := range req.Topics {
		topic := kmsg.OffsetDeleteResponseTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			part := kmsg.OffsetDeleteResponseTopicPartition{Partition: p.Partition}
			if reads[t.Topic] {
				part.ErrorCode = kerr.GroupSubscribedToTopic.Code
			} else {
				gone = append(gone, place{t.Topic, p.Partition})
			}
			topic.Partitions = append(topic.Partitions, part)
		}
		r.Topics = append(r.Topics, topic)
	}
	c.tombstone(g, now, gone, func(_ time.Time, code int16) {
		r.ErrorCode = code
		c.answer(reply, r)
	})
}

package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/record"
)

// topicIDVersion is the version of OffsetCommit and OffsetFetch from which
// topics are named by id (KIP-848).
const topicIDVersion = 10

// commit handles OffsetCommit, from members and from clients that assign
// partitions themselves. It is answered when its record is committed.
func (c *core) commit(now time.Time, req *kmsg.OffsetCommitRequest, reply func(kmsg.Response)) {
	r, offsets := c.checkCommit(now, req)
	if code := c.canCommit(now, req); code != 0 {
		setCodes(r, code)
		offsets = nil
	}
	if len(offsets) == 0 {
		c.answer(reply, r)
		return
	}
	g := c.groups[req.Group]
	if g == nil {
		g = newGroup(req.Group, now)
		c.groups[g.id] = g
	}
	records := make([]kv, len(offsets))
	for i, o := range offsets {
		records[i] = offsetRecord(g.id, o.place, o.offset)
		g.committing[o.place]++
	}
	c.write(g, now, records, func(_ time.Time, code int16) {
		for _, o := range offsets {
			if g.committing[o.place]--; g.committing[o.place] == 0 {
				delete(g.committing, o.place)
			}
			if code == 0 {
				g.offsets[o.place] = o.offset
			}
		}
		if code != 0 {
			setCodes(r, commitCode(code))
			c.dropUnused(g)
		}
		c.answer(reply, r)
	})
}

func commitCode(code int16) int16 {
	if code == kerr.MessageTooLarge.Code {
		return kerr.InvalidCommitOffsetSize.Code
	}
	return code
}

// setCodes puts a code where the commit was good by itself.
func setCodes(r *kmsg.OffsetCommitResponse, code int16) {
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			if p := &r.Topics[i].Partitions[j]; p.ErrorCode == 0 {
				p.ErrorCode = code
			}
		}
	}
}

// canCommit checks who commits; a member's commit is a sign of life.
func (c *core) canCommit(now time.Time, req *kmsg.OffsetCommitRequest) int16 {
	if code := c.blocked(req.Group); code != 0 {
		return code
	}
	g := c.groups[req.Group]
	if g == nil {
		if req.Generation >= 0 {
			return kerr.IllegalGeneration.Code
		}
		return 0
	}
	if g.state == dead {
		return kerr.CoordinatorNotAvailable.Code
	}
	if req.Generation < 0 && req.MemberID == "" && req.InstanceID == nil {
		if g.state != empty {
			return kerr.UnknownMemberID.Code
		}
		return 0
	}
	_, m, code := c.memberOf(req.Group, req.MemberID, req.InstanceID, req.Generation)
	switch {
	case code != 0:
		return code
	case g.state == completingRebalance:
		return kerr.RebalanceInProgress.Code
	}
	c.alive(g, m, now)
	return 0
}

type commitOffset struct {
	place  place
	offset offset
}

// checkCommit lays out the answer and collects the offsets that can be
// committed.
func (c *core) checkCommit(now time.Time, req *kmsg.OffsetCommitRequest) (*kmsg.OffsetCommitResponse, []commitOffset) {
	r := req.ResponseKind().(*kmsg.OffsetCommitResponse)
	var good []commitOffset
	expires := int64(-1)
	if req.Version <= 4 && req.RetentionTimeMillis >= 0 {
		expires = now.UnixMilli() + req.RetentionTimeMillis
	}
	for _, t := range req.Topics {
		name, partitions, code := c.topic(req.Version, t.Topic, t.TopicID)
		out := kmsg.OffsetCommitResponseTopic{Topic: t.Topic, TopicID: t.TopicID}
		for _, p := range t.Partitions {
			o := offset{offset: p.Offset, epoch: -1, committed: now.UnixMilli(), expires: expires}
			if req.Version >= 6 {
				o.epoch = p.LeaderEpoch
			}
			if p.Metadata != nil {
				o.metadata = *p.Metadata
			}
			pcode := code
			switch {
			case code != 0:
			case p.Partition < 0 || p.Partition >= partitions:
				pcode = kerr.UnknownTopicOrPartition.Code
			case len(o.metadata) > c.cfg.MetadataBytesMax:
				pcode = kerr.OffsetMetadataTooLarge.Code
			default:
				good = append(good, commitOffset{place{name, p.Partition}, o})
			}
			out.Partitions = append(out.Partitions, kmsg.OffsetCommitResponseTopicPartition{Partition: p.Partition, ErrorCode: pcode})
		}
		r.Topics = append(r.Topics, out)
	}
	return r, good
}

// topic resolves a topic that a request names by name, or by id from
// topicIDVersion on.
func (c *core) topic(version int16, name string, id [16]byte) (string, int32, int16) {
	topics := c.cfg.Topics
	if version >= topicIDVersion {
		if topics != nil {
			if name, n, ok := topics.ByID(record.TopicID(id)); ok {
				return name, n, 0
			}
		}
		return "", 0, kerr.UnknownTopicID.Code
	}
	if topics == nil {
		return name, 1 << 30, 0
	}
	if _, n, ok := topics.ByName(name); ok {
		return name, n, 0
	}
	return "", 0, kerr.UnknownTopicOrPartition.Code
}

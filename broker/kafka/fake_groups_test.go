package kafka

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/group"
)

// fakeGroups is a coordinator for groups of one member that joins at once,
// enough for a client to consume with a group; offsets are per partition.
type fakeGroups struct {
	mu         sync.Mutex
	offsets    map[string]map[int32]int64 // by topic
	assignment []byte
	client     group.Client  // of the last request
	block      chan struct{} // joins wait for it, if set
}

func (g *fakeGroups) Do(ctx context.Context, cl group.Client, req kmsg.Request) (kmsg.Response, error) {
	g.mu.Lock()
	g.client = cl
	block := g.block
	g.mu.Unlock()
	if _, join := req.(*kmsg.JoinGroupRequest); join && block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	resp := req.ResponseKind()
	switch m := req.(type) {
	case *kmsg.JoinGroupRequest:
		r := resp.(*kmsg.JoinGroupResponse)
		if len(m.Protocols) == 0 {
			r.ErrorCode = kerr.InconsistentGroupProtocol.Code
			break
		}
		r.Generation, r.LeaderID, r.MemberID = 1, "m", "m"
		r.ProtocolType, r.Protocol = &m.ProtocolType, &m.Protocols[0].Name
		member := kmsg.NewJoinGroupResponseMember()
		member.MemberID, member.ProtocolMetadata = "m", m.Protocols[0].Metadata
		r.Members = append(r.Members, member)
	case *kmsg.SyncGroupRequest:
		if len(m.GroupAssignment) > 0 {
			g.assignment = m.GroupAssignment[0].MemberAssignment
		}
		r := resp.(*kmsg.SyncGroupResponse)
		r.MemberAssignment, r.ProtocolType, r.Protocol = g.assignment, m.ProtocolType, m.Protocol
	case *kmsg.OffsetCommitRequest:
		g.commit(m, resp.(*kmsg.OffsetCommitResponse))
	case *kmsg.OffsetFetchRequest:
		g.fetch(m, resp.(*kmsg.OffsetFetchResponse))
	case *kmsg.DescribeGroupsRequest:
		r := resp.(*kmsg.DescribeGroupsResponse)
		for _, name := range m.Groups {
			rg := kmsg.NewDescribeGroupsResponseGroup()
			rg.Group, rg.State, rg.ErrorCode = name, "Dead", kerr.GroupIDNotFound.Code
			r.Groups = append(r.Groups, rg)
		}
	}
	return resp, nil
}

func (g *fakeGroups) commit(m *kmsg.OffsetCommitRequest, r *kmsg.OffsetCommitResponse) {
	for _, t := range m.Topics {
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		if g.offsets == nil {
			g.offsets = map[string]map[int32]int64{}
		}
		if g.offsets[t.Topic] == nil {
			g.offsets[t.Topic] = map[int32]int64{}
		}
		for _, p := range t.Partitions {
			g.offsets[t.Topic][p.Partition] = p.Offset
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
}

func (g *fakeGroups) fetch(m *kmsg.OffsetFetchRequest, r *kmsg.OffsetFetchResponse) {
	for _, asked := range m.Groups {
		rg := kmsg.NewOffsetFetchResponseGroup()
		rg.Group = asked.Group
		for _, t := range asked.Topics {
			rt := kmsg.NewOffsetFetchResponseGroupTopic()
			rt.Topic, rt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
				rp.Partition, rp.Offset = p, -1
				if o, ok := g.offsets[t.Topic][p]; ok {
					rp.Offset = o
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			rg.Topics = append(rg.Topics, rt)
		}
		r.Groups = append(r.Groups, rg)
	}
}

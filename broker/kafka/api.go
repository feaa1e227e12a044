package kafka

import (
	"context"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// api is one line of the table of what is served.
type api struct {
	name     string
	key      int16
	min, max int16 // advertised versions
	// flexibleFrom is the first version with compact types and tags.
	flexibleFrom int16
	// waits marks requests that clients leave open on purpose; they are cut
	// short when the client closes its side or the server drains.
	waits  bool
	handle handler
	shape  shape
}

// handler answers one request. It runs on the connection's writer loop. ctx
// ends with the connection.
type handler func(ctx context.Context, r *request) kmsg.Response

func (a *api) flexible(version int16) bool { return version >= a.flexibleFrom }

// on makes a handler of a method that knows its request's type.
func on[Q kmsg.Request](h func(context.Context, *request, Q) kmsg.Response) handler {
	return func(ctx context.Context, r *request) kmsg.Response { return h(ctx, r, r.msg.(Q)) }
}

// apiTable lists what is served. Maxima are Apache Kafka 4.2's; Produce and
// Fetch have their own paths (exchange.go).
func (s *Server) apiTable() map[int16]*api {
	list := []api{
		{key: int16(kmsg.Produce), min: 0, max: 13},
		{key: int16(kmsg.Fetch), min: 4, max: 18},
		{key: int16(kmsg.ListOffsets), min: 1, max: 11, handle: on(s.listOffsets)},
		{key: int16(kmsg.Metadata), min: 0, max: 13, handle: on(s.metadata)},
		{key: int16(kmsg.OffsetCommit), min: 2, max: 10, handle: s.group},
		{key: int16(kmsg.OffsetFetch), min: 1, max: 10, handle: s.group},
		{key: int16(kmsg.FindCoordinator), min: 0, max: 6, handle: on(s.findCoordinator)},
		{key: int16(kmsg.JoinGroup), min: 0, max: 9, handle: s.group, waits: true},
		{key: int16(kmsg.Heartbeat), min: 0, max: 4, handle: s.group},
		{key: int16(kmsg.LeaveGroup), min: 0, max: 5, handle: s.group},
		{key: int16(kmsg.SyncGroup), min: 0, max: 5, handle: s.group, waits: true},
		{key: int16(kmsg.DescribeGroups), min: 0, max: 6, handle: s.group},
		{key: int16(kmsg.ListGroups), min: 0, max: 5, handle: s.group},
		{key: int16(kmsg.ApiVersions), min: 0, max: 4, handle: on(s.apiVersions)},
		{key: int16(kmsg.CreateTopics), min: 2, max: 7, handle: on(s.createTopics)},
		{key: int16(kmsg.DeleteTopics), min: 1, max: 6, handle: on(s.deleteTopics)},
		{key: int16(kmsg.DeleteRecords), min: 0, max: 2, handle: on(s.deleteRecords)},
		{key: int16(kmsg.InitProducerID), min: 0, max: 5, handle: on(s.initProducerID)},
		{key: int16(kmsg.OffsetForLeaderEpoch), min: 2, max: 4, handle: on(s.offsetForLeaderEpoch)},
		{key: int16(kmsg.DescribeConfigs), min: 1, max: 4, handle: on(s.describeConfigs)},
		{key: int16(kmsg.AlterConfigs), min: 0, max: 2, handle: on(s.alterConfigs)},
		{key: int16(kmsg.DescribeLogDirs), min: 1, max: 4, handle: on(s.describeLogDirs)},
		{key: int16(kmsg.CreatePartitions), min: 0, max: 3, handle: on(s.createPartitions)},
		{key: int16(kmsg.DeleteGroups), min: 0, max: 2, handle: s.group},
		{key: int16(kmsg.ElectLeaders), min: 0, max: 2, handle: on(s.electLeaders)},
		{key: int16(kmsg.AlterPartitionAssignments), min: 0, max: 1, handle: on(s.alterReassignments)},
		{key: int16(kmsg.ListPartitionReassignments), min: 0, max: 0, handle: on(s.listReassignments)},
		{key: int16(kmsg.UnregisterBroker), min: 0, max: 0, handle: on(s.unregisterBroker)},
		{key: int16(kmsg.IncrementalAlterConfigs), min: 0, max: 1, handle: on(s.incrementalAlterConfigs)},
		{key: int16(kmsg.OffsetDelete), min: 0, max: 0, handle: s.group},
		{key: int16(kmsg.DescribeQuorum), min: 0, max: 2, handle: on(s.describeQuorum)},
		{key: int16(kmsg.UpdateFeatures), min: 0, max: 2, handle: on(s.updateFeatures)},
		{key: int16(kmsg.DescribeCluster), min: 0, max: 2, handle: on(s.describeCluster)},
	}
	shapes := shapeText()
	table := make(map[int16]*api, len(list))
	for i := range list {
		a := &list[i]
		a.name = apiName(a.key)
		a.flexibleFrom = firstFlexible(a.key, a.max)
		a.shape, _ = parseShape(strings.Fields(shapes[kmsg.Key(a.key)]))
		table[a.key] = a
	}
	return table
}

func firstFlexible(key, max int16) int16 {
	req := kmsg.RequestForKey(key)
	for v := range max + 1 {
		req.SetVersion(v)
		if req.IsFlexible() {
			return v
		}
	}
	return max + 1
}

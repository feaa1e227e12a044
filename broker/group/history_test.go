package group

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// The histories in testdata/history are requests of clients, the passing of
// time, and the answers, in the order in which they come. Each file is a world
// of its own; the group is g unless named.
func TestHistories(t *testing.T) {
	datadriven.Walk(t, "testdata/history", func(t *testing.T, path string) {
		w := newWorld(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			w.command(t, d)
			return w.told()
		})
	})
}

// args are a command's, as name=value or name=(a,b).
type args struct{ d *datadriven.TestData }

func (a args) all(name string) []string {
	for _, c := range a.d.CmdArgs {
		if c.Key == name {
			return c.Vals
		}
	}
	return nil
}

func (a args) get(name, def string) string {
	if v := a.all(name); len(v) > 0 {
		return v[0]
	}
	return def
}

func (a args) num(name string, def int) int {
	n, err := strconv.Atoi(a.get(name, strconv.Itoa(def)))
	if err != nil {
		panic(err)
	}
	return n
}

func (a args) optional(name string) *string {
	if v := a.get(name, ""); v != "" {
		return &v
	}
	return nil
}

func (w *world) command(t *testing.T, d *datadriven.TestData) {
	a := args{d}
	group := a.get("group", "g")
	member := w.id(a.get("member", ""))
	client := strings.TrimRight(strings.TrimPrefix(a.get("client", a.get("member", "")), "@"), "0123456789")
	label := d.Cmd
	if client != "" {
		label += " " + client
	}
	switch d.Cmd {
	case "join":
		w.submit(label, client, w.joinRequest(a, group, member))
	case "sync":
		req := kmsg.NewPtrSyncGroupRequest()
		req.Version, req.Group, req.MemberID, req.Generation, req.InstanceID = 5, group, member, int32(a.num("gen", 1)), a.optional("instance")
		req.Protocol = a.optional("protocol")
		for _, v := range a.all("assign") {
			m, assignment, _ := strings.Cut(v, ":")
			req.GroupAssignment = append(req.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: w.id(m), MemberAssignment: []byte(assignment)})
		}
		w.submit(label, client, req)
	case "heartbeat":
		req := kmsg.NewPtrHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.Generation, req.InstanceID = 4, group, member, int32(a.num("gen", 1)), a.optional("instance")
		w.submit(label, client, req)
	case "leave":
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Version, req.Group, req.MemberID = int16(a.num("version", 5)), group, member
		if req.Version >= 3 {
			req.Members = []kmsg.LeaveGroupRequestMember{{MemberID: member, InstanceID: a.optional("instance")}}
		}
		w.submit(label, client, req)
	case "commit":
		w.submit(label, client, w.commitRequest(a, group, member))
	case "fetch":
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Version = 8
		ask := kmsg.NewOffsetFetchRequestGroup()
		ask.Group = group
		for _, v := range a.all("of") {
			p := parsePlace(v)
			ask.Topics = append(ask.Topics, kmsg.OffsetFetchRequestGroupTopic{Topic: p.topic, Partitions: []int32{p.partition}})
		}
		req.Groups = append(req.Groups, ask)
		w.submit(label, client, req)
	case "delete-offsets":
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group = group
		for _, v := range a.all("of") {
			p := parsePlace(v)
			req.Topics = append(req.Topics, kmsg.OffsetDeleteRequestTopic{Topic: p.topic,
				Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: p.partition}}})
		}
		w.submit(label, client, req)
	case "describe":
		req := kmsg.NewPtrDescribeGroupsRequest()
		req.Version, req.Groups = int16(a.num("version", 6)), []string{group}
		w.submit(label, client, req)
	case "list":
		req := kmsg.NewPtrListGroupsRequest()
		req.Version, req.StatesFilter, req.TypesFilter = 5, a.all("states"), a.all("types")
		w.submit(label, client, req)
	case "delete":
		req := kmsg.NewPtrDeleteGroupsRequest()
		req.Version, req.Groups = 2, []string{group}
		w.submit(label, client, req)
	default:
		w.circumstance(t, d, a)
	}
}

// circumstance is what happens around the clients.
func (w *world) circumstance(t *testing.T, d *datadriven.TestData, a args) {
	switch d.Cmd {
	case "advance":
		by, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			t.Fatal(err)
		}
		w.advance(by)
	case "log":
		switch d.CmdArgs[0].Key {
		case "hold":
			w.log.hold = true
		case "release":
			w.log.release(nil)
		case "lose":
			w.log.release(logio.ErrNotLeader)
		case "fail":
			w.log.fail = logio.ErrStorage
		case "mend":
			w.log.fail = nil
		}
		w.settle()
	case "delete-topics":
		w.c.DeleteTopics(a.all("names"))
		w.settle()
	case "resign":
		w.c.Resign(0)
	case "lead": // with unready the log does not know its ends yet
		w.log.unready = len(d.CmdArgs) > 0
		w.c.Lead(0, w.log)
		w.c.Step(t.Context(), w.now)
		if !w.log.unready {
			w.settle()
		}
	case "records":
		w.records(t)
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
}

func (w *world) joinRequest(a args, group, member string) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version, req.Group, req.MemberID, req.InstanceID = int16(a.num("version", 9)), group, member, a.optional("instance")
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = int32(a.num("session", 10))*1000, int32(a.num("rebalance", 30))*1000
	req.ProtocolType = a.get("type", "consumer")
	protocols := a.all("protocols")
	if protocols == nil {
		protocols = []string{"range"}
	}
	for _, p := range protocols {
		req.Protocols = append(req.Protocols, kmsg.JoinGroupRequestProtocol{Name: p, Metadata: subscription(a.get("topic", "t"))})
	}
	return req
}

// subscription is what a consumer of one topic says of itself.
func subscription(topic string) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Topics = []string{topic}
	return m.AppendTo(nil)
}

func (w *world) commitRequest(a args, group, member string) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 8, group, member, int32(a.num("gen", -1))
	for _, v := range a.all("of") {
		at, n, _ := strings.Cut(v, ":")
		p := parsePlace(at)
		o, _ := strconv.ParseInt(n, 10, 64)
		meta := strings.Repeat("m", a.num("metadata", 0))
		req.Topics = append(req.Topics, kmsg.OffsetCommitRequestTopic{Topic: p.topic,
			Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: p.partition, Offset: o, LeaderEpoch: 2, Metadata: &meta}}})
	}
	return req
}

func parsePlace(s string) place {
	i := strings.LastIndexByte(s, '-')
	n, err := strconv.Atoi(s[i+1:])
	if err != nil {
		panic(err)
	}
	return place{s[:i], int32(n)}
}

// records tells what is in the log, one line per record.
func (w *world) records(t *testing.T) {
	var r record.Reader
	for _, b := range w.log.batches {
		if err := errors.Join(b.Check(), r.Reset(b, 0)); err != nil {
			t.Fatal(err)
		}
		for r.Next() {
			d, known, err := decodeRecord(r.Record().Key, r.Record().Value)
			if err != nil || !known {
				t.Fatal(err, known)
			}
			switch {
			case d.isMeta && d.meta == nil:
				w.say("%d group %s removed", r.Record().Offset, d.group)
			case d.isMeta:
				s := fmt.Sprintf("%d group %s gen=%d", r.Record().Offset, d.group, d.meta.Generation)
				for _, m := range d.meta.Members {
					s += fmt.Sprintf(" [%s %q]", m.MemberID, m.Assignment)
				}
				w.say("%s", s)
			case d.offset == nil:
				w.say("%d offset %s %s-%d removed", r.Record().Offset, d.group, d.place.topic, d.place.partition)
			default:
				w.say("%d offset %s %s-%d = %d", r.Record().Offset, d.group, d.place.topic, d.place.partition, d.offset.offset)
			}
		}
	}
}

package group

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

type fakeTopics struct{}

func (fakeTopics) ByName(name string) (record.TopicID, int32, bool) {
	return record.TopicID{1}, 2, name == "t"
}

func (fakeTopics) ByID(id record.TopicID) (string, int32, bool) {
	return "t", 2, id == record.TopicID{1}
}

// Offsets can be committed and fetched by topic id, and only for partitions
// that exist; fetched in the old form too.
func TestOffsetsByTopicID(t *testing.T) {
	w := newWorld(t)
	w.c.cfg.Topics = fakeTopics{}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group = 10, "g"
	for _, id := range []byte{1, 2} {
		req.Topics = append(req.Topics, kmsg.OffsetCommitRequestTopic{TopicID: [16]byte{id},
			Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: 1, Offset: 5}, {Partition: 2, Offset: 6}}})
	}
	resp, err := w.c.Do(t.Context(), Client{}, req)
	if err != nil {
		t.Fatal(err)
	}
	got := resp.(*kmsg.OffsetCommitResponse).Topics
	want := [][]int16{{0, kerr.UnknownTopicOrPartition.Code}, {kerr.UnknownTopicID.Code, kerr.UnknownTopicID.Code}}
	for i := range want {
		for j := range want[i] {
			if got[i].TopicID != [16]byte{byte(i + 1)} || got[i].Partitions[j].ErrorCode != want[i][j] {
				t.Errorf("topic %d partition %d: %+v", i, j, got[i])
			}
		}
	}
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Version = 10
	fetch.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g"}, {Group: "none", Topics: []kmsg.OffsetFetchRequestGroupTopic{{TopicID: [16]byte{1}, Partitions: []int32{1}}}}}
	resp, _ = w.c.Do(t.Context(), Client{}, fetch)
	groups := resp.(*kmsg.OffsetFetchResponse).Groups
	if len(groups) != 2 || groups[0].Topics[0].TopicID != [16]byte{1} || groups[0].Topics[0].Partitions[0].Offset != 5 ||
		groups[1].Topics[0].Partitions[0].Offset != -1 {
		t.Errorf("fetch by id: %+v", groups)
	}
	for version := range int16(8) {
		old := kmsg.NewPtrOffsetFetchRequest()
		old.Version, old.Group = version, "g"
		old.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{1}}}
		resp, _ = w.c.Do(t.Context(), Client{}, old)
		if p := resp.(*kmsg.OffsetFetchResponse).Topics[0].Partitions[0]; p.Offset != 5 || p.ErrorCode != 0 {
			t.Errorf("fetch version %d: %+v", version, p)
		}
	}
	w.c.Resign(0)
	first := kmsg.NewPtrOffsetFetchRequest()
	first.Version, first.Group, first.Topics = 1, "g", []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{1}}}
	resp, _ = w.c.Do(t.Context(), Client{}, first)
	if p := resp.(*kmsg.OffsetFetchResponse).Topics[0].Partitions[0]; p.ErrorCode != kerr.NotCoordinator.Code {
		t.Errorf("version 1 has its code in the partitions: %+v", p)
	}
}

// A record that cannot be read stops the load: nothing is served from half a
// history. Offsets of a transaction count when its marker says so.
func TestLoad(t *testing.T) {
	log := &fakeLog{}
	add := func(producer int64, control bool, key, value []byte) {
		b := record.Builder{Transactional: producer >= 0, Control: control, Producer: &record.Producer{ID: producer}}
		b.Add(0, key, value)
		batch, err := b.Build(0)
		if err != nil {
			t.Fatal(err)
		}
		log.commit(logio.AppendRequest{Batch: batch, Done: func(logio.AppendResult) {}})
	}
	commit := func(producer int64, partition int32) {
		o := offsetRecord("g", place{"t", partition}, offset{offset: 9, expires: -1})
		add(producer, false, o.key, o.value)
	}
	commit(-1, 0)
	commit(1, 1)
	commit(2, 2)
	commit(3, 3)
	add(1, true, []byte{0, 0, 0, 1}, nil) // 1 commits
	add(2, true, []byte{0, 0, 0, 0}, nil) // 2 aborts, 3 stays open
	w := newWorld(t)
	w.c.Lead(0, log)
	w.settle()
	for p, want := range []int64{9, 9, -1, -1} {
		w.c.with("g", func(k *core) {
			if got := fetchOne(k.groups["g"], place{"t", int32(p)}, 0).Offset; got != want {
				t.Errorf("partition %d: offset %d, want %d", p, got, want)
			}
		})
	}
	add(-1, false, []byte{0, 1, 9, 9}, nil)
	w.c.Lead(0, log)
	w.c.Step(t.Context(), w.now)
	for range 20 {
		w.now = w.now.Add(loadRetry)
		w.c.Step(t.Context(), w.now)
	}
	w.c.with("g", func(k *core) {
		if got := k.blocked("g"); got != kerr.CoordinatorLoadInProgress.Code {
			t.Errorf("after a record that cannot be read: code %d", got)
		}
	})
}

// Run wakes for the earliest deadline, also for one that came up while it
// slept, and ends with its context; a request whose caller went away is not
// waited for.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := Open(Config{Partitions: func() int32 { return 4 }, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		for p := range int32(4) {
			c.Lead(p, &fakeLog{})
		}
		synctest.Wait()
		join := kmsg.NewPtrJoinGroupRequest()
		join.Version, join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 3, "g", "consumer", 10_000, 30_000
		join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		start := time.Now()
		resp, err := c.Do(ctx, Client{ID: "c"}, join)
		if err != nil || resp.(*kmsg.JoinGroupResponse).ErrorCode != 0 || time.Since(start) != 3*time.Second {
			t.Errorf("join: %+v, %v after %v", resp, err, time.Since(start))
		}
		gone, stop := context.WithTimeout(ctx, time.Second)
		if _, err := c.Do(gone, Client{ID: "d"}, join); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("join of a caller that went away: %v", err)
		}
		stop()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// Fuzzed steps: whatever requests come in whatever order, every request is
// answered at most once, nothing panics, and a reload shows the same offsets.
func FuzzSteps(f *testing.F) {
	f.Add([]byte{0, 10, 0, 40, 8, 1, 2, 3, 4, 5, 6, 7, 0, 0, 9, 9, 9, 3, 11})
	f.Add([]byte{16, 16, 33, 9, 9, 2, 18, 4, 5, 9, 9, 6, 12, 13, 14, 15, 8, 8, 8, 1})
	f.Fuzz(func(t *testing.T, steps []byte) {
		w := newWorld(t)
		ids := []string{"", "x"}
		for i, s := range steps[:min(len(steps), 200)] {
			member, gen := ids[(int(s)>>4)%len(ids)], int32(s>>6)
			switch s % 10 {
			case 0, 1:
				join := kmsg.NewPtrJoinGroupRequest()
				join.Version, join.Group, join.MemberID, join.ProtocolType = 3+int16(s>>7), "g", member, "consumer"
				join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 10_000, 20_000
				join.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscription("t")}}
				if s%10 == 1 {
					instance := string(rune('a' + s>>6))
					join.InstanceID, join.MemberID = &instance, ""
				}
				w.c.Submit(Client{}, join, once(t, i, func(r kmsg.Response) {
					if id := r.(*kmsg.JoinGroupResponse).MemberID; id != "" && len(ids) < 8 {
						ids = append(ids, id)
					}
				}))
			case 2, 3:
				sync := kmsg.NewPtrSyncGroupRequest()
				sync.Version, sync.Group, sync.MemberID, sync.Generation = 5, "g", member, gen
				w.c.Submit(Client{}, sync, once(t, i, nil))
			case 4:
				leave := kmsg.NewPtrLeaveGroupRequest()
				leave.Version, leave.Group, leave.MemberID = 2, "g", member
				w.c.Submit(Client{}, leave, once(t, i, nil))
			case 5, 6:
				commit := w.commitRequest(args{d: &datadriven.TestData{}}, "g", member)
				commit.Generation = gen - 1
				commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: int32(s >> 5), Offset: int64(i)}}}}
				w.c.Submit(Client{}, commit, once(t, i, nil))
			case 7:
				del := kmsg.NewPtrDeleteGroupsRequest()
				del.Groups = []string{"g"}
				w.c.Submit(Client{}, del, once(t, i, nil))
			case 8:
				w.log.hold = !w.log.hold
				if !w.log.hold {
					w.log.release(nil)
				}
			case 9:
				w.advance(time.Duration(s) * 100 * time.Millisecond)
			}
			w.settle()
		}
		w.log.release(nil)
		w.settle()
		before := w.fetchAll()
		w.c.Lead(0, w.log)
		w.settle()
		if after := w.fetchAll(); after != before {
			t.Fatalf("after a reload:\n%s\nbefore:\n%s", after, before)
		}
	})
}

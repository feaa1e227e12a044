package group

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// fakeLog is a partition in memory. Appends are committed at once, held, or
// refused.
type fakeLog struct {
	batches []record.Batch
	end     record.Offset
	hold    bool
	held    []logio.AppendRequest
	fail    error
	unready bool
}

func (l *fakeLog) Append(r logio.AppendRequest) {
	switch {
	case l.fail != nil:
		r.Done(logio.AppendResult{Err: l.fail})
	case l.hold:
		l.held = append(l.held, r)
	default:
		l.commit(r)
	}
}

func (l *fakeLog) commit(r logio.AppendRequest) {
	r.Batch.SetBaseOffset(l.end)
	l.batches = append(l.batches, r.Batch)
	l.end = r.Batch.NextOffset()
	r.Done(logio.AppendResult{})
}

func (l *fakeLog) release(err error) {
	held := l.held
	l.held, l.hold = nil, false
	for _, r := range held {
		if err != nil {
			r.Done(logio.AppendResult{Err: err})
		} else {
			l.commit(r)
		}
	}
}

func (l *fakeLog) Offsets() (logio.Offsets, error) {
	if l.unready {
		return logio.Offsets{}, logio.ErrNotAvailable
	}
	return logio.Offsets{HighWatermark: l.end}, nil
}

func (l *fakeLog) Read(_ context.Context, r logio.ReadRequest) (res logio.ReadResult, err error) {
	for _, b := range l.batches { // one batch at a time: loads take several pieces
		if b.NextOffset() > r.Offset {
			res.Batches = [][]byte{b}
			break
		}
	}
	return res, nil
}

type counting struct{ n byte }

func (c *counting) Read(p []byte) (int, error) {
	c.n++
	for i := range p {
		p[i] = c.n
	}
	return len(p), nil
}

// world is a coordinator of one partition, stepped by hand, whose answers are
// told as lines. Member ids are shown as @client1, @client2 …
type world struct {
	t     testing.TB
	c     *Coordinator
	log   *fakeLog
	now   time.Time
	lines []string
	alias []string // id, alias, id, alias …
	given map[string]int
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, log: &fakeLog{}, now: time.UnixMilli(1_000_000_000_000), given: map[string]int{}}
	var err error
	w.c, err = Open(Config{Partitions: func() int32 { return 1 }, Now: func() time.Time { return w.now }, Random: &counting{},
		MembersMax: 4, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	w.c.Lead(0, w.log)
	w.settle()
	return w
}

// settle steps until nothing more is due now.
func (w *world) settle() {
	for range 100 {
		if next := w.c.Step(context.Background(), w.now); next.After(w.now) {
			return
		}
	}
	w.t.Fatal("the coordinator has always something to do")
}

func (w *world) advance(d time.Duration) {
	for end := w.now.Add(d); ; {
		next := w.c.Step(context.Background(), w.now)
		if next.After(end) {
			w.now = end
			w.settle()
			return
		}
		w.now = next
	}
}

func (w *world) say(format string, args ...any) {
	w.lines = append(w.lines, fmt.Sprintf(format, args...))
}

// told gives the lines since the last call.
func (w *world) told() string {
	out := strings.Join(w.lines, "\n")
	w.lines = nil
	if out == "" {
		return "(no answer)\n"
	}
	return strings.NewReplacer(w.alias...).Replace(out) + "\n"
}

func (w *world) name(client, id string) {
	for i := 0; i < len(w.alias); i += 2 {
		if w.alias[i] == id {
			return
		}
	}
	w.given[client]++
	w.alias = append(w.alias, id, fmt.Sprintf("@%s%d", client, w.given[client]))
}

// id turns an alias back.
func (w *world) id(alias string) string {
	for i := 0; i < len(w.alias); i += 2 {
		if w.alias[i+1] == alias {
			return w.alias[i]
		}
	}
	return alias
}

func code(c int16) string {
	if c == 0 {
		return "ok"
	}
	return kerr.ErrorForCode(c).(*kerr.Error).Message
}

func (w *world) submit(label, client string, req kmsg.Request) {
	answered := false
	w.c.Submit(Client{ID: client, Host: "/h"}, req, func(r kmsg.Response) {
		if answered {
			w.t.Errorf("%s is answered twice", label)
		}
		answered = true
		if r.GetVersion() != req.GetVersion() {
			w.t.Errorf("%s: answer has version %d, request %d", label, r.GetVersion(), req.GetVersion())
		}
		w.tell(label, client, r)
	})
	w.settle()
}

func (w *world) tell(label, client string, resp kmsg.Response) {
	switch r := resp.(type) {
	case *kmsg.JoinGroupResponse:
		if r.MemberID != "" && (r.ErrorCode == 0 || r.ErrorCode == kerr.MemberIDRequired.Code) {
			w.name(client, r.MemberID)
		}
		s := fmt.Sprintf("%s: %s member=%s", label, code(r.ErrorCode), r.MemberID)
		if r.ErrorCode == 0 {
			s += fmt.Sprintf(" gen=%d protocol=%s leader=%s", r.Generation, *r.Protocol, r.LeaderID)
			if r.SkipAssignment {
				s += " skip"
			}
			for _, m := range r.Members {
				s += fmt.Sprintf(" [%s %q]", m.MemberID, m.ProtocolMetadata)
			}
		}
		w.say("%s", s)
	case *kmsg.SyncGroupResponse:
		w.say("%s: %s %q", label, code(r.ErrorCode), r.MemberAssignment)
	case *kmsg.HeartbeatResponse:
		w.say("%s: %s", label, code(r.ErrorCode))
	case *kmsg.LeaveGroupResponse:
		s := fmt.Sprintf("%s: %s", label, code(r.ErrorCode))
		for _, m := range r.Members {
			s += fmt.Sprintf(" [%s %s]", m.MemberID, code(m.ErrorCode))
		}
		w.say("%s", s)
	case *kmsg.OffsetCommitResponse:
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				w.say("%s: %s-%d %s", label, t.Topic, p.Partition, code(p.ErrorCode))
			}
		}
	case *kmsg.OffsetFetchResponse:
		for _, g := range r.Groups {
			w.say("%s: %s", label, code(g.ErrorCode))
			for _, t := range g.Topics {
				for _, p := range t.Partitions {
					w.say("  %s-%d offset=%d epoch=%d metadata=%q %s", t.Topic, p.Partition, p.Offset, p.LeaderEpoch, *p.Metadata, code(p.ErrorCode))
				}
			}
		}
	case *kmsg.OffsetDeleteResponse:
		w.say("%s: %s", label, code(r.ErrorCode))
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				w.say("  %s-%d %s", t.Topic, p.Partition, code(p.ErrorCode))
			}
		}
	case *kmsg.DescribeGroupsResponse:
		for _, g := range r.Groups {
			w.say("%s: %s %s type=%q protocol=%q", label, code(g.ErrorCode), g.State, g.ProtocolType, g.Protocol)
			for _, m := range g.Members {
				w.say("  %s client=%s host=%s metadata=%q assignment=%q", m.MemberID, m.ClientID, m.ClientHost, m.ProtocolMetadata, m.MemberAssignment)
			}
		}
	case *kmsg.ListGroupsResponse:
		s := fmt.Sprintf("%s: %s", label, code(r.ErrorCode))
		for _, g := range r.Groups {
			s += fmt.Sprintf(" [%s %s %s %s]", g.Group, g.GroupState, g.ProtocolType, g.GroupType)
		}
		w.say("%s", s)
	case *kmsg.DeleteGroupsResponse:
		for _, g := range r.Groups {
			w.say("%s: %s %s", label, g.Group, code(g.ErrorCode))
		}
	}
}

// once checks that a request is answered at most once.
func once(t testing.TB, step int, then func(kmsg.Response)) func(kmsg.Response) {
	answered := false
	return func(r kmsg.Response) {
		if answered {
			t.Fatalf("request of step %d is answered twice", step)
		}
		answered = true
		if then != nil {
			then(r)
		}
	}
}

// fetchAll tells every offset of group g.
func (w *world) fetchAll() string {
	w.lines = nil
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version, req.Groups = 8, []kmsg.OffsetFetchRequestGroup{{Group: "g"}}
	w.submit("fetch", "", req)
	return w.told()
}

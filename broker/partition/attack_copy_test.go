package partition

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"tidewater/broker/multiraft"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// aboveGap is a leader whose segments begin above what the copier has.
type aboveGap copyFrame

func (a *aboveGap) Segments(context.Context, int32, record.PartitionID, []byte) (io.ReadCloser, error) {
	var stream bytes.Buffer
	err := writeFrame(&stream, (*copyFrame)(a))
	return io.NopCloser(&stream), err
}

// A copy above a gap fails right after it was announced on disk, by a call that
// fails once; then the log gets there by itself. The announcement must not
// outlive the copy: a later start would take the replica's own segments for the
// ones that were replaced.
func TestFailedCopyLeavesNoAnnouncement(t *testing.T) {
	mem := disk.NewMem(0)
	faulty := disk.NewFault(mem)
	g := &fakeGroup{}
	cfg := Config{
		ID: testID, Topic: "t", Identity: testIdentity(), Host: g, FS: faulty, Dir: "log", Settings: testSettings(),
		Budget: NewBudget(1<<30, 1<<20), Now: func() time.Time { return time.UnixMilli(1_700_000_000_000) },
		Log: slog.New(slog.DiscardHandler), Source: &aboveGap{kind: frameBegin, first: 10, base: 9},
	}
	p, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g.machine = p.StateMachine()
	write := func(to record.Index) {
		t.Helper()
		for g.last < to {
			b := makeBatch(t, record.Builder{}, 1000, 1, 5)
			b.SetBaseOffset(p.live.next)
			b.SetEpoch(1)
			if err := g.add(b); err != nil {
				t.Fatal(err)
			}
		}
		g.machine.Commit(to)
		if err := p.WriteSegments(context.Background(), true); err != nil {
			t.Fatal(err)
		}
	}
	g.lead = multiraft.Leadership{Term: 1, Leader: 2}
	g.machine.Lead(g.lead)
	write(5)

	there := state{index: 12, term: 1, position: position{next: 12}}
	announced := false
	faulty.Add(disk.Rule{Err: errors.New("too many open files"), Times: 1, When: func(c disk.Call) bool {
		was := announced
		announced = announced || c.Op == disk.OpRename
		return was && c.Op == disk.OpList
	}})
	var failed error
	s := multiraft.Snapshot{Index: 12, Term: 1, Data: encodeRaftSnapshot(testIdentity(), &there), Node: 2}
	p.StateMachine().(multiraft.Snapshotter).Install(s, func(err error) { failed = err })
	if failed == nil || !announced {
		t.Fatalf("the copy ended with %v: the test tests nothing", failed)
	}
	write(20)
	cfg.Mark = &g.mark
	if q, err := Open(cfg); err != nil {
		t.Error(err)
	} else if q.localStart != 0 || q.live.next != 20 {
		t.Errorf("the log is here from offset %d to %d, expected 0 to 20", q.localStart, q.live.next)
	}
}

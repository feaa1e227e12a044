package partition

import (
	"context"
	"slices"
	"testing"
	"time"

	"tidewater/broker/multiraft"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Due asks for a write by bytes, by age, and by Seal; a segment is sealed by
// segment.bytes, segment.ms and Seal, and an empty one never.
func TestWhenToWriteAndSeal(t *testing.T) {
	w := newWorld(t)
	w.settings.SegmentBytes = 20 << 10
	w.settings.SegmentAge = time.Minute
	w.open()
	w.write(true) // the empty entry of the term
	if w.p.Due(1000, time.Second) || len(w.p.Sealed(0)) != 0 {
		t.Fatal("an empty log is due or sealed")
	}
	w.append(w.batch(1, 500, nil))
	if w.p.Due(1000, time.Second) || !w.p.Due(100, time.Hour) {
		t.Error("due by bytes is wrong")
	}
	w.now = w.now.Add(time.Second)
	if !w.p.Due(1000, time.Second) {
		t.Error("not due by age")
	}
	w.write(false)
	if pending, _ := w.p.Pending(); pending != 0 || w.p.Due(1, 0) || len(w.p.Sealed(0)) != 0 {
		t.Errorf("%d bytes pending after a write", pending)
	}
	w.p.Seal()
	if !w.p.Due(1000, time.Hour) {
		t.Error("Seal is not due")
	}
	w.write(false)
	if s := w.p.Sealed(0); len(s) != 1 || s[0].Next != 1 || w.p.Due(1000, time.Hour) {
		t.Errorf("sealed %+v", s)
	}
	w.append(w.batch(1, 500, nil))
	w.write(false)
	w.now = w.now.Add(time.Minute)
	if !w.p.Due(1000, time.Hour) {
		t.Error("an old segment is not due")
	}
	w.write(false)
	for range 5 {
		w.append(w.batch(1, 6000, nil))
		w.write(false)
	}
	if s := w.p.Sealed(0); len(s) != 4 || s[1].Next != 2 || s[2].Next-s[2].Base != 2 {
		t.Errorf("sealed %+v", s)
	}
}

// A group too busy to take a mark is told by the next step.
func TestBusyRelease(t *testing.T) {
	p, g := newReplica(t)
	g.term(t, 1, true)
	p.Append(logio.AppendRequest{Batch: idempotent(t, 0), Acks: logio.AcksLeader, Done: func(logio.AppendResult) {}})
	g.machine.Commit(2)
	g.busy = multiraft.ErrBusy
	if err := p.WriteSegments(context.Background(), false); err != nil {
		t.Fatal(err)
	}
	if g.mark.Index != 0 || !p.Due(1<<20, time.Hour) {
		t.Fatalf("mark %d", g.mark.Index)
	}
	g.busy = nil
	if err := p.WriteSegments(context.Background(), false); err != nil {
		t.Fatal(err)
	}
	if g.mark.Index != 2 || p.Due(1<<20, time.Hour) {
		t.Fatalf("mark %d", g.mark.Index)
	}
}

// BenchmarkAppend asks what the partition itself costs per idempotent batch of
// 16 KiB, from Append to the answer: go test -bench Append -benchmem.
func BenchmarkAppend(b *testing.B) {
	p, g := newReplica(b)
	g.term(b, 1, true)
	batch := makeBatch(b, record.Builder{Producer: &record.Producer{ID: 5}}, 1000, 1, 16<<10)
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		one := slices.Clone(batch)
		one[56], one[55], one[54], one[53] = byte(i), byte(i>>8), byte(i>>16), byte(i>>24)
		p.Append(logio.AppendRequest{Batch: one, Acks: logio.AcksAll, Done: func(r logio.AppendResult) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}})
		g.machine.Commit(g.last)
		if i%1000 == 999 {
			if err := p.WriteSegments(context.Background(), false); err != nil {
				b.Fatal(err)
			}
		}
	}
}

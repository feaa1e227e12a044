package partition

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"tidewater/broker/multiraft"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// With write.caching a producer is answered from memory. What readers see and
// what the log calls committed does not move before the flush; a coordinator's
// append and one of an ordinary topic wait for it.
func TestWriteCachingAnswersFromMemory(t *testing.T) {
	for _, caching := range []bool{true, false} {
		w := newWorld(t)
		w.settings.WriteCaching = caching
		w.open()
		var client, internal *logio.AppendResult
		w.p.Append(logio.AppendRequest{Batch: w.batch(1, 5, nil), Acks: logio.AcksAll, Done: func(r logio.AppendResult) { client = &r }})
		w.p.Append(logio.AppendRequest{Batch: w.batch(1, 5, nil), Acks: logio.AcksAll, Internal: true, Done: func(r logio.AppendResult) { internal = &r }})
		w.node.Work() // no flush
		if answered := client != nil && client.Err == nil && client.BaseOffset == 0; answered != caching || internal != nil {
			t.Errorf("caching %v, before the flush: client %+v, coordinator %+v", caching, client, internal)
		}
		if o := w.offsets(); o.HighWatermark != 0 || o.LastStable != 0 || o.LogEnd != 2 || o.Archived != 0 {
			t.Errorf("caching %v, before the flush: %+v", caching, o)
		}
		if got := w.readAll(0); len(got) != 0 {
			t.Errorf("caching %v: %d batches are read before the flush", caching, len(got))
		}
		if h := w.p.EpochHistory(); len(w.p.Sealed(0)) != 0 || len(h) > 1 {
			t.Errorf("caching %v: %v", caching, h)
		}
		w.step()
		if client == nil || client.Err != nil || internal == nil || internal.Err != nil || w.offsets().HighWatermark != 2 {
			t.Errorf("caching %v, after the flush: client %+v, coordinator %+v, %+v", caching, client, internal, w.offsets())
		}
		w.close()
	}
}

// A record that was acked from memory and is lost with it: the log goes on
// without it, its producer's next batch is refused as out of order, and nothing
// is there twice.
func TestWriteCachingLosesWithMemory(t *testing.T) {
	w := newWorld(t)
	w.settings.WriteCaching = true
	w.open()
	who := func(seq int32) *record.Producer { return &record.Producer{ID: 7, Epoch: 1, Sequence: seq} }
	w.append(w.batch(1, 5, who(0)))
	var acked *logio.AppendResult
	w.p.Append(logio.AppendRequest{Batch: w.batch(1, 5, who(1)), Acks: logio.AcksAll, Done: func(r logio.AppendResult) { acked = &r }})
	w.node.Work()
	if acked == nil || acked.Err != nil || acked.BaseOffset != 1 {
		t.Fatalf("not acked from memory: %+v", acked)
	}
	w.crash(rand.New(rand.NewPCG(1, 1)))
	w.open()
	if o := w.offsets(); o.HighWatermark != 1 || o.LogEnd != 1 {
		t.Fatalf("after the power cut: %+v", o)
	}
	w.refused(w.batch(1, 5, who(2)), logio.ErrOutOfOrderSequence)
	if at := w.append(w.batch(1, 5, who(1))); at != 1 {
		t.Errorf("sent again by a client that knew better: at %d", at)
	}
	w.close()
}

// Answers are given in order, to those alone who may have them early, and once;
// a duplicate is answered when its original is.
func TestHeldWaiters(t *testing.T) {
	p, g := newReplica(t)
	s := testSettings()
	g.term(t, 1, true)
	g.machine.Commit(1)
	var got []record.Offset
	send := func(b record.Batch, caching bool) {
		s.WriteCaching = caching
		p.Configure(s)
		p.Append(logio.AppendRequest{Batch: b, Acks: logio.AcksAll, Done: func(r logio.AppendResult) {
			if r.Err != nil {
				t.Errorf("append: %v", r.Err)
			}
			got = append(got, r.BaseOffset)
		}})
	}
	send(idempotent(t, 0), true)  // entry 2
	send(idempotent(t, 1), false) // entry 3 waits
	send(idempotent(t, 2), true)  // entry 4
	send(idempotent(t, 2), true)  // again
	send(idempotent(t, 3), true)  // entry 5
	held := g.machine.(multiraft.Holder)
	held.Held(4)
	if want := []record.Offset{0, 2, 2}; !slices.Equal(got, want) {
		t.Fatalf("held up to entry 4: answered %v, want %v", got, want)
	}
	g.machine.Commit(4)
	g.machine.Commit(5)
	if want := []record.Offset{0, 2, 2, 1, 3}; !slices.Equal(got, want) {
		t.Fatalf("committed: answered %v, want %v", got, want)
	}
	if !g.asked(2) || g.asked(3) || !g.asked(4) || !g.asked(5) {
		t.Errorf("asked for %v", g.asks)
	}
	// A leader that falls answers who still waits; who was answered hears nothing.
	got = nil
	failed := 0
	s.WriteCaching = true
	for seq := range int32(2) {
		p.Append(logio.AppendRequest{Batch: idempotent(t, 4+seq), Acks: logio.AcksAll, Done: func(r logio.AppendResult) {
			if errors.Is(r.Err, logio.ErrNotLeader) {
				failed++
			} else {
				got = append(got, r.BaseOffset)
			}
		}})
	}
	held.Held(6)
	g.lead = multiraft.Leadership{Term: 2, Leader: 2}
	g.machine.Lead(g.lead)
	g.truncate(5)
	if len(got) != 1 || got[0] != 4 || failed != 1 {
		t.Errorf("answered %v, failed %d", got, failed)
	}
}

package partition

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/internal/disk"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// On a real Host, with its loops: several producers, a reader that follows by
// Notify, and the background steps run at once; the reader gets every batch
// once, in order, as it was sent. Run with -race.
func TestConcurrentUse(t *testing.T) {
	const producers, each = 4, 50
	quiet := slog.New(slog.DiscardHandler)
	fs := disk.NewMem(0)
	j, groups, err := journal.Open(journal.Config{FS: fs, Dir: "journal", FileBytes: 1 << 20, FirstBytes: 1 << 20, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	h, err := multiraft.Open(multiraft.Config{Node: 1, Journal: j, Recovered: groups, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	settings := testSettings()
	settings.SegmentBytes = 32 << 10
	p, err := Open(Config{ID: testID, Topic: "t", Host: OnHost(h), FS: fs, Dir: "log", Settings: settings,
		Budget: NewBudget(1<<30, 20<<10), Now: time.Now, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	if err := h.Start(multiraft.GroupConfig{ID: testID, Replica: 1, StateMachine: &readySignal{StateMachine: p.StateMachine(), ready: ready}}); err != nil {
		t.Fatal(err)
	}
	<-ready
	var sending, steps sync.WaitGroup
	stop := make(chan struct{})
	steps.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := p.WriteSegments(context.Background(), i%10 == 0); err != nil {
				t.Error(err)
			}
			if err := p.Retain(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	for id := range int64(producers) {
		sending.Go(func() {
			for i := range int32(each) {
				b := makeBatch(t, record.Builder{Producer: &record.Producer{ID: id, Sequence: i}}, time.Now().UnixMilli(), 1, 200+int(i))
				done := make(chan logio.AppendResult, 1)
				p.Append(logio.AppendRequest{Batch: b, Acks: logio.AcksAll, Done: func(r logio.AppendResult) { done <- r }})
				if r := <-done; r.Err != nil {
					t.Error(r.Err)
				}
			}
		})
	}
	got := follow(t, p, producers*each)
	sending.Wait()
	close(stop)
	steps.Wait()
	checkFollowed(t, got, producers, each)
	if start, err := p.Trim(context.Background(), 10); err != nil || start != 10 {
		t.Fatalf("trim: %d, %v", start, err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if pending, cached := p.cfg.Budget.Use(); pending != 0 || cached != 0 {
		t.Fatalf("budget after close: %d, %d", pending, cached)
	}
}

// readySignal closes ready when the replica leads and knows its log.
type readySignal struct {
	multiraft.StateMachine
	ready chan struct{}
	once  sync.Once
}

func (r *readySignal) Lead(l multiraft.Leadership) {
	r.StateMachine.Lead(l)
	if l.Ready {
		r.once.Do(func() { close(r.ready) })
	}
}

func follow(t *testing.T, p *Partition, n int) [][]byte {
	var got [][]byte
	at := record.Offset(0)
	for len(got) < n {
		woken := make(chan struct{}, 1)
		cancel := p.Notify(logio.ReadUncommitted, at, func() { woken <- struct{}{} })
		<-woken
		cancel()
		res, err := p.Read(context.Background(), logio.ReadRequest{Offset: at, BytesMax: 3000, MinOne: true, CurrentEpoch: -1})
		if err != nil || len(res.Batches) == 0 {
			t.Fatalf("read at %d: %d batches, %v", at, len(res.Batches), err)
		}
		got = append(got, res.Batches...)
		at = record.Batch(got[len(got)-1]).NextOffset()
	}
	return got
}

func checkFollowed(t *testing.T, got [][]byte, producers, each int) {
	t.Helper()
	next := map[int64]int32{}
	for i, data := range got {
		b := record.Batch(data)
		if b.BaseOffset() != record.Offset(i) || b.Check() != nil || b.BaseSequence() != next[b.ProducerID()] {
			t.Fatalf("batch %d: base %d, producer %d sequence %d", i, b.BaseOffset(), b.ProducerID(), b.BaseSequence())
		}
		if !bytes.Contains(data, bytes.Repeat([]byte{'a'}, 200+int(b.BaseSequence()))) {
			t.Fatalf("batch %d has another body", i)
		}
		next[b.ProducerID()]++
	}
	if len(got) != producers*each {
		t.Fatalf("%d batches", len(got))
	}
}

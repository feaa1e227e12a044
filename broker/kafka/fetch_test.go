package kafka

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

func (l *fakeLog) add(t testing.TB, b record.Batch) {
	t.Helper()
	l.Append(logio.AppendRequest{Batch: b, Done: func(r logio.AppendResult) {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}})
}

// fetcher sends Fetches of one session.
type fetcher struct {
	rawConn
	next int32
}

func (f *fetcher) fetch(req *kmsg.FetchRequest) *kmsg.FetchResponse {
	f.t.Helper()
	f.next++
	f.send(frameOf(f.next, req))
	return f.answer(f.next, req).(*kmsg.FetchResponse)
}

// Shows that a Fetch without data answers after its wait, not before, and
// with data as soon as it comes.
func TestFetchWaits(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "t", 1)
	log := w.cluster.log("t", 0)
	f := fetcher{rawConn: w.dial(t)}
	req := fetchOf(11, "t", record.TopicID{}, 0)
	req.MaxWaitMillis = 40
	begun := time.Now()
	if r := f.fetch(req); len(r.Topics[0].Partitions[0].RecordBatches) != 0 {
		t.Error("data out of nothing")
	}
	if took := time.Since(begun); took < 40*time.Millisecond {
		t.Errorf("waited %v, want 40 ms", took)
	}
	req.MaxWaitMillis = 60_000
	f.send(frameOf(9, req))
	until(t, "it waits", func() bool { return log.waiting() == 1 })
	begun = time.Now()
	log.add(t, batchOf(t, 1, record.None))
	if r := f.answer(9, req).(*kmsg.FetchResponse); len(r.Topics[0].Partitions[0].RecordBatches) == 0 {
		t.Error("no data")
	}
	if took := time.Since(begun); took > patience/2 {
		t.Errorf("took %v after the append", took)
	}
}

// Shows that min bytes are waited for over several appends, that only what
// moved is read again, and that one partition's error ends the wait.
func TestFetchWaitsForMinBytes(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "t", 2)
	moving, still := w.cluster.log("t", 0), w.cluster.log("t", 1)
	f := fetcher{rawConn: w.dial(t)}
	b := batchOf(t, 1, record.None)
	req := fetchOf(11, "t", record.TopicID{}, 0)
	req.MaxWaitMillis, req.MinBytes = 60_000, int32(3*len(b))
	req.Topics[0].Partitions = append(req.Topics[0].Partitions, req.Topics[0].Partitions[0])
	req.Topics[0].Partitions[1].Partition = 1
	f.send(frameOf(1, req))
	for i := range 3 {
		until(t, "it waits for both", func() bool { return moving.waiting() == 1 && still.waiting() == 1 })
		if i == 1 {
			req.MinBytes++ // no effect: sent already
		}
		moving.add(t, slices.Clone(b))
	}
	if r := f.answer(1, req).(*kmsg.FetchResponse); len(r.Topics[0].Partitions[0].RecordBatches) != 3*len(b) {
		t.Errorf("%d bytes", len(r.Topics[0].Partitions[0].RecordBatches))
	}
	still.with(func(l *fakeLog) {
		if l.reads != 1 {
			t.Errorf("the partition that did not move was read %d times", l.reads)
		}
	})
	moving.with(func(l *fakeLog) {
		if l.reads > 4 {
			t.Errorf("the moving partition was read %d times", l.reads)
		}
	})
	req.MinBytes = 1 << 20
	req.Topics[0].Partitions[1].FetchOffset = 5
	if r := f.fetch(req); r.Topics[0].Partitions[1].ErrorCode != kerr.OffsetOutOfRange.Code || len(r.Topics[0].Partitions[0].RecordBatches) == 0 {
		t.Errorf("%+v", r.Topics[0].Partitions[1])
	}
}

// Shows that the bytes of the answer, of a partition and of the broker bound it,
// and that one batch always comes.
func TestFetchBytesAreBounded(t *testing.T) {
	w := open(t, func(c *Config) { c.FetchBytesMax = 3000; c.FetchMemoryBytesMax = 3000 })
	w.topic(t, "t", 3)
	b := record.Builder{}
	b.Add(1, nil, make([]byte, 900))
	batch, _ := b.Build(0)
	for p := range int32(3) {
		for range 5 {
			w.cluster.log("t", p).add(t, slices.Clone(batch))
		}
	}
	f := fetcher{rawConn: w.dial(t)}
	for _, c := range []struct{ all, each int32 }{{1 << 20, 1 << 20}, {2000, 1 << 20}, {1 << 20, 1000}, {1, 1}, {0, 0}} {
		req := fetchOf(11, "t", record.TopicID{}, 0)
		req.MaxBytes = c.all
		req.Topics[0].Partitions[0].PartitionMaxBytes = c.each
		for p := range int32(2) {
			more := req.Topics[0].Partitions[0]
			more.Partition = p + 1
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, more)
		}
		got := 0
		for i, p := range f.fetch(req).Topics[0].Partitions {
			n := len(p.RecordBatches)
			if n > max(int(c.each), btoi(i == 0)*len(batch)) {
				t.Errorf("%+v: partition %d gave %d bytes", c, i, n)
			}
			got += n
		}
		if got < len(batch) || got > max(min(int(c.all), 3000), len(batch)) {
			t.Errorf("%+v: %d bytes in all", c, got)
		}
	}
}

// Shows a session's life: full, only news, changed, forgotten, wrong epoch,
// closed.
func TestFetchSession(t *testing.T) {
	w := open(t, nil)
	topic := w.topic(t, "t", 3)
	for p := range int32(3) {
		w.cluster.log("t", p).add(t, batchOf(t, 1, record.None))
	}
	f := fetcher{rawConn: w.dial(t)}
	req := fetchOf(13, "", topic.ID, 1)
	req.SessionEpoch = 0
	for p := range int32(2) {
		more := req.Topics[0].Partitions[0]
		more.Partition = p + 1
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, more)
	}
	r := f.fetch(req)
	if r.SessionID == 0 || len(r.Topics[0].Partitions) != 3 {
		t.Fatalf("first: %+v", r)
	}
	id := r.SessionID
	next := fetchOf(13, "", topic.ID, 0)
	next.SessionID, next.SessionEpoch, next.Topics = id, 1, nil
	if r := f.fetch(next); r.SessionID != id || len(r.Topics) != 0 {
		t.Errorf("nothing new: %+v", r)
	}
	w.cluster.log("t", 1).add(t, batchOf(t, 1, record.None))
	next.SessionEpoch = 2
	if r := f.fetch(next); len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 || r.Topics[0].Partitions[0].Partition != 1 {
		t.Errorf("one partition's news: %+v", r)
	}
	change := fetchOf(13, "", topic.ID, 0) // partition 0 from the start again
	change.SessionID, change.SessionEpoch = id, 3
	forget := kmsg.NewFetchRequestForgottenTopic()
	forget.TopicID, forget.Partitions = topic.ID, []int32{1}
	change.ForgottenTopics = append(change.ForgottenTopics, forget)
	if r := f.fetch(change); len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 || len(r.Topics[0].Partitions[0].RecordBatches) == 0 {
		t.Errorf("changed: %+v", r)
	}
	if st := w.Stats(); st.FetchSessions != 1 || st.FetchSessionPartitions != 2 {
		t.Errorf("%d sessions, %d partitions", st.FetchSessions, st.FetchSessionPartitions)
	}
	if r := f.fetch(next); r.ErrorCode != kerr.InvalidFetchSessionEpoch.Code {
		t.Errorf("old epoch: %+v", r)
	}
	byName := fetchOf(12, "t", record.TopicID{}, 0)
	byName.SessionID, byName.SessionEpoch = id, 4
	if r := f.fetch(byName); r.ErrorCode != kerr.FetchSessionTopicIDError.Code {
		t.Errorf("names instead of ids: %+v", r)
	}
	end := fetchOf(13, "", topic.ID, 0)
	end.SessionID, end.SessionEpoch = id, -1
	if r := f.fetch(end); r.SessionID != 0 || r.ErrorCode != 0 {
		t.Errorf("end: %+v", r)
	}
	next.SessionEpoch = 4
	if r := f.fetch(next); r.ErrorCode != kerr.FetchSessionIDNotFound.Code {
		t.Errorf("after the end: %+v", r)
	}
}

// Shows that a partition that had data is answered last in the next Fetch, so
// that a busy one does not starve the others.
func TestFetchSessionTakesTurns(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "t", 4)
	for p := range int32(4) {
		for range 3 {
			w.cluster.log("t", p).add(t, batchOf(t, 10, record.None))
		}
	}
	f := fetcher{rawConn: w.dial(t)}
	req := fetchOf(11, "t", record.TopicID{}, 0)
	req.SessionEpoch, req.MaxBytes = 0, 1
	for p := range int32(3) {
		more := req.Topics[0].Partitions[0]
		more.Partition = p + 1
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, more)
	}
	r := f.fetch(req)
	var served []int32
	for round := range int32(8) {
		next := fetchOf(11, "t", record.TopicID{}, 0)
		next.SessionID, next.SessionEpoch, next.MaxBytes, next.Topics = r.SessionID, round+1, 1, nil
		for _, p := range f.fetch(next).Topics[0].Partitions {
			if len(p.RecordBatches) > 0 {
				served = append(served, p.Partition)
			}
		}
	}
	if want := []int32{0, 1, 2, 3, 0, 1, 2, 3}; !slices.Equal(served, want) {
		t.Errorf("served %v, want %v", served, want)
	}
}

// Shows the cache's bounds: no session for a newcomer while all are in use, the
// longest unused one goes when it is old, and counts stay right.
func TestFetchSessionsAreBounded(t *testing.T) {
	c := newFetchSessions(3, 10)
	now := time.Unix(1000, 0)
	make := func(parts int) int32 {
		f := &fetch{wantSession: true}
		for p := range parts {
			f.add(fetchWant{fetchKey: fetchKey{name: "t", partition: int32(p)}}, nil)
		}
		return c.create(fetchOf(11, "t", record.TopicID{}, 0), f, now)
	}
	first := make(4)
	now = now.Add(time.Minute)
	if make(4) == 0 || first == 0 || make(3) != 0 || make(11) != 0 {
		t.Error("bounds of partitions")
	}
	if make(1) == 0 || make(1) != 0 {
		t.Error("bound of sessions")
	}
	now = now.Add(sessionIdleMin - time.Minute)
	if make(3) == 0 || c.byID[first] != nil {
		t.Error("the oldest did not make room")
	}
	if n, parts, evicted := c.stats(); n != 3 || parts != 8 || evicted != 1 {
		t.Errorf("%d sessions, %d partitions, %d evictions", n, parts, evicted)
	}
}

// Shows, over random histories, that a client that follows its session sees
// what full Fetches show: the model keeps what it was told last and must end
// equal to the logs.
func TestFetchSessionsTellEverything(t *testing.T) {
	w := open(t, nil)
	const partitions = 8
	w.topic(t, "t", partitions)
	rnd := rand.New(rand.NewPCG(1, 2))
	f := fetcher{rawConn: w.dial(t)}
	req := fetchOf(11, "t", record.TopicID{}, 0)
	req.SessionEpoch = 0
	req.Topics[0].Partitions = nil
	for p := range int32(partitions) {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.PartitionMaxBytes = p, 1<<20
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, rp)
	}
	var position, told [partitions]int64
	for round := range 200 {
		r := f.fetch(req)
		req = fetchOf(11, "t", record.TopicID{}, 0)
		req.SessionID, req.SessionEpoch, req.Topics[0].Partitions = r.SessionID, int32(round+1), nil
		for _, rt := range r.Topics {
			for _, p := range rt.Partitions {
				told[p.Partition] = p.HighWatermark
				for rest := p.RecordBatches; len(rest) > 0; {
					b, after, err := record.Next(rest)
					if err != nil || int64(b.BaseOffset()) != position[p.Partition] {
						t.Fatalf("round %d partition %d: batch at %d, want %d (%v)", round, p.Partition, b.BaseOffset(), position[p.Partition], err)
					}
					position[p.Partition], rest = int64(b.NextOffset()), after
				}
				rp := kmsg.NewFetchRequestTopicPartition()
				rp.Partition, rp.PartitionMaxBytes, rp.FetchOffset = p.Partition, 1<<20, position[p.Partition]
				req.Topics[0].Partitions = append(req.Topics[0].Partitions, rp)
			}
		}
		for range rnd.IntN(4) * btoi(round < 190) {
			w.cluster.log("t", rnd.Int32N(partitions)).add(t, batchOf(t, 1+rnd.IntN(3), record.None))
		}
	}
	for p := range int32(partitions) {
		o, _ := w.cluster.log("t", p).Offsets()
		if position[p] != int64(o.HighWatermark) || told[p] != int64(o.HighWatermark) {
			t.Errorf("partition %d: read to %d, told %d, log ends at %d", p, position[p], told[p], o.HighWatermark)
		}
	}
}

// Shows the answers to leader epochs: older, newer, and a log that has parted.
func TestFetchChecksEpochs(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "t", 1)
	w.cluster.log("t", 0).add(t, batchOf(t, 4, record.None))
	f := fetcher{rawConn: w.dial(t)}
	for _, c := range []struct {
		current, last int32
		offset        int64
		code          int16
		diverging     int32
	}{
		{7, -1, 0, 0, -1}, {6, -1, 0, kerr.FencedLeaderEpoch.Code, -1}, {8, -1, 0, kerr.UnknownLeaderEpoch.Code, -1},
		{7, 7, 4, 0, -1}, {7, 7, 6, 0, 7}, {7, 3, 2, kerr.OffsetOutOfRange.Code, -1},
		// This leader is not the newest: it must not say that the offset is none.
		{8, 8, 4, kerr.UnknownLeaderEpoch.Code, -1}, {-1, 9, 2, kerr.UnknownLeaderEpoch.Code, -1}, {6, 6, 2, kerr.FencedLeaderEpoch.Code, -1},
	} {
		req := fetchOf(12, "t", record.TopicID{}, c.offset)
		p := &req.Topics[0].Partitions[0]
		p.CurrentLeaderEpoch, p.LastFetchedEpoch = c.current, c.last
		got := f.fetch(req).Topics[0].Partitions[0]
		if got.ErrorCode != c.code || got.DivergingEpoch.Epoch != c.diverging {
			t.Errorf("%+v: code %d, diverging %+v", c, got.ErrorCode, got.DivergingEpoch)
		}
	}
}

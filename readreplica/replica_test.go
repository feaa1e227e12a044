package readreplica_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"tidewater/internal/logio"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/readreplica"
	"tidewater/tiering/archive/archivetest"
	"tidewater/tiering/manifest"
	"tidewater/tiering/remote"
	"tidewater/tiering/restore"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// readOnly denies every write, as the replica's credentials do.
func readOnly(s objstore.Store) *objstore.Fault {
	return &objstore.Fault{Store: s, Rule: func(c objstore.Call) objstore.Effect {
		if c.Write() {
			return objstore.Effect{Err: objstore.ErrDenied}
		}
		return objstore.Effect{}
	}}
}

func follow(t *testing.T, c *archivetest.Cluster, store objstore.Store) *readreplica.Cluster {
	t.Helper()
	cache, err := remote.OpenCache(remote.CacheConfig{})
	must(t, err)
	return readreplica.Open(readreplica.Config{
		Store: store, Layout: c.Layout.At(0), Cache: cache, Now: c.Now,
		Topics: func(blob []byte) ([]readreplica.Topic, error) {
			return []readreplica.Topic{{Name: string(blob), ID: c.ID, Partitions: int32(len(c.Logs))}}, nil
		},
	})
}

// consume reads from offset to the high watermark.
func consume(t *testing.T, p *readreplica.Partition, from record.Offset) []byte {
	t.Helper()
	o, err := p.Offsets()
	must(t, err)
	var out []byte
	for from < o.HighWatermark {
		res, err := p.Read(t.Context(), logio.ReadRequest{Offset: from, BytesMax: 5000, MinOne: true, CurrentEpoch: -1})
		must(t, err)
		if len(res.Batches) == 0 {
			t.Fatalf("nothing at %d although the high watermark is %d", from, o.HighWatermark)
		}
		for _, b := range res.Batches {
			out = append(out, b...)
			from = record.Batch(b).NextOffset()
		}
	}
	return out
}

// A replica polls beside a live writer that seals, archives, trims and
// collects. After every second it shows all that the bucket holds, with the
// source's bytes; its marks never go back; it writes nothing.
func TestReplicaFollowsALiveWriter(t *testing.T) {
	c := archivetest.NewCluster(t, 2)
	c.Step()
	store := readOnly(c.Mem)
	r := follow(t, c, store)
	var last [2]logio.Offsets
	for second := range 120 {
		c.Fill(0, 4)
		c.Fill(1, 1)
		if second%10 == 9 {
			c.Logs[0].Roll()
			c.Logs[1].Roll()
		}
		if second > 60 && second%7 == 0 {
			c.Logs[0].Trim(record.Offset(second-55) * 12)
		}
		c.Step()
		must(t, r.RunOnce(t.Context()))
		for n := range 2 {
			p := r.Partition(c.Dir(n).ID)
			o, err := p.Offsets()
			must(t, err)
			if want := c.Logs[n].Marks(); o.HighWatermark != want.HighWatermark || o.LastStable != want.LastStable || o.LogStart != want.LogStart {
				t.Fatalf("second %d: replica shows %+v, source %+v", second, o, want.Offsets)
			}
			if o.HighWatermark < last[n].HighWatermark || o.LogStart < last[n].LogStart || o.LastStable < last[n].LastStable || o.Archived < last[n].Archived {
				t.Fatalf("second %d: marks went back from %+v to %+v", second, last[n], o)
			}
			last[n] = o
		}
		if second%20 == 19 {
			p := r.Partition(c.Dir(0).ID)
			base := last[0].LogStart / 3 * 3
			if got := consume(t, p, last[0].LogStart); !bytes.Equal(got, c.Logs[0].Bytes(base, last[0].HighWatermark)) {
				t.Fatalf("second %d: the replica's bytes differ", second)
			}
		}
	}
}

// A replica that slept for an hour beside a writer that collected everything
// it knew catches up by lists and manifests.
func TestReplicaCatchesUpAfterSleep(t *testing.T) {
	c := archivetest.NewCluster(t, 1)
	c.Fill(0, 3)
	c.Step()
	r := follow(t, c, readOnly(c.Mem))
	must(t, r.RunOnce(t.Context()))
	for range 300 {
		c.Fill(0, 2)
		c.Logs[0].Roll()
		c.Clock = c.Clock.Add(10 * time.Second)
		c.Step()
	}
	for range 40 {
		must(t, r.RunOnce(t.Context()))
		c.Clock = c.Clock.Add(time.Second)
	}
	p := r.Partition(c.Dir(0).ID)
	o, err := p.Offsets()
	must(t, err)
	if o.HighWatermark != 1809 || !bytes.Equal(consume(t, p, 0), c.Logs[0].Bytes(0, 1809)) {
		t.Fatalf("after the sleep the replica shows %+v", o)
	}
}

// When the bucket is away the replica serves what it has in memory, says so
// for the rest, and goes on when it is back.
func TestReplicaWithoutABucket(t *testing.T) {
	c := archivetest.NewCluster(t, 1)
	c.Fill(0, 3)
	c.Logs[0].Roll()
	c.Step()
	c.Fill(0, 3)
	c.Step()
	store := readOnly(c.Mem)
	r := follow(t, c, store)
	must(t, r.RunOnce(t.Context()))
	rule := store.Rule
	store.Rule = func(objstore.Call) objstore.Effect { return objstore.Effect{Err: objstore.ErrUnavailable} }
	if err := r.RunOnce(t.Context()); !errors.Is(err, objstore.ErrUnavailable) {
		t.Fatal(err)
	}
	p := r.Partition(c.Dir(0).ID)
	if got := consume(t, p, 9); !bytes.Equal(got, c.Logs[0].Bytes(9, 18)) {
		t.Fatal("the tail in memory differs")
	}
	if _, err := p.Read(t.Context(), logio.ReadRequest{Offset: 0, BytesMax: 1, MinOne: true, CurrentEpoch: -1}); !errors.Is(err, logio.ErrStorage) {
		t.Fatalf("cold read without a bucket: %v", err)
	}
	store.Rule = rule
	must(t, r.RunOnce(t.Context()))
	if got := consume(t, p, 0); !bytes.Equal(got, c.Logs[0].Bytes(0, 18)) {
		t.Fatal("bytes differ once the bucket is back")
	}
}

// Writes are refused by name; unknown offsets and epochs as a leader would.
func TestReplicaRefuses(t *testing.T) {
	c := archivetest.NewCluster(t, 1)
	c.Fill(0, 3)
	c.Step()
	r := follow(t, c, readOnly(c.Mem))
	must(t, r.RunOnce(t.Context()))
	p := r.Partition(c.Dir(0).ID)
	var answer logio.AppendResult
	p.Append(logio.AppendRequest{Done: func(a logio.AppendResult) { answer = a }})
	if !errors.Is(answer.Err, logio.ErrReadOnly) {
		t.Fatalf("append: %v", answer.Err)
	}
	if _, err := p.Trim(t.Context(), 3); !errors.Is(err, logio.ErrReadOnly) {
		t.Fatalf("trim: %v", err)
	}
	for _, tt := range []struct {
		r    logio.ReadRequest
		want error
	}{
		{logio.ReadRequest{Offset: 10, CurrentEpoch: -1}, logio.ErrOffsetOutOfRange},
		{logio.ReadRequest{Offset: 0, CurrentEpoch: 4}, logio.ErrFencedEpoch},
		{logio.ReadRequest{Offset: 0, CurrentEpoch: 6}, logio.ErrUnknownEpoch},
	} {
		if _, err := p.Read(t.Context(), tt.r); !errors.Is(err, tt.want) {
			t.Fatalf("%+v: %v, want %v", tt.r, err, tt.want)
		}
	}
	r.Close()
	if _, err := p.Offsets(); !errors.Is(err, logio.ErrClosed) {
		t.Fatalf("closed: %v", err)
	}
}

// A waiting fetch is woken by the object that brings what it waits for; a
// cancelled one is not.
func TestNotifyWakesOnNewData(t *testing.T) {
	c := archivetest.NewCluster(t, 1)
	c.Fill(0, 1)
	c.Step()
	r := follow(t, c, readOnly(c.Mem))
	must(t, r.RunOnce(t.Context()))
	p := r.Partition(c.Dir(0).ID)
	woken, other, at := 0, 0, 0
	p.Notify(logio.ReadUncommitted, 2, func() { at++ })
	p.Notify(logio.ReadUncommitted, 3, func() { woken++ })
	cancel := p.Notify(logio.ReadCommitted, 3, func() { other++ })
	cancel()
	if at != 1 || woken != 0 {
		t.Fatalf("woken %d and %d", at, woken)
	}
	c.Fill(0, 1)
	c.Step()
	must(t, r.RunOnce(t.Context()))
	must(t, r.RunOnce(t.Context()))
	if woken != 1 || other != 0 {
		t.Fatalf("woken %d times, the cancelled one %d times", woken, other)
	}
}

// Times, epochs and lag are those of the source, over segments and tail.
func TestReplicaFindsTimesAndEpochs(t *testing.T) {
	c := archivetest.NewCluster(t, 1)
	start := c.Clock.UnixMilli()
	for range 5 {
		c.Fill(0, 1)
		c.Logs[0].Roll()
		c.Step()
	}
	c.Logs[0].Lead(8, true)
	for range 3 {
		c.Fill(0, 1)
		c.Step()
	}
	r := follow(t, c, readOnly(c.Mem))
	must(t, r.RunOnce(t.Context()))
	p := r.Partition(c.Dir(0).ID)
	for i := range record.Offset(8) {
		found, err := p.Find(t.Context(), start+int64(i)*1000, logio.ReadUncommitted)
		must(t, err)
		if found.Offset != i*3 {
			t.Fatalf("time of batch %d is found at %d", i, found.Offset)
		}
	}
	for ts, want := range map[int64]record.Offset{
		logio.TimeEarliest: 0, logio.TimeLatest: 24, logio.TimeMaxTimestamp: 21,
		logio.TimeEarliestLocal: 15, logio.TimeLatestTiered: 14, start + 99_000: -1,
	} {
		if found, err := p.Find(t.Context(), ts, logio.ReadUncommitted); err != nil || found.Offset != want {
			t.Fatalf("time %d: %+v, %v, want %d", ts, found, err, want)
		}
	}
	for epoch, want := range map[record.LeaderEpoch]logio.EpochEnd{
		5: {Epoch: 5, End: 15}, 6: {Epoch: 5, End: 15}, 8: {Epoch: 8, End: 24}, 4: {Epoch: -1, End: -1}, 9: {Epoch: -1, End: -1},
	} {
		if got, err := p.EpochEnd(epoch); err != nil || got != want {
			t.Fatalf("epoch %d ends at %+v, %v, want %+v", epoch, got, err, want)
		}
	}
	if l := p.Lag(); l.Visible != time.Second || !l.Heard.Equal(time.UnixMilli(c.Clock.UnixMilli())) {
		t.Fatalf("lag %+v", l)
	}
}

// After a restore of the source elsewhere the replica follows the newer
// incarnation; its old partitions are closed.
func TestReplicaFollowsANewIncarnation(t *testing.T) {
	c := archivetest.NewCluster(t, 1)
	for range 4 {
		c.Fill(0, 3)
		c.Step()
	}
	r := follow(t, c, readOnly(c.Mem))
	must(t, r.RunOnce(t.Context()))
	old := r.Partition(c.Dir(0).ID)
	_, err := restore.Run(t.Context(), restore.Config{
		Store: c.Mem, Writer: "w", Now: c.Now,
		Topics: func(blob []byte) ([]restore.Topic, error) {
			return []restore.Topic{{Name: string(blob), ID: c.ID, Partitions: 1}}, nil
		},
	})
	must(t, err)
	c.Clock = c.Clock.Add(time.Minute)
	must(t, r.RunOnce(t.Context()))
	if _, err := old.Offsets(); !errors.Is(err, logio.ErrClosed) {
		t.Fatalf("the old incarnation's partition: %v", err)
	}
	p := r.Partition(c.Dir(0).ID)
	if got := consume(t, p, 0); r.Incarnation() != 2 || !bytes.Equal(got, c.Logs[0].Bytes(0, 36)) {
		t.Fatalf("incarnation %d, %d bytes", r.Incarnation(), len(got))
	}
}

// An extent behind a hole is not shown before the hole is closed.
func TestReplicaStopsAtAGap(t *testing.T) {
	c := archivetest.NewCluster(t, 1)
	c.Step()
	for range 4 {
		c.Fill(0, 1)
		c.Step()
	}
	s := manifest.Series{Node: 1, Boot: 1}
	lost := c.Layout.Tail(s, 3)
	body, err := c.Mem.Get(t.Context(), lost, 0, -1)
	must(t, err)
	tail, err := manifest.DecodeTail(body)
	must(t, err)
	tail.Extents, tail.Data = nil, nil
	must(t, c.Mem.Put(t.Context(), lost, tail.AppendTo(nil)))
	r := follow(t, c, readOnly(c.Mem))
	must(t, r.RunOnce(t.Context()))
	p := r.Partition(c.Dir(0).ID)
	if o, err := p.Offsets(); err != nil || o.HighWatermark != 3 {
		t.Fatalf("high watermark %d, %v, want 3", o.HighWatermark, err)
	}
	c.Logs[0].Roll()
	c.Step()
	must(t, r.RunOnce(t.Context()))
	if o, err := p.Offsets(); err != nil || o.HighWatermark != 12 {
		t.Fatalf("high watermark %d, %v, want 12", o.HighWatermark, err)
	}
}

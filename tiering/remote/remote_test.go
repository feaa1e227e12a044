package remote_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"tidewater/internal/disk"
	"tidewater/internal/logio"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/archive/archivetest"
	"tidewater/tiering/manifest"
	"tidewater/tiering/remote"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// archived is a cluster with one log of n batches in several segments.
func archived(t *testing.T, batches int) *archivetest.Cluster {
	c := archivetest.NewCluster(t, 1)
	for i := range batches {
		c.Clock = c.Clock.Add(time.Second)
		c.Fill(0, 1)
		if i%100 == 99 {
			c.Logs[0].Roll()
		}
	}
	c.Logs[0].Roll()
	for range 8 {
		c.Step()
	}
	return c
}

func openCache(t *testing.T, bytesMax int64) (*remote.Cache, *disk.Mem) {
	t.Helper()
	fs := disk.NewMem(1 << 30)
	c, err := remote.OpenCache(remote.CacheConfig{FS: fs, Dir: "cache", BytesMax: bytesMax, MemoryBytesMax: -1})
	must(t, err)
	return c, fs
}

func open(c *archivetest.Cluster, store objstore.Store, cache *remote.Cache) *remote.Partition {
	return remote.New(remote.Config{Store: store, Dir: c.Dir(0), Cache: cache, ChunkBytes: 1})
}

// From every batch on, with any bound, a cold read gives the log's bytes; with
// a cache smaller than one segment it never holds more than its budget.
func TestColdReadsEqualTheLog(t *testing.T) {
	c := archived(t, 300)
	for _, budget := range []int64{0, 8 << 10, 32 << 10, 1 << 20} {
		cache, fs := openCache(t, budget)
		p := open(c, c.Mem, cache)
		for from := record.Offset(0); from < 900; from += 7 {
			for _, bytesMax := range []int{1, 700, 9000} {
				res, err := p.Read(t.Context(), logio.ReadRequest{Offset: from, BytesMax: bytesMax, MinOne: true})
				must(t, err)
				got := bytes.Join(res.Batches, nil)
				base := from / 3 * 3
				if len(got) == 0 || !bytes.HasPrefix(c.Logs[0].Bytes(base, 900), got) || len(res.Batches) > 1 && len(got) > bytesMax {
					t.Fatalf("read of %d bytes at %d gives %d bytes that differ", bytesMax, from, len(got))
				}
				if used := cache.Used(); used > budget || onDisk(t, fs) > budget {
					t.Fatalf("cache holds %d of %d bytes", used, budget)
				}
			}
		}
	}
}

func onDisk(t *testing.T, fs *disk.Mem) int64 {
	t.Helper()
	names, err := fs.List("cache")
	if err != nil {
		return 0
	}
	var n int64
	for _, name := range names {
		f, err := fs.Open("cache/" + name)
		must(t, err)
		size, err := f.Size()
		must(t, err)
		n += size
		f.Close()
	}
	return n
}

// The second read comes from the cache and says so; a rotten cache file is
// noticed and read from the bucket again.
func TestReadsSayWhereTheirBytesCameFrom(t *testing.T) {
	c := archived(t, 50)
	cache, fs := openCache(t, 1<<20)
	p := open(c, c.Mem, cache)
	read := func(want logio.Source) {
		t.Helper()
		res, err := p.Read(t.Context(), logio.ReadRequest{Offset: 0, BytesMax: 1 << 20})
		must(t, err)
		if res.Bytes[want] != int64(res.Size()) || res.Size() == 0 {
			t.Fatalf("%d bytes, by source %v, want all from %s", res.Size(), res.Bytes, want)
		}
		if !bytes.Equal(bytes.Join(res.Batches, nil), c.Logs[0].Bytes(0, 150)) {
			t.Fatal("bytes differ from the log")
		}
	}
	read(logio.FromBucket)
	read(logio.FromCache)
	names, err := fs.List("cache")
	must(t, err)
	for _, n := range names {
		f, err := fs.Open("cache/" + n)
		must(t, err)
		_, err = f.WriteAt(bytes.Repeat([]byte{0x55}, disk.BlockBytes), 0)
		must(t, err)
		f.Close()
	}
	read(logio.FromBucket)
	read(logio.FromCache)
}

// What was read last stays in memory: with the cache's files gone, the next
// read in the same chunk gives the same bytes and asks the bucket nothing.
func TestChunkReadLastIsInMemory(t *testing.T) {
	c := archived(t, 50)
	fs := disk.NewMem(1 << 30)
	cache, err := remote.OpenCache(remote.CacheConfig{FS: fs, Dir: "cache", BytesMax: 1 << 20})
	must(t, err)
	p := open(c, c.Mem, cache)
	var gets int64
	for i := range 2 {
		res, err := p.Read(t.Context(), logio.ReadRequest{Offset: 0, BytesMax: 1, MinOne: true})
		must(t, err)
		got := bytes.Join(res.Batches, nil)
		if len(got) == 0 || !bytes.HasPrefix(c.Logs[0].Bytes(0, 150), got) {
			t.Fatalf("read %d: %d bytes differ from the log", i, len(got))
		}
		if n := c.Mem.Stats().Gets; i > 0 && n != gets {
			t.Fatalf("%d GETs for a chunk in memory", n-gets)
		}
		gets = c.Mem.Stats().Gets
		must(t, fs.RemoveAll("cache"))
	}
}

// A disk that fails makes reads slower, not wrong.
func TestFailingCacheDiskIsNoError(t *testing.T) {
	c := archived(t, 50)
	fault := disk.NewFault(disk.NewMem(1 << 30))
	cache, err := remote.OpenCache(remote.CacheConfig{FS: fault, Dir: "cache", BytesMax: 1 << 20})
	must(t, err)
	fault.Add(disk.Rule{When: func(c disk.Call) bool { return c.Op == disk.OpWrite }, Err: disk.ErrFull})
	p := open(c, c.Mem, cache)
	for range 2 {
		res, err := p.Read(t.Context(), logio.ReadRequest{Offset: 0, BytesMax: 1 << 20})
		must(t, err)
		if !bytes.Equal(bytes.Join(res.Batches, nil), c.Logs[0].Bytes(0, 150)) {
			t.Fatal("bytes differ from the log")
		}
	}
}

// A reader that goes on where it stopped needs fewer and fewer requests.
func TestGoingOnReadsAhead(t *testing.T) {
	c := archivetest.NewCluster(t, 1)
	c.ObjectBytesMax = 1 << 20
	c.Boot(c.Mem)
	for range 400 {
		c.Logs[0].Append(100, c.Clock.UnixMilli())
	}
	c.Logs[0].Roll()
	for range 40 {
		c.Step()
	}
	gets := func(ahead int) (n int64) {
		cache, _ := openCache(t, 64<<20)
		p := remote.New(remote.Config{Store: c.Mem, Dir: c.Dir(0), Cache: cache, ChunkBytes: 1, AheadMax: ahead})
		before := c.Mem.Stats().Gets
		for at := record.Offset(0); at < 40000; {
			res, err := p.Read(t.Context(), logio.ReadRequest{Offset: at, BytesMax: 10 << 10, MinOne: true})
			must(t, err)
			at = record.Batch(res.Batches[len(res.Batches)-1]).NextOffset()
		}
		return c.Mem.Stats().Gets - before
	}
	one, eight := gets(1), gets(8)
	if eight*2 > one {
		t.Fatalf("%d requests with reading ahead, %d without", eight, one)
	}
}

// A bucket that does not answer, or holds other bytes than the index says, is
// a storage error; offsets outside are out of range; the end is empty.
func TestErrorsAreTold(t *testing.T) {
	c := archived(t, 50)
	var effect objstore.Effect
	f := &objstore.Fault{Store: c.Mem, Rule: func(objstore.Call) objstore.Effect { return effect }}
	cache, _ := openCache(t, 0)
	p := open(c, f, cache)
	effect.Err = objstore.ErrUnavailable
	if _, err := p.Read(t.Context(), logio.ReadRequest{BytesMax: 1, MinOne: true}); !errors.Is(err, logio.ErrStorage) {
		t.Fatalf("unreachable before the manifest was read: %v", err)
	}
	effect.Err = nil
	_, err := p.Refresh(t.Context())
	must(t, err)
	effect.Err = objstore.ErrUnavailable
	if _, err := p.Read(t.Context(), logio.ReadRequest{BytesMax: 1, MinOne: true}); !errors.Is(err, logio.ErrStorage) {
		t.Fatalf("unreachable: %v", err)
	}
	effect.Err = nil
	if _, err := p.Read(t.Context(), logio.ReadRequest{Offset: 151}); !errors.Is(err, logio.ErrOffsetOutOfRange) {
		t.Fatalf("past the end: %v", err)
	}
	res, err := p.Read(t.Context(), logio.ReadRequest{Offset: 150, BytesMax: 99, MinOne: true})
	if err != nil || len(res.Batches) != 0 {
		t.Fatalf("at the end: %v, %v", res, err)
	}
	e := p.Manifest().Entries[0]
	body, err := c.Mem.Get(t.Context(), e.Key, 0, -1)
	must(t, err)
	body[len(body)/2] ^= 1
	must(t, c.Mem.Put(t.Context(), e.Key, body))
	if _, err := p.Read(t.Context(), logio.ReadRequest{BytesMax: 1 << 20}); !errors.Is(err, logio.ErrStorage) || !errors.Is(err, manifest.ErrCorrupt) || !strings.Contains(err.Error(), "offset") {
		t.Fatalf("rot in the bucket: %v", err)
	}
}

// Objects that are collected between two reads are not an error: the newest
// manifest says where the log begins now.
func TestReadsSurviveCollection(t *testing.T) {
	c := archived(t, 300)
	cache, _ := openCache(t, 0)
	p := open(c, c.Mem, cache)
	_, err := p.Read(t.Context(), logio.ReadRequest{BytesMax: 1, MinOne: true})
	must(t, err)
	c.Logs[0].Trim(700)
	c.Step()
	c.Clock = c.Clock.Add(time.Hour)
	c.Step()
	if _, err := p.Read(t.Context(), logio.ReadRequest{BytesMax: 1, MinOne: true}); !errors.Is(err, logio.ErrOffsetOutOfRange) {
		t.Fatalf("below the log start: %v", err)
	}
	res, err := p.Read(t.Context(), logio.ReadRequest{Offset: 700, BytesMax: 1 << 20})
	must(t, err)
	if !bytes.Equal(bytes.Join(res.Batches, nil), c.Logs[0].Bytes(699, 900)) {
		t.Fatal("bytes differ from the log")
	}
}

// Look-up by time agrees with a walk through all records, for each instant;
// retention's Keep agrees with the segments' newest times and sizes.
func TestTimesAreFound(t *testing.T) {
	c := archived(t, 300)
	cache, _ := openCache(t, 1<<20)
	p := open(c, c.Mem, cache)
	_, err := p.Refresh(t.Context())
	must(t, err)
	first := time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC).UnixMilli()
	for i := int64(-1); i < 300; i += 13 {
		found, err := p.Find(t.Context(), first+i*1000-500)
		must(t, err)
		if want := record.Offset(max(i, 0) * 3); found.Offset != want || found.Epoch != 5 {
			t.Fatalf("time of batch %d is found at %+v, want %d", i, found, want)
		}
	}
	found, err := p.Find(t.Context(), first+299_001)
	must(t, err)
	if found.Offset != -1 {
		t.Fatalf("a time after the log is found at %d", found.Offset)
	}
	for _, x := range []struct{ from, end, want record.Offset }{{0, 900, 897}, {0, 897, 894}, {0, 896, 894}, {898, 900, 898}, {898, 898, -1}, {5, 6, 5}} {
		if found, err = p.FindMax(t.Context(), x.from, x.end, -1); err != nil || found.Offset != x.want || (found.Epoch == 5) != (x.want >= 0) {
			t.Fatalf("newest record of [%d, %d): %+v, %v, want %d", x.from, x.end, found, err, x.want)
		}
	}
	before := c.Mem.Stats().Gets
	if found, err = p.FindMax(t.Context(), 0, 900, first+299_000+1); err != nil || found.Offset != -1 {
		t.Fatalf("newest record, a newer one is known: %+v, %v", found, err)
	}
	if n := c.Mem.Stats().Gets - before; n != 0 {
		t.Fatalf("%d GETs for an answer that the manifest gives", n)
	}
	m := p.Manifest()
	for i, e := range m.Entries {
		keep, err := p.Keep(t.Context(), e.MaxTimestamp, -1)
		must(t, err)
		if keep != e.Base {
			t.Fatalf("keep since entry %d's newest time: %d, want %d", i, keep, e.Base)
		}
	}
	if keep, err := p.Keep(t.Context(), first+1_000_000, -1); err != nil || keep != m.End {
		t.Fatalf("keep nothing: %d, %v", keep, err)
	}
	last := m.Entries[len(m.Entries)-1]
	if keep, err := p.Keep(t.Context(), -1, last.Length); err != nil || keep != last.Base {
		t.Fatalf("keep the last entry's bytes: %d, %v", keep, err)
	}
	if keep, err := p.Keep(t.Context(), -1, m.Bytes()); err != nil || keep != 0 {
		t.Fatalf("keep all bytes: %d, %v", keep, err)
	}
}

// A tail reader that slept while its numbers were collected goes on with what
// is there, after the pause in which a live series would have shown a sign.
func TestTailReaderIsNotStuckByCollection(t *testing.T) {
	c := archivetest.NewCluster(t, 1)
	c.Step()
	s := manifest.Series{Node: 1, Boot: 1}
	r := remote.NewTailReader(c.Mem, c.Layout, s, c.Now)
	first, err := r.Next(t.Context())
	must(t, err)
	if first == nil || first.Number != 1 {
		t.Fatalf("first object: %+v", first)
	}
	for range 6 {
		c.Fill(0, 1)
		c.Step()
	}
	for n := uint64(1); n < 5; n++ {
		must(t, c.Mem.Delete(t.Context(), c.Layout.Tail(s, n)))
	}
	next, err := r.Next(t.Context())
	must(t, err)
	if next != nil {
		t.Fatalf("collected number 2 is read as %d", next.Number)
	}
	c.Clock = c.Clock.Add(20 * time.Second)
	var got []string
	for range 4 {
		next, err := r.Next(t.Context())
		must(t, err)
		if next != nil {
			got = append(got, fmt.Sprint(next.Number))
		}
	}
	if s := strings.Join(got, " "); s != "5 6 7" {
		t.Fatalf("after the pause it reads %s, want 5 6 7", s)
	}
}

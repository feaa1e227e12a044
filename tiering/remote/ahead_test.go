package remote_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
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

// beside is a cold log whose cache has work done beside reads, by the test's
// hand. The store counts and can be made to misbehave.
type beside struct {
	*testing.T
	c     *archivetest.Cluster
	log   []byte // [0, end)
	end   record.Offset
	now   time.Time
	fs    *disk.Mem
	fault *disk.Fault
	cache *remote.Cache
	p     *remote.Partition
	asked [remote.WorkCount]atomic.Int64

	mu   sync.Mutex
	gets []int64 // lengths of GETs of segments
	get  func(ctx context.Context, body []byte) ([]byte, error)
}

// besideChunk is the size of an index block, the smallest a chunk can be; the
// log has about 40.
const besideChunk = 64 << 10

func newBeside(t *testing.T, cfg remote.CacheConfig) *beside {
	t.Helper()
	c := archivetest.NewCluster(t, 1)
	c.ObjectBytesMax = 1 << 20
	c.Boot(c.Mem)
	for range 600 {
		c.Logs[0].Append(100, c.Clock.UnixMilli())
	}
	c.Logs[0].Roll()
	for range 20 {
		c.Step()
	}
	b := &beside{T: t, c: c, end: 60000, log: c.Logs[0].Bytes(0, 60000), now: c.Clock, fs: disk.NewMem(1 << 30)}
	b.fault = disk.NewFault(b.fs)
	cfg.FS, cfg.Dir, cfg.FreeBytesMin, cfg.Now = b.fault, "cache", 1, func() time.Time { return b.now }
	cfg.Wake = func(w remote.Work) { b.asked[w].Add(1) }
	var err error
	b.cache, err = remote.OpenCache(cfg)
	must(t, err)
	b.p = remote.New(remote.Config{Store: b.store(), Dir: c.Dir(0), Cache: b.cache, ChunkBytes: besideChunk, AheadMax: 4})
	_, err = b.p.Refresh(t.Context())
	must(t, err)
	if m := b.p.Manifest(); m.End != b.end || len(m.Entries) < 3 || len(b.log) < 40*besideChunk {
		t.Fatalf("%d bytes in %d objects up to offset %d are no test", len(b.log), len(m.Entries), m.End)
	}
	return b
}

// slowly is a Store whose GETs of segments go through beside.get.
type slowly struct {
	objstore.Store
	b *beside
}

func (b *beside) store() objstore.Store { return slowly{b.c.Mem, b} }

func (s slowly) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	body, err := s.Store.Get(ctx, key, offset, length)
	if err != nil || !bytes.HasSuffix([]byte(key), []byte(".segment")) {
		return body, err
	}
	s.b.mu.Lock()
	s.b.gets = append(s.b.gets, length)
	get := s.b.get
	s.b.mu.Unlock()
	if get != nil {
		return get(ctx, body)
	}
	return body, nil
}

// asks sets what GETs do from now on, and gives the lengths of those before.
func (b *beside) asks(get func(context.Context, []byte) ([]byte, error)) []int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	gets := b.gets
	b.gets, b.get = nil, get
	return gets
}

func (b *beside) do(w remote.Work) {
	for b.cache.Do(b.Context(), w) {
	}
}

// read reads and compares with the log; it gives the offset after.
func (b *beside) read(ctx context.Context, at record.Offset, bytesMax int) (record.Offset, error) {
	res, err := b.p.Read(ctx, logio.ReadRequest{Offset: at, BytesMax: bytesMax, MinOne: true})
	if err != nil {
		return at, err
	}
	for _, raw := range res.Batches {
		x := record.Batch(raw)
		if at < x.BaseOffset() || at >= x.NextOffset() || !bytes.Equal(raw, b.c.Logs[0].Bytes(x.BaseOffset(), x.NextOffset())) {
			return at, fmt.Errorf("at offset %d: batch of [%d, %d) differs from the log", at, x.BaseOffset(), x.NextOffset())
		}
		at = x.NextOffset()
	}
	return at, nil
}

// audit checks memory and disk, and gives the bytes read ahead and not read.
func (b *beside) audit(budget int64) int64 {
	b.Helper()
	unread, err := b.cache.Audit()
	must(b.T, err)
	if used := b.cache.Used(); used > budget || onDisk(b.T, b.fs) > budget {
		b.Fatalf("cache holds %d of %d bytes, the disk %d", used, budget, onDisk(b.T, b.fs))
	}
	return unread
}

// A reader that goes on finds its bytes in memory, brought by larger and
// larger requests; what was brought is on the disk for the next one.
func TestReadAheadBesideAReader(t *testing.T) {
	b := newBeside(t, remote.CacheConfig{BytesMax: 8 << 20, MemoryBytesMax: 20 * besideChunk})
	var own, ahead []int64
	for at := record.Offset(0); at < b.end; {
		next, err := b.read(t.Context(), at, besideChunk)
		must(t, err)
		at = next
		own = append(own, b.asks(nil)...)
		b.do(remote.Ahead)
		ahead = append(ahead, b.asks(nil)...)
		if unread := b.audit(8 << 20); unread > 9*besideChunk {
			t.Fatalf("%d bytes are read ahead of one reader", unread)
		}
		b.do(remote.Fill)
	}
	most := int64(0)
	for _, n := range ahead {
		most = max(most, n)
	}
	if len(own) > 4 || most <= besideChunk || most > 3*besideChunk {
		t.Fatalf("the reader asked for %d, beside it %d", own, ahead)
	}
	if unread := b.audit(8 << 20); unread != 0 {
		t.Fatalf("%d bytes are unread at the end", unread)
	}
	b.p = remote.New(remote.Config{Store: b.store(), Dir: b.c.Dir(0), Cache: b.cache, ChunkBytes: besideChunk, AheadMax: 4})
	for at := record.Offset(0); at < b.end; {
		next, err := b.read(t.Context(), at, besideChunk)
		must(t, err)
		at = next
		b.do(remote.Ahead)
		b.audit(8 << 20)
	}
	if gets := b.asks(nil); len(gets) != 0 {
		t.Fatalf("the second reader had %d asked for", gets)
	}
}

// A reader that jumps about costs a chunk where it reads, and nothing more;
// so does one that goes on by a batch at a time, until it has read half of one.
func TestNothingIsReadAheadForJumps(t *testing.T) {
	b := newBeside(t, remote.CacheConfig{BytesMax: 8 << 20, MemoryBytesMax: 20 * besideChunk})
	rng := rand.New(rand.NewPCG(3, 3))
	for range 50 {
		at := record.Offset(rng.Int64N(int64(b.end)))
		_, err := b.read(t.Context(), at, 1)
		must(t, err)
		if gets := b.asks(nil); len(gets) > 1 || len(gets) == 1 && gets[0] > 2*besideChunk {
			t.Fatalf("one batch at %d had %d asked for", at, gets)
		}
	}
	if n := b.asked[remote.Ahead].Load(); n != 0 {
		t.Fatalf("read ahead %d times", n)
	}
	b.audit(8 << 20)
}

// A reader that went away has its requests ended and its memory given back; it
// may come back.
func TestReadAheadEndsWithItsReader(t *testing.T) {
	b := newBeside(t, remote.CacheConfig{BytesMax: 8 << 20, MemoryBytesMax: 20 * besideChunk})
	at := record.Offset(0)
	read := func() {
		t.Helper()
		next, err := b.read(t.Context(), at, besideChunk)
		must(t, err)
		at = next
	}
	for range 3 {
		read()
	}
	asked := make(chan struct{})
	b.asks(func(ctx context.Context, _ []byte) ([]byte, error) {
		close(asked)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	ended := make(chan struct{})
	go func() { b.cache.Do(t.Context(), remote.Ahead); close(ended) }()
	<-asked
	if b.audit(8<<20) == 0 {
		t.Fatal("nothing is on the way")
	}
	b.now = b.now.Add(time.Minute)
	b.cache.Sweep()
	<-ended
	b.asks(nil)
	b.do(remote.Ahead)
	if unread := b.audit(8 << 20); unread != 0 {
		t.Fatalf("%d bytes are held for a reader that is gone", unread)
	}
	for range 3 {
		read()
	}
	b.do(remote.Ahead)
	if b.audit(8<<20) == 0 {
		t.Fatal("nothing is read ahead for the reader that came back")
	}
}

// One who waits for bytes that are on the way gets them from there; if they do
// not come, it asks by itself and is told what the bucket says; if it leaves,
// they still come for the others.
func TestWaitingForWhatIsOnTheWay(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want int // further GETs
	}{"they come": {nil, 0}, "they do not": {objstore.ErrUnavailable, 1}} {
		t.Run(name, func(t *testing.T) {
			b := newBeside(t, remote.CacheConfig{MemoryBytesMax: 20 * besideChunk})
			at := record.Offset(0)
			for range 3 {
				var err error
				at, err = b.read(t.Context(), at, besideChunk)
				must(t, err)
			}
			asked, go_ := make(chan struct{}), make(chan struct{})
			b.asks(func(_ context.Context, body []byte) ([]byte, error) {
				close(asked)
				<-go_
				return body, c.err
			})
			ended := make(chan struct{})
			go func() { b.cache.Do(t.Context(), remote.Ahead); close(ended) }()
			<-asked
			b.asks(nil)
			impatient, leave := context.WithCancel(t.Context())
			leave()
			next := at
			for ; ; next += 100 { // to what is on the way
				if _, err := b.read(impatient, next, 1); err != nil {
					if !errors.Is(err, logio.ErrStorage) {
						t.Fatal(err)
					}
					break
				}
			}
			got := make(chan error)
			for range 3 {
				go func() {
					_, err := b.read(t.Context(), next, 1)
					got <- err
				}()
			}
			close(go_)
			for range 3 {
				must(t, <-got)
			}
			<-ended
			if gets := b.asks(nil); len(gets) < c.want || len(gets) > 3*c.want {
				t.Fatalf("%d GETs, want %d", gets, c.want)
			}
			b.audit(0)
		})
	}
}

// With a store that is slow, refuses, cuts short and gives other bytes, a disk
// that is full now and then, and a cache and memory far smaller than what is
// read, readers that go on, jump and leave never see a wrong byte, no budget
// is passed, and all is well when the trouble ends.
func TestReadAheadInTrouble(t *testing.T) {
	const budget = 10 * besideChunk
	b := newBeside(t, remote.CacheConfig{BytesMax: budget, MemoryBytesMax: 16 * besideChunk, FetchBytesMax: 8 * besideChunk})
	var turn atomic.Int64
	b.asks(func(ctx context.Context, body []byte) ([]byte, error) {
		switch turn.Add(1) % 7 {
		case 1:
			return nil, objstore.ErrUnavailable
		case 3:
			return body[:len(body)/2], nil
		case 5:
			bad := bytes.Clone(body)
			bad[len(bad)/2] ^= 1
			return bad, nil
		}
		return body, ctx.Err()
	})
	full := atomic.Int64{}
	b.fault.Add(disk.Rule{When: func(c disk.Call) bool { return c.Op == disk.OpWrite && full.Add(1)%3 == 0 }, Err: disk.ErrFull})
	work, stop := context.WithCancel(t.Context())
	var workers, readers sync.WaitGroup
	for i := range 5 {
		workers.Go(func() {
			for work.Err() == nil {
				if !b.cache.Do(work, remote.Work(i%2)) {
					b.cache.Sweep()
				}
			}
		})
	}
	for i := range 4 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			at := record.Offset(0)
			for range 150 {
				ctx, leave := context.WithCancel(t.Context())
				if rng.IntN(10) == 0 {
					leave()
				}
				next, err := b.read(ctx, at, 1+rng.IntN(2*besideChunk))
				leave()
				if err != nil && !errors.Is(err, logio.ErrStorage) && !errors.Is(err, manifest.ErrCorrupt) {
					t.Errorf("read at %d: %v", at, err)
					return
				}
				if at = next; at == b.end || rng.IntN(20) == 0 {
					at = record.Offset(rng.Int64N(int64(b.end)))
				}
				if _, err := b.cache.Audit(); err != nil {
					t.Error(err)
				}
				if used := b.cache.Used(); used > budget {
					t.Errorf("cache holds %d of %d bytes", used, budget)
				}
			}
		})
	}
	readers.Wait()
	stop()
	workers.Wait()
	b.asks(nil)
	b.fault.Clear()
	for at := record.Offset(0); at < b.end; {
		next, err := b.read(t.Context(), at, besideChunk)
		must(t, err)
		at = next
		b.do(remote.Ahead)
		b.do(remote.Fill)
		b.audit(budget)
	}
}

// With nobody to write to the disk, reads write themselves: nothing waits
// without bound, and a chunk is not asked for again and again.
func TestReadsFillWhenNobodyDoes(t *testing.T) {
	b := newBeside(t, remote.CacheConfig{BytesMax: 8 << 20, MemoryBytesMax: 4 * besideChunk})
	for range 2 {
		for at := record.Offset(0); at < b.end; {
			next, err := b.read(t.Context(), at, 3000)
			must(t, err)
			at = next
			b.audit(8 << 20)
		}
	}
	var sum int64
	for _, n := range b.asks(nil) {
		sum += n
	}
	if sum > int64(len(b.log))*5/4 {
		t.Fatalf("%d bytes were asked for to read %d twice", sum, len(b.log))
	}
}

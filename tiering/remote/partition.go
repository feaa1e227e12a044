package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"tidewater/internal/logio"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// Config of one partition's reads.
type Config struct {
	Store objstore.Store
	Dir   manifest.Dir
	// Cache is shared by all partitions of the broker.
	Cache *Cache
	// ChunkBytes is about how much one request reads at least. 0 is 1 MiB.
	ChunkBytes int64
	// AheadMax is how many chunks one request may read for a reader that goes
	// on and on; twice as many are read ahead for one. 0 is 8.
	AheadMax int
}

const (
	defaultChunkBytes = 1 << 20
	defaultAhead      = 8
)

// Partition reads one partition by its manifests.
type Partition struct {
	cfg Config

	mu  sync.Mutex
	cur *manifest.Manifest // nil before the first look; never changed

	// streams are the readers seen last, the quietest first; guarded by the
	// mutex of the cache's memory.
	streams []*stream

	// refresh is a mutex for the reader alone: it is held while manifests are
	// read, so that many readers who miss ask the bucket once. mu is taken
	// inside it.
	refresh sync.Mutex
	reader  *manifest.Reader
}

// New makes a partition; it asks the bucket nothing yet.
func New(cfg Config) *Partition {
	if cfg.ChunkBytes == 0 {
		cfg.ChunkBytes = defaultChunkBytes
	}
	if cfg.AheadMax == 0 {
		cfg.AheadMax = defaultAhead
	}
	return &Partition{cfg: cfg, reader: manifest.NewReader(cfg.Store, cfg.Dir)}
}

// Manifest is the newest manifest seen, nil for none; nobody changes it.
func (p *Partition) Manifest() *manifest.Manifest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cur
}

// Refresh follows to the newest manifest, and says whether there was news. A
// partition that has none yet is no error.
func (p *Partition) Refresh(ctx context.Context) (bool, error) {
	p.refresh.Lock()
	defer p.refresh.Unlock()
	news, err := p.reader.Poll(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cur = p.reader.Current()
	return news, storageError(err)
}

// known gives a manifest that reaches past offset if one exists.
func (p *Partition) known(ctx context.Context, o record.Offset) (*manifest.Manifest, error) {
	m := p.Manifest()
	if m == nil || o >= m.End {
		if _, err := p.Refresh(ctx); err != nil && m == nil {
			return nil, err
		}
		m = p.Manifest()
	}
	if m == nil {
		return &manifest.Manifest{MaxProducerID: -1}, nil
	}
	return m, nil
}

// Start and End are the offsets that can be read by the newest manifest seen:
// first, and exclusive end. Both are 0 before the first look.
func (p *Partition) Start() record.Offset {
	if m := p.Manifest(); m != nil {
		return m.Start()
	}
	return 0
}

// End: see Start.
func (p *Partition) End() record.Offset {
	if m := p.Manifest(); m != nil {
		return m.End
	}
	return 0
}

// Epochs is the leader-epoch history by the newest manifest seen.
func (p *Partition) Epochs() []logio.EpochStart {
	if m := p.Manifest(); m != nil {
		return m.Epochs
	}
	return nil
}

// Read gives whole batches from the one that holds r.Offset on; none at the
// end. Offsets outside are logio.ErrOffsetOutOfRange, a bucket that does not
// answer or lacks what it should have is logio.ErrStorage. Isolation and
// CurrentEpoch are not looked at.
func (p *Partition) Read(ctx context.Context, r logio.ReadRequest) (logio.ReadResult, error) {
	return p.readFrom(ctx, (*manifest.Manifest).Start, r)
}

// readFrom is Read of a log that begins at first of its manifest.
func (p *Partition) readFrom(ctx context.Context, first func(*manifest.Manifest) record.Offset, r logio.ReadRequest) (logio.ReadResult, error) {
	m, err := p.known(ctx, r.Offset)
	if err != nil {
		return logio.ReadResult{}, err
	}
	res, err := p.read(ctx, m, first(m), r)
	if !errors.Is(err, objstore.ErrNotFound) {
		return res, storageError(err)
	}
	// The object may have been retired since this manifest.
	if _, err := p.Refresh(ctx); err != nil {
		return res, err
	}
	if m, err = p.known(ctx, r.Offset); err != nil {
		return logio.ReadResult{}, err
	}
	res, err = p.read(ctx, m, first(m), r)
	return res, storageError(err)
}

func (p *Partition) read(ctx context.Context, m *manifest.Manifest, first record.Offset, r logio.ReadRequest) (res logio.ReadResult, err error) {
	res = logio.ReadResult{Offsets: logio.Offsets{LogStart: m.Start(), Archived: m.End, LogEnd: m.End, HighWatermark: m.End, LastStable: m.StableTo, Epoch: m.Epoch}}
	if r.Offset < first || r.Offset > m.End {
		return res, fmt.Errorf("%w: offset %d, the bucket has %d to %d", logio.ErrOffsetOutOfRange, r.Offset, first, m.End)
	}
	at, end := r.Offset, record.Offset(0)
	size := 0
	s := p.seen(r.Offset)
	chunks := p.chunksAtOnce(s)
	defer func() { p.stopped(s, at, end, size, err) }()
	for at < m.End {
		e, ok, err := p.entryAt(ctx, m, at)
		if err != nil || !ok {
			return res, err
		}
		at = max(at, e.Base)
		x, err := p.indexOf(ctx, &e)
		if err != nil {
			return res, err
		}
		c := x.chunkOf(at)
		chunk, from, err := p.chunk(ctx, &e, x, c, chunks)
		if err != nil {
			if size > 0 {
				break // what is there is given; the next read tells the rest
			}
			return res, err
		}
		end = chunkEnd(&e, x, c)
		full, err := take(&res, chunk, from, &at, &size, r)
		if err != nil {
			return res, fmt.Errorf("read %s: %w", e.Key, err)
		}
		if full {
			break
		}
	}
	return res, nil
}

// chunksAtOnce is how many chunks a read asks the bucket for: one, unless
// nothing is done beside reads; then more for a reader that goes on, so that
// the next reads have them.
func (p *Partition) chunksAtOnce(s *stream) int {
	if p.cfg.Cache.cfg.Wake != nil {
		return 1
	}
	return min(1<<min(s.runs, 30), p.cfg.AheadMax)
}

// take moves batches of a chunk into the result until it is full. at moves to
// the offset after the last one taken.
func take(res *logio.ReadResult, chunk []byte, from logio.Source, at *record.Offset, size *int, r logio.ReadRequest) (full bool, err error) {
	for len(chunk) > 0 {
		b, rest, err := record.Next(chunk)
		if err != nil {
			return true, err
		}
		chunk = rest
		if b.NextOffset() <= *at {
			continue
		}
		if *size+len(b) > r.BytesMax && !(r.MinOne && *size == 0) {
			return true, nil
		}
		res.Batches = append(res.Batches, b)
		res.Bytes[from] += int64(len(b))
		*size += len(b)
		*at = b.NextOffset()
	}
	return *size >= r.BytesMax, nil
}

// chunk gives the checked bytes of chunk c of an entry, from memory, the cache
// or the bucket; in one request it may fetch up to count chunks.
func (p *Partition) chunk(ctx context.Context, e *manifest.Entry, x *index, c, count int) ([]byte, logio.Source, error) {
	key, cache := chunkKey(e, x, c), p.cfg.Cache
	b, coming := cache.memory.find(key)
	if coming.span != nil {
		var err error
		if b, err = cache.memory.wait(ctx, coming); err != nil {
			return nil, 0, err
		}
	}
	if b != nil {
		return b, logio.FromCache, nil
	}
	if b, ok := cache.get(key); ok {
		if x.check(c, b) == nil {
			if s := cache.memory.begin([]string{key}, []int64{0, int64(len(b))}); s != nil {
				cache.memory.finish(s, b)
			}
			return b, logio.FromCache, nil
		}
		cache.drop(key)
	}
	r := &stretch{e: e, x: x, c: c, end: c + 1}
	for r.end-c < count && r.end < len(x.chunks) && cache.holds(2*int64(count)*p.cfg.ChunkBytes) {
		if next := chunkKey(e, x, r.end); cache.has(next) || cache.memory.has(next) {
			break
		}
		r.end++
	}
	b, err := p.demand(ctx, r)
	return b, logio.FromBucket, err
}

// demand fetches chunks that a read waits for, and gives the first one. They
// go to the disk beside it, or before it when too much waits for the disk.
func (p *Partition) demand(ctx context.Context, r *stretch) ([]byte, error) {
	cache := p.cfg.Cache
	keys, cuts := r.keys()
	var s *span
	if cache.cfg.Wake != nil || cache.holds(cuts[1]) {
		s = cache.memory.begin(keys, cuts)
	}
	body, err := p.fetchChunks(ctx, r)
	if s != nil {
		cache.memory.finish(s, body)
	}
	if err != nil {
		return nil, err
	}
	if s == nil || !cache.queue(s) {
		cache.put(keys, cuts, body)
	}
	return body[:cuts[1]:cuts[1]], nil
}

func (p *Partition) fetch(ctx context.Context, e *manifest.Entry, from, to int64) ([]byte, error) {
	weight := min(to-from, p.cfg.Cache.cfg.FetchBytesMax)
	if err := p.cfg.Cache.fetches.Acquire(ctx, weight); err != nil {
		return nil, fmt.Errorf("wait to read %s: %w: %w", e.Key, objstore.ErrUnavailable, err)
	}
	defer p.cfg.Cache.fetches.Release(weight)
	body, err := p.cfg.Store.Get(ctx, e.Key, e.Position+from, to-from)
	if err != nil {
		return nil, err
	}
	if int64(len(body)) != to-from {
		return nil, fmt.Errorf("read %s: %w: %d bytes at %d, want %d", e.Key, manifest.ErrCorrupt, len(body), e.Position+from, to-from)
	}
	return body, nil
}

func chunkKey(e *manifest.Entry, x *index, c int) string {
	from, _ := x.span(c)
	return fmt.Sprintf("%s@%d", e.Key, e.Position+from)
}

// chunkEnd is the offset after a chunk.
func chunkEnd(e *manifest.Entry, x *index, c int) record.Offset {
	if _, hi := x.blockRange(c); hi < len(x.blocks) {
		return x.blocks[hi].Base
	}
	return e.Next()
}

// Scan calls fn for every batch from the one that holds from up to those that
// begin before to, whole batches, in order. Unlike a reader it is given what
// lies below the log start, as far as objects still hold it.
func (p *Partition) Scan(ctx context.Context, from, to record.Offset, fn func(record.Batch) error) error {
	for at := from; at < to; {
		res, err := p.readFrom(ctx, (*manifest.Manifest).First, logio.ReadRequest{Offset: at, BytesMax: int(p.cfg.ChunkBytes), MinOne: true})
		if err != nil {
			return err
		}
		if len(res.Batches) == 0 {
			return fmt.Errorf("scan from offset %d: the bucket ends at %d: %w", at, res.Offsets.LogEnd, logio.ErrOffsetOutOfRange)
		}
		for _, raw := range res.Batches {
			b := record.Batch(raw)
			if b.BaseOffset() >= to {
				return nil
			}
			if err := fn(b); err != nil {
				return err
			}
			at = b.NextOffset()
		}
	}
	return nil
}

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
	// on and on. 0 is 8.
	AheadMax int
}

const (
	defaultChunkBytes = 1 << 20
	defaultAhead      = 8
	// streamsMax is how many readers are told apart for reading ahead.
	streamsMax = 8
)

// Partition reads one partition by its manifests.
type Partition struct {
	cfg Config

	mu      sync.Mutex
	cur     *manifest.Manifest // nil before the first look; never changed
	streams [streamsMax]stream
	turn    int

	// refresh is a mutex for the reader alone: it is held while manifests are
	// read, so that many readers who miss ask the bucket once. mu is taken
	// inside it.
	refresh sync.Mutex
	reader  *manifest.Reader
}

// stream is one reader that was seen going on where it had stopped.
type stream struct {
	next  record.Offset
	ahead int
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

func (p *Partition) read(ctx context.Context, m *manifest.Manifest, first record.Offset, r logio.ReadRequest) (logio.ReadResult, error) {
	res := logio.ReadResult{Offsets: logio.Offsets{LogStart: m.Start(), Archived: m.End, LogEnd: m.End, HighWatermark: m.End, LastStable: m.StableTo, Epoch: m.Epoch}}
	if r.Offset < first || r.Offset > m.End {
		return res, fmt.Errorf("%w: offset %d, the bucket has %d to %d", logio.ErrOffsetOutOfRange, r.Offset, first, m.End)
	}
	at, ahead := r.Offset, p.seen(r.Offset)
	size := 0
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
		chunk, from, err := p.chunk(ctx, &e, x, x.chunkOf(at), ahead)
		if err != nil {
			if size > 0 {
				break // what is there is given; the next read tells the rest
			}
			return res, err
		}
		full, err := take(&res, chunk, from, &at, &size, r)
		if err != nil {
			return res, fmt.Errorf("read %s: %w", e.Key, err)
		}
		if full {
			break
		}
	}
	p.stopped(at, ahead)
	return res, nil
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

// seen says how many chunks to fetch for a read at o: more for one that goes
// on where another stopped.
func (p *Partition) seen(o record.Offset) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.streams {
		if s := &p.streams[i]; s.ahead > 0 && s.next == o {
			n := min(s.ahead*2, p.cfg.AheadMax)
			*s = stream{}
			return n
		}
	}
	return 1
}

// stopped remembers where a read ended.
func (p *Partition) stopped(o record.Offset, ahead int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams[p.turn] = stream{next: o, ahead: ahead}
	p.turn = (p.turn + 1) % streamsMax
}

// chunk gives the checked bytes of chunk c of an entry, from the cache or the
// bucket; in one request it may fetch the following ones into the cache.
func (p *Partition) chunk(ctx context.Context, e *manifest.Entry, x *index, c, ahead int) ([]byte, logio.Source, error) {
	if b, ok := p.cfg.Cache.recent.get(chunkKey(e, x, c)); ok {
		return b, logio.FromCache, nil
	}
	if b, ok := p.cfg.Cache.get(chunkKey(e, x, c)); ok {
		if x.check(c, b) == nil {
			p.cfg.Cache.recent.put(chunkKey(e, x, c), b)
			return b, logio.FromCache, nil
		}
		p.cfg.Cache.drop(chunkKey(e, x, c))
	}
	from, to := x.span(c)
	last := c
	for n := 1; n < ahead && last+1 < len(x.chunks) && p.cfg.Cache.holds(2*int64(ahead)*p.cfg.ChunkBytes); n++ {
		last++
		_, to = x.span(last)
	}
	body, err := p.fetch(ctx, e, from, to)
	if err != nil {
		return nil, 0, err
	}
	for i := c; i <= last; i++ {
		lo, hi := x.span(i)
		part := body[lo-from : hi-from : hi-from]
		if err := x.check(i, part); err != nil {
			return nil, 0, fmt.Errorf("read %s: %w", e.Key, err)
		}
		p.cfg.Cache.put(chunkKey(e, x, i), part)
		if p.cfg.Cache.holds(int64(len(part))) {
			p.cfg.Cache.recent.put(chunkKey(e, x, i), part)
		}
	}
	lo, hi := x.span(c)
	return body[lo-from : hi-from : hi-from], logio.FromBucket, nil
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

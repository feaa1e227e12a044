package remote

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"sync"

	"golang.org/x/sync/semaphore"

	"tidewater/internal/disk"
)

// CacheConfig of the chunk cache of one broker.
type CacheConfig struct {
	FS  disk.FS
	Dir string
	// BytesMax is the budget on disk, block padding included.
	BytesMax int64
	// FetchBytesMax bounds what all reads together fetch from the bucket at a
	// time. 0 is 64 MiB.
	FetchBytesMax int64
	// IndexesMax bounds the indexes kept in memory. 0 is 512.
	IndexesMax int
	// RecentMax bounds the chunks kept in memory too: an answer ends inside a
	// chunk, so that the next read begins in it, and chunks read ahead are
	// asked for at once. Each is a view of what one GET brought, so that eight
	// hold at most 64 MiB. 0 is 8, negative none.
	RecentMax int
	// FreeBytesMin is left alone on the disk. 0 is 256 MiB.
	FreeBytesMin int64
}

const (
	defaultFetchBytes = 64 << 20
	defaultIndexes    = 512
	pagesMax          = 64
	defaultRecent     = 8
	defaultFreeBytes  = 256 << 20
)

// Cache keeps chunks of bucket objects on disk, and indexes and manifest pages
// in memory, for all partitions of a broker.
type Cache struct {
	cfg     CacheConfig
	fetches *semaphore.Weighted
	indexes *lru[*index]
	pages   *lru[*page]
	recent  *lru[[]byte] // checked chunks; nobody changes them

	mu    sync.Mutex
	used  int64 // bytes on disk, those being written or removed included
	next  uint64
	byKey map[string]*list.Element
	order *list.List // of *chunkFile, most recently used first
}

// chunkFile is one chunk on disk.
type chunkFile struct {
	key   string
	name  string
	size  int64 // of the chunk
	disk  int64 // of the file
	ready bool  // written; a file that is not is not evicted
	users int   // reads under way; a file that has any is not evicted
}

// OpenCache empties the directory and starts with nothing.
func OpenCache(cfg CacheConfig) (*Cache, error) {
	if cfg.FetchBytesMax == 0 {
		cfg.FetchBytesMax = defaultFetchBytes
	}
	if cfg.IndexesMax == 0 {
		cfg.IndexesMax = defaultIndexes
	}
	if cfg.RecentMax == 0 {
		cfg.RecentMax = defaultRecent
	}
	if cfg.FreeBytesMin == 0 {
		cfg.FreeBytesMin = defaultFreeBytes
	}
	c := &Cache{
		cfg: cfg, fetches: semaphore.NewWeighted(cfg.FetchBytesMax),
		indexes: newLRU[*index](cfg.IndexesMax), pages: newLRU[*page](pagesMax), recent: newLRU[[]byte](max(0, cfg.RecentMax)),
		byKey: map[string]*list.Element{}, order: list.New(),
	}
	if cfg.BytesMax <= 0 {
		return c, nil
	}
	if err := cfg.FS.RemoveAll(cfg.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("empty chunk cache: %w", err)
	}
	if err := cfg.FS.MkdirAll(cfg.Dir); err != nil {
		return nil, fmt.Errorf("make chunk cache: %w", err)
	}
	return c, nil
}

// Used is the number of bytes on disk now.
func (c *Cache) Used() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// holds reports whether a chunk of that size could be kept at all.
func (c *Cache) holds(size int64) bool { return padded(size) <= c.cfg.BytesMax }

func padded(n int64) int64 { return (n + disk.BlockBytes - 1) / disk.BlockBytes * disk.BlockBytes }

// get reads a chunk; false if it is not there. The caller checks the bytes and
// calls drop if they do not check.
func (c *Cache) get(key string) ([]byte, bool) {
	f := c.pin(key)
	if f == nil {
		return nil, false
	}
	p, err := c.read(f)
	c.unpin(f)
	if err != nil {
		c.drop(key)
		return nil, false
	}
	return p, true
}

func (c *Cache) pin(key string) *chunkFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byKey[key]
	if !ok || !e.Value.(*chunkFile).ready {
		return nil
	}
	c.order.MoveToFront(e)
	f := e.Value.(*chunkFile)
	f.users++
	return f
}

func (c *Cache) unpin(f *chunkFile) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.users--
}

func (c *Cache) read(f *chunkFile) ([]byte, error) {
	file, err := c.cfg.FS.Open(f.name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p := make([]byte, f.disk)
	if n, err := file.ReadAt(p, 0); err != nil && !(errors.Is(err, io.EOF) && int64(n) >= f.size) {
		return nil, err
	}
	return p[:f.size:f.size], nil
}

// drop removes a chunk that is wrong or cannot be read.
func (c *Cache) drop(key string) {
	c.mu.Lock()
	e, ok := c.byKey[key]
	if !ok || !e.Value.(*chunkFile).ready || e.Value.(*chunkFile).users > 0 {
		c.mu.Unlock()
		return
	}
	f := c.unlink(e)
	c.mu.Unlock()
	c.remove(f)
}

// unlink takes a chunk out of the tables; its bytes stay counted until remove.
func (c *Cache) unlink(e *list.Element) *chunkFile {
	f := e.Value.(*chunkFile)
	c.order.Remove(e)
	delete(c.byKey, f.key)
	return f
}

// remove deletes the file of an unlinked chunk and gives its bytes back. A
// file that cannot be deleted stays counted: the budget is of the disk.
func (c *Cache) remove(f *chunkFile) {
	if err := c.cfg.FS.Remove(f.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used -= f.disk
}

// put keeps a chunk if room can be made for it. A failing disk makes the cache
// smaller, never a read wrong.
func (c *Cache) put(key string, p []byte) {
	f := c.admit(key, int64(len(p)))
	if f == nil {
		return
	}
	err := c.write(f, p)
	c.mu.Lock()
	f.ready = err == nil
	if err == nil {
		c.mu.Unlock()
		return
	}
	c.unlink(c.byKey[key])
	c.mu.Unlock()
	c.remove(f)
}

// admit makes room and takes it; nil if there is none, or the chunk is there.
func (c *Cache) admit(key string, size int64) *chunkFile {
	need := padded(size)
	if !c.holds(size) || size == 0 {
		return nil
	}
	if free, err := c.cfg.FS.Free(); err != nil || free-need < c.cfg.FreeBytesMin {
		return nil
	}
	for {
		c.mu.Lock()
		if _, there := c.byKey[key]; there {
			c.mu.Unlock()
			return nil
		}
		if c.used+need <= c.cfg.BytesMax {
			c.next++
			f := &chunkFile{key: key, name: c.cfg.Dir + "/" + strconv.FormatUint(c.next, 10), size: size, disk: need}
			c.byKey[key] = c.order.PushFront(f)
			c.used += need
			c.mu.Unlock()
			return f
		}
		victim := c.victim()
		c.mu.Unlock()
		if victim == nil {
			return nil
		}
		before := c.Used()
		c.remove(victim)
		if c.Used() >= before && before+need > c.cfg.BytesMax {
			return nil // the file could not be removed, or others were faster
		}
	}
}

// victim unlinks the chunk that was used longest ago and is not in use.
func (c *Cache) victim() *chunkFile {
	for e := c.order.Back(); e != nil; e = e.Prev() {
		if f := e.Value.(*chunkFile); f.ready && f.users == 0 {
			return c.unlink(e)
		}
	}
	return nil
}

func (c *Cache) write(f *chunkFile, p []byte) error {
	file, err := c.cfg.FS.Create(f.name)
	if err != nil {
		return err
	}
	defer file.Close()
	block := p
	if int64(len(p)) != f.disk {
		block = make([]byte, f.disk)
		copy(block, p)
	}
	_, err = file.WriteAt(block, 0)
	return err
}

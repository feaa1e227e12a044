package remote

import (
	"container/list"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"sync"
	"time"

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
	// MemoryBytesMax bounds the chunks in memory: those read last, since an
	// answer ends inside a chunk and the next read begins in it, and those read
	// ahead, from before they are asked for. 0 is 64 MiB, negative none.
	MemoryBytesMax int64
	// Wake is called when there is work beside reads; one that hears it calls
	// Do. It is called with a lock held and must not block or call back. Nil:
	// reads do all work themselves, before they answer.
	Wake func(Work)
	// Alone: all callers share one goroutine, and one may call while a request
	// of another is under way. None waits for another then; it asks the bucket
	// itself.
	Alone bool
	// Now is the clock by which readers are known to be gone; needed with Wake.
	Now func() time.Time
	// FreeBytesMin is left alone on the disk. 0 is 256 MiB.
	FreeBytesMin int64
}

const (
	defaultFetchBytes = 64 << 20
	defaultIndexes    = 512
	pagesMax          = 64
	defaultMemory     = 64 << 20
	defaultFreeBytes  = 256 << 20
)

// Cache keeps chunks of bucket objects on disk, and indexes and manifest pages
// in memory, for all partitions of a broker.
type Cache struct {
	cfg     CacheConfig
	fetches *semaphore.Weighted
	indexes *lru[*index]
	pages   *lru[*page]
	memory  *memory

	mu    sync.Mutex
	used  int64 // bytes on disk, those being written or removed included
	next  uint64
	byKey map[string]filed
	order *list.List // of *cacheFile, most recently used first
}

// cacheFile is adjoining chunks on disk: what one request brought, since a
// file costs far more than a write.
type cacheFile struct {
	keys  []string
	cuts  []int64 // where each chunk begins, and the end
	name  string
	disk  int64 // bytes of the file
	ready bool  // written; a file that is not is not evicted
	users int   // reads under way; a file that has any is not evicted
	place *list.Element
}

// filed is a chunk in a file.
type filed struct {
	file *cacheFile
	i    int
}

// OpenCache empties the directory and starts with nothing.
func OpenCache(cfg CacheConfig) (*Cache, error) {
	if cfg.FetchBytesMax == 0 {
		cfg.FetchBytesMax = defaultFetchBytes
	}
	if cfg.IndexesMax == 0 {
		cfg.IndexesMax = defaultIndexes
	}
	if cfg.MemoryBytesMax == 0 {
		cfg.MemoryBytesMax = defaultMemory
	}
	if cfg.FreeBytesMin == 0 {
		cfg.FreeBytesMin = defaultFreeBytes
	}
	c := &Cache{
		cfg: cfg, fetches: semaphore.NewWeighted(cfg.FetchBytesMax),
		indexes: newLRU[*index](cfg.IndexesMax), pages: newLRU[*page](pagesMax), memory: newMemory(cfg),
		byKey: map[string]filed{}, order: list.New(),
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

// has reports whether a chunk is on disk.
func (c *Cache) has(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.byKey[key]
	return ok && at.file.ready
}

// get reads a chunk; false if it is not there. The caller checks the bytes and
// calls drop if they do not check.
func (c *Cache) get(key string) ([]byte, bool) {
	at := c.pin(key)
	if at.file == nil {
		return nil, false
	}
	p, err := c.read(at)
	c.unpin(at.file)
	if err != nil {
		c.drop(key)
		return nil, false
	}
	return p, true
}

func (c *Cache) pin(key string) filed {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.byKey[key]
	if !ok || !at.file.ready {
		return filed{}
	}
	c.order.MoveToFront(at.file.place)
	at.file.users++
	return at
}

func (c *Cache) unpin(f *cacheFile) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.users--
}

// read reads the blocks that hold a chunk.
func (c *Cache) read(at filed) ([]byte, error) {
	file, err := c.cfg.FS.Open(at.file.name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lo, hi := at.file.cuts[at.i], at.file.cuts[at.i+1]
	from := lo / disk.BlockBytes * disk.BlockBytes
	p := disk.Alloc(int(padded(hi - from)))
	if n, err := file.ReadAt(p, from); err != nil && !(errors.Is(err, io.EOF) && int64(n) >= hi-from) {
		return nil, err
	}
	return p[lo-from : hi-from : hi-from], nil
}

// drop removes the file of a chunk that is wrong or cannot be read.
func (c *Cache) drop(key string) {
	c.mu.Lock()
	at, ok := c.byKey[key]
	if !ok || !at.file.ready || at.file.users > 0 {
		c.mu.Unlock()
		return
	}
	c.unlink(at.file)
	c.mu.Unlock()
	c.remove(at.file)
}

// unlink takes a file out of the tables; its bytes stay counted until remove.
func (c *Cache) unlink(f *cacheFile) {
	c.order.Remove(f.place)
	for _, k := range f.keys {
		delete(c.byKey, k)
	}
}

// remove deletes an unlinked file and gives its bytes back. A
// file that cannot be deleted stays counted: the budget is of the disk.
func (c *Cache) remove(f *cacheFile) {
	if err := c.cfg.FS.Remove(f.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used -= f.disk
}

// put keeps adjoining chunks, cut out of p, if room can be made for them. A
// failing disk makes the cache smaller, never a read wrong.
func (c *Cache) put(keys []string, cuts []int64, p []byte) {
	f := c.admit(keys, cuts)
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
	c.unlink(f)
	c.mu.Unlock()
	c.remove(f)
}

// admit makes room and takes it; nil if there is none, or a chunk is there.
func (c *Cache) admit(keys []string, cuts []int64) *cacheFile {
	size := cuts[len(keys)]
	need := padded(size)
	if !c.holds(size) || size == 0 {
		return nil
	}
	if free, err := c.cfg.FS.Free(); err != nil || free-need < c.cfg.FreeBytesMin {
		return nil
	}
	for {
		c.mu.Lock()
		if c.anyThere(keys) {
			c.mu.Unlock()
			return nil
		}
		if c.used+need <= c.cfg.BytesMax {
			c.next++
			f := &cacheFile{keys: keys, cuts: cuts, name: c.cfg.Dir + "/" + strconv.FormatUint(c.next, 10), disk: need}
			for i, k := range keys {
				c.byKey[k] = filed{f, i}
			}
			f.place = c.order.PushFront(f)
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

func (c *Cache) anyThere(keys []string) bool {
	for _, k := range keys {
		if _, ok := c.byKey[k]; ok {
			return true
		}
	}
	return false
}

// victim unlinks the file that was used longest ago and is not in use.
func (c *Cache) victim() *cacheFile {
	for e := c.order.Back(); e != nil; e = e.Prev() {
		if f := e.Value.(*cacheFile); f.ready && f.users == 0 {
			c.unlink(f)
			return f
		}
	}
	return nil
}

// write writes whole blocks from where they are, and a copy of what is left.
func (c *Cache) write(f *cacheFile, p []byte) error {
	file, err := c.cfg.FS.Create(f.name)
	if err != nil {
		return err
	}
	defer file.Close()
	whole := len(p) / disk.BlockBytes * disk.BlockBytes
	if whole > 0 {
		if _, err := file.WriteAt(p[:whole], 0); err != nil {
			return err
		}
	}
	if whole == len(p) {
		return nil
	}
	last := disk.Alloc(disk.BlockBytes)
	copy(last, p[whole:])
	_, err = file.WriteAt(last, int64(whole))
	return err
}

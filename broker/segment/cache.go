package segment

import (
	"container/list"
	"fmt"
	"slices"
	"sync"

	"tidewater/internal/disk"
)

// Defaults of a Cache.
const (
	// FilesMaxDefault is well below the usual limit of 1,024 open files.
	FilesMaxDefault = 256
	// IndexBytesMaxDefault holds the indexes of 25 GB of sealed segments.
	IndexBytesMaxDefault = 16 << 20
)

// Cache holds open files and the indexes of sealed segments for the logs of
// one disk, least recently used ones going first. It is safe for concurrent
// use.
type Cache struct {
	filesMax      int
	indexBytesMax int64

	mu         sync.Mutex
	files      map[string]*list.Element // of *handle
	order      *list.List               // newest first
	indexes    map[string]*list.Element // of *cachedIndex
	indexOrder *list.List
	indexBytes int64
	spare      [len(writeBuffers)][][]byte // buffers that nobody uses
	spareReads [len(readBuffers)][][]byte  // and read buffers
}

// writeBuffer is a size of buffers to make chunks in.
type writeBuffer struct {
	bytes, spareMax int
	huge            bool // of huge pages
}

// A chunk is made in a buffer of the smallest size that takes it, and smaller or
// larger ones in memory of their own. The largest takes a chunk as partition
// makes them, with its header. So many of a size are kept: those that write
// segments at a time want one each, but large chunks are few.
var writeBuffers = [...]writeBuffer{{64 << 10, 16, false}, {256 << 10, 16, false}, {2 << 20, 16, true}, {6 << 20, 4, true}}

// writeBuffer gives n bytes of any content to make a chunk in. free takes them back.
func (c *Cache) writeBuffer(n int) []byte {
	size := slices.IndexFunc(writeBuffers[:], func(w writeBuffer) bool { return n <= w.bytes })
	if size < 0 {
		return disk.Alloc(n)
	}
	c.mu.Lock()
	if last := len(c.spare[size]) - 1; last >= 0 {
		b := c.spare[size][last]
		c.spare[size] = c.spare[size][:last]
		c.mu.Unlock()
		return b[:n]
	}
	c.mu.Unlock()
	if w := writeBuffers[size]; w.huge {
		return disk.AllocHuge(w.bytes)[:n]
	}
	return disk.Alloc(writeBuffers[size].bytes)[:n]
}

func (c *Cache) free(b []byte) {
	size := slices.IndexFunc(writeBuffers[:], func(w writeBuffer) bool { return cap(b) == w.bytes })
	if size < 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.spare[size]) < writeBuffers[size].spareMax {
		c.spare[size] = append(c.spare[size], b)
	}
}

// handle is an open file. It is closed when it has left the cache and nobody
// uses it.
type handle struct {
	name string
	file disk.File
	refs int  // guarded by Cache.mu
	gone bool // left the cache; guarded by Cache.mu
}

type cachedIndex struct {
	name    string
	points  []point
	fileSum uint32 // of the segment's header block
}

// NewCache makes a cache of at most filesMax open files (files in use do not
// count as evictable) and indexBytesMax bytes of index; 0 takes the default.
func NewCache(filesMax int, indexBytesMax int64) *Cache {
	if filesMax == 0 {
		filesMax = FilesMaxDefault
	}
	if indexBytesMax == 0 {
		indexBytesMax = IndexBytesMaxDefault
	}
	return &Cache{
		filesMax: filesMax, indexBytesMax: indexBytesMax,
		files: map[string]*list.Element{}, order: list.New(),
		indexes: map[string]*list.Element{}, indexOrder: list.New(),
	}
}

// open gives the file of that name; release gives it back.
func (c *Cache) open(fs disk.FS, name string) (*handle, error) {
	if h := c.use(name); h != nil {
		return h, nil
	}
	f, err := fs.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open segment %s: %w", name, err)
	}
	return c.add(name, f), nil
}

// create makes a new file and keeps it open.
func (c *Cache) create(fs disk.FS, name string) (*handle, error) {
	f, err := fs.Create(name)
	if err != nil {
		return nil, fmt.Errorf("create segment %s: %w", name, err)
	}
	return c.add(name, f), nil
}

func (c *Cache) use(name string) *handle {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.files[name]
	if el == nil {
		return nil
	}
	c.order.MoveToFront(el)
	h := el.Value.(*handle)
	h.refs++
	return h
}

// add puts an open file into the cache, in use once. A file of that name that
// another reader added meanwhile wins.
func (c *Cache) add(name string, f disk.File) *handle {
	c.mu.Lock()
	if el := c.files[name]; el != nil {
		h := el.Value.(*handle)
		h.refs++
		c.mu.Unlock()
		_ = f.Close() // opened for reading a moment ago: nothing to lose
		return h
	}
	h := &handle{name: name, file: f, refs: 1}
	c.files[name] = c.order.PushFront(h)
	closing := c.evict()
	c.mu.Unlock()
	closeAll(closing)
	return h
}

// evict takes idle files out, oldest first, until the bound holds.
func (c *Cache) evict() []*handle {
	var closing []*handle
	for el := c.order.Back(); el != nil && c.order.Len() > c.filesMax; {
		prev := el.Prev()
		if h := el.Value.(*handle); h.refs == 0 {
			c.order.Remove(el)
			delete(c.files, h.name)
			h.gone = true
			closing = append(closing, h)
		}
		el = prev
	}
	return closing
}

// release ends one use of h.
func (c *Cache) release(h *handle) {
	c.mu.Lock()
	h.refs--
	last := h.gone && h.refs == 0
	c.mu.Unlock()
	if last {
		closeAll([]*handle{h})
	}
}

// forget drops everything held under name: the file is being removed or its
// log closed.
func (c *Cache) forget(name string) {
	c.mu.Lock()
	var closing []*handle
	if el := c.files[name]; el != nil {
		h := el.Value.(*handle)
		c.order.Remove(el)
		delete(c.files, name)
		h.gone = true
		if h.refs == 0 {
			closing = append(closing, h)
		}
	}
	c.dropIndex(name)
	c.mu.Unlock()
	closeAll(closing)
}

// closeAll closes files whose data is synced or given up, so an error changes
// nothing.
func closeAll(hs []*handle) {
	for _, h := range hs {
		_ = h.file.Close()
	}
}

// index gives the cached points of a sealed segment and the checksum of its
// header block; nil when there are none.
func (c *Cache) index(name string) ([]point, uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.indexes[name]
	if el == nil {
		return nil, 0
	}
	c.indexOrder.MoveToFront(el)
	x := el.Value.(*cachedIndex)
	return x.points, x.fileSum
}

// putIndex keeps points, dropping the oldest indexes over the bound. One index
// larger than the bound is kept until the next comes.
func (c *Cache) putIndex(name string, points []point, fileSum uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropIndex(name)
	c.indexes[name] = c.indexOrder.PushFront(&cachedIndex{name, points, fileSum})
	c.indexBytes += int64(len(points)) * pointBytes
	for c.indexBytes > c.indexBytesMax && c.indexOrder.Len() > 1 {
		c.dropIndex(c.indexOrder.Back().Value.(*cachedIndex).name)
	}
}

func (c *Cache) dropIndex(name string) {
	el := c.indexes[name]
	if el == nil {
		return
	}
	c.indexOrder.Remove(el)
	delete(c.indexes, name)
	c.indexBytes -= int64(len(el.Value.(*cachedIndex).points)) * pointBytes
}

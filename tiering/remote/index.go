package remote

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"tidewater/internal/logio"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// index is a segment's index as reads use it: blocks, cut into chunks.
type index struct {
	blocks []manifest.Block
	chunks []int // first block of each chunk
	length int64
}

// page is a manifest page as reads use it.
type page struct{ entries []manifest.Entry }

func newIndex(blocks []manifest.Block, length, chunkBytes int64) *index {
	x := &index{blocks: blocks, length: length}
	start := int64(0)
	for i, b := range blocks {
		if i == 0 || b.Position-start >= chunkBytes {
			x.chunks = append(x.chunks, i)
			start = b.Position
		}
	}
	return x
}

// chunkOf is the chunk that holds an offset.
func (x *index) chunkOf(o record.Offset) int {
	b := sort.Search(len(x.blocks), func(i int) bool { return x.blocks[i].Base > o }) - 1
	return x.chunkOfBlock(max(b, 0))
}

func (x *index) chunkOfBlock(b int) int {
	return sort.Search(len(x.chunks), func(i int) bool { return x.chunks[i] > b }) - 1
}

// blockRange is the blocks [lo, hi) of a chunk, span its bytes.
func (x *index) blockRange(c int) (lo, hi int) {
	lo, hi = x.chunks[c], len(x.blocks)
	if c+1 < len(x.chunks) {
		hi = x.chunks[c+1]
	}
	return lo, hi
}

func (x *index) span(c int) (from, to int64) {
	lo, hi := x.blockRange(c)
	return x.blocks[lo].Position, x.position(hi)
}

// position is where a block begins; that of the one after the last is the end.
func (x *index) position(b int) int64 {
	if b < len(x.blocks) {
		return x.blocks[b].Position
	}
	return x.length
}

// check verifies the bytes of a chunk, block by block.
func (x *index) check(c int, p []byte) error {
	from, to := x.span(c)
	if int64(len(p)) != to-from {
		return fmt.Errorf("%w: %d bytes, want %d", manifest.ErrCorrupt, len(p), to-from)
	}
	lo, hi := x.blockRange(c)
	for b := lo; b < hi; b++ {
		part := p[x.position(b)-from : x.position(b+1)-from]
		if got := manifest.CRC(part); got != x.blocks[b].CRC {
			return fmt.Errorf("%w: block at offset %d: CRC-32C is %08x, index says %08x", manifest.ErrCorrupt, x.blocks[b].Base, got, x.blocks[b].CRC)
		}
	}
	return nil
}

// indexOf loads the index of an entry. One without an index object is a single
// block.
func (p *Partition) indexOf(ctx context.Context, e *manifest.Entry) (*index, error) {
	if e.Index == "" {
		return newIndex([]manifest.Block{{Base: e.Base, MaxTimestamp: e.MaxTimestamp, CRC: e.CRC}}, e.Length, p.cfg.ChunkBytes), nil
	}
	if x, ok := p.cfg.Cache.indexes.get(e.Index); ok {
		return x, nil
	}
	full, err := ReadIndex(ctx, p.cfg.Store, e)
	if err != nil {
		return nil, err
	}
	x := newIndex(full.Blocks, full.Length, p.cfg.ChunkBytes)
	p.cfg.Cache.indexes.put(e.Index, x)
	return x, nil
}

// ReadIndex reads the index object of an entry and checks that it belongs to it.
func ReadIndex(ctx context.Context, store objstore.Store, e *manifest.Entry) (*manifest.Index, error) {
	body, err := store.Get(ctx, e.Index, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	x, err := manifest.DecodeIndex(body)
	if err != nil {
		return nil, fmt.Errorf("read index %s: %w", e.Index, err)
	}
	if x.Base != e.Base || x.Next != e.Next() || x.Length != e.Length {
		return nil, fmt.Errorf("read index %s: %w: it covers %d to %d in %d bytes, the manifest says %d to %d in %d",
			e.Index, manifest.ErrCorrupt, x.Base, x.Next, x.Length, e.Base, e.Next(), e.Length)
	}
	return x, nil
}

// entryAt finds the entry that holds an offset, or the first one after it when
// the offset lies in a gap; false at the end.
func (p *Partition) entryAt(ctx context.Context, m *manifest.Manifest, o record.Offset) (manifest.Entry, bool, error) {
	i := sort.Search(len(m.Pages), func(i int) bool { return m.Pages[i].Last >= o })
	list := m.Entries
	if i < len(m.Pages) {
		var err error
		if list, err = p.page(ctx, m.Pages[i]); err != nil {
			return manifest.Entry{}, false, err
		}
	}
	j := sort.Search(len(list), func(j int) bool { return list[j].Last >= o })
	if j == len(list) {
		return manifest.Entry{}, false, nil
	}
	return list[j], true, nil
}

func (p *Partition) page(ctx context.Context, g manifest.Page) ([]manifest.Entry, error) {
	if c, ok := p.cfg.Cache.pages.get(g.Key); ok {
		return c.entries, nil
	}
	entries, err := manifest.ReadPage(ctx, p.cfg.Store, g)
	if err != nil {
		return nil, err
	}
	p.cfg.Cache.pages.put(g.Key, &page{entries})
	return entries, nil
}

// walk calls fn for the entries from the oldest on until it returns false.
// skip says which pages need not be read.
func (p *Partition) walk(ctx context.Context, m *manifest.Manifest, skip func(manifest.Page) bool, fn func(*manifest.Entry) (bool, error)) error {
	for _, g := range m.Pages {
		if skip != nil && skip(g) {
			continue
		}
		entries, err := p.page(ctx, g)
		if err != nil {
			return err
		}
		for i := range entries {
			if more, err := fn(&entries[i]); err != nil || !more {
				return err
			}
		}
	}
	for i := range m.Entries {
		if more, err := fn(&m.Entries[i]); err != nil || !more {
			return err
		}
	}
	return nil
}

// storageError makes an error of the bucket one that a client retries.
func storageError(err error) error {
	if err == nil || errors.Is(err, logio.ErrOffsetOutOfRange) || errors.Is(err, logio.ErrStorage) {
		return err
	}
	return fmt.Errorf("%w: %w", logio.ErrStorage, err)
}

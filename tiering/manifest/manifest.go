package manifest

import (
	"fmt"
	"slices"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Kind is what an entry points at.
type Kind uint8

// The kinds of entries. Extents of shared objects are written by restores and
// by later versions that merge small partitions, Parquet by later versions that
// keep one copy.
const (
	KindSegment Kind = 1
	KindExtent  Kind = 2
	KindParquet Kind = 3
)

// Entry is a run of batches in the bucket: Length bytes at Position of the
// object Key. Keys are full, since they may be of an older incarnation.
type Entry struct {
	Kind       Kind
	Key        string
	Index      string // key of the index object; empty for none
	Aborted    string // key of the aborted ranges; empty for none (reserved)
	Position   int64
	Length     int64
	Base, Last record.Offset // inclusive
	// FirstEpoch and LastEpoch are those of the first and last batch.
	FirstEpoch, LastEpoch record.LeaderEpoch
	// Generation is 0 as produced; compaction and erase count it up.
	Generation    uint32
	CRC           uint32 // CRC-32C of the bytes
	MaxTimestamp  int64  // milliseconds since the Unix epoch, -1 for none
	MaxProducerID int64  // -1 for none
}

// Next is the exclusive end.
func (e *Entry) Next() record.Offset { return e.Last + 1 }

// Page is a list of old entries in an object of its own.
type Page struct {
	Key        string
	Base, Last record.Offset
	Entries    uint32
	Bytes      int64 // data bytes of its entries
	// MaxTimestamp and MaxProducerID are the greatest of its entries.
	MaxTimestamp, MaxProducerID int64
}

// Retired is a key that no entry names any more.
type Retired struct {
	Key string
	// Since is milliseconds since the Unix epoch by the store's clock.
	Since int64
}

// Manifest states what the bucket holds of a partition: [Start, End) less
// nothing. It is a value; methods that change it are decisions, Writer.Write
// makes them true.
type Manifest struct {
	Header    Header
	Topic     string
	Partition record.PartitionID
	Number    uint64
	// Writer is unique to one attempt: series, count.
	Writer string
	// Epoch is the leader epoch of the writer.
	Epoch record.LeaderEpoch
	// Created is milliseconds since the Unix epoch by the store's clock.
	Created  int64
	LogStart record.Offset
	// End is the exclusive end of what the entries hold; the first offset of
	// the log if there are none.
	End record.Offset
	// StableTo: below it the outcome of every transaction is known and filed.
	StableTo record.Offset
	// MaxProducerID is the greatest ever archived, -1 for none.
	MaxProducerID int64
	Epochs        []logio.EpochStart
	Pages         []Page  // oldest first, before Entries
	Entries       []Entry // contiguous, oldest first
	Retired       []Retired
}

// Start is the first offset that can be read: the log start, or the first
// entry when the log begins later in the bucket; End if there is nothing.
func (m *Manifest) Start() record.Offset {
	return max(m.First(), min(m.LogStart, m.End))
}

// First is the first offset that an entry holds, be it below the log start; End
// if there is none.
func (m *Manifest) First() record.Offset {
	switch {
	case len(m.Pages) > 0:
		return m.Pages[0].Base
	case len(m.Entries) > 0:
		return m.Entries[0].Base
	}
	return m.End
}

// Clone copies m deeply enough that changes to the copy leave m alone.
func (m *Manifest) Clone() *Manifest {
	c := *m
	c.Epochs = slices.Clone(m.Epochs)
	c.Pages = slices.Clone(m.Pages)
	c.Entries = slices.Clone(m.Entries)
	c.Retired = slices.Clone(m.Retired)
	return &c
}

// Append adds an entry at the end. A gap is allowed only where nothing can be
// read any more: below the log start.
func (m *Manifest) Append(e Entry) error {
	if e.Last < e.Base || e.Length <= 0 {
		return fmt.Errorf("append manifest entry: offsets %d to %d in %d bytes", e.Base, e.Last, e.Length)
	}
	if e.Base < m.End || e.Base > max(m.End, m.LogStart) {
		return fmt.Errorf("append manifest entry: base offset %d, manifest ends at %d, log starts at %d", e.Base, m.End, m.LogStart)
	}
	if n := len(m.Entries); n > 0 && e.FirstEpoch < m.Entries[n-1].LastEpoch {
		return fmt.Errorf("append manifest entry: epoch %d after %d", e.FirstEpoch, m.Entries[n-1].LastEpoch)
	}
	m.Entries = append(m.Entries, e)
	m.End = e.Next()
	m.MaxProducerID = max(m.MaxProducerID, e.MaxProducerID)
	return nil
}

// Trim moves the log start up and retires what lies wholly below it; now is
// the store's clock. It reports whether anything changed. Pages retire whole:
// their objects are listed by RetirePage.
func (m *Manifest) Trim(logStart record.Offset, now int64) bool {
	changed := false
	if logStart > m.LogStart {
		m.LogStart, changed = logStart, true
	}
	if len(m.Pages) > 0 {
		return changed
	}
	n := 0
	for n < len(m.Entries) && m.Entries[n].Next() <= m.LogStart {
		m.retireEntry(m.Entries[n], now)
		n++
	}
	m.Entries = slices.Delete(m.Entries, 0, n)
	return changed || n > 0
}

// OldPage gives the first page if it lies wholly below the log start; its
// entries are then read and given to RetirePage.
func (m *Manifest) OldPage() (Page, bool) {
	if len(m.Pages) > 0 && m.Pages[0].Last < m.LogStart {
		return m.Pages[0], true
	}
	return Page{}, false
}

// RetirePage drops the first page and retires its entries' objects.
func (m *Manifest) RetirePage(entries []Entry, now int64) {
	for _, e := range entries {
		m.retireEntry(e, now)
	}
	m.retire(m.Pages[0].Key, now)
	m.Pages = slices.Delete(m.Pages, 0, 1)
}

func (m *Manifest) retireEntry(e Entry, now int64) {
	if e.Kind == KindSegment {
		m.retire(e.Key, now)
	}
	m.retire(e.Index, now)
	m.retire(e.Aborted, now)
}

func (m *Manifest) retire(key string, now int64) {
	if key != "" {
		m.Retired = append(m.Retired, Retired{Key: key, Since: now})
	}
}

// Ripe lists retired keys whose grace period is over.
func (m *Manifest) Ripe(now, graceMs int64, keysMax int) []string {
	var keys []string
	for _, r := range m.Retired {
		if now-r.Since >= graceMs && len(keys) < keysMax {
			keys = append(keys, r.Key)
		}
	}
	return keys
}

// Forget drops keys from the retired list, after they were deleted.
func (m *Manifest) Forget(keys []string) {
	m.Retired = slices.DeleteFunc(m.Retired, func(r Retired) bool { return slices.Contains(keys, r.Key) })
}

// Spill cuts the oldest n entries off into a page's worth; the caller stores
// them under key and the page stands in the manifest from then on.
func (m *Manifest) Spill(n int, key string) []Entry {
	spilled := slices.Clone(m.Entries[:n])
	p := Page{Key: key, Base: spilled[0].Base, Last: spilled[n-1].Last, Entries: uint32(n), MaxTimestamp: -1, MaxProducerID: -1}
	for _, e := range spilled {
		p.Bytes += e.Length
		p.MaxTimestamp = max(p.MaxTimestamp, e.MaxTimestamp)
		p.MaxProducerID = max(p.MaxProducerID, e.MaxProducerID)
	}
	m.Pages = append(m.Pages, p)
	m.Entries = slices.Delete(m.Entries, 0, n)
	return spilled
}

// SetEpochs takes over a history that is at least as long as the one known.
func (m *Manifest) SetEpochs(h []logio.EpochStart) {
	if len(h) >= len(m.Epochs) {
		m.Epochs = slices.Clone(h)
	}
}

// Bytes is the size of the data that the entries name.
func (m *Manifest) Bytes() int64 {
	var n int64
	for _, p := range m.Pages {
		n += p.Bytes
	}
	for i := range m.Entries {
		n += m.Entries[i].Length
	}
	return n
}

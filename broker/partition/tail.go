package partition

import (
	"slices"
	"sort"

	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

// tail is the newest entries of the log in memory, contiguous by Index, each
// with the offsets it holds; here an Index is turned into an Offset.
//
//	| written: in segments, kept as a cache | pending: in no segment yet |
//	^ first                                 ^ written
//
// Entries' data is shared with readers and never written to.
type tail struct {
	entries []tailEntry
	written int // how many entries at the front are in segments
	// cachedBytes and pendingBytes are the sizes of the two parts.
	cachedBytes, pendingBytes int64
}

type tailEntry struct {
	multiraft.Entry
	base, next record.Offset // base == next without records
	atMs       int64         // when it came
}

// entryBytes is what an entry counts beside its data.
const entryBytes = 96

// size is what the entry counts in the budget: nothing without records, since
// such an entry may stay in the journal until somebody wants it elsewhere.
func (e *tailEntry) size() int64 {
	if !isBatch(e.Data) {
		return 0
	}
	return entryBytes + int64(len(e.Data))
}

func (t *tail) add(e tailEntry) {
	t.entries = append(t.entries, e)
	t.pendingBytes += e.size()
}

// cutBack drops entries above last.
func (t *tail) cutBack(last record.Index) {
	n := t.upTo(last)
	for i := n; i < len(t.entries); i++ {
		t.pendingBytes -= t.entries[i].size()
		t.entries[i] = tailEntry{}
	}
	t.entries = t.entries[:n]
}

// upTo is the number of entries with an Index of at most last.
func (t *tail) upTo(last record.Index) int {
	if len(t.entries) == 0 || last < t.entries[0].Index {
		return 0
	}
	return int(min(last-t.entries[0].Index+1, record.Index(len(t.entries))))
}

// at gives the entry at index, nil when it is not here.
func (t *tail) at(index record.Index) *tailEntry {
	n := t.upTo(index)
	if n == 0 || t.entries[n-1].Index != index {
		return nil
	}
	return &t.entries[n-1]
}

// pendingTo gives the entries in no segment yet with an Index of at most last,
// in order, about bytesMax bytes but at least one.
func (t *tail) pendingTo(last record.Index, bytesMax int64) []tailEntry {
	end, size := t.written, int64(0)
	for n := t.upTo(last); end < n; end++ {
		if size += t.entries[end].size(); size > bytesMax && end > t.written {
			break
		}
	}
	return t.entries[t.written:max(end, t.written):max(end, t.written)]
}

// setWritten notes that the first n pending entries are in segments now and
// gives their bytes.
func (t *tail) setWritten(n int) int64 {
	var size int64
	for i := range t.entries[t.written : t.written+n] {
		size += t.entries[t.written+i].size()
	}
	t.written += n
	t.pendingBytes -= size
	t.cachedBytes += size
	return size
}

// forget drops cached entries that lie below next; it gives their bytes.
func (t *tail) forget(next record.Offset) int64 {
	n, size := 0, int64(0)
	for n < t.written && t.entries[n].next <= next {
		size += t.entries[n].size()
		n++
	}
	if n == 0 {
		return 0
	}
	if n == len(t.entries) || cap(t.entries) > 4*(len(t.entries)-n) {
		t.entries = slices.Clone(t.entries[n:]) // lets go of the front's room
	} else {
		clear(t.entries[:n])
		t.entries = t.entries[n:]
	}
	t.written -= n
	t.cachedBytes -= size
	return size
}

// start is the first offset held here; logEnd when there is none.
func (t *tail) start(logEnd record.Offset) record.Offset {
	if len(t.entries) == 0 {
		return logEnd
	}
	return t.entries[0].base
}

// collect gives batches from the one that holds from on, none that passes
// limit, at most bytesMax bytes or, with minOne, one batch.
func (t *tail) collect(from, limit record.Offset, bytesMax int, minOne bool) [][]byte {
	i := sort.Search(len(t.entries), func(i int) bool { return t.entries[i].next > from })
	var out [][]byte
	size := 0
	for ; i < len(t.entries) && t.entries[i].next <= limit; i++ {
		e := &t.entries[i]
		if e.base == e.next {
			continue
		}
		if size += len(e.Data); size > bytesMax && !(minOne && len(out) == 0) {
			break
		}
		out = append(out, e.Data)
	}
	return out
}

// oldestMs is when the oldest pending entry came; false without one.
func (t *tail) oldestMs() (int64, bool) {
	if t.written == len(t.entries) {
		return 0, false
	}
	return t.entries[t.written].atMs, true
}

package multiraft

import (
	etcdraft "go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/record"
)

// storage is a group's log as raft reads it: the entries in memory, all of
// those above the group's mark and some below.
//
// Entries get here when they enter the log, which is before they are durable;
// raft looks here only for those that it was told are.
type storage struct {
	hard raftpb.HardState // as it was at Start
	conf raftpb.ConfState
	// markIndex and markTerm are the entry before entries[0], which raft takes
	// for the last compacted one; not above the group's mark.
	markIndex, markTerm uint64
	// entries are never changed in place: raft and the journal hold parts of
	// the array. A truncation copies.
	entries []raftpb.Entry
	bytes   int64 // of all entries' data
	// snapshot makes one for a follower that needs what is gone.
	snapshot func() (raftpb.Snapshot, error)
}

var _ etcdraft.Storage = (*storage)(nil)

func (s *storage) last() uint64 { return s.markIndex + uint64(len(s.entries)) }

// at gives the entry at index, which must lie above the mark and not above last.
func (s *storage) at(index uint64) *raftpb.Entry { return &s.entries[index-s.markIndex-1] }

// holds reports whether the log has this entry (or had it, below the mark).
func (s *storage) holds(index, term uint64) bool {
	if index <= s.markIndex {
		return true
	}
	return index <= s.last() && s.at(index).Term == term
}

func (s *storage) append(e raftpb.Entry) {
	s.entries = append(s.entries, e)
	s.bytes += int64(len(e.Data))
}

// truncate drops the entries above last and gives their bytes.
func (s *storage) truncate(last uint64) int64 {
	n := last - s.markIndex
	gone := dataBytes(s.entries[n:])
	s.entries = append([]raftpb.Entry(nil), s.entries[:n]...)
	s.bytes -= gone
	return gone
}

// release drops the entries up to index and gives their bytes.
func (s *storage) release(index, term uint64) int64 {
	n := index - s.markIndex
	gone := dataBytes(s.entries[:n])
	// A copy lets the dropped batches go; what is left is usually short.
	s.entries = append([]raftpb.Entry(nil), s.entries[n:]...)
	s.markIndex, s.markTerm = index, term
	s.bytes -= gone
	return gone
}

func dataBytes(entries []raftpb.Entry) int64 {
	n := int64(0)
	for i := range entries {
		n += int64(len(entries[i].Data))
	}
	return n
}

// InitialState implements raft's Storage.
func (s *storage) InitialState() (raftpb.HardState, raftpb.ConfState, error) {
	return s.hard, s.conf, nil
}

// Entries implements raft's Storage.
func (s *storage) Entries(lo, hi, bytesMax uint64) ([]raftpb.Entry, error) {
	if lo <= s.markIndex {
		return nil, etcdraft.ErrCompacted
	}
	if hi > s.last()+1 {
		return nil, etcdraft.ErrUnavailable
	}
	from, to := lo-s.markIndex-1, hi-s.markIndex-1
	size := uint64(0)
	for i := from; i < to; i++ {
		size += uint64(s.entries[i].Size())
		if size > bytesMax && i > from {
			to = i
			break
		}
	}
	return s.entries[from:to:to], nil
}

// Term implements raft's Storage.
func (s *storage) Term(index uint64) (uint64, error) {
	switch {
	case index == s.markIndex:
		return s.markTerm, nil
	case index < s.markIndex:
		return 0, etcdraft.ErrCompacted
	case index > s.last():
		return 0, etcdraft.ErrUnavailable
	}
	return s.at(index).Term, nil
}

// FirstIndex and LastIndex implement raft's Storage.
func (s *storage) FirstIndex() (uint64, error) { return s.markIndex + 1, nil }
func (s *storage) LastIndex() (uint64, error)  { return s.last(), nil }

// Snapshot implements raft's Storage.
func (s *storage) Snapshot() (raftpb.Snapshot, error) { return s.snapshot() }

// view makes our entry of raft's. Raft's own entries show no data.
func view(e *raftpb.Entry) Entry {
	out := Entry{Index: record.Index(e.Index), Term: e.Term}
	if e.Type == raftpb.EntryNormal && len(e.Data) > 0 {
		out.Data = e.Data
	}
	return out
}

package peer

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/multiraft"
)

// metaBytesMax bounds what a frame of raft messages says before the entries'
// bytes.
const metaBytesMax = 4 << 20

// Flags of a message.
const (
	flagReject   = 1
	flagContext  = 2
	flagEntries  = 4
	flagSnapshot = 8
	flagsKnown   = flagReject | flagContext | flagEntries | flagSnapshot
)

// travels reports whether raft sends messages of this type to other replicas;
// all others are between raft and its own broker.
func travels(t raftpb.MessageType) bool {
	switch t {
	case raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgSnap,
		raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgTransferLeader, raftpb.MsgTimeoutNow,
		raftpb.MsgReadIndex, raftpb.MsgReadIndexResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp, raftpb.MsgForgetLeader:
		return true
	}
	return false
}

// appendMeta appends all of a message but the bytes of entries and snapshot.
func appendMeta(b []byte, m *multiraft.Message) []byte {
	flags := byte(0)
	if m.Reject {
		flags |= flagReject
	}
	if len(m.Context) > 0 {
		flags |= flagContext
	}
	if len(m.Entries) > 0 {
		flags |= flagEntries
	}
	if m.Snapshot != nil {
		flags |= flagSnapshot
	}
	b = append(b, byte(m.Type), flags)
	b = append(b, m.Group.Topic[:]...)
	b = binary.AppendUvarint(b, uint64(uint32(m.Group.Partition)))
	for _, v := range [...]uint64{m.To, m.From, m.Term, m.LogTerm, m.Index, m.Commit, m.Vote, m.RejectHint} {
		b = binary.AppendUvarint(b, v)
	}
	if flags&flagContext != 0 {
		b = binary.AppendUvarint(b, uint64(len(m.Context)))
		b = append(b, m.Context...)
	}
	if flags&flagEntries != 0 {
		b = binary.AppendUvarint(b, uint64(len(m.Entries)))
		for i := range m.Entries {
			e := &m.Entries[i]
			b = append(b, byte(e.Type))
			b = binary.AppendUvarint(b, e.Term)
			b = binary.AppendUvarint(b, e.Index)
			b = binary.AppendUvarint(b, uint64(len(e.Data)))
		}
	}
	if flags&flagSnapshot != 0 {
		b = appendSnapshotMeta(b, m.Snapshot)
	}
	return b
}

func appendSnapshotMeta(b []byte, s *raftpb.Snapshot) []byte {
	b = binary.AppendUvarint(b, s.Metadata.Index)
	b = binary.AppendUvarint(b, s.Metadata.Term)
	c := &s.Metadata.ConfState
	for _, ids := range [...][]uint64{c.Voters, c.Learners, c.VotersOutgoing, c.LearnersNext} {
		b = binary.AppendUvarint(b, uint64(len(ids)))
		for _, id := range ids {
			b = binary.AppendUvarint(b, id)
		}
	}
	auto := byte(0)
	if c.AutoLeave {
		auto = 1
	}
	b = append(b, auto)
	return binary.AppendUvarint(b, uint64(len(s.Data)))
}

// metas is a frame's messages before the bytes of entries and snapshots are
// read: sizes has their lengths in order.
type metas struct {
	messages []multiraft.Message
	sizes    []int
	total    int // sum of sizes
}

// metaReader takes fields off the front of b; bad is set when they end early.
type metaReader struct {
	b   []byte
	bad bool
}

func (r *metaReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *metaReader) bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *metaReader) byte() byte {
	if v := r.bytes(1); v != nil {
		return v[0]
	}
	return 0
}

// count reads how many items follow, each of at least size bytes: what is
// allocated for them is bounded by what was received.
func (r *metaReader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

// some is count where none would not have been flagged.
func (r *metaReader) some(size int) int {
	n := r.count(size)
	r.bad = r.bad || n == 0
	return n
}

// decodeMetas decodes what stands before the data of a frame of messages; out
// is used again. Nothing in the messages points into b.
func decodeMetas(b []byte, out *metas, dataMax int) error {
	clear(out.messages)
	out.messages, out.sizes, out.total = out.messages[:0], out.sizes[:0], 0
	r := metaReader{b: b}
	for len(r.b) > 0 {
		out.messages = append(out.messages, multiraft.Message{})
		m := &out.messages[len(out.messages)-1]
		if err := r.message(m, out, dataMax); err != nil {
			return err
		}
	}
	if r.bad {
		return fmt.Errorf("%w: raft message ends early", errFormat)
	}
	return nil
}

func (r *metaReader) message(m *multiraft.Message, out *metas, dataMax int) error {
	m.Type = raftpb.MessageType(r.byte())
	flags := r.byte()
	copy(m.Group.Topic[:], r.bytes(len(m.Group.Topic)))
	m.Group.Partition = int32(uint32(r.uvarint()))
	for _, v := range [...]*uint64{&m.To, &m.From, &m.Term, &m.LogTerm, &m.Index, &m.Commit, &m.Vote, &m.RejectHint} {
		*v = r.uvarint()
	}
	if r.bad {
		return fmt.Errorf("%w: raft message ends early", errFormat)
	}
	if !travels(m.Type) || flags&^flagsKnown != 0 {
		return fmt.Errorf("%w: raft message of type %d, flags %#x", errFormat, m.Type, flags)
	}
	m.Reject = flags&flagReject != 0
	if flags&flagContext != 0 {
		m.Context = append([]byte(nil), r.bytes(r.some(1))...)
	}
	if flags&flagEntries != 0 {
		m.Entries = make([]raftpb.Entry, r.some(4))
		for i := range m.Entries {
			e := &m.Entries[i]
			e.Type = raftpb.EntryType(r.byte())
			e.Term, e.Index = r.uvarint(), r.uvarint()
			if err := r.size(out, dataMax); err != nil {
				return err
			}
			if e.Type < raftpb.EntryNormal || e.Type > raftpb.EntryConfChangeV2 {
				return fmt.Errorf("%w: raft entry of type %d", errFormat, e.Type)
			}
		}
	}
	if flags&flagSnapshot != 0 {
		m.Snapshot = &raftpb.Snapshot{}
		if err := r.snapshot(m.Snapshot, out, dataMax); err != nil {
			return err
		}
	}
	if r.bad {
		return fmt.Errorf("%w: raft message ends early", errFormat)
	}
	return nil
}

func (r *metaReader) snapshot(s *raftpb.Snapshot, out *metas, dataMax int) error {
	s.Metadata.Index, s.Metadata.Term = r.uvarint(), r.uvarint()
	c := &s.Metadata.ConfState
	for _, ids := range [...]*[]uint64{&c.Voters, &c.Learners, &c.VotersOutgoing, &c.LearnersNext} {
		if n := r.count(1); n > 0 {
			*ids = make([]uint64, n)
		}
		for i := range *ids {
			(*ids)[i] = r.uvarint()
		}
	}
	c.AutoLeave = r.byte() != 0
	return r.size(out, dataMax)
}

// size reads the length of bytes that stand in the data part.
func (r *metaReader) size(out *metas, dataMax int) error {
	n := r.uvarint()
	if n > uint64(dataMax-out.total) {
		return fmt.Errorf("%w: raft messages of more than the %d bytes in their frame", errFormat, dataMax)
	}
	out.sizes = append(out.sizes, int(n))
	out.total += int(n)
	return nil
}

// fill gives the messages their bytes. take returns n bytes that stay as they
// are; it is called once for each message that has any, so that a message
// holds no other's bytes in memory: groups let go of their entries at
// different times.
func (f *metas) fill(take func(n int) ([]byte, error)) error {
	sizes := f.sizes
	for i := range f.messages {
		m := &f.messages[i]
		n := len(m.Entries)
		if m.Snapshot != nil {
			n++
		}
		total := 0
		for _, size := range sizes[:n] {
			total += size
		}
		var data []byte
		if total > 0 {
			var err error
			if data, err = take(total); err != nil {
				return err
			}
		}
		for k := range m.Entries {
			m.Entries[k].Data, data = cut(data, sizes[k])
		}
		if m.Snapshot != nil {
			m.Snapshot.Data, _ = cut(data, sizes[n-1])
		}
		sizes = sizes[n:]
	}
	return nil
}

// cut takes n bytes off the front, which nobody can append into the rest.
func cut(b []byte, n int) (head, rest []byte) {
	if n == 0 {
		return nil, b
	}
	return b[:n:n], b[n:]
}

package partition

import (
	"encoding/binary"
	"fmt"

	"tidewater/broker/multiraft"
	"tidewater/broker/segment"
	"tidewater/internal/record"
)

// A partition's RaftSnapshot is what a replica must know, besides the segments
// it copies, to go on at an entry: docs/formats/raft-snapshot.md. It holds the
// mark's blob and the producer snapshot at the same offset.
const (
	raftSnapshotMagic   = "TWRS"
	raftSnapshotVersion = 1
)

func encodeRaftSnapshot(id segment.Identity, s *state) []byte {
	mark := s.encode()
	who := encodeSnapshot(id, s.next, &s.producers)
	b := append(make([]byte, 0, 24+len(mark)+len(who)), raftSnapshotMagic...)
	b = binary.BigEndian.AppendUint16(b, raftSnapshotVersion)
	b = binary.BigEndian.AppendUint16(b, raftSnapshotVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(len(mark)))
	b = append(b, mark...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(who)))
	b = append(b, who...)
	return seal(b, 0)
}

// decodeRaftSnapshot reads what encodeRaftSnapshot gives; snapshot is the
// producers' part as it was written.
func decodeRaftSnapshot(data []byte) (id segment.Identity, s state, snapshot []byte, err error) {
	const what = "RaftSnapshot of a partition"
	f, err := unseal(what, data, raftSnapshotMagic, raftSnapshotVersion)
	if err != nil {
		return id, s, nil, err
	}
	mark := f.take(int(f.u32()))
	snapshot = f.take(int(f.u32()))
	if err := f.end(what); err != nil {
		return id, s, nil, err
	}
	if s.position, _, err = decodeMark(mark); err != nil {
		return id, s, nil, fmt.Errorf("%s: %w", what, err)
	}
	var next record.Offset
	if id, next, s.producers, err = decodeSnapshot(snapshot); err != nil {
		return id, s, nil, fmt.Errorf("%s: %w", what, err)
	}
	if next != s.next {
		return id, s, nil, fmt.Errorf("%w: %s: producers at offset %d, the mark at %d", ErrCorrupt, what, next, s.next)
	}
	return id, s, snapshot, nil
}

// Snapshot gives the state at the last entry in synced segments, which is as
// far as another replica can copy. When that is not far enough the next
// WriteSegments is due at once.
func (m *stateMachine) Snapshot(least record.Index) (multiraft.Snapshot, error) {
	p := (*Partition)(m)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.stable.index < least {
		p.writeWanted = true
		return multiraft.Snapshot{}, fmt.Errorf("%w: %s is written up to entry %d, asked for %d", multiraft.ErrNotYet, p.Name(), p.stable.index, least)
	}
	return multiraft.Snapshot{Index: p.stable.index, Term: p.stable.term, Data: encodeRaftSnapshot(p.cfg.Identity, &p.stable)}, nil
}

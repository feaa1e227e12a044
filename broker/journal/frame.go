package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/record"
)

// Sizes of the fixed parts of a record; docs/formats/journal.md.
const (
	frameBytes      = 56
	entryHeadBytes  = 16
	markHeadBytes   = 20
	hardBytes       = 24
	entriesHeadSize = 12
	frameMagic      = 0x524A5754 // "TWJR" in the file
	// frameBytesMax bounds what a length field may claim.
	frameBytesMax = math.MaxInt32
)

// kind is what a record is about.
type kind uint8

const (
	kindWrite  kind = 1 // parts of a Write
	kindRemove kind = 2 // the group is forgotten
	kindNote   kind = 3 // the oldest use that is needed; and, as any record, what is durable
)

// section bits say what the payload of a kindWrite holds, in this order.
const (
	sectionMark    = 1 << 0
	sectionReset   = 1 << 1 // with sectionMark: the mark drops the log
	sectionConf    = 1 << 2
	sectionHard    = 1 << 3
	sectionEntries = 1 << 4
)

// frame is one record of the journal, before encoding or decoded. Decoded
// slices point into the bytes they came from.
type frame struct {
	kind     kind
	position int64 // of the record's first byte in the journal
	durable  int64 // every byte before it was synced when this was written
	group    record.PartitionID
	needed   uint64 // kindNote

	mark    *Mark
	reset   bool
	conf    *raftpb.ConfState
	hard    *raftpb.HardState
	entries []raftpb.Entry
	sum     func(sum uint32, data []byte) uint32 // Write.Sum, to encode
}

// size is the record's size in bytes.
func (f *frame) size() int64 {
	n := int64(frameBytes)
	if f.kind == kindNote {
		n += 8
	}
	if f.mark != nil {
		n += markHeadBytes + int64(len(f.mark.Data))
	}
	if f.conf != nil {
		n += confSize(f.conf)
	}
	if f.hard != nil {
		n += hardBytes
	}
	if len(f.entries) > 0 {
		n += entriesHeadSize
		for i := range f.entries {
			n += entrySize(&f.entries[i])
		}
	}
	return n
}

func entrySize(e *raftpb.Entry) int64 { return entryHeadBytes + int64(len(e.Data)) }

func confSize(c *raftpb.ConfState) int64 {
	return 9 + 8*int64(len(c.Voters)+len(c.Learners)+len(c.VotersOutgoing)+len(c.LearnersNext))
}

// appendHead appends everything of the record but the entries' data, which
// follows it entry by entry, and sets the checksum over both.
func (f *frame) appendHead(b []byte, seed uint32) []byte {
	le := binary.LittleEndian
	at := len(b)
	b = le.AppendUint32(b, frameMagic)
	b = le.AppendUint32(b, 0) // checksum, below
	b = le.AppendUint32(b, uint32(f.size()-frameBytes))
	b = append(b, byte(f.kind), f.sections(), 0, 0)
	b = le.AppendUint64(b, uint64(f.position))
	b = le.AppendUint64(b, uint64(f.durable))
	b = append(b, f.group.Topic[:]...)
	b = le.AppendUint32(b, uint32(f.group.Partition))
	b = le.AppendUint32(b, 0)
	if f.kind == kindNote {
		b = le.AppendUint64(b, f.needed)
	}
	b = f.appendSections(b)
	sum := crc32.Update(seed, castagnoli, b[at+8:])
	for i := range f.entries {
		if e := &f.entries[i]; f.sum != nil && e.Type == raftpb.EntryNormal {
			sum = f.sum(sum, e.Data)
		} else {
			sum = crc32.Update(sum, castagnoli, e.Data)
		}
	}
	le.PutUint32(b[at+4:], sum)
	return b
}

func (f *frame) sections() (bits byte) {
	if f.mark != nil {
		bits |= sectionMark
	}
	if f.reset {
		bits |= sectionReset
	}
	if f.conf != nil {
		bits |= sectionConf
	}
	if f.hard != nil {
		bits |= sectionHard
	}
	if len(f.entries) > 0 {
		bits |= sectionEntries
	}
	return bits
}

func (f *frame) appendSections(b []byte) []byte {
	le := binary.LittleEndian
	if m := f.mark; m != nil {
		b = le.AppendUint64(b, uint64(m.Index))
		b = le.AppendUint64(b, m.Term)
		b = le.AppendUint32(b, uint32(len(m.Data)))
		b = append(b, m.Data...)
	}
	if c := f.conf; c != nil {
		b = appendConf(b, c)
	}
	if h := f.hard; h != nil {
		b = le.AppendUint64(b, h.Term)
		b = le.AppendUint64(b, h.Vote)
		b = le.AppendUint64(b, h.Commit)
	}
	if len(f.entries) == 0 {
		return b
	}
	b = le.AppendUint64(b, f.entries[0].Index)
	b = le.AppendUint32(b, uint32(len(f.entries)))
	for i := range f.entries {
		e := &f.entries[i]
		b = le.AppendUint64(b, e.Term)
		b = le.AppendUint32(b, uint32(len(e.Data)))
		b = append(b, byte(e.Type), 0, 0, 0)
	}
	return b
}

func appendConf(b []byte, c *raftpb.ConfState) []byte {
	le := binary.LittleEndian
	for _, ids := range [...][]uint64{c.Voters, c.Learners, c.VotersOutgoing, c.LearnersNext} {
		b = le.AppendUint16(b, uint16(len(ids)))
		for _, id := range ids {
			b = le.AppendUint64(b, id)
		}
	}
	if c.AutoLeave {
		return append(b, 1)
	}
	return append(b, 0)
}

// Reasons for which bytes are no record. Which of them it is only words the
// message; what follows from it is decided by what lies behind.
var (
	errFrameShort = errors.New("fewer bytes than the record claims")
	errFrameBad   = errors.New("not a record of this use")
)

// claim reads a record's size from its first frameBytes.
func claim(b []byte) (int64, error) {
	if len(b) < frameBytes {
		return 0, fmt.Errorf("%w: %d", errFrameShort, len(b))
	}
	if magic := binary.LittleEndian.Uint32(b); magic != frameMagic {
		return 0, fmt.Errorf("%w: begins with %08x, expected %08x", errFrameBad, magic, frameMagic)
	}
	n := binary.LittleEndian.Uint32(b[8:])
	if n > frameBytesMax-frameBytes {
		return 0, fmt.Errorf("%w: claims %d bytes", errFrameBad, n)
	}
	return frameBytes + int64(n), nil
}

// decodeFrame reads the record at the start of b, which stood at position.
func decodeFrame(b []byte, seed uint32, position int64) (f frame, size int64, err error) {
	size, err = claim(b)
	if err != nil {
		return f, 0, err
	}
	if size > int64(len(b)) {
		return f, 0, fmt.Errorf("%w: %d of %d", errFrameShort, len(b), size)
	}
	le := binary.LittleEndian
	b = b[:size]
	if got, want := crc32.Update(seed, castagnoli, b[8:]), le.Uint32(b[4:]); got != want {
		return f, 0, fmt.Errorf("%w: CRC-32C is %08x, expected %08x", errFrameBad, got, want)
	}
	f.kind = kind(b[12])
	f.position = int64(le.Uint64(b[16:]))
	f.durable = int64(le.Uint64(b[24:]))
	copy(f.group.Topic[:], b[32:])
	f.group.Partition = int32(le.Uint32(b[48:]))
	if f.position != position {
		return f, 0, fmt.Errorf("%w: says it stands at %d, expected %d", errFrameBad, f.position, position)
	}
	if f.durable > f.position || le.Uint16(b[14:]) != 0 || le.Uint32(b[52:]) != 0 {
		return f, 0, fmt.Errorf("%w: durable %d at %d, or reserved bytes set", errFrameBad, f.durable, f.position)
	}
	if err := f.decodePayload(b[13], b[frameBytes:]); err != nil {
		return f, 0, fmt.Errorf("%w: %w", errFrameBad, err)
	}
	return f, size, nil
}

func (f *frame) decodePayload(sections byte, b []byte) error {
	r := reader{b: b}
	switch f.kind {
	case kindRemove:
	case kindNote:
		f.needed = r.u64()
	case kindWrite:
		f.decodeSections(sections, &r)
		sections = 0
	default:
		return fmt.Errorf("unknown kind %d", f.kind)
	}
	if sections != 0 || r.short || len(r.b) != 0 {
		return fmt.Errorf("payload of kind %d does not parse: %d bytes, %d left", f.kind, len(b), len(r.b))
	}
	return nil
}

func (f *frame) decodeSections(sections byte, r *reader) {
	if sections&sectionMark != 0 {
		f.mark = &Mark{Index: record.Index(r.u64()), Term: r.u64()}
		f.mark.Data = r.take(uint64(r.u32()))
	}
	f.reset = sections&sectionReset != 0
	if sections&sectionConf != 0 {
		f.conf = r.conf()
	}
	if sections&sectionHard != 0 {
		f.hard = &raftpb.HardState{Term: r.u64(), Vote: r.u64(), Commit: r.u64()}
	}
	if sections&sectionEntries != 0 {
		f.entries = r.entries()
	}
	known := byte(sectionMark | sectionReset | sectionConf | sectionHard | sectionEntries)
	if sections&^known != 0 || f.reset && f.mark == nil {
		r.short = true
	}
}

// reader takes fields off the front of bytes; short says that some were
// missing or made no sense, after which all it gives is zero.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n uint64) []byte {
	if r.short || n > uint64(len(r.b)) {
		r.short = true
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (r *reader) conf() *raftpb.ConfState {
	c := &raftpb.ConfState{}
	for _, ids := range [...]*[]uint64{&c.Voters, &c.Learners, &c.VotersOutgoing, &c.LearnersNext} {
		p := r.take(2)
		if p == nil {
			return c
		}
		n := uint64(binary.LittleEndian.Uint16(p))
		for p = r.take(8 * n); len(p) > 0; p = p[8:] {
			*ids = append(*ids, binary.LittleEndian.Uint64(p))
		}
	}
	if p := r.take(1); p != nil {
		c.AutoLeave = p[0] == 1
		r.short = r.short || p[0] > 1
	}
	return c
}

func (r *reader) entries() []raftpb.Entry {
	first, count := r.u64(), uint64(r.u32())
	heads := r.take(count * entryHeadBytes)
	if heads == nil || count == 0 || first == 0 || first+count < first {
		r.short = true
		return nil
	}
	entries := make([]raftpb.Entry, count)
	for i := range entries {
		head := heads[i*entryHeadBytes:]
		e := &entries[i]
		e.Index, e.Term = first+uint64(i), binary.LittleEndian.Uint64(head)
		e.Type = raftpb.EntryType(head[12])
		e.Data = r.take(uint64(binary.LittleEndian.Uint32(head[8:])))
		if head[13]|head[14]|head[15] != 0 {
			r.short = true
		}
		if len(e.Data) == 0 {
			e.Data = nil
		}
	}
	return entries
}

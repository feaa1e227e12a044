package peer

import (
	"encoding/binary"
	"hash/crc32"
	"net"

	"tidewater/broker/multiraft"
)

// Sizes that shape a batch.
const (
	// messagesFrameBytes is where a frame of raft messages ends and the next
	// begins: what a receiver must have whole before it may use the first.
	messagesFrameBytes = 256 << 10
	// inlineDataMax is up to where an entry's bytes are copied beside the
	// others, because a piece of a vectored write costs more.
	inlineDataMax = 512
	// pieceBytes and pieceBuffers bound what one write gives to the kernel.
	pieceBytes   = 1 << 20
	pieceBuffers = 512
	// keepBytesMax is the largest buffer that is kept to be used again.
	keepBytesMax = 4 << 20
)

// batch is what waits to be written on a connection: whole frames in order.
// Raft messages are encoded as they come, but for the bytes of their entries,
// which are written from where they are.
type batch struct {
	inline []byte // frame headers and all payloads but the data of raft messages
	small  []byte // copied data of raft messages
	data   []dataRef
	frames []frameRef
	open   bool // the last frame takes more raft messages
	room   int  // bytes until it is full

	bytes, messages int
}

// frameRef is a frame: inline[from:to], then the data.
type frameRef struct{ from, to, dataFrom, dataTo int }

// dataRef is bytes of others, or small[from:to].
type dataRef struct {
	outside  []byte
	from, to int
}

func (d *dataRef) len() int { return len(d.outside) + d.to - d.from }

func (b *batch) empty() bool { return len(b.frames) == 0 }

// reset makes the batch empty and keeps its buffers.
func (b *batch) reset() {
	if cap(b.inline) > keepBytesMax {
		b.inline = nil
	}
	if cap(b.small) > keepBytesMax {
		b.small = nil
	}
	clear(b.data)
	*b = batch{inline: b.inline[:0], small: b.small[:0], data: b.data[:0], frames: b.frames[:0]}
}

// frame adds a whole frame, made by encode at the end of what it is given.
func (b *batch) frame(encode func([]byte) []byte) {
	b.closeFrame()
	from := len(b.inline)
	b.inline = encode(b.inline)
	b.frames = append(b.frames, frameRef{from, len(b.inline), len(b.data), len(b.data)})
	b.bytes += len(b.inline) - from
}

// message adds a raft message.
func (b *batch) message(m *multiraft.Message) {
	if size := dataBytes(m); size > messagesFrameBytes {
		b.closeFrame()
	}
	if !b.open {
		b.openFrame()
	}
	from := len(b.inline)
	b.inline = appendMeta(b.inline, m)
	size := len(b.inline) - from
	for i := range m.Entries {
		size += b.addData(m.Entries[i].Data)
	}
	if m.Snapshot != nil {
		size += b.addData(m.Snapshot.Data)
	}
	b.bytes += size
	b.messages++
	if b.room -= size; b.room <= 0 {
		b.closeFrame()
	}
}

// dataBytes is how many bytes of a message stand in a frame's data.
func dataBytes(m *multiraft.Message) int {
	n := 0
	for i := range m.Entries {
		n += len(m.Entries[i].Data)
	}
	if m.Snapshot != nil {
		n += len(m.Snapshot.Data)
	}
	return n
}

// fits reports whether a frame of at most frameMax bytes can hold the message.
func fits(m *multiraft.Message, frameMax int) bool {
	const perEntry, rest = 32, 1 << 10 // more than their metas take
	meta := len(m.Entries)*perEntry + len(m.Context) + rest
	if m.Snapshot != nil {
		c := &m.Snapshot.Metadata.ConfState
		meta += 10 * (len(c.Voters) + len(c.Learners) + len(c.VotersOutgoing) + len(c.LearnersNext))
	}
	return meta <= metaBytesMax-messagesFrameBytes && frameHeader+messagesFrameBytes+meta+dataBytes(m) <= frameMax
}

func (b *batch) openFrame() {
	b.open, b.room = true, messagesFrameBytes
	b.frames = append(b.frames, frameRef{from: len(b.inline), dataFrom: len(b.data)})
	b.inline = append(begin(b.inline, kindMessages), 0, 0, 0, 0)
}

func (b *batch) closeFrame() {
	if !b.open {
		return
	}
	b.open = false
	f := &b.frames[len(b.frames)-1]
	f.to, f.dataTo = len(b.inline), len(b.data)
}

func (b *batch) addData(data []byte) int {
	switch {
	case len(data) == 0:
	case len(data) > inlineDataMax:
		b.data = append(b.data, dataRef{outside: data})
	default:
		from := len(b.small)
		b.small = append(b.small, data...)
		f := &b.frames[len(b.frames)-1]
		if n := len(b.data); n > f.dataFrom && b.data[n-1].outside == nil {
			b.data[n-1].to = len(b.small)
		} else {
			b.data = append(b.data, dataRef{from: from, to: len(b.small)})
		}
	}
	return len(data)
}

func (b *batch) dataOf(d *dataRef) []byte {
	if d.outside != nil {
		return d.outside
	}
	return b.small[d.from:d.to]
}

// seal fills in length and checksum of a frame of raft messages; frames of
// other kinds came sealed.
func (b *batch) seal(f *frameRef) {
	head := b.inline[f.from:f.to]
	if kind(head[4]) != kindMessages {
		return
	}
	data := 0
	for i := f.dataFrom; i < f.dataTo; i++ {
		data += b.data[i].len()
	}
	binary.BigEndian.PutUint32(head, uint32(len(head)-frameHeader+data))
	binary.BigEndian.PutUint32(head[frameHeader:], uint32(len(head)-frameHeader-4))
	sum := crc32.Update(crc32.Checksum(head[:8], castagnoli), castagnoli, head[frameHeader:])
	for i := f.dataFrom; i < f.dataTo; i++ {
		sum = crc32.Update(sum, castagnoli, b.dataOf(&b.data[i]))
	}
	binary.BigEndian.PutUint32(head[8:], sum)
}

// piece appends to out the buffers of frames from next on, about pieceBytes,
// and gives the frame after them and how many bytes they are.
func (b *batch) piece(next int, out net.Buffers) (net.Buffers, int, int) {
	size, start := 0, -1
	for ; next < len(b.frames) && size < pieceBytes && len(out) < pieceBuffers; next++ {
		f := &b.frames[next]
		b.seal(f)
		// Frames without data of others lie side by side.
		if start < 0 {
			start = f.from
		}
		size += f.to - f.from
		if f.dataFrom == f.dataTo {
			continue
		}
		out = append(out, b.inline[start:f.to])
		start = -1
		for i := f.dataFrom; i < f.dataTo; i++ {
			data := b.dataOf(&b.data[i])
			out = append(out, data)
			size += len(data)
		}
	}
	if start >= 0 {
		out = append(out, b.inline[start:b.frames[next-1].to])
	}
	return out, next, size
}

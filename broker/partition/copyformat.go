package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"tidewater/broker/segment"
	"tidewater/internal/record"
)

// What travels when a replica copies segments of another: a request, and a
// stream of frames. docs/formats/segment-copy.md.
const (
	copyMagic   = "TWCP"
	copyVersion = 1
	// frameBytesMax bounds what a frame may claim: the largest entry with room.
	frameBytesMax = segment.ChunkBytesMax
	// copyBytesGoal is how many bytes of entries go into one frame, if one
	// entry is not larger: a large write on the other end.
	copyBytesGoal = 1 << 20
)

// copyRequest asks for the entries from one on up to a RaftSnapshot's, both
// inclusive, or for those of them that the other has on its disk.
type copyRequest struct {
	from, to record.Index
}

func (r copyRequest) encode() []byte {
	b := append([]byte(nil), copyMagic...)
	b = binary.BigEndian.AppendUint16(b, copyVersion)
	b = binary.BigEndian.AppendUint16(b, copyVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(r.from))
	b = binary.BigEndian.AppendUint64(b, uint64(r.to))
	return seal(b, 0)
}

func decodeCopyRequest(data []byte) (copyRequest, error) {
	const what = "request for segments"
	f, err := unseal(what, data, copyMagic, copyVersion)
	if err != nil {
		return copyRequest{}, err
	}
	r := copyRequest{from: record.Index(f.u64()), to: record.Index(f.u64())}
	if err := f.end(what); err != nil {
		return r, err
	}
	if r.from == 0 || r.to == 0 {
		return r, fmt.Errorf("%w: %s: entries %d to %d", ErrCorrupt, what, r.from, r.to)
	}
	return r, nil
}

type frameKind uint8

const (
	// frameBegin: where the copy begins, which is where the request says or
	// above: what lies between is in the bucket, or nowhere any more.
	frameBegin frameKind = 1
	// frameEntries: entries that follow those before.
	frameEntries frameKind = 2
	// frameSeal: the other's segment ends here; with it the producer snapshot
	// at its end, empty if none is kept.
	frameSeal frameKind = 3
	// frameEnd: that was all.
	frameEnd frameKind = 4
)

// copyFrame is one frame of the stream.
type copyFrame struct {
	kind frameKind
	// first is the entry that a copy begins with, base the offset that is next
	// there.
	first record.Index
	base  record.Offset

	entries []segment.Entry

	next     record.Offset // end of a sealed segment
	snapshot []byte
}

// frameHeadBytes: kind (1), zeros (3), payload length (4), its CRC-32C (4).
const frameHeadBytes = 12

func writeFrame(w io.Writer, f *copyFrame) error {
	b := make([]byte, frameHeadBytes, frameHeadBytes+64)
	b[0] = byte(f.kind)
	switch f.kind {
	case frameBegin:
		b = binary.BigEndian.AppendUint16(b, copyVersion)
		b = binary.BigEndian.AppendUint16(b, copyVersion)
		b = binary.BigEndian.AppendUint64(b, uint64(f.first))
		b = binary.BigEndian.AppendUint64(b, uint64(f.base))
	case frameEntries:
		b = binary.BigEndian.AppendUint64(b, uint64(f.entries[0].Index))
		b = binary.BigEndian.AppendUint32(b, uint32(len(f.entries)))
		for i := range f.entries {
			e := &f.entries[i]
			b = binary.BigEndian.AppendUint64(b, e.Term)
			b = binary.BigEndian.AppendUint32(b, uint32(len(e.Data)))
			b = append(b, e.Data...)
		}
	case frameSeal:
		b = binary.BigEndian.AppendUint64(b, uint64(f.next))
		b = append(b, f.snapshot...)
	}
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)-frameHeadBytes))
	binary.BigEndian.PutUint32(b[8:], crc32.Checksum(b[frameHeadBytes:], crc32.MakeTable(crc32.Castagnoli)))
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write copy of segments: %w", err)
	}
	return nil
}

// readFrame reads the next frame; io.EOF never: a stream ends with frameEnd.
func readFrame(r io.Reader) (copyFrame, error) {
	var head [frameHeadBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return copyFrame{}, cutShort(err)
	}
	n := int64(binary.BigEndian.Uint32(head[4:]))
	if n > frameBytesMax {
		return copyFrame{}, fmt.Errorf("%w: copy of segments: frame of %d bytes, at most %d", ErrCorrupt, n, int64(frameBytesMax))
	}
	// Memory grows with what comes, not with what is claimed.
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r, n); err != nil {
		return copyFrame{}, cutShort(err)
	}
	if got, want := crc32.Checksum(body.Bytes(), crc32.MakeTable(crc32.Castagnoli)), binary.BigEndian.Uint32(head[8:]); got != want {
		return copyFrame{}, fmt.Errorf("%w: copy of segments: frame's CRC-32C is %08x, expected %08x", ErrCorrupt, got, want)
	}
	return decodeFrame(frameKind(head[0]), body.Bytes())
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read copy of segments: %w", err)
}

func decodeFrame(kind frameKind, body []byte) (copyFrame, error) {
	const what = "copy of segments"
	c := copyFrame{kind: kind}
	f := fields{b: body}
	switch kind {
	case frameBegin:
		version, least := f.u16(), f.u16()
		if !f.bad && least > copyVersion {
			return c, fmt.Errorf("%w: %s has version %d and needs a reader of version %d, this one has %d", ErrVersion, what, version, least, copyVersion)
		}
		c.first, c.base = record.Index(f.u64()), record.Offset(f.u64())
		f.bad = f.bad || c.first == 0 || c.base < 0
	case frameEntries:
		first := record.Index(f.u64())
		n := f.count(12)
		c.entries = make([]segment.Entry, 0, n)
		for i := range n {
			e := segment.Entry{Index: first + record.Index(i), Term: f.u64()}
			if data := f.take(int(f.u32())); len(data) > 0 {
				e.Data = data
			}
			c.entries = append(c.entries, e)
		}
		f.bad = f.bad || n == 0 || first == 0
	case frameSeal:
		c.next = record.Offset(f.u64())
		c.snapshot = f.take(len(f.b))
		f.bad = f.bad || c.next < 0
	case frameEnd:
	default:
		return c, fmt.Errorf("%w: %s: frame of kind %d", ErrVersion, what, kind)
	}
	return c, f.end(what)
}

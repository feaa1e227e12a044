package peer

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// Versions of the connection that this broker speaks.
const (
	versionOldest = 1
	versionNewest = 1
)

// Sizes of a hello; docs/formats/peer.md has its fields.
const (
	helloMagic    = "TWPR"
	helloPrefix   = 6
	helloFixed    = 52 // between prefix and text
	helloBytesMax = 1 << 10
	helloTextMax  = 256
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// hello is the first thing said on a connection, by both ends. The layout of
// what is here never changes; later versions append.
type hello struct {
	newest, oldest uint16 // versions spoken
	lane           laneKind
	refusal        Code // in an answer: why not, 0 is welcome
	cluster        [16]byte
	node           int32
	want           int32 // node id that is expected at the other end, -1 any
	boot           uint64
	features       uint64
	level          uint32
	text           string // of the refusal
}

func (h *hello) appendTo(b []byte) []byte {
	text := h.text[:min(len(h.text), helloTextMax)]
	at := len(b)
	b = append(b, helloMagic...)
	b = binary.BigEndian.AppendUint16(b, uint16(helloFixed+2+len(text)+4))
	b = binary.BigEndian.AppendUint16(b, h.newest)
	b = binary.BigEndian.AppendUint16(b, h.oldest)
	b = append(b, byte(h.lane), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(h.refusal))
	b = append(b, h.cluster[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(h.node))
	b = binary.BigEndian.AppendUint32(b, uint32(h.want))
	b = binary.BigEndian.AppendUint64(b, h.boot)
	b = binary.BigEndian.AppendUint64(b, h.features)
	b = binary.BigEndian.AppendUint32(b, h.level)
	b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	b = append(b, text...)
	return appendSum(b, at)
}

// appendSum ends the hello at b[at:] with its checksum.
func appendSum(b []byte, at int) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
}

// decodeHello decodes a whole hello. What later versions appended is passed
// over.
func decodeHello(b []byte) (hello, error) {
	var h hello
	if len(b) < helloPrefix || string(b[:4]) != helloMagic {
		return h, fmt.Errorf("%w: not a hello of a broker", errFormat)
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	if len(b) != helloPrefix+n || n < helloFixed+2+4 || len(b) > helloBytesMax {
		return h, fmt.Errorf("%w: hello of %d bytes says %d", errFormat, len(b), n)
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return h, fmt.Errorf("%w: checksum of hello", errFormat)
	}
	f := body[helloPrefix:]
	h.newest, h.oldest = binary.BigEndian.Uint16(f), binary.BigEndian.Uint16(f[2:])
	h.lane = laneKind(f[4])
	h.refusal = Code(binary.BigEndian.Uint16(f[6:]))
	copy(h.cluster[:], f[8:])
	h.node = int32(binary.BigEndian.Uint32(f[24:]))
	h.want = int32(binary.BigEndian.Uint32(f[28:]))
	h.boot = binary.BigEndian.Uint64(f[32:])
	h.features = binary.BigEndian.Uint64(f[40:])
	h.level = binary.BigEndian.Uint32(f[48:])
	size := int(binary.BigEndian.Uint16(f[52:]))
	if size > helloTextMax || size > len(f)-helloFixed-2 {
		return h, fmt.Errorf("%w: text of %d bytes in a hello", errFormat, size)
	}
	h.text = string(f[helloFixed+2:][:size])
	return h, nil
}

// readHello reads one hello and not a byte more.
func readHello(r io.Reader) (hello, error) {
	b := make([]byte, helloPrefix, 128)
	if _, err := io.ReadFull(r, b); err != nil {
		return hello{}, fmt.Errorf("read hello: %w", err)
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	if string(b[:4]) != helloMagic || helloPrefix+n > helloBytesMax {
		return hello{}, fmt.Errorf("%w: not a hello of a broker", errFormat)
	}
	b = append(b, make([]byte, n)...)
	if _, err := io.ReadFull(r, b[helloPrefix:]); err != nil {
		return hello{}, fmt.Errorf("read hello: %w", err)
	}
	return decodeHello(b)
}

// agree gives the version that two ends speak, or why they cannot.
func agree(ours, theirs *hello) (uint16, *Error) {
	v := min(ours.newest, theirs.newest)
	if v < ours.oldest || v < theirs.oldest {
		return 0, &Error{CodeVersion, fmt.Sprintf("no common protocol version: node %d speaks %d to %d, node %d speaks %d to %d",
			ours.node, ours.oldest, ours.newest, theirs.node, theirs.oldest, theirs.newest)}
	}
	if conflict(ours.cluster, theirs.cluster) {
		return 0, &Error{CodeWrongCluster, fmt.Sprintf("node %d belongs to cluster %x, node %d to cluster %x",
			ours.node, ours.cluster, theirs.node, theirs.cluster)}
	}
	return v, nil
}

// conflict reports whether two cluster ids, zero when unknown, differ.
func conflict(a, b [16]byte) bool {
	return a != b && a != [16]byte{} && b != [16]byte{}
}

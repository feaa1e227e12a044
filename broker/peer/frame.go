package peer

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// kind tells what a frame holds; docs/formats/peer.md has the layouts.
type kind uint8

const (
	kindPing     kind = 1
	kindPong     kind = 2
	kindMessages kind = 3 // raft messages of many groups
	kindCall     kind = 4
	kindAnswer   kind = 5
	kindCancel   kind = 6 // of a call or a stream, by who asked
	kindOpen     kind = 7 // asks for a stream
	kindData     kind = 8
	kindEnd      kind = 9  // of a stream, by who serves it
	kindCredit   kind = 10 // more of a stream may come
)

// frameHeader is length, kind, flags, reserved, checksum.
const frameHeader = 12

// flagMust on a frame of unknown kind ends the connection; without it the
// frame is passed over.
const flagMust = 1

// header is a frame's first bytes.
type header struct {
	length int // of the payload
	kind   kind
	flags  uint8
	sum    uint32 // CRC-32C of the first eight bytes and the payload
}

func decodeHeader(b *[frameHeader]byte) header {
	return header{
		length: int(binary.BigEndian.Uint32(b[:])),
		kind:   kind(b[4]), flags: b[5],
		sum: binary.BigEndian.Uint32(b[8:]),
	}
}

// begin appends a frame's header with room for length and checksum.
func begin(b []byte, k kind) []byte {
	return append(b, 0, 0, 0, 0, byte(k), 0, 0, 0, 0, 0, 0, 0)
}

// seal fills in the header at b[at:] of a frame whose payload is the rest of b.
func seal(b []byte, at int) {
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-frameHeader))
	sum := crc32.Update(crc32.Checksum(b[at:at+8], castagnoli), castagnoli, b[at+frameHeader:])
	binary.BigEndian.PutUint32(b[at+8:], sum)
}

// beat is a ping or a pong.
type beat struct {
	// at is the time of the ping by its sender's own count, given back as it is.
	at uint64
	// now is the time of this heartbeat by its own sender's count: of two on
	// different connections the later one holds.
	now uint64
	// hears: the sender gets echoes of its own pings on its own connection.
	hears bool
	// cluster is the sender's cluster id, zero until known.
	cluster [16]byte
}

const beatBytes = 8 + 8 + 1 + 16

func (p *beat) appendTo(b []byte, k kind) []byte {
	at := len(b)
	b = begin(b, k)
	b = binary.BigEndian.AppendUint64(b, p.at)
	b = binary.BigEndian.AppendUint64(b, p.now)
	flags := byte(0)
	if p.hears {
		flags = 1
	}
	b = append(b, flags)
	b = append(b, p.cluster[:]...)
	seal(b, at)
	return b
}

func decodeBeat(b []byte) (beat, error) {
	if len(b) < beatBytes {
		return beat{}, fmt.Errorf("%w: heartbeat of %d bytes", errFormat, len(b))
	}
	p := beat{at: binary.BigEndian.Uint64(b), now: binary.BigEndian.Uint64(b[8:]), hears: b[16]&1 != 0}
	copy(p.cluster[:], b[17:])
	return p, nil
}

// request opens a call or a stream.
type request struct {
	id     uint64
	method Method
	// timeout in milliseconds until the caller's deadline, 0 for none.
	timeout uint32
	window  uint32 // of a stream, in bytes; 0 in a call
	body    []byte
}

const requestFixed = 8 + 2 + 4 + 4

func (r *request) appendTo(b []byte, k kind) []byte {
	at := len(b)
	b = begin(b, k)
	b = binary.BigEndian.AppendUint64(b, r.id)
	b = binary.BigEndian.AppendUint16(b, uint16(r.method))
	b = binary.BigEndian.AppendUint32(b, r.timeout)
	b = binary.BigEndian.AppendUint32(b, r.window)
	b = append(b, r.body...)
	seal(b, at)
	return b
}

func decodeRequest(b []byte) (request, error) {
	if len(b) < requestFixed {
		return request{}, fmt.Errorf("%w: request of %d bytes", errFormat, len(b))
	}
	return request{
		id: binary.BigEndian.Uint64(b), method: Method(binary.BigEndian.Uint16(b[8:])),
		timeout: binary.BigEndian.Uint32(b[10:]), window: binary.BigEndian.Uint32(b[14:]),
		body: b[requestFixed:],
	}, nil
}

// reply answers a call or ends a stream: with a code, body is the text.
type reply struct {
	id   uint64
	code Code
	body []byte
}

const replyFixed = 8 + 2

func (r *reply) appendTo(b []byte, k kind) []byte {
	at := len(b)
	b = begin(b, k)
	b = binary.BigEndian.AppendUint64(b, r.id)
	b = binary.BigEndian.AppendUint16(b, uint16(r.code))
	b = append(b, r.body...)
	seal(b, at)
	return b
}

func decodeReply(b []byte) (reply, error) {
	if len(b) < replyFixed {
		return reply{}, fmt.Errorf("%w: answer of %d bytes", errFormat, len(b))
	}
	return reply{id: binary.BigEndian.Uint64(b), code: Code(binary.BigEndian.Uint16(b[8:])), body: b[replyFixed:]}, nil
}

// part is a piece of a stream, a credit for one or a cancellation.
type part struct {
	id     uint64
	credit uint32 // of a credit
	data   []byte // of a piece
}

func (p *part) appendTo(b []byte, k kind) []byte {
	at := len(b)
	b = begin(b, k)
	b = binary.BigEndian.AppendUint64(b, p.id)
	if k == kindCredit {
		b = binary.BigEndian.AppendUint32(b, p.credit)
	}
	b = append(b, p.data...)
	seal(b, at)
	return b
}

func decodePart(b []byte, k kind) (part, error) {
	if len(b) < 8 || k == kindCredit && len(b) < 12 {
		return part{}, fmt.Errorf("%w: frame of kind %d has %d bytes", errFormat, k, len(b))
	}
	p := part{id: binary.BigEndian.Uint64(b)}
	switch k {
	case kindCredit:
		p.credit = binary.BigEndian.Uint32(b[8:])
	case kindData:
		p.data = b[8:]
	}
	return p, nil
}

package kafka

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// headerBytesMin is the smallest request header: key, version, correlation id.
const headerBytesMin = 8

// header is a request's header.
//
//	offset size field
//	0      2    API key
//	2      2    API version
//	4      4    correlation id
//	8      2+n  client id, nullable string (header v1 and v2)
//	       …    tags (header v2, for flexible versions)
type header struct {
	key, version int16
	correlation  int32
	clientID     string // "" is null too
}

// parseHeader splits the header off a frame. Key and version are set even when
// the rest cannot be read because the version is not known; known says whether
// the API table serves it.
//
// clientID is the one of the connection's last request, so that it need not be
// made again.
func (s *Server) parseHeader(f frame, clientID string) (h header, body walker, err error) {
	w := f.walk()
	h.key, h.version, h.correlation = w.int16(), w.int16(), w.int32()
	if w.bad {
		return h, w, fmt.Errorf("%w: %d bytes are no request header", errMalformed, f.bytes)
	}
	a, ok := s.apis[h.key]
	if !ok {
		return h, w, fmt.Errorf("%w: unknown API key %d", errMalformed, h.key)
	}
	if h.version < a.min || h.version > a.max {
		return h, w, errVersion
	}
	id, _ := w.string(false) // the client id is never compact, so that any broker can read it
	if h.clientID = clientID; string(id) != clientID {
		h.clientID = string(id)
	}
	w.tags(a.flexible(h.version))
	if w.bad {
		return h, w, fmt.Errorf("%w: header of %s v%d is cut short", errMalformed, a.name, h.version)
	}
	return h, w, nil
}

// appendResponseHeader writes the length field's place and the header.
// ApiVersions answers keep header v0, so that a client can read them before it
// knows the broker.
func appendResponseHeader(b []byte, h header, flexible bool) []byte {
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(h.correlation))
	if flexible && h.key != int16(kmsg.ApiVersions) {
		b = append(b, 0)
	}
	return b
}

// apiName names a key for logs and errors.
func apiName(key int16) string {
	if n := kmsg.NameForKey(key); n != "Unknown" {
		return n
	}
	return strconv.Itoa(int(key))
}

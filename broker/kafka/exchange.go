package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// exchange is a request read and not yet answered. The reader makes it, the
// writer finishes it in turn.
type exchange struct {
	request
	api *api
	// bytes are what the request holds of the server's memory.
	bytes int
	// produce is set for Produce: its appends are made, their answers may be
	// outstanding.
	produce *produceCall
	// unsupported marks an ApiVersions request of a version that is not served.
	unsupported bool
}

// request is what a handler gets.
type request struct {
	header
	clientHost string
	msg        kmsg.Request // decoded; nil for Produce
	failed     bool         // an error code was answered
}

// answer says what became of an exchange. The zero value: it was appended to
// the writer's buffer.
type answer struct {
	parts  net.Buffers // to be written instead
	silent bool        // no answer is due (acks=0)
	cut    bool        // the connection ends here
}

// receive turns a frame into an exchange. For Produce that makes the appends:
// this is what keeps those of one connection in order.
func (c *conn) receive(f frame) (*exchange, error) {
	h, body, err := c.s.parseHeader(f, c.clientID)
	c.clientID = h.clientID
	x := &exchange{request: request{header: h, clientHost: c.host}, bytes: f.bytes}
	switch {
	case errors.Is(err, errVersion) && h.key == int16(kmsg.ApiVersions):
		x.unsupported = true
	case errors.Is(err, errVersion):
		return nil, fmt.Errorf("%w: %s v%d", errVersion, apiName(h.key), h.version)
	case err != nil:
		return nil, err
	}
	x.api = c.s.apis[h.key]
	c.s.counters.requests[h.key].Add(1)
	switch {
	case x.unsupported:
		return x, nil
	case h.key == int16(kmsg.Produce):
		x.produce, err = c.s.beginProduce(&x.request, body)
	default:
		x.msg, err = c.s.decode(h, body.b)
	}
	if err != nil {
		return nil, err
	}
	return x, nil
}

// decode reads a message's body. kmsg trusts counts and makes structs many
// times the size of their bytes, so the shape is checked first, and large
// messages are decoded one at a time.
func (s *Server) decode(h header, body []byte) (kmsg.Request, error) {
	if err := s.apis[h.key].checkShape(h.version, body); err != nil {
		return nil, err
	}
	if len(body) > trustBytesMin {
		s.decodeLarge.Lock()
		defer s.decodeLarge.Unlock()
	}
	msg := kmsg.RequestForKey(h.key)
	msg.SetVersion(h.version)
	if err := msg.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("%w: body of %s v%d: %v", errMalformed, apiName(h.key), h.version, err)
	}
	return msg, nil
}

// ready says whether finish would not wait.
func (x *exchange) ready() bool {
	return x.unsupported || x.produce != nil && x.produce.ready()
}

// finish does what the request asks for, if it is not under way already, and
// encodes the answer.
func (x *exchange) finish(c *conn, live, patience context.Context) answer {
	switch {
	case x.unsupported:
		c.out = appendAnswer(c.out, header{correlation: x.correlation, key: x.key}, unsupportedApiVersions(x.api))
		x.failed = true
	case x.produce != nil:
		return c.finishProduce(live, x)
	case x.key == int16(kmsg.Fetch):
		return c.finishFetch(patience, x)
	default:
		ctx := live
		if x.api.waits {
			ctx = patience
		}
		resp := x.api.handle(ctx, &x.request)
		if resp == nil {
			return answer{cut: true}
		}
		c.out = appendAnswer(c.out, x.header, resp)
	}
	return answer{}
}

// release gives back what the exchange holds; it is called once, by whoever
// has it last.
func (x *exchange) release(c *conn) {
	if x.failed {
		c.s.counters.errors[x.key].Add(1)
	}
	c.inFlight.Add(-1)
	c.s.memory.hold(-x.bytes)
}

// appendAnswer encodes one framed answer.
func appendAnswer(b []byte, h header, resp kmsg.Response) []byte {
	start := len(b)
	b = appendResponseHeader(b, h, resp.IsFlexible())
	b = resp.AppendTo(b)
	return closeFrame(b, start, 0)
}

// closeFrame writes the length of the frame that begins at start; more is how
// many of its bytes are not in b.
func closeFrame(b []byte, start, more int) []byte {
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4+more))
	return b
}

package kafka

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A frame on the wire is a length (4 bytes, big endian, without itself) and a
// request. Memory for it is taken in pieces as it arrives: at first trustBytes,
// then as much again as has come, at most pieceBytesMax.
const (
	trustBytesMin = 64 << 10
	// pieceBytesMax bounds what one batch that is not written to a segment yet
	// keeps of its neighbours' memory; few batches lie across two pieces.
	pieceBytesMax = 2 << 20
	// readStepBytes must arrive within HalfTimeout.
	readStepBytes = 1 << 20
)

// frame is a request without its length field, in the pieces it was read into.
// Only a Produce has more than one: its batches stay where they are.
type frame struct {
	first []byte
	more  [][]byte
	bytes int // in all
}

// joined makes a frame one piece.
func (f frame) joined() frame {
	if len(f.more) == 0 {
		return f
	}
	whole := append(make([]byte, 0, f.bytes), f.first...)
	for _, piece := range f.more {
		whole = append(whole, piece...)
	}
	return frame{first: whole, bytes: f.bytes}
}

// errIdle: no request for IdleTimeout.
var errIdle = errors.New("connection is idle")

// readFrame gives the next request without its length field. It is charged to
// the server's memory; the caller gives that back.
func (c *conn) readFrame(ctx context.Context) (frame, error) {
	if err := c.awaitRequest(); err != nil {
		return frame{}, err
	}
	waited, err := c.s.memory.wait(ctx)
	if waited {
		c.s.counters.memoryWaits.Add(1)
	}
	if err != nil {
		return frame{}, err
	}
	if c.br.Buffered() < 4+4 {
		c.setReadDeadline(c.s.cfg.HalfTimeout)
	}
	prefix, err := c.br.Peek(4 + 4)
	if len(prefix) < 4 {
		return frame{}, noEOF(err)
	}
	size := int(int32(binary.BigEndian.Uint32(prefix)))
	if size < headerBytesMin || size > c.s.cfg.RequestBytesMax {
		return frame{}, fmt.Errorf("%w: claims %d bytes, want %d to %d%s", errMalformed, size, headerBytesMin, c.s.cfg.RequestBytesMax, guessProtocol(prefix))
	}
	if err != nil {
		return frame{}, noEOF(err)
	}
	key := int16(binary.BigEndian.Uint16(prefix[4:]))
	if err := c.checkClaim(key, size); err != nil {
		return frame{}, err
	}
	c.br.Discard(4) // cannot fail: it was peeked
	return c.readBody(key, size)
}

// awaitRequest returns when a first byte is there.
func (c *conn) awaitRequest() error {
	for c.br.Buffered() == 0 {
		c.setReadDeadline(c.s.cfg.IdleTimeout)
		_, err := c.br.Peek(1)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded) || c.s.draining.Err() != nil:
			return err
		case c.inFlight.Load() == 0:
			return errIdle
		}
	}
	return nil
}

// checkClaim refuses, before it is read, what could not be answered anyway.
func (c *conn) checkClaim(key int16, size int) error {
	if _, ok := c.s.apis[key]; !ok {
		return fmt.Errorf("%w: unknown API key %d", errMalformed, key)
	}
	if key != int16(kmsg.Produce) && size > c.s.cfg.MessageBytesMax {
		return fmt.Errorf("%w: %s claims %d bytes, the bound is %d", errMalformed, apiName(key), size, c.s.cfg.MessageBytesMax)
	}
	return nil
}

func (c *conn) readBody(key int16, size int) (frame, error) {
	f := frame{first: c.firstPiece(key, size)}
	for piece := f.first; ; f.more = append(f.more, piece) {
		n, err := c.readPiece(piece)
		if f.bytes += n; err != nil {
			c.s.memory.hold(-f.bytes)
			return frame{}, noEOF(err)
		}
		if f.bytes == size {
			break
		}
		piece = make([]byte, min(size-f.bytes, f.bytes, pieceBytesMax))
	}
	c.s.counters.bytesIn.Add(4)
	c.trustBytes = max(c.trustBytes, min(size, pieceBytesMax))
	if key != int16(kmsg.Produce) {
		f = f.joined()
	}
	return f, nil
}

func (c *conn) firstPiece(key int16, size int) []byte {
	if !reusable(key) || size > trustBytesMin {
		return make([]byte, min(size, c.trustBytes))
	}
	if c.scratch == nil {
		c.scratch = make([]byte, trustBytesMin)
	}
	return c.scratch[:size]
}

// readPiece fills piece and charges what came to the server's memory.
func (c *conn) readPiece(piece []byte) (n int, err error) {
	for n < len(piece) && err == nil {
		step := min(len(piece), n+readStepBytes)
		if c.br.Buffered() < step-n {
			c.setReadDeadline(c.s.cfg.HalfTimeout)
		}
		var got int
		got, err = io.ReadFull(c.br, piece[n:step])
		c.s.memory.hold(got)
		c.s.counters.bytesIn.Add(int64(got))
		n += got
	}
	return n, err
}

// reusable says whether the decoded form of a request keeps no view of its
// bytes, so that the buffer can take the next one: only for the most frequent
// small request.
func reusable(key int16) bool { return key == int16(kmsg.Fetch) }

// noEOF makes an end in the middle of a request an unexpected one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: connection closed in the middle of a request", errMalformed)
	}
	return err
}

// guessProtocol names what was probably meant, for the log.
func guessProtocol(prefix []byte) string {
	for _, verb := range []string{"GET ", "POST", "HEAD", "PUT ", "OPTI", "DELE", "PRI "} {
		if bytes.HasPrefix(prefix, []byte(verb)) {
			return " (looks like HTTP)"
		}
	}
	if prefix[0] == 0x16 && prefix[1] == 3 {
		return " (looks like TLS; this listener is plaintext)"
	}
	return ""
}

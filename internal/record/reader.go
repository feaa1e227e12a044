package record

import (
	"encoding/binary"
	"fmt"
)

// Header is a record header. Value nil and empty differ, as in Kafka.
type Header struct {
	Key   string
	Value []byte
}

// Record is one record of a batch. Key and Value point into the batch (or its
// decompressed body) and are nil when Kafka's field is null.
type Record struct {
	Offset    Offset
	Timestamp int64 // milliseconds since the Unix epoch
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Reader walks the records of one batch. The zero value is ready for Reset; it
// keeps its buffers from batch to batch, so a Record is valid until the next
// Reset.
type Reader struct {
	batch Batch
	body  []byte
	left  int32
	buf   []byte // decompressed body, reused
	rec   Record
	err   error
}

// Reset starts on batch b, decompressing it. bodyBytesMax bounds the
// decompressed size (0 is DecompressedBytesMax); a larger one is ErrCorrupt.
func (r *Reader) Reset(b Batch, bodyBytesMax int) error {
	r.batch, r.left, r.err = b, b.RecordCount(), nil
	body := []byte(b[HeaderBytes:])
	if b.Codec() != None {
		var err error
		r.buf, err = Decompress(r.buf[:0], body, b.Codec(), bodyBytesMax)
		if err != nil {
			r.left, r.err = 0, fmt.Errorf("batch at offset %d: %w", b.BaseOffset(), err)
			return r.err
		}
		body = r.buf
	}
	r.body = body
	return nil
}

// Next moves to the next record; false at the end or at an error, which Err
// tells apart.
func (r *Reader) Next() bool {
	if r.left == 0 || r.err != nil {
		if r.err == nil && len(r.body) != 0 {
			r.err = fmt.Errorf("%w: offset %d: %d bytes after the last record", ErrCorrupt, r.batch.BaseOffset(), len(r.body))
		}
		return false
	}
	r.left--
	if err := r.decode(); err != nil {
		r.err = fmt.Errorf("batch at offset %d: %w", r.batch.BaseOffset(), err)
		return false
	}
	return true
}

// Record is the current record; its slices are valid until the next Reset, its
// Headers slice until the next Next.
func (r *Reader) Record() *Record { return &r.rec }

// Err is what ended the walk, nil at the proper end.
func (r *Reader) Err() error { return r.err }

func (r *Reader) decode() error {
	n, w := binary.Varint(r.body)
	if w <= 0 || n < 0 || n > int64(len(r.body)-w) {
		return fmt.Errorf("%w: record length", ErrCorrupt)
	}
	c := cursor{b: r.body[w : w+int(n)]}
	r.body = r.body[w+int(n):]
	c.take(1) // attributes: unused by Kafka
	ts := c.varint()
	delta := c.varint()
	r.rec.Key = c.bytes()
	r.rec.Value = c.bytes()
	count := c.varint()
	if c.bad || count < 0 || count > int64(len(c.b)) || delta < 0 || delta > int64(r.batch.LastOffsetDelta()) {
		return fmt.Errorf("%w: record fields", ErrCorrupt)
	}
	r.rec.Offset = r.batch.BaseOffset() + Offset(delta)
	r.rec.Timestamp = r.batch.BaseTimestamp() + ts
	if r.batch.LogAppendTime() {
		r.rec.Timestamp = r.batch.MaxTimestamp()
	}
	r.rec.Headers = r.rec.Headers[:0]
	for range count {
		k := c.bytes()
		v := c.bytes()
		if c.bad || k == nil {
			return fmt.Errorf("%w: record header", ErrCorrupt)
		}
		r.rec.Headers = append(r.rec.Headers, Header{Key: string(k), Value: v})
	}
	if len(c.b) != 0 {
		return fmt.Errorf("%w: %d bytes after a record's fields", ErrCorrupt, len(c.b))
	}
	return nil
}

// cursor reads fields off b; bad sticks at the first one that does not fit.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int64) []byte {
	if c.bad || n < 0 || n > int64(len(c.b)) {
		c.bad = true
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) varint() int64 {
	v, w := binary.Varint(c.b)
	if c.bad || w <= 0 {
		c.bad = true
		return 0
	}
	c.b = c.b[w:]
	return v
}

// bytes reads a length-prefixed field; length -1 is nil.
func (c *cursor) bytes() []byte {
	n := c.varint()
	if n == -1 {
		return nil
	}
	return c.take(n)
}

package record

import "encoding/binary"

// Producer is who a batch says it is from. The zero value is wrong for a batch
// without idempotence: use NoProducer.
type Producer struct {
	ID       int64
	Epoch    int16
	Sequence int32
}

// NoProducer marks a batch without idempotence.
var NoProducer = Producer{ID: -1, Epoch: -1, Sequence: -1}

// Builder makes a batch record by record. The zero value builds an
// uncompressed batch without a producer; fields are set before the first Add.
type Builder struct {
	Codec         Codec
	Producer      *Producer // nil is NoProducer
	Transactional bool
	Control       bool

	body  []byte
	one   []byte
	count int32
	base  int64 // base timestamp
	max   int64
}

// Add appends a record with timestamp ms (milliseconds since the Unix epoch).
// Nil key and value are Kafka's null.
func (b *Builder) Add(ms int64, key, value []byte, headers ...Header) {
	if b.count == 0 {
		b.base, b.max = ms, ms
	}
	b.max = max(b.max, ms)
	one := append(b.one[:0], 0)
	one = binary.AppendVarint(one, ms-b.base)
	one = binary.AppendVarint(one, int64(b.count))
	one = appendBytes(one, key)
	one = appendBytes(one, value)
	one = binary.AppendVarint(one, int64(len(headers)))
	for _, h := range headers {
		one = binary.AppendVarint(one, int64(len(h.Key)))
		one = append(one, h.Key...)
		one = appendBytes(one, h.Value)
	}
	b.one = one
	b.body = binary.AppendVarint(b.body, int64(len(one)))
	b.body = append(b.body, one...)
	b.count++
}

// Len is the number of records added, Bytes the size of their uncompressed body.
func (b *Builder) Len() int   { return int(b.count) }
func (b *Builder) Bytes() int { return len(b.body) }

// Build gives the batch at the given base offset and empties the builder. It
// must hold at least one record.
func (b *Builder) Build(base Offset) (Batch, error) {
	body := b.body
	if b.Codec != None {
		var err error
		if body, err = Compress(nil, b.body, b.Codec); err != nil {
			return nil, err
		}
	}
	out := make(Batch, HeaderBytes, HeaderBytes+len(body))
	out.SetBaseOffset(base)
	binary.BigEndian.PutUint32(out[8:], uint32(HeaderBytes-lengthEnd+len(body)))
	out.SetEpoch(-1)
	out[16] = 2
	attr := uint16(b.Codec)
	if b.Transactional {
		attr |= attrTransactional
	}
	if b.Control {
		attr |= attrControl
	}
	p := NoProducer
	if b.Producer != nil {
		p = *b.Producer
	}
	binary.BigEndian.PutUint16(out[21:], attr)
	binary.BigEndian.PutUint32(out[23:], uint32(b.count-1))
	binary.BigEndian.PutUint64(out[27:], uint64(b.base))
	binary.BigEndian.PutUint64(out[35:], uint64(b.max))
	binary.BigEndian.PutUint64(out[43:], uint64(p.ID))
	binary.BigEndian.PutUint16(out[51:], uint16(p.Epoch))
	binary.BigEndian.PutUint32(out[53:], uint32(p.Sequence))
	binary.BigEndian.PutUint32(out[57:], uint32(b.count))
	out = append(out, body...)
	out.SetCRC()
	b.body, b.count = b.body[:0], 0
	return out, nil
}

func appendBytes(dst, p []byte) []byte {
	if p == nil {
		return binary.AppendVarint(dst, -1)
	}
	dst = binary.AppendVarint(dst, int64(len(p)))
	return append(dst, p...)
}

package kafka

import (
	"encoding/binary"
	"net"

	"tidewater/internal/logio"
)

// encode makes the framed answer as a list of parts: encoded fields, and the
// log's own batches in between (see 01_fetch.go for what each version adds).
func (f *fetch) encode(h header, code int16, session int32) net.Buffers {
	flexible := h.version >= 12
	b := appendResponseHeader(f.head[:0], h, flexible)
	b = binary.BigEndian.AppendUint32(b, 0) // throttle time
	if h.version >= 7 {
		b = binary.BigEndian.AppendUint16(b, uint16(code))
		b = binary.BigEndian.AppendUint32(b, uint32(session))
	}
	f.cuts = f.cuts[:0]
	b = appendArrayLen(b, f.topics(), flexible)
	for i := 0; i < len(f.parts); {
		b, i = f.appendTopic(b, h.version, i)
	}
	if f.endpoints != nil {
		b = append(b, f.endpoints...)
	} else {
		b = appendTags(b, flexible)
	}
	f.head = closeFrame(b, 0, f.size)
	return f.splice()
}

// topics counts the runs of shown partitions of one topic.
func (f *fetch) topics() int {
	n, last := 0, -1
	for i := range f.parts {
		if f.parts[i].shown && (last < 0 || !f.parts[i].sameTopic(&f.parts[last])) {
			n++
		}
		if f.parts[i].shown {
			last = i
		}
	}
	return n
}

func (p *fetchedPartition) sameTopic(q *fetchedPartition) bool {
	return p.want.name == q.want.name && p.want.id == q.want.id
}

// appendTopic writes the run of shown partitions that begins at or after i and
// gives the place after it.
func (f *fetch) appendTopic(b []byte, version int16, i int) ([]byte, int) {
	flexible := version >= 12
	for i < len(f.parts) && !f.parts[i].shown {
		i++
	}
	if i == len(f.parts) {
		return b, i
	}
	first, n, end := &f.parts[i], 0, i
	for ; end < len(f.parts) && (!f.parts[end].shown || f.parts[end].sameTopic(first)); end++ {
		n += btoi(f.parts[end].shown)
	}
	if version >= fetchIDsMin {
		b = append(b, first.want.id[:]...)
	} else {
		b = appendString(b, first.want.name, flexible)
	}
	b = appendArrayLen(b, n, flexible)
	for ; i < end; i++ {
		if f.parts[i].shown {
			b = f.parts[i].append(b, version)
			f.cuts = append(f.cuts, len(b))
			if flexible {
				b = appendFetchTags(b, &f.parts[i])
			}
		}
	}
	return appendTags(b, flexible), end
}

// append writes a partition's fields up to the length of its records; records
// and tags follow.
func (p *fetchedPartition) append(b []byte, version int16) []byte {
	flexible := version >= 12
	b = binary.BigEndian.AppendUint32(b, uint32(p.want.partition))
	b = binary.BigEndian.AppendUint16(b, uint16(p.code))
	b = binary.BigEndian.AppendUint64(b, uint64(p.offsets.HighWatermark))
	b = binary.BigEndian.AppendUint64(b, uint64(p.offsets.LastStable))
	if version >= 5 {
		b = binary.BigEndian.AppendUint64(b, uint64(p.offsets.LogStart))
	}
	b = appendAborted(b, p.aborted, flexible)
	if version >= 11 {
		b = binary.BigEndian.AppendUint32(b, uint32(p.preferred))
	}
	if !flexible {
		return binary.BigEndian.AppendUint32(b, uint32(p.size))
	}
	return binary.AppendUvarint(b, uint64(p.size)+1)
}

// appendFetchTags writes the tags: the diverging epoch is tag 0, the current
// leader tag 1.
func appendFetchTags(b []byte, p *fetchedPartition) []byte {
	b = append(b, byte(btoi(p.diverging())+btoi(p.leader.node >= 0)))
	if p.diverging() {
		b = append(b, 0, 4+8+1)
		b = binary.BigEndian.AppendUint32(b, uint32(p.end.Epoch))
		b = binary.BigEndian.AppendUint64(b, uint64(p.end.End))
		b = append(b, 0)
	}
	if p.leader.node >= 0 {
		b = appendCurrentLeader(b, 1, p.leader)
	}
	return b
}

// appendAborted writes the aborted transactions; for read_uncommitted there are
// none, which Kafka writes as null.
func appendAborted(b []byte, aborted []logio.AbortedTxn, flexible bool) []byte {
	if aborted == nil {
		return appendArrayLen(b, -1, flexible)
	}
	b = appendArrayLen(b, len(aborted), flexible)
	for _, a := range aborted {
		b = binary.BigEndian.AppendUint64(b, uint64(a.ProducerID))
		b = binary.BigEndian.AppendUint64(b, uint64(a.FirstOffset))
		b = appendTags(b, flexible)
	}
	return b
}

// splice puts the records where they belong between the encoded fields.
func (f *fetch) splice() net.Buffers {
	n := 1
	for i := range f.parts {
		n += len(f.parts[i].batches) + 1
	}
	out := make(net.Buffers, 0, n)
	from, cut := 0, 0
	for i := range f.parts {
		p := &f.parts[i]
		if !p.shown {
			continue
		}
		at := f.cuts[cut]
		cut++
		if p.size == 0 {
			continue
		}
		out = append(out, f.head[from:at])
		out = append(out, p.batches...)
		from = at
	}
	return append(out, f.head[from:])
}

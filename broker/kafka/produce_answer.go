package kafka

import (
	"context"
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kerr"
)

// appendProduceAnswer encodes a framed Produce answer (see 00_produce.go for
// what each version adds).
func (s *Server) appendProduceAnswer(ctx context.Context, b []byte, r *request, call *produceCall) []byte {
	flexible := r.version >= 9
	start := len(b)
	b = appendResponseHeader(b, r.header, flexible)
	b = appendArrayLen(b, len(call.topics), flexible)
	next := 0
	h := newHints(ctx, hintWait)
	for _, t := range call.topics {
		if r.version >= produceIDsMin {
			b = append(b, t.id[:]...)
		} else {
			b = appendString(b, string(t.name), flexible)
		}
		b = appendArrayLen(b, t.parts, flexible)
		for range t.parts {
			b = s.appendProducedPartition(b, r, &t, &call.parts[next], h)
			next++
		}
		b = appendTags(b, flexible)
	}
	if r.version >= 1 {
		b = binary.BigEndian.AppendUint32(b, 0) // throttle time
	}
	if r.version >= produceLeaderMin {
		b = s.appendEndpoints(b, h.named)
	} else {
		b = appendTags(b, flexible)
	}
	return closeFrame(b, start, 0)
}

func (s *Server) appendProducedPartition(b []byte, r *request, t *producedTopic, p *producedPartition, h *hints) []byte {
	flexible := r.version >= 9
	code, text := s.produceCode(r, p.err)
	base, appendTime, logStart := p.base, p.appendTime, p.logStart
	if code != 0 && code != kerr.DuplicateSequenceNumber.Code {
		base, appendTime, logStart = -1, -1, -1
	}
	b = binary.BigEndian.AppendUint32(b, uint32(p.partition))
	b = binary.BigEndian.AppendUint16(b, uint16(code))
	b = binary.BigEndian.AppendUint64(b, uint64(base))
	if r.version >= 2 {
		b = binary.BigEndian.AppendUint64(b, uint64(appendTime))
	}
	if r.version >= 5 {
		b = binary.BigEndian.AppendUint64(b, uint64(logStart))
	}
	if r.version >= 8 {
		b = appendArrayLen(b, 0, flexible) // record errors: a batch is refused whole
		b = appendMessage(b, text, flexible)
	}
	if r.version >= produceLeaderMin && code != 0 {
		if l := s.hint(h, code, t.name, t.id, r.version >= produceIDsMin, p.partition); l.node >= 0 {
			return appendCurrentLeader(append(b, 1), 0, l)
		}
	}
	return appendTags(b, flexible)
}

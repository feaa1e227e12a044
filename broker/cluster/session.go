package cluster

import "encoding/binary"

// sessionWindow is how many of a broker's newest requests are told apart. A
// broker has fewer under way at once; an older one counts as done.
const sessionWindow = 1024

// session says which requests of one broker since one start were applied.
type session struct {
	number uint64
	top    uint64 // the highest Seq applied
	// done marks, for the sessionWindow numbers up to top, those applied: bit
	// Seq mod sessionWindow.
	done [sessionWindow / 64]uint64
}

func (s *session) has(seq uint64) bool {
	if seq+sessionWindow <= s.top {
		return true
	}
	return seq <= s.top && s.done[seq%sessionWindow/64]&(1<<(seq%64)) != 0
}

func (s *session) add(seq uint64) {
	if seq >= s.top+sessionWindow {
		s.done = [sessionWindow / 64]uint64{}
	} else {
		for n := s.top + 1; n < seq; n++ {
			s.done[n%sessionWindow/64] &^= 1 << (n % 64)
		}
	}
	s.done[seq%sessionWindow/64] |= 1 << (seq % 64)
	s.top = max(s.top, seq)
}

// once reports whether a request was not applied yet, and notes that it is.
// A broker that started again has nothing under way from before.
func (s *State) once(id RequestID) bool {
	old := s.v.sessions[id.Node]
	switch {
	case id.Seq == 0:
		return true
	case old == nil || old.number < id.Session:
		old = &session{number: id.Session}
	case old.number > id.Session || old.has(id.Seq):
		return false
	}
	now := *old
	now.add(id.Seq)
	s.putSession(id.Node, &now)
	return true
}

func appendSession(b []byte, node int32, k *session) []byte {
	b = append(b, entityVersionLeast)
	b = binary.AppendVarint(b, int64(node))
	b = binary.AppendUvarint(b, k.number)
	b = binary.AppendUvarint(b, k.top)
	for _, w := range k.done {
		b = binary.BigEndian.AppendUint64(b, w)
	}
	return b
}

func decodeSession(c *cursor) (int32, *session) {
	node, k := c.int32(), &session{number: c.uvarint(), top: c.uvarint()}
	for i := range k.done {
		if len(c.b) < 8 {
			c.fail("window of requests is cut short")
			return node, k
		}
		k.done[i] = binary.BigEndian.Uint64(c.b)
		c.b = c.b[8:]
	}
	return node, k
}

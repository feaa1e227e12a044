package kafka

import (
	"container/list"
	crand "crypto/rand"
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/record"
)

// fetchSessions remembers what clients fetch, so that they send only what
// changes (KIP-227). Sessions and the partitions in them are bounded; when full,
// the session unused for longest goes, if that is sessionIdleMin or more, else
// the newcomer gets none.
type fetchSessions struct {
	sessionsMax, partitionsMax int

	mu         sync.Mutex // guards everything below and all sessions
	byID       map[int32]*fetchSession
	byUse      *list.List // of *fetchSession, longest unused first
	partitions int        // in all sessions
	evictions  int64
}

// sessionIdleMin is Kafka's: a session in use is not pushed out.
const sessionIdleMin = 2 * time.Minute

// Special values of a request's session epoch.
const (
	sessionEpochFinal = -1 // no session wanted; an old one is over
	sessionEpochFirst = 0  // a session wanted
)

// fetchSession is one client's. Its partitions are in the order in which they
// are answered: those that had data last come last.
type fetchSession struct {
	id    int32
	epoch int32 // the next request's
	byIDs bool  // its topics are named by id
	parts map[fetchKey]*sessionPart
	order []*sessionPart
	used  time.Time
	place *list.Element
}

// fetchKey names a partition as the client does: by name or by topic id.
type fetchKey struct {
	name      string
	id        record.TopicID
	partition int32
}

// fetchWant is what a client asks of one partition.
type fetchWant struct {
	fetchKey
	offset       record.Offset
	currentEpoch record.LeaderEpoch // -1 unknown
	lastEpoch    record.LeaderEpoch // of the record before offset; -1 unknown
	bytesMax     int
}

// sessionPart is a remembered partition with what the client was told last.
type sessionPart struct {
	fetchWant
	highWatermark, logStart record.Offset
	removed                 bool
	answered                bool // in the answer being made, with data
}

func newFetchSessions(sessionsMax, partitionsMax int) *fetchSessions {
	return &fetchSessions{sessionsMax: sessionsMax, partitionsMax: partitionsMax, byID: map[int32]*fetchSession{}, byUse: list.New()}
}

func (c *fetchSessions) stats() (sessions, partitions, evictions int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(len(c.byID)), int64(c.partitions), c.evictions
}

// begin reads what m asks for into f: from the request itself, or from its
// session as the request changes it.
func (c *fetchSessions) begin(m *kmsg.FetchRequest, f *fetch, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Version < 7 || m.SessionEpoch == sessionEpochFinal || m.SessionEpoch == sessionEpochFirst {
		if m.Version >= 7 && m.SessionID != 0 {
			c.remove(c.byID[m.SessionID])
		}
		f.wantSession = m.Version >= 7 && m.SessionEpoch == sessionEpochFirst
		eachWant(m, func(w fetchWant) { f.add(w, nil) })
		return nil
	}
	s := c.byID[m.SessionID]
	switch {
	case s == nil:
		return refuse(kerr.FetchSessionIDNotFound, "no such fetch session")
	case s.epoch != m.SessionEpoch:
		return refuse(kerr.InvalidFetchSessionEpoch, "fetch session has another epoch")
	case s.byIDs != (m.Version >= fetchIDsMin):
		return refuse(kerr.FetchSessionTopicIDError, "fetch session names its topics otherwise")
	}
	c.change(s, m)
	if c.partitions > c.partitionsMax {
		c.remove(s)
		return refuse(kerr.FetchSessionIDNotFound, "fetch sessions are full")
	}
	s.epoch = nextSessionEpoch(s.epoch)
	s.used = now
	c.byUse.MoveToBack(s.place)
	f.session = s
	for _, p := range s.order {
		f.add(p.fetchWant, p)
	}
	return nil
}

func nextSessionEpoch(e int32) int32 {
	if e == math.MaxInt32 {
		return 1
	}
	return e + 1
}

// change applies an incremental request to its session.
func (c *fetchSessions) change(s *fetchSession, m *kmsg.FetchRequest) {
	eachWant(m, func(w fetchWant) {
		p := s.parts[w.fetchKey]
		if p == nil {
			p = &sessionPart{highWatermark: -1, logStart: -1}
			s.parts[w.fetchKey] = p
			s.order = append(s.order, p)
			c.partitions++
		}
		p.fetchWant = w
	})
	forgotten := false
	for _, t := range m.ForgottenTopics {
		for _, partition := range t.Partitions {
			key := fetchKey{t.Topic, t.TopicID, partition}
			if p := s.parts[key]; p != nil {
				delete(s.parts, key)
				p.removed, forgotten = true, true
				c.partitions--
			}
		}
	}
	if forgotten {
		s.order = slices.DeleteFunc(s.order, func(p *sessionPart) bool { return p.removed })
	}
}

// create makes a session of what f asked for, if there is room, and gives its
// id, 0 for none.
func (c *fetchSessions) create(m *kmsg.FetchRequest, f *fetch, now time.Time) int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !f.wantSession || len(f.parts) == 0 || !c.makeRoom(len(f.parts), now) {
		return 0
	}
	s := &fetchSession{id: c.freeID(), epoch: 1, byIDs: m.Version >= fetchIDsMin, used: now,
		parts: make(map[fetchKey]*sessionPart, len(f.parts)), order: make([]*sessionPart, 0, len(f.parts))}
	for i := range f.parts {
		p := &f.parts[i]
		if s.parts[p.want.fetchKey] != nil {
			continue
		}
		remembered := &sessionPart{fetchWant: p.want}
		remembered.told(p)
		s.parts[p.want.fetchKey] = remembered
		s.order = append(s.order, remembered)
	}
	c.partitions += len(s.order)
	s.place = c.byUse.PushBack(s)
	c.byID[s.id] = s
	return s.id
}

// makeRoom pushes out sessions long unused until n more partitions fit.
func (c *fetchSessions) makeRoom(n int, now time.Time) bool {
	for len(c.byID) >= c.sessionsMax || c.partitions+n > c.partitionsMax {
		oldest := c.byUse.Front()
		if oldest == nil || now.Sub(oldest.Value.(*fetchSession).used) < sessionIdleMin {
			return false
		}
		c.remove(oldest.Value.(*fetchSession))
		c.evictions++
	}
	return true
}

func (c *fetchSessions) remove(s *fetchSession) {
	if s == nil {
		return
	}
	delete(c.byID, s.id)
	c.byUse.Remove(s.place)
	c.partitions -= len(s.parts)
}

// freeID is random, so that a client cannot meet another's session by counting.
func (c *fetchSessions) freeID() int32 {
	for {
		var b [4]byte
		crand.Read(b[:]) // never fails
		id := int32(binary.BigEndian.Uint32(b[:]) & math.MaxInt32)
		if id != 0 && c.byID[id] == nil {
			return id
		}
	}
}

// end decides which partitions of f go into the answer. In a session those
// without news are left out, and those with data go to the end of the order,
// so that each gets its turn at the answer's bytes.
func (c *fetchSessions) end(f *fetch) {
	if f.session == nil {
		for i := range f.parts {
			f.parts[i].shown = true
		}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	moved := false
	for i := range f.parts {
		p := &f.parts[i]
		p.shown = p.code != 0 || p.size > 0 || p.diverging() || p.preferred >= 0 ||
			p.offsets.HighWatermark != p.remembered.highWatermark || p.offsets.LogStart != p.remembered.logStart
		p.remembered.told(p)
		p.remembered.answered = p.size > 0
		moved = moved || p.size > 0
	}
	if moved {
		slices.SortStableFunc(f.session.order, func(a, b *sessionPart) int { return btoi(a.answered) - btoi(b.answered) })
		for _, p := range f.session.order {
			p.answered = false
		}
	}
}

// told notes what the client knows after this answer; after an error nothing,
// so that the next answer shows the partition whatever it has.
func (p *sessionPart) told(f *fetchedPartition) {
	p.highWatermark, p.logStart = f.offsets.HighWatermark, f.offsets.LogStart
	if f.code != 0 {
		p.highWatermark, p.logStart = -1, -1
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// eachWant calls fn for every partition a request names.
func eachWant(m *kmsg.FetchRequest, fn func(fetchWant)) {
	for i := range m.Topics {
		t := &m.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			fn(fetchWant{
				fetchKey:     fetchKey{t.Topic, t.TopicID, p.Partition},
				offset:       record.Offset(p.FetchOffset),
				currentEpoch: record.LeaderEpoch(p.CurrentLeaderEpoch),
				lastEpoch:    record.LeaderEpoch(p.LastFetchedEpoch),
				bytesMax:     int(max(p.PartitionMaxBytes, 0)),
			})
		}
	}
}

package partition

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

const (
	// recentMax is how many batches of a producer are remembered to recognize
	// duplicates: the most a Kafka producer has in flight.
	recentMax = 5
	// producersMax bounds the producers known to one partition (about 300
	// bytes each). Above it the idlest tenth is forgotten, as by expiry.
	producersMax = 100_000
)

// producers is what a log knows of its idempotent and transactional writers.
// It is a pure value: it advances batch by batch, in log order, and depends on
// nothing but the batches and the times it is given. The zero value is empty.
type producers struct {
	byID map[int64]*producer
	txns transactions
}

// producer is one producer id's newest state.
type producer struct {
	epoch            int16
	coordinatorEpoch int32 // of the newest marker, -1 before the first
	// usedMs is when a batch of it was last appended by this broker's clock.
	// The batches' own timestamps are the client's and may be years old, which
	// would expire a producer of historical data while it writes.
	usedMs int64
	recent []recentBatch // oldest first, at most recentMax
}

// recentBatch is a batch that may be sent again.
type recentBatch struct {
	first, last int32 // sequences, inclusive; last is below first after a wrap
	base        record.Offset
	delta       int32 // last offset minus base
	timestamp   int64 // its max timestamp, in ms
	// index and term say whether it is committed yet; 0 for one that was read
	// from a snapshot or a segment, which hold committed batches only.
	index record.Index
	term  uint64
}

// check decides whether b may be appended: the original when b is a
// duplicate, else nil, or why not. It changes nothing.
func (s *producers) check(b record.Batch) (*recentBatch, error) {
	id := b.ProducerID()
	if id < 0 {
		return nil, nil
	}
	if b.Control() {
		return nil, s.checkMarker(b)
	}
	p := s.byID[id]
	if p != nil && b.ProducerEpoch() == p.epoch {
		if dup := p.find(b.BaseSequence(), lastSequence(b)); dup != nil {
			return dup, nil
		}
	}
	if err := checkSequence(p, b); err != nil {
		return nil, err
	}
	if s.txns.isOpen(id) && !b.Transactional() {
		return nil, fmt.Errorf("%w: producer %d has an open transaction and sent a batch outside it", logio.ErrInvalidTxnState, id)
	}
	return nil, nil
}

// checkSequence has Kafka's rules (KIP-98, KIP-360): an unknown producer may
// begin anywhere, since its state may have expired; a new epoch begins at 0;
// within an epoch sequences follow each other.
func checkSequence(p *producer, b record.Batch) error {
	id, epoch, seq := b.ProducerID(), b.ProducerEpoch(), b.BaseSequence()
	switch {
	case p == nil:
		return nil
	case epoch < p.epoch:
		return fmt.Errorf("%w: producer %d sent epoch %d, newest is %d", logio.ErrInvalidProducerEpoch, id, epoch, p.epoch)
	case epoch > p.epoch:
		if seq != 0 {
			return fmt.Errorf("%w: producer %d begins epoch %d with sequence %d", logio.ErrOutOfOrderSequence, id, epoch, seq)
		}
		return nil
	case len(p.recent) == 0:
		return nil // only markers of this epoch are known
	}
	if want := nextSequence(p.recent[len(p.recent)-1].last); seq != want {
		return fmt.Errorf("%w: producer %d epoch %d sent sequence %d, next is %d", logio.ErrOutOfOrderSequence, id, epoch, seq, want)
	}
	return nil
}

func (s *producers) checkMarker(b record.Batch) error {
	m, err := parseMarker(b)
	if err != nil {
		return fmt.Errorf("%w: %w", logio.ErrInvalidRecord, err)
	}
	p := s.byID[b.ProducerID()]
	switch {
	case p == nil:
		return nil
	case b.ProducerEpoch() < p.epoch:
		return fmt.Errorf("%w: marker of producer %d has epoch %d, newest is %d", logio.ErrInvalidProducerEpoch, b.ProducerID(), b.ProducerEpoch(), p.epoch)
	case m.coordinatorEpoch < p.coordinatorEpoch:
		return fmt.Errorf("%w: marker of producer %d is from coordinator epoch %d, newest is %d", logio.ErrInvalidTxnState, b.ProducerID(), m.coordinatorEpoch, p.coordinatorEpoch)
	}
	return nil
}

// append advances the state by a batch that is in the log, at index and term
// (0 when only its being committed is known), at nowMs. It fails only on a
// marker that cannot be read, which no leader appends.
func (s *producers) append(b record.Batch, index record.Index, term uint64, nowMs int64) error {
	id := b.ProducerID()
	if id < 0 {
		return nil
	}
	p := s.producer(id, nowMs)
	p.usedMs = nowMs
	if b.ProducerEpoch() > p.epoch {
		p.epoch, p.recent = b.ProducerEpoch(), nil
	}
	if b.Control() {
		m, err := parseMarker(b)
		if err != nil {
			return err
		}
		p.coordinatorEpoch = max(p.coordinatorEpoch, m.coordinatorEpoch)
		s.txns.end(id, b.LastOffset(), !m.commit)
		return nil
	}
	if len(p.recent) == recentMax {
		p.recent = slices.Delete(p.recent, 0, 1)
	}
	p.recent = append(p.recent, recentBatch{
		first: b.BaseSequence(), last: lastSequence(b), base: b.BaseOffset(), delta: b.LastOffsetDelta(),
		timestamp: b.MaxTimestamp(), index: index, term: term,
	})
	if b.Transactional() {
		s.txns.begin(id, b.BaseOffset())
	}
	return nil
}

// producer gives the state of id, making it.
func (s *producers) producer(id int64, nowMs int64) *producer {
	if p := s.byID[id]; p != nil {
		return p
	}
	if s.byID == nil {
		s.byID = map[int64]*producer{}
	}
	if len(s.byID) >= producersMax {
		s.forgetIdlest(producersMax / 10)
	}
	p := &producer{epoch: -1, coordinatorEpoch: -1, usedMs: nowMs}
	s.byID[id] = p
	return p
}

// expire forgets producers not used since beforeMs, except in a transaction.
func (s *producers) expire(beforeMs int64) {
	maps.DeleteFunc(s.byID, func(id int64, p *producer) bool {
		return p.usedMs < beforeMs && !s.txns.isOpen(id)
	})
}

func (s *producers) forgetIdlest(n int) {
	ids := s.ids()
	slices.SortStableFunc(ids, func(a, b int64) int { return cmp.Compare(s.byID[a].usedMs, s.byID[b].usedMs) })
	for _, id := range ids {
		if n == 0 {
			return
		}
		if !s.txns.isOpen(id) {
			delete(s.byID, id)
			n--
		}
	}
}

// ids lists the known producers in order.
func (s *producers) ids() []int64 { return slices.Sorted(maps.Keys(s.byID)) }

// clone copies the state, to be advanced on its own.
func (s *producers) clone() producers {
	c := producers{byID: make(map[int64]*producer, len(s.byID)), txns: s.txns.clone()}
	for id, p := range s.byID {
		q := *p
		q.recent = slices.Clone(p.recent)
		c.byID[id] = &q
	}
	return c
}

func (p *producer) find(first, last int32) *recentBatch {
	for i := range p.recent {
		if r := &p.recent[i]; r.first == first && r.last == last {
			return r
		}
	}
	return nil
}

// lastSequence is the sequence of b's last record; sequences wrap from the
// largest int32 to 0.
func lastSequence(b record.Batch) int32 {
	return int32((int64(b.BaseSequence()) + int64(b.LastOffsetDelta())) % (math.MaxInt32 + 1))
}

func nextSequence(last int32) int32 {
	if last == math.MaxInt32 {
		return 0
	}
	return last + 1
}

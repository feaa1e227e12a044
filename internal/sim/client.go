package sim

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// producer is a client that writes to one partition, as clients do: several
// batches in flight; after a failure everything unanswered again, in order.
// Without idempotence a batch is sent once, whatever becomes of it.
type producer struct {
	w          *world
	part       *truth
	idempotent bool
	pid        int64
	seq        int32
	begun      bool // a batch of pid was acknowledged
	acks       logio.Acks
	cluster    *cluster // where it goes; nil is wherever the newest is
	at         *node    // the broker that it takes for the leader
	arrived    time.Time
	queue      []*sent
}

// sent is one batch that a producer made.
type sent struct {
	batch    record.Batch
	answered bool
	base     record.Offset // where it was acknowledged, -1 before
	at       int           // number of cuts of the truth when base was answered
	after    record.Offset // what was acked of the partition before it was sent first
	try      *try          // under way; nil when it is to be sent (again)
}

// try is one request.
type try struct {
	life     *life
	deadline time.Time
	replied  bool // an answer is on its way
}

const (
	inFlightMax    = 5
	requestTimeout = 1500 * time.Millisecond
)

func (w *world) newProducer(part int, idempotent bool) *producer {
	p := &producer{w: w, part: w.parts[part], idempotent: idempotent, pid: -1, acks: logio.AcksAll}
	if idempotent {
		p.renew()
	} else if w.rng.IntN(3) == 0 {
		p.acks = logio.AcksLeader
	}
	w.people = append(w.people, p)
	w.tick(p)
	return p
}

// renew takes a new producer id.
func (p *producer) renew() {
	p.pid, p.seq, p.begun = p.w.nextPID, 0, false
	p.w.nextPID++
	p.queue = nil
}

func (w *world) tick(p *producer) {
	w.add(w.jitter(w.shape.ProduceEvery), event{front: true, run: func() {
		p.turn()
		w.tick(p)
	}})
}

// turn looks at what is in flight and sends what is to be sent.
func (p *producer) turn() {
	for len(p.queue) > 0 && p.queue[0].answered {
		p.queue = p.queue[1:]
	}
	waiting, again := 0, false
	for _, s := range p.queue {
		if s.answered {
			continue
		}
		if t := s.try; t != nil && !t.replied && (t.life.dead || p.w.now.After(t.deadline)) {
			s.try = nil // no answer will come, or none in time
			p.at = nil
		}
		if s.try == nil {
			again = true
		} else {
			waiting++
		}
	}
	switch {
	case again && !p.idempotent:
		p.queue = slices.DeleteFunc(p.queue, func(s *sent) bool { return s.try == nil })
	case again && waiting == 0:
		for _, s := range slices.Clone(p.queue) {
			if !s.answered {
				p.w.stats.Retries++
				p.send(s)
			}
		}
	case !again && len(p.queue) < p.window() && !p.w.closing:
		s := &sent{batch: p.make(), base: -1, after: p.part.ackedEnd, at: p.part.cuts(p.w)}
		p.queue = append(p.queue, s)
		p.send(s)
	}
}

// window is how many batches may be in flight. A producer that the log does not
// know may begin with any sequence, so clients send one batch alone until it
// was taken: else a second one could be taken when the first was refused.
func (p *producer) window() int {
	if p.idempotent && !p.begun {
		return 1
	}
	return inFlightMax
}

// make makes a batch that exists once in the world.
func (p *producer) make() record.Batch {
	w := p.w
	b := record.Builder{Codec: []record.Codec{record.None, record.None, record.Snappy, record.Zstd}[w.rng.IntN(4)]}
	n := 1 + w.rng.IntN(6)
	if p.idempotent {
		b.Producer = &record.Producer{ID: p.pid, Sequence: p.seq}
		p.seq += int32(n)
	}
	for range n {
		w.payload++
		w.alien[w.payload] = p.cluster != nil
		value := make([]byte, 8+w.rng.IntN(w.shape.ValueBytesMax))
		w.random(value)
		binary.BigEndian.PutUint64(value, w.payload)
		b.Add(w.now.UnixMilli(), value[:4], value)
	}
	batch, err := b.Build(0)
	if err != nil {
		w.violate(sane, "build batch: %v", err)
	}
	return batch
}

// broker gives the process that the client takes for the partition's leader,
// nil if it finds none.
func (p *producer) broker() *life {
	c := p.cluster
	if c == nil {
		c = p.w.active
	}
	if p.at == nil || p.at.c != c {
		p.at = c.bootstrap(p.part.id.Partition)
	}
	if p.at == nil || p.at.life == nil || !p.at.life.up {
		p.at = nil
		return nil
	}
	return p.at.life
}

// bootstrap gives the broker that leads a partition, as any broker tells.
func (c *cluster) bootstrap(part int32) *node {
	l := c.anyLife()
	if l == nil {
		return nil
	}
	if n := leadersView(l, part); n != nil {
		return n
	}
	return l.node
}

// send gives a batch to the broker that leads now, if one runs. What one client
// sends arrives in order.
func (p *producer) send(s *sent) {
	l := p.broker()
	if l == nil {
		return
	}
	t := &try{life: l, deadline: p.w.now.Add(requestTimeout)}
	s.try = t
	if p.w.rng.IntN(50) == 0 {
		p.breakOff(p.w.now.Add(p.w.millis(1, 200)))
	}
	if p.arrived.Before(p.w.now) {
		p.arrived = p.w.now
	}
	p.arrived = p.arrived.Add(time.Duration(p.w.rng.IntN(1000)) * time.Microsecond)
	p.w.add(p.arrived.Sub(p.w.now), event{life: l, front: true, run: func() { p.arrive(s, t, l) }})
}

// breakOff ends the connection at an instant: nothing that is under way is
// answered any more.
func (p *producer) breakOff(at time.Time) {
	for _, s := range p.queue {
		if s.try != nil && at.Before(s.try.deadline) {
			s.try.deadline = at
		}
	}
}

// arrive is what the broker does with a batch.
func (p *producer) arrive(s *sent, t *try, l *life) {
	l.parts[p.part.id.Partition].Append(logio.AppendRequest{Batch: slices.Clone(s.batch), Acks: p.acks, Done: func(r logio.AppendResult) {
		if r.Err == nil && l.tier.passed {
			p.w.violate(fencing, "a broker that knows it is passed acknowledged offset %d of %d", r.BaseOffset, p.part.id.Partition)
		}
		if p.w.rng.IntN(50) == 0 {
			return // the connection broke under the answer
		}
		t.replied = true
		p.w.add(p.w.millis(0, 5), event{front: true, run: func() { p.answer(s, t, r) }})
	}})
	l.stepSoon()
}

// answer takes what the broker said to one request.
func (p *producer) answer(s *sent, t *try, r logio.AppendResult) {
	w := p.w
	t.replied = false
	switch {
	case s.try == t:
		s.try = nil
	case r.Err != nil:
		return // of a connection that is gone; what was taken counts all the same
	}
	w.trace.note("answer", errText(r.Err))
	switch {
	case r.Err == nil:
		p.acknowledged(s, t, r.BaseOffset)
	case errors.Is(r.Err, logio.ErrOutOfOrderSequence):
		p.outOfOrder(s, t, r.Err)
	case retriable(r.Err):
		if errors.Is(r.Err, logio.ErrNotLeader) || p.w.rng.IntN(4) == 0 {
			p.at = nil
		}
		if !p.idempotent {
			s.answered = true
		}
	default:
		w.violate(working, "produce to %d: %v", p.part.id.Partition, r.Err)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func retriable(err error) bool {
	for _, kind := range []error{logio.ErrNotLeader, logio.ErrStorage, logio.ErrBusy, logio.ErrNotAvailable, logio.ErrFenced, logio.ErrClosed} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

func (p *producer) acknowledged(s *sent, t *try, base record.Offset) {
	w := p.w
	s.answered = true
	p.begun = p.begun || s.batch.ProducerID() == p.pid
	if p.acks != logio.AcksAll {
		return // nothing was promised
	}
	w.stats.Acked++
	if t.life.node.c != w.active || t.life.node.c.zombie {
		// An answer of the incarnation before: it holds as far as the restore
		// reached, which its cut has checked.
		p.part.lostPIDs[p.pid] = true
		return
	}
	if s.base < 0 && p.part.gone[lostBatch{base, s.batch.CRC()}] && p.part.facts[base] == nil {
		return // the answer took longer than what it was about
	}
	if s.base >= 0 && s.base != base && s.at == p.part.cuts(w) {
		w.violate(once, "%d: one batch was acknowledged at %d and at %d", p.part.id.Partition, s.base, base)
	}
	if s.base < 0 && s.at == p.part.cuts(w) && base < s.after {
		w.violate(ordered, "%d: a batch was acknowledged at %d, what lies up to %d was before it was sent", p.part.id.Partition, base, s.after)
	}
	s.base, s.at = base, p.part.cuts(w)
	p.part.acknowledged(w, s.batch, base)
}

// outOfOrder is right when an earlier batch is still to be sent again, or when
// a restore lost one that was acknowledged: then the client starts anew.
func (p *producer) outOfOrder(s *sent, t *try, err error) {
	for _, q := range p.queue {
		if q == s {
			break
		}
		if !q.answered {
			return
		}
	}
	if s.answered || s.batch.ProducerID() != p.pid || t.life.node.c.zombie || t.life.dead {
		return
	}
	if !p.part.lostPIDs[p.pid] {
		p.w.violate(once, "%d: producer %d lost its place: %v", p.part.id.Partition, p.pid, err)
		return
	}
	p.w.say("producer %d of %d starts anew", p.pid, p.part.id.Partition)
	p.renew()
}

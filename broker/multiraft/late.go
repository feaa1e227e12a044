package multiraft

import (
	"sync/atomic"
	"time"

	"tidewater/internal/record"
)

// A leader may show readers what it knows as long as nobody else can lead, and
// it finds out that somebody does on its shard's loop: from messages, from its
// clock, from the loss of a broker. A loop that stands still behind a slow
// flush, or a process that stood still, finds out nothing, while its readers'
// goroutines go on. So readers ask whether the loop is late. One that was late
// has all its leaders confirmed by a majority before it counts as in time.

// lateTicks is how long a loop may leave a message waiting until it is late:
// less than the shortest time from a leader's last heartbeat to the election of
// another.
const lateTicks = electionTicks - heartbeatTicks - 1

// pace is how far a shard's loop is behind, for readers on other goroutines.
type pace struct {
	// since is when the first of what waits in the inbox came, pass the same of
	// what is being done; both in time since the host was opened, 0 for nothing.
	since, pass atomic.Int64
	// owes: the loop was late and its leaders are not in doubt yet.
	owes atomic.Bool
}

// begin says that what waits is being done, all of it or only what needs no
// room; readers look at since first and miss nothing.
func (p *pace) begin(now int64, all bool) {
	since := p.since.Load()
	if since == 0 {
		since = now
	}
	p.pass.Store(since)
	if all {
		p.since.Store(0)
	}
}

func (p *pace) late(now, limit int64) bool {
	since := p.since.Load()
	pass := p.pass.Load()
	return p.owes.Load() || since != 0 && now-since > limit || pass != 0 && now-pass > limit
}

// now is the time since the host was opened, at least 1, in nanoseconds.
func (h *Host) now() int64 { return max(int64(time.Since(h.opened)), 1) }

func (h *Host) lateAfter() int64 { return lateTicks * int64(h.cfg.TickEvery) }

// Late says that the loop of the group's shard, or this whole process, stood
// still for so long that another replica may lead by now without this one's
// knowledge: Leadership's Ready is not to be relied on. It is false again when
// the loop has caught up; what leads then is Ready once a majority confirmed
// it. A broker without others is never late. Whoever asks looks at Ready first.
func (h *Host) Late(id record.PartitionID) bool {
	if _, alone := h.cfg.Transport.(noTransport); alone {
		return false
	}
	now, limit := h.now(), h.lateAfter()
	return now-h.clock.Load() > limit || h.loop(id).inbox.pace.late(now, limit)
}

// beat is the clock's: after a pause of the process every loop is in doubt.
func (h *Host) beat() {
	now := h.now()
	if now-h.clock.Load() > h.lateAfter() {
		for _, l := range h.loops {
			h.lateLoop(l)
		}
	}
	h.clock.Store(now)
}

// lateLoop has a loop that was late put its leaders in doubt. A host that closes
// does not care.
func (h *Host) lateLoop(l *shardLoop) {
	if l.inbox.pace.owes.Swap(true) {
		return
	}
	_ = l.inbox.put(item{call: func(s *Shard) {
		s.doubt()
		l.doubted = true
	}}, 0)
}

// ended is what the end of a pass means for the loop's pace.
func (h *Host) ended(l *shardLoop) {
	p := &l.inbox.pace
	if l.doubted {
		l.doubted = false
		p.owes.Store(false)
	}
	if began := p.pass.Load(); began != 0 && h.now()-began > h.lateAfter() {
		h.lateLoop(l)
	}
	p.pass.Store(0)
}

// doubt takes Ready away from every leader here until a majority confirms it.
func (s *Shard) doubt() {
	if s.cfg.Fault.StaleReads {
		return
	}
	for _, g := range s.order {
		if g.stopped != nil || !g.lead.Leading || g.single() {
			continue
		}
		g.handle()
		if g.stopped == nil && g.lead.Leading {
			g.doubt()
		}
	}
}

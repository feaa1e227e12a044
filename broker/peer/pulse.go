package peer

import "math"

// pulse tells from heartbeats whether a peer is up. It is a value stepped by
// its caller; times are nanoseconds of one monotonic count.
//
// Up means that both ways work: echoes of our pings come back on the
// connection that we dialed, and the peer says the same of its own. Each end
// says only what it sees itself, so that the two never wait for each other.
type pulse struct {
	window int64 // how old the last sign may be
	// boot is the process behind our control connection, 0 before the first.
	boot uint64
	// live: we have a control connection, or lost it and are about to know
	// whether there is another.
	live bool
	// echoed is when the newest ping that came back was sent. A peer that
	// sleeps and wakes answers old pings, and is not up for it.
	echoed int64
	// heard is when the peer last said that its echoes come back; told is the
	// time of that by its own count.
	heard int64
	told  uint64
}

const never = math.MinInt64 / 2

func newPulse(window int64) pulse { return pulse{window: window, echoed: never, heard: never} }

// connect notes a new control connection to a process.
func (p *pulse) connect(boot uint64) {
	if p.boot != boot {
		*p = newPulse(p.window)
		p.boot = boot
	}
	p.live = true
}

// fail notes that there is no connection and none was to be had.
func (p *pulse) fail() { p.live = false }

// echo notes that the ping sent at this time came back.
func (p *pulse) echo(sent int64) { p.echoed = max(p.echoed, sent) }

// say notes what the process said at its time told.
func (p *pulse) say(boot uint64, told uint64, hears bool, now int64) {
	if boot != p.boot || told < p.told {
		return
	}
	p.told = told
	if hears {
		p.heard = now
	} else {
		p.heard = never
	}
}

// roundTrip reports whether our own pings come back.
func (p *pulse) roundTrip(now int64) bool { return p.live && now-p.echoed < p.window }

// up reports whether both ways work.
func (p *pulse) up(now int64) bool { return p.roundTrip(now) && now-p.heard < p.window }

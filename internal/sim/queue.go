package sim

import (
	"container/heap"
	"time"
)

// event is something that happens at an instant of the virtual clock.
type event struct {
	at  time.Time
	seq uint64 // events of one instant run in the order in which they were made
	// life is the process it belongs to; it does not happen once that is dead.
	// Nil is the world itself, or a client.
	life *life
	// front events wait for nothing: they go on while something waits.
	front bool
	run   func()
}

// queue is a heap of events by (instant, sequence).
type queue []*event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*event)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return e
}

// add makes e happen after d.
func (w *world) add(d time.Duration, e event) {
	w.seq++
	e.at, e.seq = w.now.Add(d), w.seq
	heap.Push(&w.queue, &e)
}

// after lets the world, or a client, do something.
func (w *world) after(d time.Duration, run func()) { w.add(d, event{run: run}) }

// runUntil lets everything happen up to an instant.
func (w *world) runUntil(end time.Time) {
	for len(w.queue) > 0 && !w.queue[0].at.After(end) && !w.failed() {
		w.exec(heap.Pop(&w.queue).(*event))
	}
	w.now = later(w.now, end)
}

// during lets happen what comes up to an instant or until done, while something
// of l takes its time further up the stack: clients, the network, other brokers,
// and l's own groups, but no actor that is in the middle of its turn. If l dies
// of it, what takes its time ends there.
func (w *world) during(l *life, end time.Time, done func() bool) {
	if w.depth >= depthMax || w.still {
		w.now = later(w.now, end)
		return
	}
	w.depth++
	var aside []*event
	defer func() {
		w.depth--
		for _, e := range aside {
			heap.Push(&w.queue, e)
		}
	}()
	for len(w.queue) > 0 && !w.queue[0].at.After(end) && !w.failed() && (done == nil || !done()) {
		e := heap.Pop(&w.queue).(*event)
		if !e.front && (e.life == nil || e.life.working > 0 || w.turns >= turnsMax) {
			aside = append(aside, e)
			continue
		}
		w.exec(e)
		if l != nil && l.dead {
			panic(crash{l})
		}
	}
	if done == nil || !done() {
		w.now = later(w.now, end)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

const (
	// depthMax bounds how many things take their time at once on the stack.
	depthMax = 6
	// turnsMax bounds how many of them are turns of actors: each waits for
	// those that began after it, so that many would never end.
	turnsMax = 2
)

// exec runs one event and catches the crash of the process it belongs to. What
// a stopped process would do it does when it goes on.
func (w *world) exec(e *event) {
	if e.life != nil && e.life.dead {
		return
	}
	w.now = later(w.now, e.at)
	if e.life != nil && e.life.node.paused() {
		w.add(e.life.node.stopped.Sub(w.now), *e)
		return
	}
	w.events++
	w.guard(e.life, !e.front, e.run)
}

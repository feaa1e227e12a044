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
	// front events touch no bucket: they go on while a bucket call is slow.
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
	if w.now.Before(end) {
		w.now = end
	}
}

// runDue lets happen what is due, while something takes its time at the top of
// the stack that shares nothing with what happens: a restore.
func (w *world) runDue() { w.runUntil(w.now) }

// runFront lets the due front events of clients and of l happen, while a bucket
// call of l is under way. A crash in them ends that call too.
func (w *world) runFront(l *life) {
	for n := 0; n < frontMax; n++ {
		at := -1
		for i, e := range w.queue {
			if e.front && (e.life == nil || e.life == l) && !e.at.After(w.now) && (at < 0 || w.queue.Less(i, at)) {
				at = i
			}
		}
		if at < 0 {
			return
		}
		heap.Remove(&w.queue, at).(*event).run()
	}
}

// frontMax bounds what happens inside one slow call.
const frontMax = 32

// exec runs one event and catches the crash of the process it belongs to.
func (w *world) exec(e *event) {
	if e.life != nil && e.life.dead {
		return
	}
	if e.at.After(w.now) {
		w.now = e.at
	}
	w.events++
	w.guard(e.life, e.run)
}

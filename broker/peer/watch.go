package peer

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// event is a peer that went up or down, or a new watcher.
type event struct {
	node int32
	boot uint64
	up   bool
	fn   func(node int32, boot uint64, up bool) // a new watcher if set
}

// watch tells watchers of events on one goroutine, in the order they came.
type watch struct {
	wake chan struct{} // holds one token when there are events

	mu     sync.Mutex // guards what follows
	events []event
}

func newWatch() *watch { return &watch{wake: make(chan struct{}, 1)} }

func (w *watch) push(e event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watch) add(fn func(node int32, boot uint64, up bool)) { w.push(event{fn: fn}) }

func (w *watch) take() []event {
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.events
	w.events = nil
	return events
}

// run tells until ctx ends.
func (w *watch) run(ctx context.Context) {
	var fns []func(node int32, boot uint64, up bool)
	up := map[int32]uint64{}
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return
		}
		for _, e := range w.take() {
			switch {
			case e.fn != nil:
				fns = append(fns, e.fn)
				for _, node := range slices.Sorted(maps.Keys(up)) {
					e.fn(node, up[node], true)
				}
				continue
			case e.up:
				up[e.node] = e.boot
			default:
				delete(up, e.node)
			}
			for _, fn := range fns {
				fn(e.node, e.boot, e.up)
			}
		}
	}
}

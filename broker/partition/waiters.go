package partition

import (
	"slices"
	"sort"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// waiter is somebody who is answered when the entry (index, term) is
// committed (or held), or with the reason why it will not be told so here.
type waiter struct {
	index record.Index
	term  uint64
	held  bool // is answered when a majority has the entry in memory, too
	done  func(error)
}

// waiters are kept by Index; several may wait for one entry.
type waiters []waiter

func (w *waiters) add(x waiter) {
	i := sort.Search(len(*w), func(i int) bool { return (*w)[i].index > x.index })
	*w = append(*w, waiter{})
	copy((*w)[i+1:], (*w)[i:])
	(*w)[i] = x
}

// upTo takes out those at or below last.
func (w *waiters) upTo(last record.Index) []waiter {
	n := sort.Search(len(*w), func(i int) bool { return (*w)[i].index > last })
	out := (*w)[:n:n]
	*w = (*w)[n:]
	return out
}

// heldUpTo takes out those at or below last that need no flush.
func (w *waiters) heldUpTo(last record.Index) []waiter {
	n := sort.Search(len(*w), func(i int) bool { return (*w)[i].index > last })
	if !slices.ContainsFunc((*w)[:n], func(x waiter) bool { return !x.held }) {
		return w.upTo(last)
	}
	var out, rest []waiter
	for i, x := range *w {
		if i < n && x.held {
			out = append(out, x)
		} else {
			rest = append(rest, x)
		}
	}
	*w = rest
	return out
}

// above takes out those above last.
func (w *waiters) above(last record.Index) []waiter {
	n := sort.Search(len(*w), func(i int) bool { return (*w)[i].index > last })
	out := (*w)[n:]
	*w = (*w)[:n:n]
	return out
}

// answer calls each waiter's done with err.
func answer(ws []waiter, err error) {
	for _, w := range ws {
		w.done(err)
	}
}

// watcher is called once when an isolation's end passes after.
type watcher struct {
	iso   logio.Isolation
	after record.Offset
	fn    func()
}

// watchers keep the order in which they came.
type watchers []*watcher

// passed takes out the watchers that o satisfies.
func (w *watchers) passed(o logio.Offsets) []*watcher {
	var out []*watcher
	rest := (*w)[:0]
	for _, x := range *w {
		if o.End(x.iso) > x.after {
			out = append(out, x)
		} else {
			rest = append(rest, x)
		}
	}
	clear((*w)[len(rest):])
	*w = rest
	return out
}

func (w *watchers) remove(x *watcher) {
	rest := (*w)[:0]
	for _, y := range *w {
		if x != y {
			rest = append(rest, y)
		}
	}
	clear((*w)[len(rest):])
	*w = rest
}

func call(ws []*watcher) {
	for _, w := range ws {
		w.fn()
	}
}

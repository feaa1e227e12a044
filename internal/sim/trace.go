package sim

import (
	"fmt"
	"hash"
	"hash/fnv"
	"time"
)

// trace is everything that happened, as a hash, and its last lines as text.
type trace struct {
	hash hash.Hash64
	ring [traceLines]string
	n    int
	all  func(string) // told every line; nil for nobody
}

// traceLines is how much of a history a failure shows.
const traceLines = 40

func newTrace(all func(string)) trace { return trace{hash: fnv.New64a(), all: all} }

// note hashes what is too frequent for a line.
func (t *trace) note(parts ...string) {
	for _, p := range parts {
		_, _ = t.hash.Write([]byte(p))
		_, _ = t.hash.Write([]byte{0})
	}
}

func (t *trace) line(at time.Duration, format string, args ...any) {
	s := fmt.Sprintf("%9.3f ", at.Seconds()) + fmt.Sprintf(format, args...)
	t.note(s)
	t.ring[t.n%traceLines] = s
	t.n++
	if t.all != nil {
		t.all(s)
	}
}

func (t *trace) last() []string {
	var out []string
	for i := max(0, t.n-traceLines); i < t.n; i++ {
		out = append(out, t.ring[i%traceLines])
	}
	return out
}

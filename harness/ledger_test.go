package main

import (
	"testing"
	"time"
)

// sender is a ledger in which producer 1 sent n records to partition 0.
func sender(n int) (*ledger, []key) {
	l := newLedger(1, time.Now)
	var log []key
	for range n {
		log = append(log, l.next(1, 0))
	}
	return l, log
}

// Shows that each anomaly is counted where it is, and nothing where it is not.
func TestAnomaliesAreFound(t *testing.T) {
	for name, c := range map[string]struct {
		want anomaly
		run  func(l *ledger, log []key)
	}{
		"nothing": {"", func(l *ledger, log []key) {
			s := l.session("c", 0, 0)
			for i, k := range log {
				l.ack(0, int64(i), k)
				s.poll(int64(i), k)
				l.worked(0, int64(i))
			}
			l.ended(0, 0, 5)
			l.ended(0, l.end(0), 5)
			l.committed(0, 5)
			l.audit(0, log)
		}},
		"acked and cut off": {lost, func(l *ledger, log []key) {
			l.ack(0, 4, log[4])
			l.audit(0, log[:4])
		}},
		"polled and cut off": {lost, func(l *ledger, log []key) {
			l.session("c", 0, -1).poll(4, log[4])
			l.audit(0, log[:4])
		}},
		"another in its place": {lost, func(l *ledger, log []key) {
			l.ack(0, 2, log[2])
			l.audit(0, []key{log[0], log[1], log[3], log[4]})
		}},
		"twice": {duplicate, func(l *ledger, log []key) { l.audit(0, []key{log[0], log[1], log[1]}) }},
		"two records at one offset": {inconsistent, func(l *ledger, log []key) {
			l.ack(0, 0, log[0])
			l.session("c", 0, -1).poll(0, log[1])
		}},
		"a poll goes back": {nonMonotonic, func(l *ledger, log []key) {
			s := l.session("c", 0, 0)
			s.poll(0, log[0])
			s.poll(1, log[1])
			s.poll(1, log[1])
		}},
		"a poll jumps":          {skipped, func(l *ledger, log []key) { l.session("c", 0, 0).poll(1, log[1]) }},
		"out of order":          {reordered, func(l *ledger, log []key) { l.audit(0, []key{log[1], log[0]}) }},
		"from nowhere":          {unexpected, func(l *ledger, _ []key) { l.audit(0, []key{makeKey(7, 1)}) }},
		"the end sinks":         {highWater, func(l *ledger, _ []key) { l.ended(0, 0, 5); l.ended(0, l.end(0), 4) }},
		"a commit is forgotten": {commitLost, func(l *ledger, _ []key) { l.committed(0, 3); l.joined("m", 0, l.commitOf(0), 2) }},
		"a commit covers what nobody read": {skipped, func(l *ledger, log []key) {
			l.worked(0, 0)
			l.committed(0, 2)
			l.audit(0, log)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l, log := sender(5)
			c.run(l, log)
			counts, kept, _, _ := l.total()
			for kind, n := range counts {
				if kind != c.want {
					t.Errorf("%d times %s: %v", n, kind, kept)
				}
			}
			if c.want != "" && counts[c.want] == 0 {
				t.Errorf("%s was not found", c.want)
			}
		})
	}
}

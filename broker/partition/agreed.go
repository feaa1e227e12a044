package partition

import (
	"hash/fnv"

	"tidewater/internal/record"
)

// Agreed is what the replicas of a partition must have in common once each has
// committed the same entries and nothing is undecided: two that differ in it
// have applied one log in two ways. It is comparable.
type Agreed struct {
	Index    record.Index // last entry of the log, committed or not
	LogEnd   record.Offset
	Commit   record.Index
	LogStart record.Offset
	Archived record.Offset
	Manifest uint64
	// Epochs and Producers are checksums of the leader-epoch history and of what
	// is known of producers and transactions, times of use apart: these are each
	// broker's own.
	Epochs, Producers uint64
}

// Agreed gives the state of this replica.
func (p *Partition) Agreed() Agreed {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := Agreed{
		Index: p.live.index, LogEnd: p.live.next, Commit: p.committed,
		LogStart: p.marks.logStart, Archived: p.marks.archived, Manifest: p.marks.manifest,
	}
	h := fnv.New64a()
	_, _ = h.Write((&position{epochs: p.live.epochs}).encode())
	a.Epochs = h.Sum64()
	s := p.live.producers.clone()
	for _, q := range s.byID {
		q.usedMs = 0
	}
	h.Reset()
	_, _ = h.Write(encodeSnapshot(p.cfg.Identity, p.live.next, &s))
	a.Producers = h.Sum64()
	return a
}

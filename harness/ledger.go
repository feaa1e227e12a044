package main

import (
	"fmt"
	"sync"
	"time"
)

// key names a record: who sent it and as which of theirs to its partition,
// counted from 1. 0 is no record.
type key uint64

func makeKey(producer int, seq uint64) key { return key(uint64(producer)<<48 | seq) }
func (k key) producer() int                { return int(k >> 48) }
func (k key) seq() uint64                  { return uint64(k) & (1<<48 - 1) }
func (k key) String() string               { return fmt.Sprintf("%d/%d", k.producer(), k.seq()) }

// anomaly is something no run may show. The names are Jepsen's where it has one.
type anomaly string

const (
	lost         anomaly = "lost"                // acked, or seen by a consumer, and not in the log at the end
	duplicate    anomaly = "duplicate"           // at two offsets, though its producer is idempotent
	inconsistent anomaly = "inconsistent offset" // two clients saw two records at one offset
	nonMonotonic anomaly = "non-monotonic poll"  // a poll went back
	skipped      anomaly = "skipped poll"        // a poll passed over offsets that hold records
	reordered    anomaly = "reordered"           // a producer's records are not in its order
	unexpected   anomaly = "unexpected read"     // nobody sent these bytes
	commitLost   anomaly = "lost commit"         // a group's member began below an acked commit
	highWater    anomaly = "high watermark back" // the end that a client was told went back
	fatal        anomaly = "producer state lost" // an idempotent producer was told that its sequence is unknown
	tableDiffers anomaly = "table differs"       // the table is not the log
	unmended     anomaly = "rot not mended"      // a flipped bit of a segment is there after the broker read all of them
	crashed      anomaly = "crash"               // a broker ended, and nobody had killed it
	stuck        anomaly = "stuck"               // the cluster did not come back after the last fault
)

// anomalies lists all of them, as the report shows them.
var anomalies = []anomaly{lost, duplicate, inconsistent, nonMonotonic, skipped, reordered, unexpected, commitLost, highWater, fatal, tableDiffers, unmended, crashed, stuck}

// found is one anomaly that was seen.
type found struct {
	At   time.Time `json:"at"`
	Kind anomaly   `json:"kind"`
	What string    `json:"what"`
}

func (f found) String() string {
	return fmt.Sprintf("%s %s: %s", f.At.Format("15:04:05.000"), f.Kind, f.What)
}

// foundMax bounds how many are kept in words; all are counted.
const foundMax = 200

// ledger is what all clients saw of one topic. It is safe for concurrent use.
type ledger struct {
	now func() time.Time

	mu         sync.Mutex
	partitions []book
	counts     map[anomaly]int
	kept       []found
	acks       int
	polled     int
	lastAck    []time.Time // by partition
}

// book is one partition's part.
type book struct {
	at      []key           // by offset, what the first to see it saw
	acked   map[int64]bool  // offsets that a producer was told
	sent    map[int]uint64  // by producer, its newest
	commit  int64           // the highest offset whose commit was acked
	end     int64           // the highest end a client was told
	members map[int64]uint8 // offsets that the group read
}

func newLedger(partitions int, now func() time.Time) *ledger {
	l := &ledger{now: now, partitions: make([]book, partitions), counts: map[anomaly]int{}, lastAck: make([]time.Time, partitions)}
	for p := range l.partitions {
		l.partitions[p] = book{acked: map[int64]bool{}, sent: map[int]uint64{}, members: map[int64]uint8{}}
		l.lastAck[p] = now()
	}
	return l
}

// add counts an anomaly; the caller holds the lock.
func (l *ledger) add(kind anomaly, format string, args ...any) {
	l.counts[kind]++
	if len(l.kept) < foundMax {
		l.kept = append(l.kept, found{At: l.now(), Kind: kind, What: fmt.Sprintf(format, args...)})
	}
}

// report counts an anomaly that a client saw by itself.
func (l *ledger) report(kind anomaly, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(kind, format, args...)
}

// next names the record that a producer is about to send.
func (l *ledger) next(producer, partition int) key {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &l.partitions[partition]
	b.sent[producer]++
	return makeKey(producer, b.sent[producer])
}

// ack notes that a producer was told a record's offset, and gives how long no
// ack had come from that partition.
func (l *ledger) ack(partition int, offset int64, k key) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acks++
	l.see(partition, offset, k, "acked")
	l.partitions[partition].acked[offset] = true
	now := l.now()
	gap := now.Sub(l.lastAck[partition])
	l.lastAck[partition] = now
	return gap
}

// see compares what a client saw at an offset with what others did; the caller
// holds the lock.
func (l *ledger) see(partition int, offset int64, k key, how string) {
	b := &l.partitions[partition]
	for int64(len(b.at)) <= offset {
		b.at = append(b.at, 0)
	}
	switch was := b.at[offset]; {
	case was == 0:
		b.at[offset] = k
	case was != k:
		l.add(inconsistent, "partition %d offset %d: %s was %s, another saw %s", partition, offset, k, how, was)
	}
	if k.seq() == 0 || k.seq() > b.sent[k.producer()] {
		l.add(unexpected, "partition %d offset %d: %s was never sent", partition, offset, k)
	}
}

// session is one reader's way through a partition.
type session struct {
	ledger    *ledger
	name      string
	partition int
	next      int64 // offset that must come next, -1 before the first
}

func (l *ledger) session(name string, partition int, from int64) *session {
	return &session{ledger: l, name: name, partition: partition, next: from}
}

// poll notes a record that the reader got.
func (s *session) poll(offset int64, k key) {
	l := s.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.polled++
	switch {
	case s.next < 0:
	case offset < s.next:
		l.add(nonMonotonic, "%s: partition %d gave offset %d after %d", s.name, s.partition, offset, s.next-1)
	case offset > s.next:
		l.add(skipped, "%s: partition %d gave offset %d after %d", s.name, s.partition, offset, s.next-1)
	}
	s.next = offset + 1
	l.see(s.partition, offset, k, "polled")
}

// ended notes the end of a partition that a client was told.
func (l *ledger) ended(partition int, asked, end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &l.partitions[partition]
	if end < asked {
		l.add(highWater, "partition %d ends at %d, it was %d before", partition, end, asked)
	}
	b.end = max(b.end, end)
}

// end is the highest end that was told so far: no later question may be
// answered by less.
func (l *ledger) end(partition int) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.partitions[partition].end
}

// committed notes an acked commit of the group: the next member to get the
// partition may not begin below it.
func (l *ledger) committed(partition int, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partitions[partition].commit = max(l.partitions[partition].commit, offset)
}

// commitOf is the highest acked commit.
func (l *ledger) commitOf(partition int) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.partitions[partition].commit
}

// joined notes where a group's member began, and the highest commit that was
// acked before the partition was given to it.
func (l *ledger) joined(member string, partition int, acked, from int64) {
	if from < acked {
		l.report(commitLost, "%s began partition %d at offset %d; a commit of %d had been acked", member, partition, from, acked)
	}
}

// worked notes that the group has read an offset.
func (l *ledger) worked(partition int, offset int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &l.partitions[partition]
	b.members[offset] = min(b.members[offset]+1, 100)
}

// audit compares one partition's whole log, from offset 0 to its end, with what
// everybody saw. Every offset of it holds a record, since nothing is trimmed,
// compacted or transactional here.
func (l *ledger) audit(partition int, log []key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := &l.partitions[partition]
	for offset, k := range b.at {
		switch {
		case k == 0:
		case offset >= len(log):
			l.add(lost, "partition %d ends at %d; %s at offset %d was %s", partition, len(log), k, offset, b.how(offset))
		case log[offset] != k:
			l.add(lost, "partition %d offset %d holds %s; %s was %s there", partition, offset, log[offset], k, b.how(offset))
		}
	}
	at, newest := map[key]int{}, map[int]uint64{}
	for offset, k := range log {
		if k == 0 {
			l.add(unexpected, "partition %d offset %d holds no record, or one whose bytes were altered", partition, offset)
			continue
		}
		if first, twice := at[k]; twice {
			l.add(duplicate, "partition %d: %s at offsets %d and %d", partition, k, first, offset)
			continue
		}
		at[k] = offset
		if k.seq() > b.sent[k.producer()] {
			l.add(unexpected, "partition %d offset %d: %s was never sent", partition, offset, k)
		}
		if k.seq() < newest[k.producer()] {
			l.add(reordered, "partition %d offset %d: %s after %d of the same producer", partition, offset, k, newest[k.producer()])
		}
		newest[k.producer()] = max(newest[k.producer()], k.seq())
	}
	for offset := range b.commit {
		if b.members[offset] == 0 {
			l.add(skipped, "the group committed partition %d up to %d and nobody in it read offset %d", partition, b.commit, offset)
		}
	}
}

func (b *book) how(offset int) string {
	if b.acked[int64(offset)] {
		return "acked"
	}
	return "polled"
}

// found gives those that are kept in words, the oldest first.
func (l *ledger) found() []found {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept
}

// total gives the counts.
func (l *ledger) total() (counts map[anomaly]int, kept []found, acks, polled int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts, l.kept, l.acks, l.polled
}

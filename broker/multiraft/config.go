package multiraft

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"tidewater/broker/journal"
	"tidewater/internal/record"
)

// Defaults and bounds of Config.
const (
	TickEveryDefault = 100 * time.Millisecond
	// electionTicks and heartbeatTicks give an election timeout of one to two
	// seconds and two heartbeats a second at the default tick.
	electionTicks  = 10
	heartbeatTicks = 5

	QueueMaxDefault = 4096
	// QueueWaitDefault is how long Do waits for room before it answers
	// ErrBusy: a few flushes of a slow disk.
	QueueWaitDefault = 50 * time.Millisecond

	// GroupBytesMaxDefault bounds a group's uncommitted bytes: some hundred
	// batches of a busy producer, one of the largest size.
	GroupBytesMaxDefault = 64 << 20
	// UncommittedBytesMaxDefault bounds all groups' uncommitted bytes.
	UncommittedBytesMaxDefault = 256 << 20
	// HeldBytesMaxDefault bounds all entries in memory, committed or not,
	// that no Release has let go of.
	HeldBytesMaxDefault = 512 << 20
	// EntryBytesMaxDefault is half of the journal's default file.
	EntryBytesMaxDefault = 32 << 20

	// TermEnd is the first term that is not allowed: Kafka's leader epoch is
	// an int32.
	TermEnd = 1 << 31

	// batchesInFlightMax bounds the batches of one shard that wait for a
	// flush; the shard takes no more work until one is answered or the journal
	// is full.
	batchesInFlightMax = 8
	// messageBytesMax bounds one append message to a peer, inflightMessages
	// how many may be under way.
	messageBytesMax  = 1 << 20
	inflightMessages = 64
)

// Config is what a Host, a Node or a Shard is made with.
type Config struct {
	// Node is this broker's id.
	Node int32
	// Shards is the number of loops; 0 is 1.
	Shards int
	// Journal takes what must be durable; Recovered is what it had when it
	// was opened, sorted by id. The journal's owner closes it after the host.
	Journal   Journal
	Recovered []journal.Group
	// Transport carries messages to other brokers; nil drops them, which is
	// right for groups of one.
	Transport Transport
	// TickEvery is raft's tick (0: TickEveryDefault). An election takes one to
	// two seconds' worth of the default.
	TickEvery time.Duration
	// QueueMax bounds the tasks and messages waiting at a shard, QueueWait how
	// long Do waits at that bound before it answers ErrBusy.
	QueueMax  int
	QueueWait time.Duration
	// GroupBytesMax and UncommittedBytesMax bound the uncommitted bytes of one
	// group and of all; HeldBytesMax all bytes of entries in memory. At a
	// bound Propose answers ErrBusy. They are divided among the shards.
	GroupBytesMax       int64
	UncommittedBytesMax int64
	HeldBytesMax        int64
	// EntryBytesMax bounds one proposal (0: EntryBytesMaxDefault); the journal
	// must take an entry of that size.
	EntryBytesMax int
	// Log gets raft's warnings; nil is slog.Default.
	Log *slog.Logger
	// Fault plants errors that the simulation's checkers must catch.
	Fault Fault
}

// Fault switches off a rule. The zero value is the only one fit for data.
type Fault struct {
	// AckBeforeFlush tells raft that writes are durable before they are.
	AckBeforeFlush bool
}

// Validate fills in defaults and collects every fault.
func (c *Config) Validate() error {
	setDefault(&c.Shards, 1)
	setDefault(&c.TickEvery, TickEveryDefault)
	setDefault(&c.QueueMax, QueueMaxDefault)
	setDefault(&c.QueueWait, QueueWaitDefault)
	setDefault(&c.GroupBytesMax, GroupBytesMaxDefault)
	setDefault(&c.UncommittedBytesMax, UncommittedBytesMaxDefault)
	setDefault(&c.HeldBytesMax, HeldBytesMaxDefault)
	setDefault(&c.EntryBytesMax, EntryBytesMaxDefault)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	var faults []error
	if c.Journal == nil {
		faults = append(faults, errors.New("no Journal is given"))
	}
	if c.Shards < 0 || c.Shards > 1024 {
		faults = append(faults, fmt.Errorf("number of Shards %d: want 1 to 1024", c.Shards))
	}
	if c.QueueMax < 0 || c.QueueWait < 0 || c.TickEvery < 0 {
		faults = append(faults, errors.New("bounds QueueMax, QueueWait and TickEvery must not be negative"))
	}
	if c.GroupBytesMax < 0 || c.UncommittedBytesMax < 0 || c.HeldBytesMax < 0 {
		faults = append(faults, errors.New("byte bounds must not be negative"))
	}
	if len(faults) > 0 {
		return fmt.Errorf("multiraft configuration: %w", errors.Join(faults...))
	}
	return nil
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Journal is the part of journal.Journal that is used here. It has one caller.
type Journal interface {
	Append(w journal.Write) error
	Flush() error
}

// What a caller does about a refusal.
var (
	// ErrNotLeader: answer NOT_LEADER_OR_FOLLOWER; nothing moved.
	ErrNotLeader = errors.New("replica does not lead its group")
	// ErrDropped: raft refused the proposal (a leadership transfer is under
	// way, the replica was removed); nothing moved, retriable.
	ErrDropped = errors.New("proposal was dropped")
	// ErrBusy: a queue or memory bound is reached; nothing moved, retriable.
	ErrBusy = errors.New("replication is over its queue or memory bound")
	// ErrFull: the journal has no room; nothing moved, retriable.
	ErrFull = journal.ErrFull
	// ErrTooLarge: no journal file can hold the entry; refuse the batch.
	ErrTooLarge = journal.ErrTooLarge
	// ErrStopped: the group is not here, or its replica stopped.
	ErrStopped = errors.New("replica is stopped")
)

// GroupConfig starts one replica.
type GroupConfig struct {
	ID record.PartitionID
	// Replica is this replica's raft id: handed out once by the controller,
	// never reused, not 0.
	Replica uint64
	// Voters are the members of a group that the journal does not know; nil is
	// this replica alone. A known group has its members from the journal.
	Voters []uint64
	// NodeOf gives the broker that holds a replica; nil knows only this one.
	NodeOf       func(replica uint64) (int32, bool)
	StateMachine StateMachine
	// FloorTerm: terms of a group that the journal does not know begin above
	// it. A restore gives the highest leader epoch found in the bucket.
	FloorTerm uint64
	// Mark is where a restored group begins, nil for a new one; used when the
	// journal does not know the group.
	Mark *journal.Mark
}

// StateMachine is one replica's log as its partition sees it. Its methods are
// called by the shard that owns the group, one at a time, and must not block.
// Within one step the order is: Lead (role, term), Truncate, Append, Commit,
// Lead (Ready).
type StateMachine interface {
	// Append is called for every entry that enters this replica's log, in
	// order, before it is durable: on the leader inside Propose, on a follower
	// when it is accepted, at Start for what the journal held above the mark.
	// An error stops the replica before anything is acknowledged.
	Append(e Entry) error
	// Truncate: entries above last left the log; none of them was committed.
	Truncate(last record.Index)
	// Commit: every entry up to last is committed, and durable here.
	Commit(last record.Index)
	// Lead: role, term or leader changed, or Ready did.
	Lead(l Leadership)
	// Stopped is the last call: the replica's disk failed, its log does not
	// fit, or it was closed (ErrStopped).
	Stopped(err error)
}

// Entry is one raft entry. Data is nil for raft's own (the empty entry of a
// term, changes of membership); it belongs to the log and nobody writes it.
type Entry struct {
	Index record.Index
	Term  uint64
	Data  []byte
}

// Leadership is who leads, as this replica knows it.
type Leadership struct {
	Term    uint64
	Leader  int32 // broker id, -1 when unknown
	Leading bool  // this replica leads
	// Ready: this replica leads and the empty entry of its term is committed,
	// so Commit has told everything that was ever committed.
	Ready bool
}

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
	TickEveryDefault = 50 * time.Millisecond
	// electionTicks and heartbeatTicks give an election timeout of 0.5 to 1 s
	// and five heartbeats a second at the default tick. A leader that hears
	// from no majority for that long steps down.
	electionTicks  = 10
	heartbeatTicks = 4
	// staggerTicks is between two replicas' attempts to follow a leader whose
	// broker is gone: longer than an election takes, disk included.
	staggerTicks = 3
	// quiesceTicks is how long a group has nothing to do before it rests.
	quiesceTicks = 60
	// snapshotTicks is after how long a leader gives up a RaftSnapshot that
	// was not answered and sends a newer one. A follower that is still busy
	// with the last one takes no notice.
	snapshotTicks = 40

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
	// PinnedBytesMaxDefault is replayed in well under a second.
	PinnedBytesMaxDefault = 128 << 20
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
	// and inflightBytes what may be under way to it.
	messageBytesMax  = 1 << 20
	inflightMessages = 256
	inflightBytes    = 16 << 20
	// keepBytesMax bounds what a group keeps in memory of entries below its
	// mark, for a follower that is a little behind: less than what sending a
	// RaftSnapshot costs.
	keepBytesMax = 8 << 20
	// keepForCopyBytesMax is that bound while a follower copies what a
	// RaftSnapshot stands for: what is appended meanwhile and is not kept, it has
	// to copy next. A round of copying has a price of its own, a second at the
	// worst, so a log that moves by more than the bound within that would be
	// copied for ever.
	keepForCopyBytesMax = 64 << 20

	// InstallsMaxDefault is how many replicas of a broker are brought up to
	// date by copying at a time.
	InstallsMaxDefault = 4
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
	// TickEvery is raft's tick (0: TickEveryDefault). A leader's silence is
	// noticed after ten to twenty, its broker's death when PeerDown is called.
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
	// PinnedBytesMax is how many bytes of the journal may be live before
	// Pinning names who keeps them (0: PinnedBytesMaxDefault): what a start may
	// have to replay of entries that nobody wants elsewhere.
	PinnedBytesMax int64
	// EntryBytesMax bounds one proposal (0: EntryBytesMaxDefault); the journal
	// must take an entry of that size.
	EntryBytesMax int
	// InstallsMax bounds the replicas that are brought up to date by copying at
	// a time (0: InstallsMaxDefault). It is divided among the shards.
	InstallsMax int
	// Log gets raft's warnings; nil is slog.Default.
	Log *slog.Logger
	// Fault plants errors that the simulation's checkers must catch.
	Fault Fault
}

// Fault switches off a rule. The zero value is the only one fit for data.
type Fault struct {
	// AckBeforeFlush tells raft that writes are durable before they are.
	AckBeforeFlush bool
	// HeldAlone has a leader take its own memory for that of a majority.
	HeldAlone bool
	// SkipTermCheck lets messages of past terms count as present ones.
	SkipTermCheck bool
	// StaleReads confirms a leader without asking a majority, and leaves a
	// leader that lost its majority believing that it knows what is committed.
	StaleReads bool
	// WipedRejoins lets a replica whose log is gone begin again under its id.
	WipedRejoins bool
	// Forward has followers pass proposals on to the leader.
	Forward bool
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
	setDefault(&c.PinnedBytesMax, PinnedBytesMaxDefault)
	setDefault(&c.InstallsMax, InstallsMaxDefault)
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
	if c.QueueMax < 0 || c.QueueWait < 0 || c.TickEvery < 0 || c.InstallsMax < 0 {
		faults = append(faults, errors.New("bounds QueueMax, QueueWait, TickEvery and InstallsMax must not be negative"))
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
	// ErrNotLeader: answer NOT_LEADER_OR_FOLLOWER; nothing moved. The error is a
	// *NotLeaderError, which knows who leads.
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
	// ErrMissing: this disk should have the replica's log and has not. The
	// replica answers nothing; the controller removes it and adds another one.
	ErrMissing = errors.New("replica's log is not on this disk")
	// ErrRemoved: the group's members agreed to go on without this replica. Its
	// files may go.
	ErrRemoved = errors.New("replica was removed from its group")
	// ErrNotYet: no RaftSnapshot can be made now.
	ErrNotYet = errors.New("no snapshot can be made yet")
	// ErrTransfer: leadership did not move, or somewhere else; retriable.
	ErrTransfer = errors.New("leadership was not transferred")
)

// NotLeaderError is an ErrNotLeader that says who leads, for clients that can
// be sent there (KIP-951).
type NotLeaderError struct {
	Group  record.PartitionID
	Term   uint64
	Leader int32 // broker id, -1 when unknown
}

func (e *NotLeaderError) Error() string {
	return fmt.Sprintf("%v: group %s, term %d, leader %d", ErrNotLeader, e.Group, e.Term, e.Leader)
}

// Is makes errors.Is(err, ErrNotLeader) hold.
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

// GroupConfig starts one replica.
type GroupConfig struct {
	ID record.PartitionID
	// Replica is this replica's raft id: handed out once by the controller,
	// never reused, not 0.
	Replica uint64
	// Origin says how a replica begins that the journal does not know.
	Origin Origin
	// Voters are the members of a group that is Founding; nil is this replica
	// alone. A known group has its members from the journal, a joining replica
	// from the leader.
	Voters []uint64
	// NodeOf gives the broker that holds a replica; nil knows only this one.
	NodeOf       func(replica uint64) (int32, bool)
	StateMachine StateMachine
	// Sum is journal.Write.Sum for the data that is proposed to this group; nil
	// has it read. It is called on the journal's loop.
	Sum func(sum uint32, data []byte) uint32
	// Prompt: somebody waits for the machines of followers, so they are told of
	// every commit at once, also while the group is busy.
	Prompt bool
	// FloorTerm: terms of a group that the journal does not know begin above
	// it. A restore gives the highest leader epoch found in the bucket.
	FloorTerm uint64
	// Mark is where a restored group begins, nil for a new one; used when the
	// journal does not know the group.
	Mark *journal.Mark
}

// Origin says how a replica begins that the journal does not know. A known one
// goes on from where it was, whatever its Origin.
type Origin uint8

const (
	// Founding: the group is new, Voters are its first members, and this
	// replica's broker never ran it: or it did not get so far that a vote or an
	// acknowledgement left it.
	Founding Origin = iota
	// Joining: the group exists. The replica knows no member, votes for nobody
	// and waits for the leader's RaftSnapshot.
	Joining
	// Resuming: this disk held the replica. When the journal does not know it,
	// Start answers ErrMissing.
	Resuming
)

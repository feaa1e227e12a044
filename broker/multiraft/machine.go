package multiraft

import (
	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/record"
)

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
	// fit, or it was closed (ErrStopped). One of several members is told before
	// that it does not lead any more.
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

// Snapshot is what a replica is brought to whose log ends before the leader's
// begins: the RaftSnapshot of a group.
type Snapshot struct {
	Index record.Index // of the last entry that it stands for
	Term  uint64
	// ConfState is the membership at Index. Snapshotter.Snapshot leaves it out.
	ConfState raftpb.ConfState
	// Data is the machine's state at Index, as far as it is not copied from
	// the sender: the machine's own form.
	Data []byte
	// Node is the broker that sent it and that Install copies from.
	Node int32
}

// Snapshotter is a StateMachine whose replicas can be brought up to date when
// the leader holds no longer the entries that they lack. Without it such a
// replica waits for ever. Every method but Install's copying runs on the
// shard's loop, as those of StateMachine.
type Snapshotter interface {
	StateMachine
	// Snapshot gives the state at an entry that is committed, not below least
	// and not below the last mark. ErrNotYet: there is none now; it is asked
	// again after a heartbeat, and had better be able to give one soon.
	Snapshot(least record.Index) (Snapshot, error)
	// Install brings what lies on this disk to s, in the background and without
	// changing what the replica is before Restore, and calls done once, from
	// anywhere: nil when all of it is durable. A crash on the way must leave the
	// old state. Append, Truncate and Commit may be called meanwhile.
	Install(s Snapshot, done func(error))
	// Restore follows an Install that ended well: the log now begins above
	// s.Index, everything up to it is committed, nothing above it is there. It
	// returns the blob of the mark, which the journal gets in one write with
	// s.ConfState: from then on a restart finds the new state.
	Restore(s Snapshot) (mark []byte)
	// Restored follows when that write is durable: what was before may go.
	Restored()
	// Abandon follows an Install that ended well and is not used, because the
	// log got there by itself. After Stopped nothing of this is called.
	Abandon()
}

// Member is one replica of a group as its leader sees it.
type Member struct {
	Replica uint64
	Voter   bool // of the present or, in a joint configuration, of either one
	// Match is the last entry that it is known to have, durably.
	Match record.Index
	// Active: it answered within the last election timeout or, in a group at
	// rest, its broker does.
	Active bool
	// Copying: it is being brought up to date by a snapshot.
	Copying bool
}

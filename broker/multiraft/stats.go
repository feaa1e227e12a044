package multiraft

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"tidewater/internal/record"
)

// Stats are counters since the start, and the present state where noted.
type Stats struct {
	Groups    int64 // running now
	Ticking   int64 // of them, groups with a clock now, or about to get one
	Resting   int64 // of them, groups that put their clock away
	Installs  int64 // begun: replicas brought up to date by copying
	Proposals int64
	Messages  int64 // sent to peers
	Dropped   int64 // messages from peers that found no room
	Flushes   int64 // of the journal
	Writes    int64 // given to the journal
	Bytes     int64 // of entries given to the journal
	Carried   int64 // times that a group's undecided entries were written again
	HeldTold  int64 // entries that a machine was told are in the memory of a majority
	// Uncommitted and Held are bytes of entries now: above the committed one,
	// and in memory. Proposals are refused at Config's bounds.
	Uncommitted, Held int64
	Full              bool // the journal refuses entries now
}

// counters are moved by shards and the journal's caller.
type counters struct {
	groups, ticking, resting, installs, proposals, messages, dropped, flushes, writes, bytes atomic.Int64
	carried, uncommitted, held, heldTold                                                     atomic.Int64
}

func (c *counters) stats(full bool) Stats {
	return Stats{
		Groups: c.groups.Load(), Ticking: c.ticking.Load(), Proposals: c.proposals.Load(), Messages: c.messages.Load(),
		Dropped: c.dropped.Load(), Flushes: c.flushes.Load(), Writes: c.writes.Load(), Bytes: c.bytes.Load(), Full: full,
		Uncommitted: c.uncommitted.Load(), Held: c.held.Load(), Resting: c.resting.Load(), Installs: c.installs.Load(), Carried: c.carried.Load(),
		HeldTold: c.heldTold.Load(),
	}
}

// raftLogger passes on what an operator may need to see. Raft's stories about
// elections are told by Lead; its panics are faults of this program.
type raftLogger struct {
	log   *slog.Logger
	group record.PartitionID
}

func (l raftLogger) Debug(...any)          {}
func (l raftLogger) Debugf(string, ...any) {}
func (l raftLogger) Info(...any)           {}
func (l raftLogger) Infof(string, ...any)  {}

func (l raftLogger) say(level slog.Level, text string) {
	l.log.Log(context.Background(), level, "raft", "partition", l.group.String(), "says", text)
}

func (l raftLogger) Warning(v ...any) { l.say(slog.LevelDebug, fmt.Sprint(v...)) }
func (l raftLogger) Error(v ...any)   { l.say(slog.LevelError, fmt.Sprint(v...)) }

func (l raftLogger) Warningf(f string, v ...any) { l.say(slog.LevelDebug, fmt.Sprintf(f, v...)) }
func (l raftLogger) Errorf(f string, v ...any)   { l.say(slog.LevelError, fmt.Sprintf(f, v...)) }

func (l raftLogger) Fatal(v ...any)            { panic(l.group.String() + ": " + fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(f string, v ...any) { panic(l.group.String() + ": " + fmt.Sprintf(f, v...)) }
func (l raftLogger) Panic(v ...any)            { panic(l.group.String() + ": " + fmt.Sprint(v...)) }
func (l raftLogger) Panicf(f string, v ...any) { panic(l.group.String() + ": " + fmt.Sprintf(f, v...)) }

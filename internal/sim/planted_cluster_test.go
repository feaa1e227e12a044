package sim

import (
	"testing"
	"time"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/broker/partition"
	"tidewater/internal/disk"
	"tidewater/tiering/archive"
)

// three is a history of three brokers in which nothing goes wrong, to be made
// worse.
func three(change func(*Shape)) *Shape {
	return shape(func(s *Shape) {
		s.Brokers, s.Length = 3, 8*time.Second
		change(s)
	})
}

// seedsMax bounds the seeds within which each planted fault must be caught.
const seedsMax = 60

// Each rule that keeps a cluster's log one is switched off in turn; each is
// caught by what clients see, or by what replicas agree on.
func TestPlantedClusterFaults(t *testing.T) {
	cut := func(s *Shape) { s.PartitionEvery, s.ProduceEvery = 700*time.Millisecond, 40*time.Millisecond }
	for _, c := range []struct {
		name  string
		cfg   Config
		rules []Rule
	}{
		// A write counts as durable before it is, and the power is cut.
		{"ack before flush", Config{
			Shape: three(func(s *Shape) { s.CrashEvery, s.PowerShare = 500*time.Millisecond, 10 }),
			Raft:  multiraft.Fault{AckBeforeFlush: true},
		}, []Rule{acked, votes, agreed, sane, once, oneLeader}},
		// A leader takes its own memory for that of a majority, and falls.
		{"ack from own memory alone", Config{
			Shape: three(func(s *Shape) {
				cut(s)
				s.WriteCaching, s.PauseEvery = true, 2*time.Second
			}),
			Raft: multiraft.Fault{HeldAlone: true},
		}, []Rule{acked}},
		{"ack from own memory alone, seen by clients", Config{
			Shape: three(func(s *Shape) {
				cut(s)
				s.WriteCaching, s.PauseEvery = true, 2*time.Second
			}),
			Raft: multiraft.Fault{HeldAlone: true}, Blind: []Rule{acked},
		}, []Rule{acked, once, ordered}},
		// A follower takes entries of a leader that was deposed.
		{"stale leader's entries", Config{
			Shape: three(func(s *Shape) {
				cut(s)
				s.PauseEvery, s.CrashEvery, s.SlowEvery = 500*time.Millisecond, 700*time.Millisecond, time.Second
			}),
			Raft: multiraft.Fault{SkipTermCheck: true},
		}, []Rule{agreed, sane, oneLeader, acked, working}},
		// A leader that does not know what is committed answers readers.
		{"stale reads", Config{
			Shape: three(func(s *Shape) {
				cut(s)
				s.PauseEvery, s.TransferEvery = 2*time.Second, 300*time.Millisecond
			}),
			Parts: partition.Fault{ShowUnconfirmed: true},
		}, []Rule{acked, offsets}},
		// A leader takes itself for confirmed without asking a majority, and
		// tells producers what its successor knows better.
		{"stale leader's judgement", Config{
			Shape: three(func(s *Shape) {
				cut(s)
				s.PauseEvery, s.TransferEvery = time.Second, 300*time.Millisecond
			}),
			Raft: multiraft.Fault{StaleReads: true},
		}, []Rule{once, ordered, acked, offsets}},
		// A journal file is used again without the votes in it.
		{"votes lost with a journal file", Config{
			Shape: three(func(s *Shape) {
				s.Idle, s.JournalFileBytes, s.ProduceEvery = 5, 32<<10, 30*time.Millisecond
				s.CrashEvery, s.PowerShare = 2*time.Second, 5
			}),
			Journal: journal.Fault{KeepHardStates: true},
		}, []Rule{votes, oneLeader, sane}},
		// Files are made and never named durably.
		{"directory not synced", Config{
			Shape: three(func(s *Shape) { s.CrashEvery, s.PowerShare = time.Second, 10 }),
			Disk:  []disk.Rule{{Lie: true, When: func(c disk.Call) bool { return c.Op == disk.OpSyncDir }}},
		}, []Rule{acked, votes, sane}},
		// A sync fails, the next one does not.
		{"sync tried again", Config{
			Shape: three(func(s *Shape) {
				s.SyncEvery, s.CrashEvery, s.PowerShare = time.Second, time.Second, 10
			}),
			Journal: journal.Fault{RetrySync: true},
		}, []Rule{acked, votes, sane}},
		// A broker with an empty disk votes under the id of the one it had.
		{"wiped disk votes", Config{
			Shape: three(func(s *Shape) {
				cut(s)
				s.WipeEvery, s.CrashEvery = 800*time.Millisecond, time.Second
			}),
			Raft: multiraft.Fault{WipedRejoins: true},
		}, []Rule{acked, agreed, oneLeader, sane, votes}},
		// A follower passes stamped batches on to the leader.
		{"proposals forwarded", Config{Shape: three(cut), Raft: multiraft.Fault{Forward: true}, Parts: partition.Fault{AppendAnywhere: true}},
			[]Rule{sane, agreed, once, acked, rest}},
		// What a truncation takes away stays known as written.
		{"producers not rolled back", Config{Shape: three(cut), Parts: partition.Fault{KeepProducers: true}},
			[]Rule{once, rest, sane, acked, ordered}},
		// A duplicate is answered before its original is committed.
		{"duplicate acked uncommitted", Config{
			Shape: three(func(s *Shape) {
				cut(s)
				s.SlowEvery = time.Second
			}),
			Parts: partition.Fault{AckUncommittedDuplicates: true},
		}, []Rule{once, acked, ordered, offsets}},
		// A deposed leader writes a manifest over its successor's.
		{"two manifests of one number", Config{
			Shape: three(func(s *Shape) {
				cut(s)
				s.OutageEvery, s.PauseEvery = time.Second, 2*time.Second
			}),
			Archive: archive.Faults{OverwriteManifest: true},
		}, []Rule{reused, fencing}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if *seedFlag != 0 {
				t.Skip("one seed is played")
			}
			caught(t, seedsMax, c.cfg, func(cfg *Config) {
				cfg.Raft, cfg.Journal, cfg.Parts = multiraft.Fault{}, journal.Fault{}, partition.Fault{}
				cfg.Disk, cfg.Archive = nil, archive.Faults{}
			}, c.rules...)
		})
	}
}

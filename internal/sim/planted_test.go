package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/broker/partition"
	"tidewater/iceberg/commit"
	"tidewater/tiering/archive"
)

// shape is a history in which nothing goes wrong, to be made worse.
func shape(change func(*Shape)) *Shape {
	s := &Shape{
		Brokers: 1, Partitions: 2, Idle: 1, Length: 10 * time.Second, JournalFileBytes: 64 << 10, SegmentBytes: 8 << 10, LocalBytes: 8 << 10,
		RetentionBytes: -1, ValueBytesMax: 600, TailBytesMax: 16 << 10, ProduceEvery: 80 * time.Millisecond,
	}
	change(s)
	return s
}

// caught plays seeds with a planted fault until a rule is broken, which must be
// one of rules, within seedsMax; the same history without the fault breaks none.
func caught(t *testing.T, seedsMax uint64, cfg Config, clean func(*Config), rules ...Rule) {
	t.Helper()
	for seed := uint64(1); seed <= seedsMax; seed++ {
		cfg.Seed = seed
		r := play(t, cfg)
		if len(r.Violations) == 0 {
			continue
		}
		v := r.Violations[0]
		if !slices.Contains(rules, v.Rule) {
			report(t, r)
			t.Fatalf("seed %d: caught by the wrong rule", seed)
		}
		detail, _, _ := strings.Cut(v.Detail, "\n")
		t.Logf("planted: %s\t%d\t%s\t%s", strings.TrimPrefix(t.Name(), "Test"), seed, v.Rule, detail)
		clean(&cfg)
		report(t, play(t, cfg))
		return
	}
	t.Fatalf("not caught in %d seeds", seedsMax)
}

// Acks that come before the flush are lost by a power cut: the journal claims
// to be durable, or the groups do not wait for it. Readers miss them, or the
// producer does, whose next batch does not follow what is left.
func TestAckBeforeFlushIsCaught(t *testing.T) {
	s := shape(func(s *Shape) { s.CrashEvery, s.PowerShare = 2*time.Second, 10 })
	t.Run("journal", func(t *testing.T) {
		caught(t, 20, Config{Shape: s, Journal: journal.Fault{AckBeforeFlush: true}},
			func(c *Config) { c.Journal = journal.Fault{} }, acked, votes)
	})
	t.Run("raft", func(t *testing.T) {
		caught(t, 20, Config{Shape: s, Raft: multiraft.Fault{AckBeforeFlush: true}},
			func(c *Config) { c.Raft = multiraft.Fault{} }, acked, votes, once, agreed)
	})
}

// Small journal files go round under a few idle groups, whose votes stand in
// the oldest only, when a file is used again without writing them anew.
func TestHardStateNotRewrittenIsCaught(t *testing.T) {
	s := shape(func(s *Shape) {
		s.Idle, s.JournalFileBytes, s.ProduceEvery = 5, 32<<10, 50*time.Millisecond
		s.CrashEvery, s.PowerShare = 4*time.Second, 5
	})
	caught(t, 20, Config{Shape: s, Journal: journal.Fault{KeepHardStates: true}},
		func(c *Config) { c.Journal = journal.Fault{} }, votes)
}

// A segment is trimmed on this disk because its manifest was about to be
// written. Who looks into the bucket sees it at once; blind to that, readers
// see it when the broker died in between.
func TestTrimBeforeManifestIsCaught(t *testing.T) {
	s := shape(func(s *Shape) {
		s.LocalBytes, s.CrashIn, s.CrashShare, s.ProduceEvery = 0, "archive", 3, 40*time.Millisecond
	})
	cfg := Config{Shape: s, Archive: archive.Faults{TrimBeforeChecked: true}}
	clean := func(c *Config) { c.Archive = archive.Faults{} }
	t.Run("in the bucket", func(t *testing.T) { caught(t, 20, cfg, clean, archived) })
	t.Run("by readers", func(t *testing.T) {
		cfg := cfg
		cfg.Blind = []Rule{archived}
		caught(t, 60, cfg, clean, working, acked, rest)
	})
}

// Local retention goes by its own bounds and not by the archived end: readers
// miss what was never uploaded.
func TestTrimBeforeArchivedIsCaught(t *testing.T) {
	s := shape(func(s *Shape) { s.LocalBytes, s.OutageEvery = 0, 2*time.Second })
	caught(t, 20, Config{Shape: s, Parts: partition.Fault{TrimBeforeArchived: true}},
		func(c *Config) { c.Parts = partition.Fault{} }, working, acked, sane)
}

// The table is committed up to what is acked; the bucket is behind when the
// data directory is lost, and the restored log gives the offsets out again.
func TestTablePastBucketIsCaught(t *testing.T) {
	s := shape(func(s *Shape) { s.OutageEvery, s.RestoreEvery = 2*time.Second, 4*time.Second })
	cfg := Config{Shape: s, Commit: commit.Faults{CommitPastBucket: true}}
	clean := func(c *Config) { c.Commit = commit.Faults{} }
	t.Run("in the bucket", func(t *testing.T) { caught(t, 20, cfg, clean, past) })
	t.Run("after the restore", func(t *testing.T) {
		cfg := cfg
		cfg.Blind = []Rule{past}
		caught(t, 40, cfg, clean, rows)
	})
}

// A restarted broker writes its tail numbers from one again. Who looks into the
// bucket sees bytes change under a name; blind to that, a replica misses them,
// since it waits for numbers above those it has read.
func TestReusedTailSeriesIsCaught(t *testing.T) {
	s := shape(func(s *Shape) {
		s.Replica, s.CrashEvery, s.SegmentBytes, s.TailBytesMax = true, 3*time.Second, 64<<10, 64<<10
	})
	cfg := Config{Shape: s, Archive: archive.Faults{ReuseTailSeries: true}}
	clean := func(c *Config) { c.Archive = archive.Faults{} }
	t.Run("in the bucket", func(t *testing.T) { caught(t, 20, cfg, clean, reused) })
	t.Run("by a replica", func(t *testing.T) {
		cfg := cfg
		cfg.Blind = []Rule{reused, fencing}
		caught(t, 20, cfg, clean, follows)
	})
}

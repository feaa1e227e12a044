package cluster

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/internal/disk"
)

// The controller on its real group and journal: a change that was answered is
// there after a power cut of both disks, whatever of the unsynced bytes is.
func TestOnMultiraftSurvivesPowerCut(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	log, store := disk.NewMem(0), vfs.NewCrashableMem()
	for round := range 3 {
		j, groups, err := journal.Open(journal.Config{FS: log, Dir: "journal", ClusterID: testIdentity.ClusterID,
			FileBytes: 8 << 20, FirstBytes: 1 << 20, Log: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		host, err := multiraft.Open(multiraft.Config{Node: 1, Journal: j, Recovered: groups, TickEvery: 5 * time.Millisecond, Log: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		c, err := Open(Config{Node: 1, Raft: HostedBy(host), FS: store, Dir: "controller", Log: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		if err := host.Start(multiraft.GroupConfig{ID: GroupID(), Replica: 1, StateMachine: c.Machine().StateMachine()}); err != nil {
			t.Fatal(err)
		}
		if err := c.WaitReady(ctx); err != nil {
			t.Fatalf("round %d: no leader: %v", round, err)
		}
		if round > 0 {
			if c.View().TopicCount() != 3*round {
				t.Fatalf("round %d: %d topics", round, c.View().TopicCount())
			}
		} else {
			bootstrap(t, c, 1)
		}
		for i := range 3 {
			mustCreate(t, c, string(rune('a'+3*round+i)), 2)
			if i == round {
				if err := c.Checkpoint(); err != nil {
					t.Fatal(err)
				}
			}
		}
		r := rand.New(rand.NewPCG(uint64(round), 7))
		nextLog, nextStore := log.CrashClone(r), store.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * round, RNG: r})
		_ = host.Close() // the old process; the clones do not see it
		_ = c.Close()
		_ = j.Close()
		log, store = nextLog, nextStore
	}
}

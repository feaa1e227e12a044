package sim

import (
	"testing"
	"time"
)

// stormSeeds is how many storms are played; each is worth several usual seeds.
const stormSeeds = 20

// Everything goes wrong often and at once, and no rule is broken.
func TestStorm(t *testing.T) {
	if *seedFlag != 0 {
		return
	}
	for seed := uint64(1); seed <= stormSeeds; seed++ {
		s := shape(func(s *Shape) {
			s.Partitions, s.Idle, s.Replica, s.Length, s.JournalFileBytes = 3, 3, seed%2 == 0, 15*time.Second, 32<<10
			s.LocalBytes, s.RetentionBytes, s.TailBytesMax = 0, []int64{-1, 32 << 10}[seed/2%2], []int{2 << 10, 64 << 10}[seed/4%2]
			s.CrashEvery, s.PowerShare, s.OutageEvery, s.FullEvery = 1500*time.Millisecond, 5, 1500*time.Millisecond, 5*time.Second
			s.SyncEvery, s.RestoreEvery, s.ZombieShare, s.DeleteEvery = 8*time.Second, 3*time.Second, 5, 2*time.Second
			s.CrashIn, s.CrashShare = []string{"table", "archive", "keeper", "tail"}[seed%4], 10
		})
		report(t, play(t, Config{Seed: seed, Shape: s}))
	}
}

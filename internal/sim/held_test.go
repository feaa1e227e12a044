package sim

import (
	"testing"
	"time"
)

// What producers were answered for from memory is lost when brokers lose their
// memory and in no other case: not by elections, cuts of the network, stopped
// processes or slow disks. The rules hold that (held.go); here histories with
// and without crashes show that both happen.
func TestWriteCachingLosesOnlyWithMemory(t *testing.T) {
	if *seedFlag != 0 {
		t.Skip("one seed is played")
	}
	for _, c := range []struct {
		name   string
		shape  *Shape
		losses bool
	}{
		{"nobody dies", three(func(s *Shape) {
			s.PartitionEvery, s.PauseEvery, s.SlowEvery, s.TransferEvery = 600*time.Millisecond, time.Second, time.Second, 400*time.Millisecond
		}), false},
		{"processes die", three(func(s *Shape) {
			s.CrashEvery, s.PartitionEvery, s.SlowEvery = 200*time.Millisecond, 700*time.Millisecond, time.Second
		}), true},
		{"power cuts", three(func(s *Shape) {
			s.CrashEvery, s.PowerShare, s.PartitionEvery, s.TransferEvery = 200*time.Millisecond, 10, 700*time.Millisecond, 400*time.Millisecond
		}), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.shape.WriteCaching, c.shape.ProduceEvery = true, 25*time.Millisecond
			var sum Stats
			for seed := uint64(1); seed <= 4; seed++ {
				r := play(t, Config{Seed: seed, Shape: c.shape})
				report(t, r)
				sum.add(r.Stats)
			}
			if sum.Held < 200 || c.losses != (sum.HeldLost > 0) {
				t.Errorf("%d entries were answered for from memory, %d lost", sum.Held, sum.HeldLost)
			}
			t.Logf("%+v", sum)
		})
	}
}

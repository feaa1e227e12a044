package sim

import (
	"testing"
	"time"
)

// Flushed bits flip again and again: no client is shown it, and brokers make
// their segments anew.
func TestRotIsMended(t *testing.T) {
	if *seedFlag != 0 {
		t.Skip("one seed is played")
	}
	mended := int64(0)
	for seed := uint64(1); seed <= 6; seed++ {
		r := play(t, Config{Seed: seed, Shape: three(func(s *Shape) { s.RotEvery, s.LocalBytes = 600*time.Millisecond, 64<<10 })})
		report(t, r)
		mended += r.RotMended
	}
	if mended < 3 {
		t.Errorf("%d segments were mended: the test tests nothing", mended)
	}
}

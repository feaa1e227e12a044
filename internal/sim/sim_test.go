package sim

import (
	"context"
	"flag"
	"fmt"
	"reflect"
	"runtime/debug"
	"testing"
	"testing/cryptotest"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "the seed that TestSeed plays; every line of it with -v")
	seedsFlag = flag.Uint64("seeds", 200, "how many seeds TestSeeds plays")
	shareFlag = flag.String("share", "0/1", "k/n: TestSeeds plays every n-th seed, from k on, so that n processes play all")
)

// twiceEvery is the share of seeds that are played twice and must end equal.
const twiceEvery = 10

// play runs one history with the randomness of the whole process from its seed:
// etcd/raft draws from crypto/rand.
func play(t *testing.T, cfg Config) *Report {
	cryptotest.SetGlobalRandom(t, cfg.Seed)
	return Run(context.Background(), cfg)
}

func report(t *testing.T, r *Report) {
	t.Helper()
	if len(r.Violations) == 0 {
		return
	}
	for _, line := range r.Last {
		t.Log(line)
	}
	for _, v := range r.Violations {
		t.Errorf("seed %d: %s", r.Seed, v)
	}
	t.Errorf("replay it: make sim SEED=%d", r.Seed)
}

// TestSeeds plays the first seeds: no rule is broken, some histories played
// twice end equal, and all together they held what the rules are about.
func TestSeeds(t *testing.T) {
	if *seedFlag != 0 {
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // worlds are short-lived
	var sum Stats
	var k, n uint64
	if _, err := fmt.Sscanf(*shareFlag, "%d/%d", &k, &n); err != nil || n == 0 {
		t.Fatalf("-share %s: want k/n", *shareFlag)
	}
	for seed := k + 1; seed <= *seedsFlag; seed += n {
		r := play(t, Config{Seed: seed})
		report(t, r)
		sum.add(r.Stats)
		if seed/n%twiceEvery == 0 {
			if again := play(t, Config{Seed: seed}); again.Hash != r.Hash {
				t.Errorf("seed %d: two runs end differently: %d events with hash %016x, %d with %016x", seed, r.Events, r.Hash, again.Events, again.Hash)
			}
		}
	}
	t.Logf("%d seeds: %+v", *seedsFlag, sum)
	if *seedsFlag/n >= 200 {
		happened := reflect.ValueOf(sum)
		for i := range happened.NumField() {
			if happened.Field(i).Int() < 5 {
				t.Errorf("%s happened %d times only: the rules about it are not tried", happened.Type().Field(i).Name, happened.Field(i).Int())
			}
		}
	}
}

func (s *Stats) add(o Stats) {
	to, from := reflect.ValueOf(s).Elem(), reflect.ValueOf(o)
	for i := range from.NumField() {
		to.Field(i).SetInt(to.Field(i).Int() + from.Field(i).Int())
	}
}

// TestSeed plays the one seed that -seed names, twice.
func TestSeed(t *testing.T) {
	if *seedFlag == 0 {
		return
	}
	cfg := Config{Seed: *seedFlag}
	if testing.Verbose() {
		cfg.Line = func(s string) { t.Log(s) }
	}
	r := play(t, cfg)
	report(t, r)
	if again := play(t, Config{Seed: *seedFlag}); again.Hash != r.Hash {
		t.Errorf("two runs end differently: %d events with hash %016x, %d with %016x", r.Events, r.Hash, again.Events, again.Hash)
	}
}

package record

import (
	"math/rand/v2"
	"testing"
)

// Newest agrees with a walk through all records, for random batches and bounds.
func TestNewestAgreesWithAWalk(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		var batches []Batch
		var times []int64 // by offset; -1 does not count
		for range rng.IntN(6) {
			var b Builder
			n := 1 + rng.IntN(4)
			base := Offset(len(times))
			for range n {
				ms := rng.Int64N(8)
				b.Add(ms, nil, []byte("v"))
				times = append(times, ms)
			}
			one, err := b.Build(base)
			if err != nil {
				t.Fatal(err)
			}
			one.SetEpoch(LeaderEpoch(base))
			switch rng.IntN(6) {
			case 0: // a header that claims more than its records have
				copy(one[35:], []byte{0, 0, 0, 0, 0, 0, 0, 9})
				one.SetCRC()
			case 1:
				one[22] |= attrControl
				one.SetCRC()
				for i := int(base); i < len(times); i++ {
					times[i] = -1
				}
			}
			batches = append(batches, one)
		}
		from, end := Offset(rng.IntN(6)), Offset(rng.IntN(len(times)+2))
		wantAt, wantMs := Offset(-1), int64(-1)
		for i, ms := range times {
			if o := Offset(i); o >= from && o < end && ms > wantMs {
				wantAt, wantMs = o, ms
			}
		}
		at, ms, epoch, err := Newest(batches, from, end)
		if err != nil || at != wantAt || ms != wantMs || (at < 0) != (epoch < 0) || Offset(epoch) > at {
			t.Fatalf("newest of %v in [%d, %d): %d at %d, epoch %d, %v; want %d at %d", times, from, end, at, ms, epoch, err, wantAt, wantMs)
		}
	}
}

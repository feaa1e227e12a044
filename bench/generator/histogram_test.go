package generator

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestHistogramPercentiles shows that percentiles are those of the sorted
// values up to 0.8 %, at every size, and survive JSON.
func TestHistogramPercentiles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	var all []int64
	for range 20_000 {
		v := int64(r.Uint64() >> (1 + r.UintN(63)))
		h.Add(v)
		all = append(all, v)
	}
	slices.Sort(all)
	body, err := json.Marshal(&h)
	if err != nil {
		t.Fatal(err)
	}
	var read Histogram
	if err := json.Unmarshal(body, &read); err != nil {
		t.Fatal(err)
	}
	for _, p := range []float64{0.01, 1, 10, 50, 90, 99, 99.9, 99.99, 100} {
		want := all[int(float64(len(all))*p/100+0.999999)-1]
		got := h.Percentile(p)
		if got < want || float64(got-want) > float64(want)/128+1 {
			t.Errorf("p%g: %d, want %d", p, got, want)
		}
		if again := read.Percentile(p); again != got {
			t.Errorf("p%g after JSON: %d, want %d", p, again, got)
		}
	}
	if read.Total() != h.Total() || read.Max() != h.Max() {
		t.Errorf("after JSON total %d max %d, want %d and %d", read.Total(), read.Max(), h.Total(), h.Max())
	}
}

// TestHistogramBuckets shows that buckets follow each other without hole or
// overlap.
func TestHistogramBuckets(t *testing.T) {
	for b := range 40 << subBits {
		if got := bucketOf(lastOf(b)); got != b {
			t.Fatalf("bucket of the last value of bucket %d is %d", b, got)
		}
		if got := bucketOf(lastOf(b) + 1); got != b+1 {
			t.Fatalf("the value after bucket %d is in bucket %d", b, got)
		}
	}
}

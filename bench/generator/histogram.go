package generator

import (
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
)

// subBits gives the histogram's precision: values share a bucket with others up
// to 1/2^subBits (0.8 %) away; below 2^(subBits+1) each has its own.
const subBits = 7

// Histogram counts values of any size in buckets whose width grows with the
// value. It belongs to one goroutine.
type Histogram struct {
	counts []int64
	total  int64
	max    int64
}

// Add counts a value; negative ones count as 0.
func (h *Histogram) Add(v int64) {
	v = max(v, 0)
	b := bucketOf(v)
	for b >= len(h.counts) {
		h.counts = append(h.counts, make([]int64, 1<<subBits)...)
	}
	h.counts[b]++
	h.total++
	h.max = max(h.max, v)
}

// Total is how many values were counted, Max the largest of them.
func (h *Histogram) Total() int64 { return h.total }
func (h *Histogram) Max() int64   { return h.max }

// Percentile is the least value that p percent of the values do not exceed, up
// to the precision of the buckets; 0 without values.
func (h *Histogram) Percentile(p float64) int64 {
	want := int64(math.Ceil(p / 100 * float64(h.total)))
	var seen int64
	for b, n := range h.counts {
		if seen += n; n > 0 && seen >= want {
			return min(lastOf(b), h.max)
		}
	}
	return h.max
}

// bucketOf is v itself for small values; above, the top subBits+1 bits of v
// count inside the run of buckets of its power of two.
func bucketOf(v int64) int {
	shift := max(0, bits.Len64(uint64(v))-subBits-1)
	return shift<<subBits + int(v>>shift)
}

// lastOf is the largest value of a bucket.
func lastOf(b int) int64 {
	if b < 2<<subBits {
		return int64(b)
	}
	shift := b>>subBits - 1
	return int64(b-shift<<subBits+1)<<shift - 1
}

// histogramJSON has the buckets that are not empty: the largest value of each
// and how many it holds.
type histogramJSON struct {
	Unit   string    `json:"unit"`
	Max    int64     `json:"max"`
	Values []int64   `json:"values"`
	Counts []int64   `json:"counts"`
	P      [4]string `json:"p50_p99_p999_p9999"`
}

// MarshalJSON keeps every bucket, so that any percentile can be had from a file.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	out := histogramJSON{Unit: "us", Max: h.max}
	for b, n := range h.counts {
		if n > 0 {
			out.Values, out.Counts = append(out.Values, lastOf(b)), append(out.Counts, n)
		}
	}
	for i, p := range []float64{50, 99, 99.9, 99.99} {
		out.P[i] = fmt.Sprint(h.Percentile(p))
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (h *Histogram) UnmarshalJSON(b []byte) error {
	var in histogramJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	if len(in.Values) != len(in.Counts) {
		return fmt.Errorf("histogram: %d values, %d counts", len(in.Values), len(in.Counts))
	}
	*h = Histogram{}
	for i, v := range in.Values {
		h.Add(v)
		h.counts[bucketOf(v)] += in.Counts[i] - 1
		h.total += in.Counts[i] - 1
	}
	h.max = in.Max
	return nil
}

package generator

import (
	"errors"
	"fmt"
	"time"
)

// The kinds of work.
const (
	Produce = "produce"
	Latency = "latency"
	Fetch   = "fetch"
)

// RecordBytes is the length of a record's value.
const RecordBytes = 1 << 10

// Spec is the work of one run.
type Spec struct {
	Kind    string   `json:"kind"`
	Brokers []string `json:"brokers"`
	Topic   string   `json:"topic"`
	// BatchBytes bounds a producer's batch, LingerMs how long it waits to fill.
	BatchBytes int32 `json:"batch_bytes"`
	LingerMs   int   `json:"linger_ms"`
	// Seconds bounds the run; for latency, warm seconds come before and count
	// in the check but not in the latencies.
	Seconds     float64 `json:"seconds"`
	WarmSeconds float64 `json:"warm_seconds,omitempty"`
	// BytesMax ends produce, and a fetch that goes round, after so many bytes; 0: no bound.
	BytesMax int64 `json:"bytes_max,omitempty"`
	// Rate is what latency asks for, in bytes of values a second.
	Rate float64 `json:"rate,omitempty"`
	// Round lets fetch begin again at offset 0 until Seconds are over; without
	// it the topic is read once.
	Round bool `json:"round,omitempty"`
}

func (s Spec) linger() time.Duration { return time.Duration(s.LingerMs) * time.Millisecond }

func (s Spec) validate() error {
	switch {
	case s.Kind != Produce && s.Kind != Latency && s.Kind != Fetch:
		return fmt.Errorf("kind %q: want %s, %s or %s", s.Kind, Produce, Latency, Fetch)
	case len(s.Brokers) == 0 || s.Topic == "":
		return errors.New("want brokers and a topic")
	case s.Seconds <= 0:
		return errors.New("seconds: want more than 0")
	case s.Kind == Latency && s.Rate < RecordBytes:
		return fmt.Errorf("rate %g: want at least a record a second", s.Rate)
	case s.Kind != Fetch && s.BatchBytes < 2*RecordBytes:
		return fmt.Errorf("batch bytes %d: want at least two records", s.BatchBytes)
	}
	return nil
}

// Result is what a run saw. MB are 10^6 bytes of values, for fetch of batches.
type Result struct {
	Kind string `json:"kind"`
	// Seconds is from the first record to the last ack, or from the first
	// request to the last byte.
	Seconds float64 `json:"seconds"`
	MB      float64 `json:"mb"`
	Records int64   `json:"records"`
	// CPUSeconds is the generator's own use, user and system.
	CPUSeconds float64 `json:"cpu_seconds"`
	// PerSecond is the MB acked or read in each second.
	PerSecond []float64 `json:"mb_per_second"`

	// EndToEnd and Ack count from the time a record was due, in microseconds.
	EndToEnd *Histogram `json:"end_to_end,omitempty"`
	Ack      *Histogram `json:"ack,omitempty"`
	// GapMs is the longest time in which a partition with records due acked nothing.
	GapMs float64 `json:"gap_ms,omitempty"`
	// Of the acked records: never read, and read more than once. Refused were not acked.
	Lost    int64 `json:"lost"`
	Doubled int64 `json:"doubled"`
	Refused int64 `json:"refused"`
	// Fault is why the run is worth nothing, if it is.
	Fault string `json:"fault,omitempty"`
}

// MBps is the rate of the run.
func (r Result) MBps() float64 { return r.MB / r.Seconds }

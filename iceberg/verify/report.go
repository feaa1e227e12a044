package verify

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Kind is a kind of difference.
type Kind string

// The kinds of difference between a log and its table.
const (
	Missing   Kind = "missing"   // in the log, in neither table
	Doubled   Kind = "doubled"   // more than one row
	Altered   Kind = "altered"   // a row with other values
	Reordered Kind = "reordered" // a row after one with a higher offset in its file
	Extra     Kind = "extra"     // a row without a record
)

// Difference is one difference at one offset.
type Difference struct {
	Kind      Kind   `json:"kind"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Detail    string `json:"detail,omitempty"`
}

func (d Difference) String() string {
	s := fmt.Sprintf("%s: partition %d offset %d", d.Kind, d.Partition, d.Offset)
	if d.Detail != "" {
		s += ": " + d.Detail
	}
	return s
}

// Partition is what was compared of one partition: offsets in [From, To).
type Partition struct {
	Partition int32 `json:"partition"`
	From      int64 `json:"from"`
	To        int64 `json:"to"`
	// Records of the log; each is a row, a dead letter, or was dropped.
	Records int64 `json:"records"`
	Rows    int64 `json:"rows"`
	Dead    int64 `json:"dead_letters"`
	Dropped int64 `json:"dropped"`
	// Unchecked rows lie below the log's start: their records are gone.
	Unchecked int64 `json:"unchecked"`
}

// Report is the outcome of a comparison.
type Report struct {
	Table      string      `json:"table"`
	Snapshot   int64       `json:"snapshot"`
	Partitions []Partition `json:"partitions"`
	// Differences are the first ones by partition and offset, up to
	// DifferencesMax.
	Differences []Difference `json:"differences"`
	// WindowsUnexamined windows differ too but were not looked into.
	WindowsUnexamined int `json:"windows_unexamined"`
}

// OK reports whether log and table agree.
func (r *Report) OK() bool { return len(r.Differences) == 0 && r.WindowsUnexamined == 0 }

// String gives the outcome in a few lines.
func (r *Report) String() string {
	var s strings.Builder
	for _, p := range r.Partitions {
		fmt.Fprintf(&s, "partition %d offsets %d to %d: %d records, %d rows, %d dead letters", p.Partition, p.From, p.To, p.Records, p.Rows, p.Dead)
		if p.Dropped > 0 {
			fmt.Fprintf(&s, ", %d dropped", p.Dropped)
		}
		if p.Unchecked > 0 {
			fmt.Fprintf(&s, ", %d rows below the log's start not checked", p.Unchecked)
		}
		s.WriteByte('\n')
	}
	if r.OK() {
		s.WriteString("log and table agree\n")
		return s.String()
	}
	fmt.Fprintf(&s, "log and table differ")
	if len(r.Differences) > 0 {
		fmt.Fprintf(&s, ", first %s", r.Differences[0])
	}
	if r.WindowsUnexamined > 0 {
		fmt.Fprintf(&s, " (%d more ranges differ)", r.WindowsUnexamined)
	}
	s.WriteByte('\n')
	return s.String()
}

func (r *Report) sort() {
	slices.SortFunc(r.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Kind, b.Kind))
	})
	r.Differences = slices.Compact(r.Differences)
}

package commit

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"tidewater/internal/record"
)

// The table property that holds Offsets, and the keys of a snapshot's summary.
// docs/formats/table.md describes them.
const (
	PropertyOffsets = "tidewater.offsets"
	SummarySeq      = "tidewater.seq"
	SummaryHash     = "tidewater.offsets-hash"
	SummaryLost     = "tidewater.lost-offsets"
	SummaryDropped  = "tidewater.dropped-records"
)

const offsetsVersion = "v1"

// ownersMax bounds the owners remembered; the oldest are forgotten.
const ownersMax = 16

// Owner is the log a table is made from.
type Owner struct {
	Topic       record.TopicID
	Incarnation uint64
}

func (o Owner) String() string { return fmt.Sprintf("%s@%d", o.Topic, o.Incarnation) }

// Mark is how far one partition is in the table.
type Mark struct {
	// Start is the first offset that was looked at, End the first that was not.
	Start, End record.Offset
	// Epoch is the leader epoch of the batch before End, -1 for unknown.
	Epoch record.LeaderEpoch
}

// Offsets is what a table says of itself: how far it is, in which log. Seq
// grows by one with each snapshot of ours.
type Offsets struct {
	Seq uint64
	// Owners in the order they took the table over; the last is the owner.
	Owners []Owner
	Marks  map[int32]Mark
}

// Owner is the present owner.
func (o Offsets) Owner() Owner { return o.Owners[len(o.Owners)-1] }

func (o Offsets) clone() Offsets {
	return Offsets{Seq: o.Seq, Owners: slices.Clone(o.Owners), Marks: maps.Clone(o.Marks)}
}

// String gives the property's text:
//
//	v1 <seq> <topic>@<incarnation>[,…] [<partition>:<start>-<end>@<epoch> …]
func (o Offsets) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s %d ", offsetsVersion, o.Seq)
	for i, owner := range o.Owners {
		if i > 0 {
			s.WriteByte(',')
		}
		s.WriteString(owner.String())
	}
	for _, p := range slices.Sorted(maps.Keys(o.Marks)) {
		m := o.Marks[p]
		fmt.Fprintf(&s, " %d:%d-%d@%d", p, m.Start, m.End, m.Epoch)
	}
	return s.String()
}

// Hash names the property's text in a snapshot's summary.
func (o Offsets) Hash() string {
	sum := sha256.Sum256([]byte(o.String()))
	return hex.EncodeToString(sum[:8])
}

// ParseOffsets reads what String gives; an unknown version is an error.
func ParseOffsets(s string) (Offsets, error) {
	words := strings.Fields(s)
	if len(words) == 0 || words[0] != offsetsVersion {
		return Offsets{}, fmt.Errorf("parse offsets: version %q is not known here (%s is)", strings.Join(words[:min(1, len(words))], ""), offsetsVersion)
	}
	if len(words) < 3 {
		return Offsets{}, errors.New("parse offsets: cut short")
	}
	o := Offsets{Marks: map[int32]Mark{}}
	var err error
	if o.Seq, err = strconv.ParseUint(words[1], 10, 64); err != nil {
		return Offsets{}, fmt.Errorf("parse offsets: sequence number: %w", err)
	}
	for _, w := range strings.Split(words[2], ",") {
		owner, err := parseOwner(w)
		if err != nil {
			return Offsets{}, fmt.Errorf("parse offsets: %w", err)
		}
		o.Owners = append(o.Owners, owner)
	}
	for _, w := range words[3:] {
		p, m, err := parseMark(w)
		if err != nil {
			return Offsets{}, fmt.Errorf("parse offsets: %w", err)
		}
		o.Marks[p] = m
	}
	return o, nil
}

func parseOwner(s string) (Owner, error) {
	topic, incarnation, _ := strings.Cut(s, "@")
	id, err := record.ParseTopicID(topic)
	if err != nil {
		return Owner{}, err
	}
	n, err := strconv.ParseUint(incarnation, 10, 64)
	if err != nil {
		return Owner{}, fmt.Errorf("incarnation of %q: %w", s, err)
	}
	return Owner{Topic: id, Incarnation: n}, nil
}

func parseMark(s string) (int32, Mark, error) {
	head, epoch, ok1 := strings.Cut(s, "@")
	part, span, ok2 := strings.Cut(head, ":")
	start, end, ok3 := strings.Cut(span, "-")
	p, err1 := strconv.ParseInt(part, 10, 32)
	a, err2 := strconv.ParseInt(start, 10, 64)
	b, err3 := strconv.ParseInt(end, 10, 64)
	e, err4 := strconv.ParseInt(epoch, 10, 32)
	if err := errors.Join(err1, err2, err3, err4); err != nil || !ok1 || !ok2 || !ok3 || a < 0 || b < a || p < 0 {
		return 0, Mark{}, fmt.Errorf("partition %q is not partition:start-end@epoch", s)
	}
	return int32(p), Mark{Start: record.Offset(a), End: record.Offset(b), Epoch: record.LeaderEpoch(e)}, nil
}

// takeOver makes owner the owner: a higher incarnation of the same topic, or a
// topic this table has not had. It reports whether the table is owner's, and
// whether that is new; a table that somebody later took over is not.
func (o *Offsets) takeOver(owner Owner) (mine, changed bool) {
	last := o.Owner()
	switch {
	case last == owner:
		return true, false
	case last.Topic == owner.Topic:
		if last.Incarnation > owner.Incarnation {
			return false, false
		}
		o.Owners[len(o.Owners)-1] = owner
		return true, true
	}
	for _, have := range o.Owners {
		if have.Topic == owner.Topic {
			return false, false
		}
	}
	o.Owners = append(o.Owners, owner)
	if len(o.Owners) > ownersMax {
		o.Owners = o.Owners[len(o.Owners)-ownersMax:]
	}
	o.Marks = map[int32]Mark{} // another topic's offsets mean nothing
	return true, true
}

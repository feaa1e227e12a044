package kafka

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A shape is a message's layout, walked before kmsg decodes it: kmsg takes the
// count of a tag section at its word, and a request of ten bytes could keep it
// counting to 2^32. The walk's work is bounded by the message's bytes, and it
// allocates nothing.
type shape []shapeField

type shapeField struct {
	from, to int16 // versions, both inclusive
	kind     byte  // of shapeText
	fields   shape // of an array's elements, of a tag
	tag      uint32
}

// shapeText gives the layouts. A letter is a field, or a kind of nesting:
//
//	b h i q u   1, 2, 4, 8, 16 bytes
//	s y         string, bytes; either may be null
//	[ … ]       array of plain values
//	{ … }       array of structs, each with tags at its end in flexible versions
//	< n … >     tag n of the message, a struct
//
// A prefix gives versions: "3+:" from 3 on, "0-2:" these. The end of a message
// has tags in flexible versions.
func shapeText() map[kmsg.Key]string {
	return map[kmsg.Key]string{
		kmsg.Fetch: "0-14:i i i i b 7+:i 7+:i { 0-12:s 13+:u { i 9+:i q 12+:i 5+:q i } } " +
			"7+:{ 0-12:s 13+:u [ i ] } 11+:s < 1 i q >",
		kmsg.ListOffsets:             "i 2+:b { s { i 4+:i q } } 10+:i",
		kmsg.Metadata:                "{ 10+:u s } 4+:b 8-10:b 8+:b",
		kmsg.OffsetCommit:            "s i s 7+:s 2-4:q { 0-9:s 10+:u { i q 6+:i s } }",
		kmsg.OffsetFetch:             "0-7:s 0-7:{ s [ i ] } 8+:{ s 9+:s 9+:i { 0-9:s 10+:u [ i ] } } 7+:b",
		kmsg.FindCoordinator:         "0-3:s 1+:b 4+:[ s ]",
		kmsg.JoinGroup:               "s i 1+:i s 5+:s s { s y } 8+:s",
		kmsg.Heartbeat:               "s i s 3+:s",
		kmsg.LeaveGroup:              "s 0-2:s 3+:{ s s 5+:s }",
		kmsg.SyncGroup:               "s i s 3+:s 5+:s 5+:s { s y }",
		kmsg.DescribeGroups:          "[ s ] 3+:b",
		kmsg.ListGroups:              "4+:[ s ] 5+:[ s ]",
		kmsg.ApiVersions:             "3+:s 3+:s",
		kmsg.CreateTopics:            "{ s i h { i [ i ] } { s s } } i 1+:b",
		kmsg.DeleteTopics:            "0-5:[ s ] 6+:{ s u } i",
		kmsg.DeleteRecords:           "{ s { i q } } i",
		kmsg.InitProducerID:          "s i 3+:q 3+:h",
		kmsg.OffsetForLeaderEpoch:    "3+:i { s { i i i } }",
		kmsg.DescribeConfigs:         "{ b s [ s ] } b 3+:b",
		kmsg.AlterConfigs:            "{ b s { s s } } b",
		kmsg.DescribeLogDirs:         "{ s [ i ] }",
		kmsg.CreatePartitions:        "{ s i { [ i ] } } i b",
		kmsg.DeleteGroups:            "[ s ]",
		kmsg.IncrementalAlterConfigs: "{ b s { s b s } } b",
		kmsg.OffsetDelete:            "s { s { i } }",
		kmsg.DescribeCluster:         "b 1+:b 2+:b",

		kmsg.ElectLeaders:               "1+:b { s [ i ] } i",
		kmsg.AlterPartitionAssignments:  "i 1+:b { s { i [ i ] } }",
		kmsg.ListPartitionReassignments: "i { s [ i ] }",
		kmsg.UnregisterBroker:           "i",
		kmsg.DescribeQuorum:             "{ s { i } }",
		kmsg.UpdateFeatures:             "i { s h b } 1+:b",
	}
}

// checkShape walks a message's body.
func (a *api) checkShape(version int16, body []byte) error {
	w := shapeWalk{walker: walker{b: body}, version: version, flexible: a.flexible(version)}
	w.fields(a.shape)
	w.tagged(a.shape)
	if w.bad {
		return fmt.Errorf("%w: body of %s v%d", errMalformed, a.name, version)
	}
	return nil
}

type shapeWalk struct {
	walker
	version  int16
	flexible bool
}

func (w *shapeWalk) fields(s shape) {
	for i := range s {
		if f := &s[i]; w.version >= f.from && w.version <= f.to && !w.bad {
			w.field(f)
		}
	}
}

func (w *shapeWalk) field(f *shapeField) {
	switch f.kind {
	case 'b':
		w.take(1)
	case 'h':
		w.take(2)
	case 'i':
		w.take(4)
	case 'q':
		w.take(8)
	case 'u':
		w.take(16)
	case 's':
		w.string(w.flexible)
	case 'y':
		w.bytes(w.flexible)
	case '[', '{':
		for n := w.array(w.flexible, 1); n > 0 && !w.bad; n-- {
			w.fields(f.fields)
			if f.kind == '{' {
				w.tags(w.flexible)
			}
		}
	}
}

// tagged walks the tags at the message's end, into those that are structs.
func (w *shapeWalk) tagged(s shape) {
	if !w.flexible {
		return
	}
	for n := w.uvarint(); n > 0 && !w.bad; n-- {
		tag := w.uvarint()
		value := w.take(int(w.uvarint()))
		for i := range s {
			if s[i].kind == '<' && s[i].tag == tag {
				inner := shapeWalk{walker: walker{b: value}, version: w.version, flexible: true}
				inner.fields(s[i].fields)
				inner.tags(true)
				w.bad = w.bad || inner.bad
			}
		}
	}
}

// parseShape reads a line of shapeText up to the end or a closing bracket.
func parseShape(words []string) (s shape, rest []string) {
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		f := shapeField{to: 1<<15 - 1}
		if versions, kind, ok := strings.Cut(word, ":"); ok {
			f.from, f.to = parseVersions(versions)
			word = kind
		}
		f.kind = word[0]
		switch f.kind {
		case ']', '}', '>':
			return s, words
		case '<':
			f.tag = uint32(mustInt(words[0]))
			f.fields, words = parseShape(words[1:])
		case '[', '{':
			f.fields, words = parseShape(words)
		}
		s = append(s, f)
	}
	return s, nil
}

func parseVersions(v string) (from, to int16) {
	if first, ok := strings.CutSuffix(v, "+"); ok {
		return mustInt(first), 1<<15 - 1
	}
	first, last, _ := strings.Cut(v, "-")
	return mustInt(first), mustInt(last)
}

func mustInt(s string) int16 {
	n, err := strconv.ParseInt(s, 10, 16)
	if err != nil {
		panic(fmt.Sprintf("shape table: %q is no number", s))
	}
	return int16(n)
}

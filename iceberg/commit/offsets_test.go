package commit

import (
	"os"
	"strings"
	"testing"

	"tidewater/internal/record"
)

func sample() Offsets {
	return Offsets{Seq: 12, Owners: []Owner{{Topic: record.TopicID{1, 2}, Incarnation: 1}, {Topic: record.TopicID{3}, Incarnation: 2}},
		Marks: map[int32]Mark{10: {Start: 5, End: 5, Epoch: -1}, 0: {Start: 0, End: 1100, Epoch: 3}, 2: {Start: 7, End: 9_000_000_000, Epoch: 2147483647}}}
}

// The property's text is fixed: docs/formats/table.md.
func TestOffsetsGolden(t *testing.T) {
	golden, err := os.ReadFile("testdata/offsets.v1.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := sample().String() + " hash " + sample().Hash() + "\n"; got != string(golden) {
		t.Fatalf("got  %swant %s", got, golden)
	}
}

// Other versions and damaged texts are refused by name.
func TestOffsetsRefused(t *testing.T) {
	good := sample().String()
	for text, want := range map[string]string{
		"": `version ""`, "v2 1 x": `version "v2" is not known here (v1 is)`, "v1 1": "cut short", "v1 x " + good[6:]: "sequence number",
		strings.Replace(good, "@2 ", "@x ", 1): "incarnation", good + " 3:9-1@0": "start-end", good + " 3:1-9": "start-end", good + " x": "start-end",
	} {
		if _, err := ParseOffsets(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want %q", text, err, want)
		}
	}
}

func FuzzParseOffsets(f *testing.F) {
	f.Add(sample().String())
	f.Add("v1 0 AAAAAAAAAAAAAAAAAAAAAA@0")
	f.Add("v1 1 AAAAAAAAAAAAAAAAAAAAAA@1 0:0-1@-1 0:1-2@3")
	f.Fuzz(func(t *testing.T, s string) {
		o, err := ParseOffsets(s)
		if err != nil {
			return
		}
		again, err := ParseOffsets(o.String())
		if err != nil || again.String() != o.String() {
			t.Fatalf("%q reads as %q, that as %q: %v", s, o, again, err)
		}
	})
}

package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// Shows that the page holds what a run found, escaped, with a picture that is
// well-formed and inside its frame.
func TestPage(t *testing.T) {
	begin := time.Unix(1000, 0)
	g := &gaps{now: func() time.Time { return begin.Add(3500 * time.Millisecond) }, begin: begin}
	g.add(time.Millisecond)
	g.add(2 * time.Second)
	r := &result{
		Nodes: 3, Seed: 7, Begin: begin, Took: 10 * time.Second, Gaps: g.all, Rate: g.rate, Counts: map[anomaly]int{lost: 1},
		Found:  []found{{At: begin, Kind: lost, What: "<offset> 7"}},
		Events: []event{{Fault: "kill", What: "kill -9 of broker <1>", Begin: begin.Add(time.Second), Heal: begin.Add(12 * time.Second)}},
		Cannot: map[string]string{"clock": "not here"}, Told: map[string]int{"NOT_LEADER": 4},
		Repairs: repairs{Flipped: 5, Found: 4, Mended: 3, Left: 1},
	}
	if len(r.Rate) != 4 || r.Rate[3] != 2 {
		t.Fatalf("acks a second: %v", r.Rate)
	}
	page, err := r.html(g)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 anomalies", "&lt;offset&gt; 7", "kill -9 of broker &lt;1&gt;", "left out", "not here", "NOT_LEADER", "5 bits", "made 3 anew", "<td>kill<td class=\"n\">1<td>2s", "width=\"963.0\""} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	_, picture, _ := strings.Cut(string(page), "<svg")
	picture, _, _ = strings.Cut(picture, "</svg>")
	for d := xml.NewDecoder(strings.NewReader("<svg" + picture + "</svg>")); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("picture: %v", err)
		}
	}
}

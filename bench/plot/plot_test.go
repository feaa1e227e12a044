package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestLatencyIsXML shows that a drawing is well-formed whatever the names and
// numbers, and has a line with all points for each broker.
func TestLatencyIsXML(t *testing.T) {
	ms := make([]float64, len(Percentiles()))
	for i := range ms {
		ms[i] = float64(i) * 3
	}
	out := string(Latency("a < b & c", []Line{{"one", ms}, {"two", ms[:3]}, {"none", nil}}))
	for d := xml.NewDecoder(strings.NewReader(out)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
	}
	if strings.Contains(out, "NaN") || strings.Contains(out, "Inf") {
		t.Errorf("a point that is no number:\n%s", out)
	}
	if n := strings.Count(out, "<polyline"); n != 3 {
		t.Errorf("%d lines, want 3", n)
	}
}

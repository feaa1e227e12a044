// Package plot draws the comparison's figures as SVG: latency by percentile, both
// axes logarithmic, a line for each broker. It knows nothing of brokers and keeps
// nothing.
package plot

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
)

// Line is one broker's latencies in milliseconds at the given Percentiles.
type Line struct {
	Name string
	Ms   []float64
}

// Percentiles are where lines have their points.
func Percentiles() []float64 { return []float64{50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99} }

// The canvas and the plot inside it, in pixels.
const (
	width, height            = 720, 420
	left, right, top, bottom = 70, 170, 40, 50
)

// Latency draws lines whose points are at Percentiles.
func Latency(title string, lines []Line) []byte {
	lo, hi := bounds(lines)
	x := func(p float64) float64 { // nines: each decade of 1-p has the same width
		nines := -math.Log10(1 - p/100)
		return left + (nines+math.Log10(0.5))/(4+math.Log10(0.5))*(width-left-right)
	}
	y := func(ms float64) float64 {
		return height - bottom - (math.Log10(ms)-lo)/(hi-lo)*(height-top-bottom)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	text(&b, left, 22, "start", "black", title)
	for decade := lo; decade <= hi; decade++ {
		for step := 1.0; step < 10 && (decade < hi || step == 1); step++ {
			ms := step * math.Pow(10, decade)
			shade := "#eee"
			if step == 1 {
				shade = "#bbb"
				text(&b, left-8, y(ms)+4, "end", "black", fmt.Sprintf("%g ms", ms))
			}
			fmt.Fprintf(&b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s"/>`+"\n", left, y(ms), width-right, y(ms), shade)
		}
	}
	for _, p := range []float64{50, 90, 99, 99.9, 99.99} {
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#bbb"/>`+"\n", x(p), top, x(p), height-bottom)
		text(&b, x(p), height-bottom+18, "middle", "black", fmt.Sprintf("p%g", p))
	}
	for i, l := range lines {
		draw(&b, l, i, x, y)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// bounds are the decades around all points.
func bounds(lines []Line) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, l := range lines {
		for _, ms := range l.Ms {
			lo, hi = min(lo, math.Floor(math.Log10(max(ms, 0.001)))), max(hi, math.Ceil(math.Log10(max(ms, 0.001))))
		}
	}
	if math.IsInf(lo, 1) {
		return 0, 1
	}
	return lo, max(hi, lo+1)
}

func draw(b *bytes.Buffer, l Line, i int, x, y func(float64) float64) {
	colours := []string{"#0060c0", "#d06000", "#a02020", "#208040", "#702090", "#606060"}
	colour := colours[i%len(colours)]
	fmt.Fprintf(b, `<polyline fill="none" stroke="%s" stroke-width="2" points="`, colour)
	for n, p := range Percentiles() {
		if n < len(l.Ms) {
			fmt.Fprintf(b, "%.1f,%.1f ", x(p), y(max(l.Ms[n], 0.001)))
		}
	}
	b.WriteString(`"/>` + "\n")
	at := float64(top + 14 + 18*i)
	fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s" stroke-width="2"/>`+"\n", width-right+12, at-4, width-right+30, at-4, colour)
	text(b, width-right+36, at, "start", "black", l.Name)
}

func text(b *bytes.Buffer, x, y float64, anchor, colour, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">`, x, y, anchor, colour)
	_ = xml.EscapeText(b, []byte(s)) // a buffer takes everything
	b.WriteString("</text>\n")
}

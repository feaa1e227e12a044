package main

import (
	"bytes"
	"fmt"
	"html/template"
	"time"
)

// The page's picture, in pixels.
const (
	pictureWidth = 1200
	marginLeft   = 130
	rateHeight   = 140
	laneHeight   = 16
)

// lane is one kind of fault's row under the rate of acks.
type lane struct {
	Name  string
	Y     int
	Times int
	// Longest is the longest time without an ack on a partition around it.
	Longest string
	Bars    []bar
}

// bar is a stretch of time.
type bar struct {
	X, Width float64
	Says     string
}

// picture is what the page's template draws.
type picture struct {
	*result
	Length        string
	Total         int
	Width, Height int
	Left, Base    int
	RateMax       int
	Rate          template.HTML // points of a polyline; digits only
	Gaps          []bar
	Lanes         []lane
	Rows          []row
	Clients       []row
}

type row struct {
	Name  string
	Count int
}

// html is the report as a page that needs nothing else: acks a second, times
// without acks, and when which fault was there.
func (r *result) html(g *gaps) ([]byte, error) {
	p := picture{result: r, Length: r.Took.Round(time.Second).String(), Total: r.anomalies(), Width: pictureWidth, Left: marginLeft, Base: rateHeight}
	p.drawRate(r.Rate)
	for _, x := range r.Gaps {
		p.Gaps = append(p.Gaps, p.bar(x.End.Add(-x.Length), x.End, fmt.Sprintf("%s without an ack on a partition", orUnder(x.Length))))
	}
	p.drawLanes(g)
	p.Height = rateHeight + 30 + len(p.Lanes)*laneHeight
	for _, a := range anomalies {
		p.Rows = append(p.Rows, row{string(a), r.Counts[a]})
	}
	for _, text := range sorted(r.Told) {
		p.Clients = append(p.Clients, row{text, r.Told[text]})
	}
	var b bytes.Buffer
	if err := pageTemplate().Execute(&b, p); err != nil {
		return nil, fmt.Errorf("write page: %w", err)
	}
	return b.Bytes(), nil
}

func (p *picture) x(at time.Time) float64 {
	return marginLeft + (pictureWidth-marginLeft)*min(1, max(0, at.Sub(p.Begin).Seconds()/p.Took.Seconds()))
}

func (p *picture) bar(from, to time.Time, says string) bar {
	x := p.x(from)
	return bar{X: x, Width: max(1, p.x(to)-x), Says: says}
}

func (p *picture) drawRate(rate []int) {
	for _, n := range rate {
		p.RateMax = max(p.RateMax, n)
	}
	var points bytes.Buffer
	for s, n := range rate {
		y := rateHeight - (rateHeight-20)*float64(n)/float64(max(1, p.RateMax))
		fmt.Fprintf(&points, "%.1f,%.1f ", p.x(p.Begin.Add(time.Duration(s)*time.Second)), y)
	}
	p.Rate = template.HTML(points.String())
}

func (p *picture) drawLanes(g *gaps) {
	at, longest := map[string]int{}, map[string]time.Duration{}
	for _, e := range p.Events {
		i, ok := at[e.Fault]
		if !ok {
			i = len(p.Lanes)
			at[e.Fault] = i
			p.Lanes = append(p.Lanes, lane{Name: e.Fault, Y: rateHeight + 12 + i*laneHeight})
		}
		l := &p.Lanes[i]
		l.Times++
		l.Bars = append(l.Bars, p.bar(e.Begin, e.Heal, fmt.Sprintf("%s for %s: %s", e.Begin.Format("15:04:05"), e.Heal.Sub(e.Begin).Round(100*time.Millisecond), e.What)))
		longest[e.Fault] = max(longest[e.Fault], g.longest(e.Begin, e.Heal.Add(gapAfter)))
		l.Longest = orUnder(longest[e.Fault])
	}
}

func pageTemplate() *template.Template {
	return template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{.Nodes}} brokers, {{.Length}} of faults, seed {{.Seed}}</title>
<style>
 :root { color-scheme: light dark } body { font: 15px/1.5 system-ui, sans-serif; max-width: 1240px; margin: 2rem auto; padding: 0 1rem }
 table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .1rem .8rem .1rem 0; text-align: left; vertical-align: top } .n { text-align: right }
 svg { width: 100%; height: auto } svg text { font-size: 11px; fill: currentColor } .rate { fill: none; stroke: #2a78c2; stroke-width: 1 }
 .fault { fill: #c98a1b } .gap { fill: #c4332b; opacity: .35 } .bad { color: #c4332b; font-weight: 600 } .axis { stroke: currentColor; opacity: .3 }
</style>
<h1>{{.Nodes}} brokers, {{.Length}} of faults, seed {{.Seed}}</h1>
<p>{{.Acked}} records acked, {{.Polled}} polled, {{len .Events}} faults, <span{{if .Total}} class="bad"{{end}}>{{.Total}} anomalies</span>. {{.TableRows}} {{.Repairs}}</p>
<svg viewBox="0 0 {{.Width}} {{.Height}}" role="img" aria-label="acks a second, and when which fault was there">
 <text x="0" y="24">{{.RateMax}} acks/s</text><text x="0" y="{{.Base}}">0</text><line class="axis" x1="{{.Left}}" x2="{{.Width}}" y1="{{.Base}}" y2="{{.Base}}"/>
{{range .Gaps}} <rect class="gap" x="{{printf "%.1f" .X}}" y="16" width="{{printf "%.1f" .Width}}" height="124"><title>{{.Says}}</title></rect>
{{end}} <polyline class="rate" points="{{.Rate}}"/>
{{range .Lanes}}{{$y := .Y}} <text x="0" y="{{.Y}}" dy="11">{{.Name}}</text>
{{range .Bars}} <rect class="fault" x="{{printf "%.1f" .X}}" y="{{$y}}" width="{{printf "%.1f" .Width}}" height="13"><title>{{.Says}}</title></rect>
{{end}}{{end}}</svg>
<p>Blue: acks a second. Red: times in which a partition acked nothing for a quarter of a second or more though records waited. Below: the faults.</p>
<table><tr><th>anomaly<th class="n">seen</tr>
{{range .Rows}}<tr><td{{if .Count}} class="bad"{{end}}>{{.Name}}<td class="n">{{.Count}}</tr>
{{end}}</table>
{{if .Found}}<ul>{{range .Found}}<li>{{.}}
{{end}}</ul>{{end}}
<table><tr><th>fault<th class="n">times<th>longest time without an ack on a partition, in the fault and two seconds after</tr>
{{range .Lanes}}<tr><td>{{.Name}}<td class="n">{{.Times}}<td>{{.Longest}}</tr>
{{end}}{{range $name, $why := .Cannot}}<tr><td>{{$name}}<td class="n">left out<td>{{$why}}</tr>
{{end}}</table>
<table><tr><th>what clients were told and went on<th class="n">times</tr>
{{range .Clients}}<tr><td>{{.Name}}<td class="n">{{.Count}}</tr>
{{end}}</table>
</html>
`))
}

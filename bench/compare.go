package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tidewater/bench/generator"
	"tidewater/bench/plot"
)

// The names of figures that goals speak of.
const (
	rate      = "rate"
	brokerCPU = "broker"
	gap       = "longest gap in acks"
)

// notCompared are figures that say how a run was made; all but these get ratios.
func notCompared() []string {
	return []string{"generator", "others used", "read from disk", afterwards, "lost", "doubled"}
}

// outcomes is what a run found.
type outcomes struct {
	all   []*result
	plots []plotted
	disk  float64 // MB/s in direct writes
}

// plotted is one line of a plot.
type plotted struct {
	row     row
	broker  string
	latency *generator.Histogram
}

// goal is what Tidewater is to reach in rows whose names begin with row: a factor
// of what another contender, or itself in another row, has.
type goal struct {
	row, figure string
	of, ofRow   string // a contender, or a row of our own
	least       bool   // else it is the most there may be
	factor      float64
	halfDisk    bool    // half of what the disk writes is enough: each byte is written twice
	absolute    float64 // instead of a factor
}

func goals() []goal {
	return []goal{
		{row: "produce-1-128", figure: rate, of: kafkaShipped, least: true, factor: 1, halfDisk: true},
		{row: "produce-16-128", figure: rate, of: kafkaShipped, least: true, factor: 1, halfDisk: true},
		{row: "produce-1000-128", figure: rate, of: kafkaShipped, least: true, factor: 1, halfDisk: true},
		{row: "produce-1-128", figure: rate, of: kafkaDurable, least: true, factor: 3, halfDisk: true},
		{row: "produce-16-128", figure: rate, of: kafkaDurable, least: true, factor: 3, halfDisk: true},
		{row: "produce-1000-128", figure: rate, of: kafkaDurable, least: true, factor: 3, halfDisk: true},
		{row: "produce-1-16", figure: rate, of: kafkaShipped, least: true, factor: 1},
		{row: "produce-16-16", figure: rate, of: kafkaShipped, least: true, factor: 1},
		{row: "produce-1000-16", figure: rate, of: kafkaShipped, least: true, factor: 1},
		{row: "produce-1-16", figure: rate, of: kafkaDurable, least: true, factor: 5},
		{row: "produce-16-16", figure: rate, of: kafkaDurable, least: true, factor: 5},
		{row: "produce-1000-16", figure: rate, of: kafkaDurable, least: true, factor: 5},
		{row: "produce-1-128", figure: brokerCPU, of: kafkaShipped, factor: 1. / 3},
		{row: "produce-16-128", figure: brokerCPU, of: kafkaShipped, factor: 1. / 3},
		{row: "produce-1-16", figure: brokerCPU, of: kafkaDurable, factor: 1. / 3},
		{row: "produce-16-16", figure: brokerCPU, of: kafkaDurable, factor: 1. / 3},
		{row: "produce-1000-128", figure: brokerCPU, ofRow: "produce-16-128", factor: 1.3},
		{row: "produce-1000-16", figure: brokerCPU, ofRow: "produce-16-16", factor: 1.3},
		{row: "latency", figure: "p99", of: kafkaShipped, factor: 1},
		{row: "latency", figure: "p99.9", of: kafkaShipped, factor: 1},
		{row: "reader-50-5", figure: "p99", ofRow: "latency-50-5", factor: 2},
		{row: "fetch", figure: rate, of: kafkaShipped, least: true, factor: 1},
		{row: "fetch", figure: brokerCPU, of: kafkaShipped, factor: 1},
		{row: "three-latency", figure: "p99", of: kafkaShipped, factor: 0.2},
		{row: "three-latency", figure: brokerCPU, of: kafkaShipped, factor: 0.2},
		{row: "three-failover", figure: gap, absolute: 1000},
	}
}

// value gives a figure of a row and a contender.
func (o *outcomes) value(row, broker, figure string) (float64, bool) {
	for _, r := range o.all {
		if r.Figure != row || r.Broker != broker {
			continue
		}
		for _, v := range r.Values {
			if v.Name == figure {
				return v.Value, true
			}
		}
	}
	return 0, false
}

// judge says of each goal of a row's figure what it wants and whether it is met.
func (o *outcomes) judge(row, figure string) string {
	ours, ok := o.value(row, tidewater, figure)
	if !ok {
		return ""
	}
	var said []string
	for _, g := range goals() {
		if !strings.HasPrefix(row, g.row) || g.figure != figure {
			continue
		}
		bound, than := g.absolute, ""
		if g.factor > 0 {
			ofRow, of := row, g.of
			if g.ofRow != "" {
				ofRow, of = g.ofRow, tidewater
			}
			theirs, ok := o.value(ofRow, of, figure)
			if !ok {
				continue
			}
			bound, than = g.factor*theirs, fmt.Sprintf(" (%.2g of %s)", g.factor, strings.TrimSpace(g.of+g.ofRow))
			if g.halfDisk && o.disk/2 < bound {
				bound, than = o.disk/2, " (half of the disk)"
			}
		}
		sign, reached := "at most", ours <= bound
		if g.least {
			sign, reached = "at least", ours >= bound
		}
		word := "**missed**"
		if reached {
			word = "reached"
		}
		said = append(said, fmt.Sprintf("%s %s%s: %s", sign, number(bound), than, word))
	}
	return strings.Join(said, "; ")
}

// close writes the table, the plots and the raw files.
func (v *versus) close() error {
	failed := []error{v.results.close(v.found.table()), v.runs.Close()}
	for _, r := range rows() {
		var lines []plot.Line
		for _, p := range v.found.plots {
			if p.row.name != r.name {
				continue
			}
			line := plot.Line{Name: p.broker}
			for _, at := range plot.Percentiles() {
				line.Ms = append(line.Ms, float64(p.latency.Percentile(at))/1000)
			}
			lines = append(lines, line)
		}
		if len(lines) > 0 {
			failed = append(failed, v.results.keep(r.name+".svg", plot.Latency(r.title, lines)))
		}
	}
	return errors.Join(failed...)
}

// table has a line for each figure of each row, a column for each contender, and
// what Tidewater is of the others.
func (o *outcomes) table() string {
	var b strings.Builder
	b.WriteString("| row | figure | tidewater | kafka | kafka durable | of kafka | of kafka durable | aim |\n|---|---|---|---|---|---|---|---|\n")
	for _, r := range rows() {
		for i, v := range o.figures(r.name) {
			title := ""
			if i == 0 {
				title = r.title
			}
			fmt.Fprintf(&b, "| %s | %s |", title, strings.TrimSpace(strings.TrimPrefix(v.Name, rate)+" "+v.Unit))
			for _, c := range contenderNames() {
				fmt.Fprintf(&b, " %s |", o.cell(r.name, c, v.Name))
			}
			for _, c := range []string{kafkaShipped, kafkaDurable} {
				fmt.Fprintf(&b, " %s |", o.ratio(r.name, c, v.Name))
			}
			fmt.Fprintf(&b, " %s |\n", o.judge(r.name, v.Name))
		}
	}
	return b.String()
}

// figures are the names and units that any contender has in a row.
func (o *outcomes) figures(row string) []value {
	var all []value
	for _, r := range o.all {
		if r.Figure != row {
			continue
		}
		for _, v := range r.Values {
			if !slices.ContainsFunc(all, func(have value) bool { return have.Name == v.Name }) {
				all = append(all, v)
			}
		}
	}
	return all
}

func (o *outcomes) cell(row, broker, figure string) string {
	if v, ok := o.value(row, broker, figure); ok {
		return number(v)
	}
	return "–"
}

func (o *outcomes) ratio(row, broker, figure string) string {
	ours, ok := o.value(row, tidewater, figure)
	theirs, there := o.value(row, broker, figure)
	if !ok || !there || theirs == 0 || slices.Contains(notCompared(), figure) {
		return ""
	}
	return times(ours/theirs) + "×"
}

// times gives two digits that count.
func times(v float64) string {
	decimals := 0
	for below := 10.0; v < below && decimals < 3; below /= 10 {
		decimals++
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}

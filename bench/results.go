package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// value is one number of a result, with its unit in words.
type value struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Value float64 `json:"value"`
}

// result is one line of the table and of results.jsonl.
type result struct {
	Figure string  `json:"figure"`
	Case   string  `json:"case"`
	Broker string  `json:"broker,omitempty"` // which one, where several are compared
	Values []value `json:"values"`
	Notes  string  `json:"notes,omitempty"`
}

func newResult(figure, format string, args ...any) *result {
	return &result{Figure: figure, Case: fmt.Sprintf(format, args...)}
}

func (r *result) add(name, unit string, v float64) *result {
	r.Values = append(r.Values, value{name, unit, v})
	return r
}

// results keeps what a run found, in files and as a table.
type results struct {
	dir     string
	lines   *os.File // results.jsonl, one result a line
	samples *os.File // samples.jsonl, the raw numbers behind them
	facts   facts
	all     []*result
}

func openResults(dir string, f facts) (*results, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, err
	}
	r := &results{dir: dir, facts: f}
	if err := r.keep("machine.json", append(text, '\n')); err != nil {
		return nil, err
	}
	if r.lines, err = os.Create(filepath.Join(dir, "results.jsonl")); err != nil {
		return nil, err
	}
	r.samples, err = os.Create(filepath.Join(dir, "samples.jsonl"))
	return r, err
}

// keep writes a raw output as a file of its own.
func (r *results) keep(name string, body []byte) error {
	return os.WriteFile(filepath.Join(r.dir, name), body, 0o644)
}

// add prints and keeps a result.
func (r *results) add(one *result) error {
	r.all = append(r.all, one)
	say("%s: %s", strings.Trim(strings.Join([]string{one.Figure, one.Case, one.Broker}, ", "), ", "), text(one))
	return json.NewEncoder(r.lines).Encode(one)
}

// sample keeps raw numbers: what they are of, their unit, and each.
func (r *results) sample(figure, of, unit string, numbers []float64) error {
	return json.NewEncoder(r.samples).Encode(struct {
		Figure  string    `json:"figure"`
		Of      string    `json:"of"`
		Unit    string    `json:"unit"`
		Numbers []float64 `json:"numbers"`
	}{figure, of, unit, numbers})
}

// table has a line for each result.
func (r *results) table() string {
	var b strings.Builder
	b.WriteString("| figure | case | result |\n|---|---|---|\n")
	for _, one := range r.all {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", one.Figure, one.Case, text(one))
	}
	return b.String()
}

// close writes a table below the machine's facts, and prints it.
func (r *results) close(table string) error {
	table = r.facts.String() + "\n\n" + table
	fmt.Print("\n" + table)
	return errors.Join(r.keep("table.md", []byte(table)), r.lines.Close(), r.samples.Close())
}

func text(r *result) string {
	var parts []string
	for _, v := range r.Values {
		parts = append(parts, strings.TrimSpace(v.Name+" "+number(v.Value)+" "+v.Unit))
	}
	if r.Notes != "" {
		parts = append(parts, r.Notes)
	}
	return strings.Join(parts, "; ")
}

// number gives three digits that count, and all of large numbers.
func number(v float64) string {
	switch {
	case v == float64(int64(v)), v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
}

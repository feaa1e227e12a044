package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// gapAfter is how long after a fault gaps still count as its own.
const gapAfter = 2 * time.Second

// gapMin is the shortest time without an ack that is worth a line.
const gapMin = 250 * time.Millisecond

// gaps keeps the times in which a partition acked nothing though records waited.
type gaps struct {
	now   func() time.Time
	begin time.Time
	mu    sync.Mutex
	all   []gap
	rate  []int // acks in each second since begin
}

type gap struct {
	End    time.Time     `json:"end"`
	Length time.Duration `json:"length_ns"`
}

// add counts an ack, and the time before it in which none came.
func (g *gaps) add(length time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	for second := int(now.Sub(g.begin) / time.Second); len(g.rate) <= second; {
		g.rate = append(g.rate, 0)
	}
	g.rate[len(g.rate)-1]++
	if length >= gapMin {
		g.all = append(g.all, gap{End: now, Length: length})
	}
}

// longest is the longest gap that touched a stretch of time.
func (g *gaps) longest(from, to time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out time.Duration
	for _, x := range g.all {
		if x.End.After(from) && x.End.Add(-x.Length).Before(to) {
			out = max(out, x.Length)
		}
	}
	return out
}

// result is a run as it is kept.
type result struct {
	Nodes  int             `json:"nodes"`
	Seed   uint64          `json:"seed"`
	Begin  time.Time       `json:"begin"`
	Took   time.Duration   `json:"took_ns"`
	Acked  int             `json:"acked"`
	Polled int             `json:"polled"`
	Counts map[anomaly]int `json:"anomalies"`
	Found  []found         `json:"found"`
	Events []event         `json:"events"`
	// Cannot are faults that the machine could not make, with the reason.
	Cannot    map[string]string `json:"left_out"`
	Gaps      []gap             `json:"gaps"`
	Rate      []int             `json:"acks_per_second"`
	Told      map[string]int    `json:"client_errors"`
	TableRows string            `json:"verify"`
	Repairs   repairs           `json:"repairs"`
}

func (r *result) anomalies() int {
	n := 0
	for _, c := range r.Counts {
		n += c
	}
	return n
}

// write keeps the raw result and pages to read.
func (r *result) write(dir string, g *gaps) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "result.json"), raw, 0o644); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "report.md"), []byte(r.page(g)), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	page, err := r.html(g)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "report.html"), page, 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// page is the report as Markdown.
func (r *result) page(g *gaps) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# %d brokers, %s of faults, seed %d\n", r.Nodes, r.Took.Round(time.Second), r.Seed)
	line("%d records acked, %d polled, %d faults, **%d anomalies**. %s\n", r.Acked, r.Polled, len(r.Events), r.anomalies(), r.TableRows)
	line("%s\n", r.Repairs)
	line("| anomaly | seen |\n|---|---:|")
	for _, a := range anomalies {
		line("| %s | %d |", a, r.Counts[a])
	}
	line("\n| fault | times | longest time without an ack on a partition, in the fault and two seconds after |\n|---|---:|---:|")
	longest, times := map[string]time.Duration{}, map[string]int{}
	for _, e := range r.Events {
		times[e.Fault]++
		longest[e.Fault] = max(longest[e.Fault], g.longest(e.Begin, e.Heal.Add(gapAfter)))
	}
	for _, name := range sorted(times) {
		line("| %s | %d | %s |", name, times[name], orUnder(longest[name]))
	}
	for _, name := range sorted(r.Cannot) {
		line("| %s | left out | %s |", name, r.Cannot[name])
	}
	if len(r.Found) > 0 {
		line("\n## Anomalies\n")
		for _, f := range r.Found {
			line("- %s", f)
		}
	}
	line("\n## Faults\n")
	for _, e := range r.Events {
		line("- %s for %s: %s %s", e.Begin.Format("15:04:05.000"), e.Heal.Sub(e.Begin).Round(100*time.Millisecond), e.What, e.Error)
	}
	line("\n## What clients were told and went on\n")
	for _, text := range sorted(r.Told) {
		line("- %s: %d", text, r.Told[text])
	}
	return b.String()
}

func orUnder(d time.Duration) string {
	if d < gapMin {
		return "under " + gapMin.String()
	}
	return d.Round(10 * time.Millisecond).String()
}

func sorted[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

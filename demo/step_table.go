package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// tableTimeout bounds the wait for the table to hold the whole log.
const tableTimeout = 90 * time.Second

// table asks the table, through the catalog, what the log has.
func table(ctx context.Context, d *demo) error {
	if err := d.waitTable(ctx); err != nil {
		return err
	}
	carriers, err := d.query(ctx, "--group-by", "carrier")
	if err != nil {
		return err
	}
	say("rows by carrier:")
	for _, row := range carriers[:min(5, len(carriers))] {
		say("  %-3v %6.0f", row["carrier"], row["rows"])
	}
	say("  and %d more", max(0, len(carriers)-5))
	offsets, err := d.table(ctx, "offsets")
	if err != nil {
		return err
	}
	for _, row := range offsets {
		say("partition %v: %6.0f rows, highest offset %6.0f", row["partition"], row["rows"], row["highest_offset"])
	}
	say("paste to ask it yourself:")
	d.engineHints()
	return nil
}

// waitTable waits until the table counts as many rows as the log has records.
func (d *demo) waitTable(ctx context.Context) error {
	b := newBar("rows in the table", d.log.records())
	at := time.Now()
	var rows float64
	err := wait(ctx, tableTimeout, "the table to hold the log", func() (bool, error) {
		got, err := d.query(ctx)
		if err != nil {
			return false, err
		}
		rows, _ = got[0]["rows"].(float64)
		b.at(int64(rows))
		return int64(rows) >= d.log.records(), nil
	})
	b.end(int64(rows))
	if err == nil && int64(rows) != d.log.records() {
		err = fmt.Errorf("%.0f rows for %d records", rows, d.log.records())
	}
	if err == nil {
		say("%.0f rows, after %s of waiting", rows, round(time.Since(at)))
	}
	return err
}

// query runs `tidewater table query` and gives its rows.
func (d *demo) query(ctx context.Context, args ...string) ([]map[string]any, error) {
	return d.table(ctx, "query", args...)
}

// table runs a `tidewater table` command on the topic's table.
func (d *demo) table(ctx context.Context, command string, args ...string) ([]map[string]any, error) {
	out, err := d.cli(ctx, append([]string{"table", command, "topics." + topic, "--catalog", "http://" + d.ports.catalog, "--format", "json"}, args...)...)
	if err != nil {
		return nil, err
	}
	var rows []map[string]any
	for line := range strings.Lines(out) {
		var row map[string]any
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			return nil, fmt.Errorf("read query result %q: %w", line, err)
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("query gave no row")
	}
	return rows, nil
}

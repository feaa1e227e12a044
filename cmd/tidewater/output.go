package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// rows prints a result as the --format flag asks: an aligned table with a
// heading, or one JSON object per line with the headings, in lower case with
// underscores, as keys.
type rows struct {
	json  *json.Encoder
	table *tabwriter.Writer
	keys  []string
}

func newRows(c *cobra.Command, headings ...string) (*rows, error) {
	format, err := c.Flags().GetString("format")
	if err != nil {
		return nil, err
	}
	switch format {
	case "json":
		r := &rows{json: json.NewEncoder(c.OutOrStdout())}
		for _, h := range headings {
			r.keys = append(r.keys, strings.ReplaceAll(strings.ToLower(h), " ", "_"))
		}
		return r, nil
	case "table":
		r := &rows{table: tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)}
		r.line(headings)
		return r, nil
	}
	return nil, usageError{fmt.Errorf("--format %q: want table or json", format)}
}

func (r *rows) line(cells []string) {
	io.WriteString(r.table, strings.Join(cells, "\t")+"\n")
}

// add prints one row; there is one value per heading.
func (r *rows) add(values ...any) error {
	if r.json != nil {
		m := make(map[string]any, len(values))
		for i, v := range values {
			m[r.keys[i]] = v
		}
		return r.json.Encode(m)
	}
	cells := make([]string, len(values))
	for i, v := range values {
		cells[i] = fmt.Sprint(v)
	}
	r.line(cells)
	return nil
}

func (r *rows) flush() error {
	if r.table != nil {
		return r.table.Flush()
	}
	return nil
}

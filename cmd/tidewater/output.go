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

// checkFormat refuses a --format that no command knows, before anything is done.
func checkFormat(c *cobra.Command) error {
	format, err := c.Flags().GetString("format")
	if err == nil && format != "table" && format != "json" {
		return usageError{fmt.Errorf("--format %q: want table or json", format)}
	}
	return err
}

func newRows(c *cobra.Command, headings ...string) (*rows, error) {
	format, err := c.Flags().GetString("format")
	if err != nil {
		return nil, err
	}
	if format == "json" {
		r := &rows{json: json.NewEncoder(c.OutOrStdout())}
		for _, h := range headings {
			r.keys = append(r.keys, strings.ReplaceAll(strings.ToLower(h), " ", "_"))
		}
		return r, nil
	}
	r := &rows{table: tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)}
	r.line(headings)
	return r, nil
}

// printJSON prints a value as one JSON object if --format asks for it.
func printJSON(c *cobra.Command, v any) (done bool, err error) {
	if format, err := c.Flags().GetString("format"); err != nil || format != "json" {
		return false, err
	}
	return true, json.NewEncoder(c.OutOrStdout()).Encode(v)
}

// then parts two tables of one command by an empty line.
func (r *rows) then(c *cobra.Command) error {
	if r.table == nil {
		return nil
	}
	if err := r.table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.OutOrStdout())
	return err
}

// cellRunesMax bounds a value that may be long where a table shows it.
const cellRunesMax = 60

// cell is a value on one line, cut where a table would become unreadable;
// --format json gives all of it.
func (r *rows) cell(value string) string {
	if r.json != nil {
		return value
	}
	line := []rune(strings.Join(strings.Fields(value), " "))
	if len(line) <= cellRunesMax {
		return string(line)
	}
	return fmt.Sprintf("%s… (%d bytes, all with --format json)", string(line[:cellRunesMax]), len(value))
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

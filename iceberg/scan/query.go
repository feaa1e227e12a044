package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	ice "github.com/apache/iceberg-go"
)

// CountBy groups the rows that pass filter by one column: the greatest count
// first, then by value.
func (t *Table) CountBy(ctx context.Context, name string, filter ice.BooleanExpression) ([]Group, error) {
	groups := map[string]*Group{}
	err := t.Batches(ctx, filter, []string{name}, func(_ string, b arrow.RecordBatch) error {
		c := column(b, name)
		if c == nil {
			return fmt.Errorf("table %s has no column %s", t.Ident, name)
		}
		for i := range c.Len() {
			key := c.ValueStr(i)
			if c.IsNull(i) {
				key = "\x00null" // no text begins like this
			}
			g := groups[key]
			if g == nil {
				if len(groups) == GroupsMax {
					return fmt.Errorf("column %s has more than %d distinct values", name, GroupsMax)
				}
				g = &Group{Value: c.ValueStr(i), Null: c.IsNull(i)}
				if g.Null {
					g.Value = "null"
				}
				groups[strings.Clone(key)] = g
			}
			g.Count++
		}
		return nil
	})
	var out []Group
	for _, g := range groups {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value), cmp.Compare(rank(a), rank(b)))
	})
	return out, err
}

// rank puts a null behind the text "null".
func rank(g Group) int {
	if g.Null {
		return 1
	}
	return 0
}

// errEnough ends a scan early.
var errEnough = errors.New("enough rows")

// Rows gives up to limit rows (0 is all) that pass filter, as text by column;
// a null is nil.
func (t *Table) Rows(ctx context.Context, filter ice.BooleanExpression, columns []string, limit int, fn func(names []string, values []*string) error) error {
	n := 0
	err := t.Batches(ctx, filter, columns, func(_ string, b arrow.RecordBatch) error {
		names := make([]string, b.NumCols())
		for i := range names {
			names[i] = b.ColumnName(i)
		}
		for r := range int(b.NumRows()) {
			values := make([]*string, len(names))
			for i := range values {
				if c := b.Column(i); !c.IsNull(r) {
					s := c.ValueStr(r)
					values[i] = &s
				}
			}
			if err := fn(names, values); err != nil {
				return err
			}
			if n++; n == limit {
				return errEnough
			}
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

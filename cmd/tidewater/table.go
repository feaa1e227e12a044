package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	ice "github.com/apache/iceberg-go"
	"github.com/spf13/cobra"

	"tidewater/catalog"
	"tidewater/catalog/rest"
	"tidewater/iceberg/scan"
	"tidewater/iceberg/tablefs"
	"tidewater/internal/objstore"
)

func tableCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "table",
		Short: "List and query the tables of topics, through the REST catalog as any engine would",
	}
	addCatalog(c)
	c.AddCommand(tableList(), tableDescribe(), tableQuery(), tableOffsets(), tableRows())
	return c
}

// addCatalog declares the flags that say where the catalog is.
func addCatalog(c *cobra.Command) {
	f := c.PersistentFlags()
	f.String("catalog", "http://127.0.0.1:8181", "URI of the Iceberg REST catalog")
	f.String("catalog-token", "", "bearer token for the catalog")
	f.String("warehouse", "", "warehouse to ask the catalog for")
}

// openCatalog asks the catalog for its configuration.
func openCatalog(c *cobra.Command) (*rest.Client, error) {
	cfg := rest.Config{Now: time.Now}
	for name, to := range map[string]*string{"catalog": &cfg.URI, "catalog-token": &cfg.Token, "warehouse": &cfg.Warehouse} {
		v, err := c.Flags().GetString(name)
		if err != nil {
			return nil, err
		}
		*to = v
	}
	if err := cfg.Validate(); err != nil {
		return nil, usageError{err}
	}
	client, err := rest.Open(c.Context(), cfg)
	if err != nil {
		return nil, fmt.Errorf("%w (is it up? name another with --catalog)", err)
	}
	return client, nil
}

// openTable loads a table and reaches its files by what the catalog tells.
func openTable(ctx context.Context, c catalog.Catalog, name string) (*scan.Table, *catalog.Table, error) {
	ident, err := catalog.ParseIdent(name)
	if err != nil {
		return nil, nil, usageError{fmt.Errorf("table %q: want NAMESPACE.TABLE such as topics.orders", name)}
	}
	t, err := c.LoadTable(ctx, ident)
	if errors.Is(err, catalog.ErrNoTable) {
		return nil, nil, fmt.Errorf("table %s does not exist (see 'tidewater table list')", ident)
	}
	if err != nil {
		return nil, nil, err
	}
	files, err := tableFiles(t)
	if err != nil {
		return nil, nil, err
	}
	return scan.At(files, ident, t.Metadata), t, nil
}

// tableFiles is the bucket that holds a table, by the catalog's configuration.
func tableFiles(t *catalog.Table) (tablefs.FS, error) {
	u, err := url.Parse(t.Metadata.Location())
	if err != nil || u.Scheme != "s3" {
		return tablefs.FS{}, fmt.Errorf("table %s lies at %s: only s3:// can be read", t.Ident, t.Metadata.Location())
	}
	store, err := objstore.OpenS3(objstore.Config{
		Endpoint: t.Config["s3.endpoint"], Region: t.Config["s3.region"], Bucket: u.Host,
		AccessKey: t.Config["s3.access-key-id"], SecretKey: t.Config["s3.secret-access-key"], SessionToken: t.Config["s3.session-token"],
	})
	if err != nil {
		return tablefs.FS{}, fmt.Errorf("open the bucket of table %s: %w", t.Ident, err)
	}
	return tablefs.FS{Store: store, Root: "s3://" + u.Host}, nil
}

// onTable makes a command of work on the table that its first argument names.
func onTable(do func(c *cobra.Command, rows *scan.Table, loaded *catalog.Table, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		client, err := openCatalog(c)
		if err != nil {
			return err
		}
		rows, loaded, err := openTable(c.Context(), client, args[0])
		if err != nil {
			return err
		}
		return do(c, rows, loaded, args)
	}
}

func tableList() *cobra.Command {
	return &cobra.Command{
		Use:   "list [NAMESPACE]",
		Short: "List the tables of a namespace (topics, if none is named)",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := openCatalog(c)
			if err != nil {
				return err
			}
			namespace := "topics"
			if len(args) == 1 {
				namespace = args[0]
			}
			tables, err := client.ListTables(c.Context(), catalog.Namespace{namespace})
			if errors.Is(err, catalog.ErrNoNamespace) {
				return fmt.Errorf("namespace %s does not exist; topics have their tables in namespace topics, unless told otherwise", namespace)
			}
			if err != nil {
				return err
			}
			r, err := newRows(c, "Table")
			if err != nil {
				return err
			}
			for _, t := range tables {
				if err := r.add(t.String()); err != nil {
					return err
				}
			}
			return r.flush()
		},
	}
}

func tableDescribe() *cobra.Command {
	return &cobra.Command{
		Use:   "describe TABLE",
		Short: "Show a table's columns and where it lies",
		Args:  cobra.ExactArgs(1),
		RunE: onTable(func(c *cobra.Command, _ *scan.Table, t *catalog.Table, args []string) error {
			r, err := newRows(c, "Column", "Type", "Required")
			if err != nil {
				return err
			}
			for _, f := range t.Metadata.CurrentSchema().Fields() {
				if err := r.add(f.Name, f.Type.String(), f.Required); err != nil {
					return err
				}
			}
			if err := r.then(c); err != nil {
				return err
			}
			if r, err = newRows(c, "Fact", "Value"); err != nil {
				return err
			}
			for _, fact := range [][2]string{
				{"location", t.Metadata.Location()}, {"format version", strconv.Itoa(t.Metadata.Version())},
				{"snapshots", strconv.Itoa(len(t.Metadata.Snapshots()))}, {"partition spec", t.Metadata.PartitionSpec().String()},
				{"offsets", t.Metadata.Properties()["tidewater.offsets"]},
			} {
				if err := r.add(fact[0], fact[1]); err != nil {
					return err
				}
			}
			return r.flush()
		}),
	}
}

func tableQuery() *cobra.Command {
	var groupBy string
	c := &cobra.Command{
		Use:   "query TABLE",
		Short: "Count a table's rows, in all or by a column",
		Example: `  tidewater table query topics.flights
  tidewater table query topics.flights --group-by carrier`,
		Args: cobra.ExactArgs(1),
		RunE: onTable(func(c *cobra.Command, t *scan.Table, loaded *catalog.Table, args []string) error {
			if groupBy == "" {
				return printCount(c, t)
			}
			if _, err := columnsOf(loaded, []string{groupBy}); err != nil {
				return err
			}
			groups, err := t.CountBy(c.Context(), groupBy, nil)
			if err != nil {
				return fmt.Errorf("query %s: %w", args[0], err)
			}
			r, err := newRows(c, groupBy, "Rows")
			if err != nil {
				return err
			}
			for _, g := range groups {
				if err := r.add(g.Value, g.Count); err != nil {
					return err
				}
			}
			return r.flush()
		}),
	}
	c.Flags().StringVar(&groupBy, "group-by", "", "column to count by")
	return c
}

func printCount(c *cobra.Command, t *scan.Table) error {
	n, err := t.Count(c.Context(), nil)
	if err != nil {
		return fmt.Errorf("count %s: %w", t.Ident, err)
	}
	r, err := newRows(c, "Rows")
	if err != nil {
		return err
	}
	if err := r.add(n); err != nil {
		return err
	}
	return r.flush()
}

func tableOffsets() *cobra.Command {
	return &cobra.Command{
		Use:   "offsets TABLE",
		Short: "Show how many rows a table has of each Kafka partition, and the highest offset",
		Args:  cobra.ExactArgs(1),
		RunE: onTable(func(c *cobra.Command, t *scan.Table, _ *catalog.Table, args []string) error {
			counts, err := t.CountBy(c.Context(), "kafka_partition", nil)
			if err != nil {
				return fmt.Errorf("count %s by partition: %w", args[0], err)
			}
			highest, err := t.MaxOffsets(c.Context())
			if err != nil {
				return fmt.Errorf("read offsets of %s: %w", args[0], err)
			}
			slices.SortFunc(counts, func(a, b scan.Group) int {
				return cmp.Or(cmp.Compare(len(a.Value), len(b.Value)), cmp.Compare(a.Value, b.Value))
			})
			r, err := newRows(c, "Partition", "Rows", "Highest offset")
			if err != nil {
				return err
			}
			for _, g := range counts {
				n, err := strconv.ParseInt(g.Value, 10, 32)
				if err != nil {
					return fmt.Errorf("partition %q in %s: %w", g.Value, args[0], err)
				}
				if err := r.add(n, g.Count, highest[int32(n)]); err != nil {
					return err
				}
			}
			return r.flush()
		}),
	}
}

func tableRows() *cobra.Command {
	var limit int
	var columns []string
	c := &cobra.Command{
		Use:     "rows TABLE",
		Short:   "Print rows of a table; binary columns as base64",
		Example: "  tidewater table rows topics.flights --columns kafka_offset,carrier,flight --limit 5",
		Args:    cobra.ExactArgs(1),
		RunE: onTable(func(c *cobra.Command, t *scan.Table, loaded *catalog.Table, args []string) error {
			fields, err := columnsOf(loaded, columns)
			if err != nil {
				return err
			}
			return printRows(c, t, fields, columns, limit)
		}),
	}
	c.Flags().IntVarP(&limit, "limit", "n", 10, "most rows to print; 0 is all")
	c.Flags().StringSliceVar(&columns, "columns", nil, "columns to print; all if none is named")
	return c
}

// columnsOf gives a table's columns of these names, all of them for none.
func columnsOf(t *catalog.Table, names []string) (map[string]ice.NestedField, error) {
	fields := map[string]ice.NestedField{}
	var known []string
	for _, f := range t.Metadata.CurrentSchema().Fields() {
		fields[f.Name] = f
		known = append(known, f.Name)
	}
	for _, name := range names {
		if _, ok := fields[name]; !ok {
			return nil, fmt.Errorf("table %s has no column %s; it has %s", t.Ident, name, strings.Join(known, ", "))
		}
	}
	return fields, nil
}

func printRows(c *cobra.Command, t *scan.Table, fields map[string]ice.NestedField, columns []string, limit int) error {
	var r *rows
	err := t.Rows(c.Context(), nil, columns, limit, func(names []string, values []*string) error {
		if r == nil {
			var err error
			if r, err = newRows(c, names...); err != nil {
				return err
			}
		}
		cells := make([]any, len(values))
		for i, v := range values {
			cells[i] = r.value(v, fields[names[i]].Type)
		}
		return r.add(cells...)
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", t.Ident, err)
	}
	if r == nil {
		fmt.Fprintf(c.ErrOrStderr(), "table %s has no rows yet\n", t.Ident)
		return nil
	}
	return r.flush()
}

// value is a column's value as JSON has it: numbers, booleans and nested
// values are not quoted. A table shows the text.
func (r *rows) value(text *string, t ice.Type) any {
	switch {
	case text == nil && r.json != nil:
		return nil
	case text == nil:
		return "null"
	case r.json == nil:
		return *text
	}
	switch t.(type) {
	case ice.BooleanType, ice.Int32Type, ice.Int64Type, ice.Float32Type, ice.Float64Type, *ice.ListType, *ice.StructType, *ice.MapType:
		if json.Valid([]byte(*text)) {
			return json.RawMessage(*text)
		}
	}
	return *text
}

package broker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	ice "github.com/apache/iceberg-go"
	icetable "github.com/apache/iceberg-go/table"

	"tidewater/catalog"
	"tidewater/catalog/rest"
	"tidewater/iceberg/translate"
	"tidewater/iceberg/verify"
	"tidewater/internal/fetch"
	"tidewater/internal/logio"
)

// fetched is a partition read through the Fetch API, as verify wants it.
type fetched struct {
	*fetch.Partition
	ctx context.Context
}

// Offsets implements translate.Source.
func (f fetched) Offsets() (logio.Offsets, error) { return f.Partition.Offsets(f.ctx) }

// agrees says whether a topic's table holds each of its records once, by
// offset and checksum, and has as many rows as told.
func (n *node) agrees(topic string, rows int64) error {
	ctx, stop := context.WithTimeout(n.t.Context(), patience)
	defer stop()
	log, err := fetch.Open(ctx, n.client, topic)
	if err != nil {
		return err
	}
	var sources []translate.Source
	for _, p := range log.Partitions {
		sources = append(sources, fetched{p, ctx})
	}
	ident, want, err := TableOf(topic, withTable())
	if err != nil {
		n.t.Fatal(err)
	}
	cfg, err := verify.Open(ctx, n.tables.catalog, n.tables.fs, ident, want, sources)
	if err != nil {
		return err
	}
	report, err := verify.Run(ctx, cfg)
	if err != nil {
		return err
	}
	if !report.OK() {
		n.t.Fatalf("log and table of %s differ:\n%s", topic, report)
	}
	var found int64
	for _, p := range report.Partitions {
		found += p.Rows
	}
	if found != rows {
		return fmt.Errorf("table of %s has %d rows, want %d", topic, found, rows)
	}
	return nil
}

// pointer says whether a request writes a table's pointer in our catalog.
func pointer(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/warehouse/catalog/")
}

// Shows that a table catches up, with each record once, when the catalog was
// down, answered 409, or carried a commit out and lost the reply.
func TestTableCatchesUpAfterCatalogTrouble(t *testing.T) {
	for name, what := range map[string]mishap{"down": busy, "conflicts": clash, "lost replies": lost} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			n := openNode(t, w.config())
			n.topic("t", 1, withTable())
			n.fill("t", 0, 0, 10)
			until(t, "the first rows are there", func() error { return n.agrees("t", 10) })
			w.way.set(func(r *http.Request) mishap {
				if pointer(r) {
					return what
				}
				return pass
			})
			n.fill("t", 0, 10, 20)
			until(t, "a commit meets the trouble", func() error {
				if w.way.times(what) == 0 {
					return errors.New("none yet")
				}
				return nil
			})
			n.fill("t", 0, 20, 30)
			n.mustHold("t", 0, 30)
			w.way.set(nil)
			until(t, "the table catches up", func() error { return n.agrees("t", 30) })
		})
	}
}

// Shows that commits of others to the same table, through the REST API, cost
// no row and double none.
func TestTableSurvivesCommitsOfOthers(t *testing.T) {
	w := newWorld(t)
	n := openNode(t, w.config())
	n.topic("t", 1, withTable())
	n.fill("t", 0, 0, 10)
	until(t, "the first rows are there", func() error { return n.agrees("t", 10) })
	c, err := rest.Open(t.Context(), rest.Config{URI: "http://" + n.CatalogAddr()})
	if err != nil {
		t.Fatal(err)
	}
	ident := catalog.Ident{Namespace: catalog.Namespace{"topics"}, Name: "t"}
	for i := range 20 {
		n.fill("t", 0, 10+10*i, 20+10*i)
		_, _, err := c.CommitTable(t.Context(), ident, nil, []icetable.Update{icetable.NewSetPropertiesUpdate(ice.Properties{"owner": fmt.Sprint(i)})})
		if err != nil && !errors.Is(err, catalog.ErrConflict) {
			t.Fatal(err)
		}
	}
	until(t, "the table catches up", func() error { return n.agrees("t", 210) })
	loaded, err := c.LoadTable(t.Context(), ident)
	if err != nil {
		t.Fatal(err)
	}
	if got := loaded.Metadata.Properties()["owner"]; got != "19" {
		t.Errorf("the other's property is %q", got)
	}
}

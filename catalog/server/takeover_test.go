package server_test

import (
	"errors"
	"testing"

	"tidewater/catalog"
	"tidewater/catalog/catalogtest"
	"tidewater/catalog/server"
	"tidewater/internal/objstore"
)

// A later incarnation takes a table over: what an earlier one committed stands,
// and it commits, drops and creates nothing more, although it goes on running;
// a name that has no table yet is taken too, and free for the later one.
func TestTakenOverTablesAreFenced(t *testing.T) {
	store := mem()
	old, made := setup(t, store)
	if err := set(t, old, made.Metadata, "before"); err != nil {
		t.Fatal(err)
	}
	later := open(t, store, func(c *server.Config) { c.Incarnation = 2 })
	unborn := catalog.Ident{Namespace: ident.Namespace, Name: "unborn"}
	for range 2 { // the second time changes nothing
		if err := later.TakeOver(t.Context(), unborn); err != nil {
			t.Fatal(err)
		}
	}
	if got := value(t, later); got != "before" {
		t.Fatalf("the table taken over says %q", got)
	}
	loaded, err := old.LoadTable(t.Context(), ident)
	if err != nil {
		t.Fatal(err)
	}
	if err := set(t, old, loaded.Metadata, "after"); !errors.Is(err, catalog.ErrDenied) {
		t.Fatalf("commit by the earlier incarnation: %v", err)
	}
	if err := old.DropTable(t.Context(), ident, false); !errors.Is(err, catalog.ErrDenied) {
		t.Fatalf("drop by the earlier incarnation: %v", err)
	}
	if _, err := old.CreateTable(t.Context(), catalog.CreateRequest{Ident: unborn, Schema: catalogtest.Schema()}); !errors.Is(err, catalog.ErrDenied) {
		t.Fatalf("create by the earlier incarnation: %v", err)
	}
	catalogtest.Create(t, later, unborn)
	if err := set(t, later, loaded.Metadata, "after"); err != nil {
		t.Fatal(err)
	}
}

// A commit of the earlier incarnation that is under way when the table is taken
// over fails; one that comes first is what is taken over.
func TestTakeOverRacesACommit(t *testing.T) {
	inner := mem()
	store := &objstore.Fault{Store: inner}
	old, made := setup(t, store)
	later := open(t, inner, func(c *server.Config) { c.Incarnation = 2 })
	store.Before = func(c objstore.Call) {
		if c.Op == objstore.OpPutIfAbsent && pointer(c.Key) {
			store.Before = nil
			if err := later.TakeOver(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	if err := set(t, old, made.Metadata, "late"); !errors.Is(err, catalog.ErrDenied) && !errors.Is(err, catalog.ErrConflict) {
		t.Fatalf("commit beside the take-over: %v", err)
	}
	if got := value(t, later); got != "" {
		t.Fatalf("the table says %q", got)
	}
}

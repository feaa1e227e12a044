package server_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"tidewater/catalog"
	"tidewater/catalog/catalogtest"
	"tidewater/catalog/server"
	"tidewater/internal/objstore"
)

var ident = catalog.Ident{Namespace: catalog.Namespace{"n"}, Name: "t"}

// setup makes a table in a fresh bucket.
func setup(t *testing.T, store objstore.Store) (*server.Server, *catalog.Table) {
	t.Helper()
	s := open(t, store, nil)
	if err := s.EnsureNamespace(t.Context(), ident.Namespace, nil); err != nil {
		t.Fatal(err)
	}
	return s, catalogtest.Create(t, s, ident)
}

func pointer(key string) bool  { return strings.Contains(key, ".table/") }
func metadata(key string) bool { return strings.HasSuffix(key, ".metadata.json") }

func set(t *testing.T, s catalog.Catalog, m table.Metadata, value string) error {
	t.Helper()
	requirements, updates := catalogtest.Set(m, "k", value)
	_, _, err := s.CommitTable(t.Context(), ident, requirements, updates)
	return err
}

func value(t *testing.T, s catalog.Catalog) string {
	t.Helper()
	loaded, err := s.LoadTable(t.Context(), ident)
	if err != nil {
		t.Fatal(err)
	}
	return loaded.Metadata.Properties()["k"]
}

// A store that refuses the metadata file: nothing is done, the error says
// retry, and the retry works.
func TestStoreDownBeforeThePointer(t *testing.T) {
	var down atomic.Bool
	store := &objstore.Fault{Store: mem(), Rule: func(c objstore.Call) objstore.Effect {
		if down.Load() && c.Op == objstore.OpPutIfAbsent && metadata(c.Key) {
			return objstore.Effect{Err: objstore.ErrUnavailable}
		}
		return objstore.Effect{}
	}}
	s, made := setup(t, store)
	down.Store(true)
	if err := set(t, s, made.Metadata, "1"); !errors.Is(err, catalog.ErrUnavailable) || errors.Is(err, catalog.ErrUnknown) {
		t.Fatalf("want unavailable, got %v", err)
	}
	down.Store(false)
	if got := value(t, s); got != "" {
		t.Fatalf("half done: %q", got)
	}
	if err := set(t, s, made.Metadata, "1"); err != nil {
		t.Fatal(err)
	}
}

// The reply of the pointer's PUT is lost: the commit is found to be done.
func TestLostReplyOfThePointerIsSuccess(t *testing.T) {
	store := &objstore.Fault{Store: mem(), Rule: func(c objstore.Call) objstore.Effect {
		return objstore.Effect{LostReply: c.Op == objstore.OpPutIfAbsent && (pointer(c.Key) || metadata(c.Key))}
	}}
	inner := store.Rule
	store.Rule = func(c objstore.Call) objstore.Effect {
		if metadata(c.Key) {
			return objstore.Effect{}
		}
		return inner(c)
	}
	s, made := setup(t, store)
	if err := set(t, s, made.Metadata, "1"); err != nil {
		t.Fatal(err)
	}
	if got := value(t, open(t, store, nil)); got != "1" {
		t.Fatalf("value is %q", got)
	}
}

// The store goes away around the pointer's PUT: whether it is there cannot be
// known, and the answer says so.
func TestOutcomeOfThePointerIsUnknown(t *testing.T) {
	var down, armed atomic.Bool
	store := &objstore.Fault{Store: mem(), Rule: func(c objstore.Call) objstore.Effect {
		if down.Load() {
			return objstore.Effect{Err: objstore.ErrUnavailable}
		}
		if armed.Load() && c.Op == objstore.OpPutIfAbsent && pointer(c.Key) {
			down.Store(true)
			return objstore.Effect{LostReply: true}
		}
		return objstore.Effect{}
	}}
	s, made := setup(t, store)
	armed.Store(true)
	if err := set(t, s, made.Metadata, "1"); !errors.Is(err, catalog.ErrUnknown) {
		t.Fatalf("want unknown, got %v", err)
	}
	down.Store(false)
	armed.Store(false)
	if got := value(t, s); got != "1" {
		t.Fatalf("value is %q: the write had happened", got)
	}
}

// A server dies between metadata file and pointer: the table is as before, the
// next commit works, and the file is an orphan.
func TestCrashBetweenMetadataAndPointer(t *testing.T) {
	var armed atomic.Bool
	store := &objstore.Fault{Store: mem(), Before: func(c objstore.Call) {
		if armed.Load() && c.Op == objstore.OpPutIfAbsent && pointer(c.Key) {
			panic("crash")
		}
	}}
	s, made := setup(t, store)
	armed.Store(true)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no crash")
			}
		}()
		_ = set(t, s, made.Metadata, "lost")
	}()
	armed.Store(false)
	s = open(t, store, nil)
	if got := value(t, s); got != "" {
		t.Fatalf("the commit that crashed is seen: %q", got)
	}
	if err := set(t, s, made.Metadata, "2"); err != nil || value(t, s) != "2" {
		t.Fatalf("after the crash: %v", err)
	}
}

// Two servers, each with the table in its memory, commit on the same snapshot:
// one wins, the other gets a conflict, and both then see the winner's.
func TestTwoServersRace(t *testing.T) {
	store := mem()
	a, made := setup(t, store)
	b := open(t, store, nil)
	m := made.Metadata
	for round := range 10 {
		var wg sync.WaitGroup
		errs := make([]error, 2)
		for i, s := range []*server.Server{a, b} {
			wg.Go(func() {
				requirements, updates := catalogtest.Append(m, int64(round*2+i+1))
				_, _, errs[i] = s.CommitTable(t.Context(), ident, requirements, updates)
			})
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), catalog.ErrConflict) {
			t.Fatalf("round %d: %v", round, errs)
		}
		seen, err := a.LoadTable(t.Context(), ident)
		other, err2 := b.LoadTable(t.Context(), ident)
		if err != nil || err2 != nil || seen.MetadataLocation != other.MetadataLocation {
			t.Fatalf("servers differ: %v %v", err, err2)
		}
		m = seen.Metadata
	}
}

// Old pointers are deleted once they are old by the store's clock, and a server
// that slept all the while can neither read nor write the past.
func TestSleeperBehindACleanedSeries(t *testing.T) {
	var hours atomic.Int64
	store := objstore.NewMem(func() time.Time { return time.Unix(1_700_000_000+hours.Load()*3600, 0) })
	s, made := setup(t, store)
	sleeper := open(t, store, nil)
	if got := value(t, sleeper); got != "" {
		t.Fatal(got)
	}
	for i := range 60 {
		hours.Add(1)
		if err := set(t, s, made.Metadata, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	page, err := store.List(t.Context(), "warehouse/catalog/n/t.table/", "", 1000)
	if err != nil || len(page.Objects) > 45 || len(page.Objects) < 20 {
		t.Fatalf("%d pointers left, %v", len(page.Objects), err)
	}
	if got := value(t, sleeper); got != "59" {
		t.Fatalf("the sleeper reads %q", got)
	}
	if err := set(t, sleeper, made.Metadata, "awake"); err != nil || value(t, s) != "awake" {
		t.Fatalf("the sleeper writes: %v", err)
	}
}

// A server of an earlier incarnation may read and not write.
func TestEarlierIncarnationIsFenced(t *testing.T) {
	store := mem()
	old, made := setup(t, store)
	restored := open(t, store, func(c *server.Config) { c.Incarnation = 2 })
	if err := set(t, restored, made.Metadata, "new"); err != nil {
		t.Fatal(err)
	}
	if err := set(t, old, made.Metadata, "old"); !errors.Is(err, catalog.ErrDenied) {
		t.Fatalf("want denied, got %v", err)
	}
	if got := value(t, old); got != "new" {
		t.Fatalf("value is %q", got)
	}
}

// Metadata files pushed out of the log are deleted when the table says so.
func TestOldMetadataFilesAreBounded(t *testing.T) {
	store := mem()
	s, made := setup(t, store)
	requirements, updates := []table.Requirement(nil), []table.Update{table.NewSetPropertiesUpdate(iceberg.Properties{
		"write.metadata.delete-after-commit.enabled": "true", "write.metadata.previous-versions-max": "3"})}
	if _, _, err := s.CommitTable(t.Context(), ident, requirements, updates); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := set(t, s, made.Metadata, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	page, err := store.List(t.Context(), "warehouse/n/", "", 1000)
	if err != nil || len(page.Objects) != 4 {
		t.Fatalf("%d metadata files, %v; want the newest and 3", len(page.Objects), err)
	}
}

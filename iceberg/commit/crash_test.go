package commit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	icetable "github.com/apache/iceberg-go/table"

	"tidewater/catalog"
	"tidewater/iceberg/icebergtest"
	"tidewater/iceberg/schema"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
)

// crash is the value a simulated crash panics with.
type crash struct{}

// until runs fn and reports whether it crashed.
func until(fn func()) (crashed bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crash); !ok {
				panic(r)
			}
			crashed = true
		}
	}()
	fn()
	return false
}

// scenario appends to a log with letters dead and alive, in two steps with
// rounds in between, and gives the rows that must come out.
func scenario(w *world) (steps []func(), rows, dead [][]string) {
	p, q := w.parts[0], w.parts[1]
	steps = []func(){
		func() {
			p.AppendValues(`{"carrier": "UA"}`, `bad`, `{"carrier": "AA"}`)
			q.AppendValues(`bad`, `{"carrier": "DL"}`)
		},
		func() {
			p.AppendTxn(7, icebergtest.Rec{Value: []byte(`{"carrier": "no"}`)})
			p.EndTxn(7, false)
			p.AppendValues(`{"carrier": "B6"}`, `bad`)
		},
	}
	return steps, [][]string{want(0, 0, 2, 5), want(1, 1)}, [][]string{want(0, 1, 6), want(1, 0)}
}

// A crash before or after any call to store or catalog, in any round: the next
// committer ends with the table equal to the log.
func TestCrashAtEveryCall(t *testing.T) { crashEverywhere(t, false) }

// The same with our own catalog: calls to the store inside it count too. Every
// second call is taken, for time.
func TestCrashInsideOwnCatalog(t *testing.T) { crashEverywhere(t, true) }

func crashEverywhere(t *testing.T, real bool) {
	step := 1
	if real {
		step = 2
	}
	for n := 1; ; n += step {
		w := newWorld(t, 2, true)
		w.real = real
		calls := 0
		hook := func() {
			if calls++; calls == n {
				panic(crash{})
			}
		}
		arm := func(on bool) {
			w.store.Before, w.store.After, w.catalog.Before, w.catalog.After = nil, nil, nil, nil
			if on {
				w.store.Before = func(objstore.Call) { hook() }
				w.store.After = w.store.Before
				w.catalog.Before = func(string) error { hook(); return nil }
				w.catalog.After = w.catalog.Before
			}
		}
		steps, rows, dead := scenario(w)
		arm(true)
		crashed := false
		c := w.committer()
		for _, work := range steps {
			work()
			if until(func() { w.drain(c) }) {
				crashed = true
				arm(false)
				c = w.committer()
				w.drain(c)
			}
		}
		arm(false)
		w.equal(fmt.Sprintf("table after a crash at call %d", n), w.rows(ident()), rows...)
		w.equal(fmt.Sprintf("dead letters after a crash at call %d", n), w.rows(w.deadIdent()), dead...)
		if !crashed {
			return
		}
	}
}

// Any one call of the catalog answers 409, 503 or loses its reply: the same
// committer, run again, ends with the table equal to the log.
func TestCatalogFaults(t *testing.T) {
	faults := map[string]error{"conflict": catalog.ErrConflict, "unavailable": catalog.ErrUnavailable, "lost reply": catalog.ErrUnknown}
	for name, fault := range faults {
		for n := 1; ; n++ {
			w := newWorld(t, 2, true)
			calls := 0
			hit := func(method string) error {
				if calls++; calls == n {
					if method == "load" {
						return fmt.Errorf("%s: %w", method, catalog.ErrUnavailable)
					}
					return fmt.Errorf("%s: %w", method, fault)
				}
				return nil
			}
			if name == "lost reply" {
				w.catalog.After = hit
			} else {
				w.catalog.Before = hit
			}
			steps, rows, dead := scenario(w)
			c := w.committer()
			for _, step := range steps {
				step()
				for range 6 {
					_, _ = c.RunOnce(context.Background())
				}
			}
			w.catalog.Before, w.catalog.After = nil, nil
			w.equal(name, w.rows(ident()), rows...)
			w.equal(name, w.rows(w.deadIdent()), dead...)
			if calls < n {
				break
			}
		}
	}
}

// A store that fails at any one call (every fifth is tried), with or without
// having done the write.
func TestStoreFaults(t *testing.T) {
	for first, lost := range []bool{false, true} {
		for n := 1 + first; ; n += 5 {
			w := newWorld(t, 2, true)
			w.real = true
			calls := 0
			w.store.Rule = func(objstore.Call) objstore.Effect {
				if calls++; calls != n {
					return objstore.Effect{}
				}
				if lost {
					return objstore.Effect{LostReply: true}
				}
				return objstore.Effect{Err: objstore.ErrUnavailable}
			}
			steps, rows, dead := scenario(w)
			c := w.committer()
			for _, step := range steps {
				step()
				for range 6 {
					_, _ = c.RunOnce(context.Background())
				}
			}
			w.store.Rule = nil
			w.equal("table", w.rows(ident()), rows...)
			w.equal("dead letters", w.rows(w.deadIdent()), dead...)
			if calls < n {
				break
			}
		}
	}
}

// A committer that slept with its files ready loses the race, drops its work
// and doubles nothing (ATTACKS 14a).
func TestZombieCommitterLosesTheRace(t *testing.T) {
	for _, json := range []bool{false, true} {
		w := newWorld(t, 1, json)
		w.parts[0].AppendValues(`{"carrier": "UA"}`, `bad`)
		zombie := w.committer()
		w.drain(zombie)
		w.parts[0].AppendValues(`{"carrier": "AA"}`, `bad`, `{"carrier": "DL"}`)
		// The zombie has translated and is about to commit.
		if _, err := zombie.translate(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.drain(w.committer())
		if _, err := zombie.RunOnce(context.Background()); !errors.Is(err, ErrMoved) {
			t.Fatalf("the zombie got %v, want ErrMoved", err)
		}
		w.drain(zombie)
		if json {
			w.equal("table", w.rows(ident()), want(0, 0, 2, 4))
			w.equal("dead letters", w.rows(w.deadIdent()), want(0, 1, 3))
		} else {
			w.equal("table", w.rows(ident()), want(0, upTo(5)...))
		}
	}
}

// A round of dead or aborted records only moves the offsets by a snapshot too,
// so that two committers cannot both pass (ATTACKS 14c).
func TestEveryMoveMakesASnapshot(t *testing.T) {
	w := newWorld(t, 1, false)
	p := w.parts[0]
	p.AppendTxn(1, icebergtest.Rec{Value: []byte("x")})
	p.EndTxn(1, false)
	c := w.committer()
	w.drain(c)
	if n := len(c.main.meta.Snapshots()); n != 1 || ends(c)[0] != 2 {
		t.Fatalf("%d snapshots at %v", n, ends(c))
	}
}

// An outside tool rolls main back: the table stops with a named choice; either
// choice ends in order (ATTACKS 14b).
func TestRollbackIsFound(t *testing.T) {
	for _, choice := range []Choice{Retranslate, Accept} {
		w := newWorld(t, 1, true)
		c := w.committer()
		w.parts[0].AppendValues(`{"carrier": "UA"}`, `bad`)
		w.drain(c)
		first := c.main.meta.CurrentSnapshot().SnapshotID
		w.parts[0].AppendValues(`{"carrier": "AA"}`)
		w.drain(c)
		_, _, err := w.catalog.CommitTable(context.Background(), ident(), nil, []icetable.Update{
			icetable.NewSetSnapshotRefUpdate(icetable.MainBranch, first, icetable.BranchRef, 0, 0, 0)})
		if err != nil {
			t.Fatal(err)
		}
		w.parts[0].AppendValues(`{"carrier": "B6"}`)
		for _, c := range []*Committer{c, w.committer()} {
			var stopped *StoppedError
			if _, err := c.RunOnce(context.Background()); !errors.As(err, &stopped) && !errors.Is(err, ErrMoved) {
				t.Fatalf("got %v, want a stop", err)
			}
			_, err := c.RunOnce(context.Background())
			if !errors.As(err, &stopped) || !strings.Contains(err.Error(), "re-translate or accept") {
				t.Fatalf("got %v, want a named choice", err)
			}
		}
		if err := c.Resolve(context.Background(), choice); err != nil {
			t.Fatal(err)
		}
		w.drain(c)
		if choice == Retranslate {
			w.equal("table", w.rows(ident()), want(0, 0, 2, 3))
		} else {
			w.equal("table", w.rows(ident()), want(0, 0, 3))
		}
		w.equal("dead letters", w.rows(w.deadIdent()), want(0, 1))
	}
}

// A restored log that is shorter than the table stops the table; a newer
// incarnation takes over, and the old one is fenced (ATTACKS 1).
func TestIncarnations(t *testing.T) {
	w := newWorld(t, 1, false)
	old := w.committer()
	w.parts[0].AppendValues("a", "b")
	w.parts[0].AppendValues("c")
	w.drain(old)
	w.parts[0].Cut(2)
	w.owner.Incarnation = 2
	var stopped *StoppedError
	if _, err := w.committer().RunOnce(context.Background()); !errors.As(err, &stopped) {
		t.Fatalf("a log shorter than its table: got %v", err)
	}
	w.parts[0].AppendValues("d", "e")
	c := w.committer()
	w.drain(c)
	w.equal("table", w.rows(ident()), want(0, upTo(4)...))
	if _, err := old.RunOnce(context.Background()); err == nil {
		w.parts[0].AppendValues("f")
		_, err = old.RunOnce(context.Background())
		if err == nil {
			t.Fatal("the old incarnation committed")
		}
	}
	if _, err := old.RunOnce(context.Background()); !errors.As(err, &stopped) {
		t.Fatalf("the old incarnation got %v, want a stop", err)
	}
}

// A topic made again under its name goes on in the kept table from its own
// start; the old topic's committer is fenced (ATTACKS 14d).
func TestTopicMadeAgain(t *testing.T) {
	w := newWorld(t, 1, false)
	old := w.committer()
	w.parts[0].AppendValues("a", "b")
	w.drain(old)
	w.owner.Topic = record.TopicID{2}
	w.parts[0] = icebergtest.NewPartition(w.owner.Topic, 0)
	w.parts[0].AppendValues("new")
	c := w.committer()
	w.drain(c)
	w.equal("table", w.rows(ident()), want(0, 0, 0, 1))
	var stopped *StoppedError
	old.ready = false
	if _, err := old.RunOnce(context.Background()); !errors.As(err, &stopped) {
		t.Fatalf("the old topic's committer got %v", err)
	}
}

// A table that somebody else made is not touched.
func TestForeignTable(t *testing.T) {
	w := newWorld(t, 1, false)
	_, err := w.catalog.CreateTable(context.Background(), catalog.CreateRequest{Ident: ident(), Schema: schema.KeyValueSchema()})
	if err != nil {
		t.Fatal(err)
	}
	w.parts[0].AppendValues("a")
	var stopped *StoppedError
	if _, err := w.committer().RunOnce(context.Background()); !errors.As(err, &stopped) {
		t.Fatalf("got %v, want a stop", err)
	}
}

// Manifests stay few and snapshots are expired; what is left of the metadata is
// what snapshots refer to, and every row is still there.
func TestManyCommitsStayCheap(t *testing.T) {
	w := newWorld(t, 1, false)
	c := w.committer()
	c.cfg.SnapshotsMin, c.cfg.SnapshotsMax = 5, 12
	const rounds = 120
	for range rounds {
		w.parts[0].AppendValues("x")
		w.drain(c)
	}
	s := c.main.meta.CurrentSnapshot()
	manifests, err := s.Manifests(w.fs().IO(context.Background()))
	if err != nil {
		t.Fatal(err)
	}
	if len(manifests) > 3*manifestTier || len(c.main.meta.Snapshots()) > 12+expireBatch {
		t.Fatalf("%d manifests, %d snapshots", len(manifests), len(c.main.meta.Snapshots()))
	}
	w.equal("table", w.rows(ident()), want(0, upTo(rounds)...))
	if got, _ := property(s, "total-records"); got != fmt.Sprint(rounds) {
		t.Fatalf("total-records is %s", got)
	}
	// An orphan of a failed round goes by age, nothing else does.
	if err := w.mem.Put(context.Background(), "tables/flights/data/orphan.parquet", []byte("x")); err != nil {
		t.Fatal(err)
	}
	w.clock = w.clock.Add(48 * time.Hour)
	n, err := c.CollectOrphans(context.Background(), 24*time.Hour)
	if err != nil || n < 1 {
		t.Fatalf("collected %d: %v", n, err)
	}
	w.equal("table", w.rows(ident()), want(0, upTo(rounds)...))
}

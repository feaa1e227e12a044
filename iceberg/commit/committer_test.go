package commit

import (
	"context"
	"errors"
	"strings"
	"testing"

	ice "github.com/apache/iceberg-go"

	"tidewater/iceberg/icebergtest"
	"tidewater/iceberg/scan"
	"tidewater/iceberg/schema"
	"tidewater/internal/record"
)

// Every record of every partition is a row, once, and the offsets say so.
func TestTableEqualsLog(t *testing.T) {
	w := newWorld(t, 3, false)
	for i := range 10 {
		for _, p := range w.parts {
			p.Append(icebergtest.Rec{Time: int64(i), Key: []byte("k"), Value: []byte("v"), Headers: []record.Header{{Key: "h", Value: []byte("x")}, {Key: "n"}}}, icebergtest.Rec{Time: -1})
		}
	}
	c := w.committer()
	w.drain(c)
	w.parts[1].AppendValues("late")
	w.drain(c)
	w.equal("table", w.rows(ident()), want(0, upTo(20)...), want(1, upTo(21)...), want(2, upTo(20)...))
	if got := ends(c); got[0] != 20 || got[1] != 21 {
		t.Fatalf("offsets are %v", got)
	}
	if r, err := c.RunOnce(context.Background()); err != nil || r.Moved {
		t.Fatalf("a round without news: %v, %v", r, err)
	}
	// A new committer finds where it was.
	d := w.committer()
	w.drain(d)
	w.equal("table", w.rows(ident()), want(0, upTo(20)...), want(1, upTo(21)...), want(2, upTo(20)...))
}

// Records that do not fit are dead letters, the others rows; control records
// and aborted transactions are neither.
func TestDeadLettersAndTransactions(t *testing.T) {
	w := newWorld(t, 1, true)
	p := w.parts[0]
	p.AppendValues(`{"carrier": "UA", "flight": 1}`, `{"flight": 2}`, `nonsense`)             // 0, dead 1, 2
	p.AppendTxn(7, icebergtest.Rec{Value: []byte(`{"carrier": "AA"}`)})                       // 3
	p.AppendTxn(8, icebergtest.Rec{Value: []byte(`{"carrier": "B6"}`)})                       // 4 aborted
	p.AppendValues(`{"carrier": "DL", "delay": null}`)                                        // 5
	p.EndTxn(8, false)                                                                        // 6
	p.EndTxn(7, true)                                                                         // 7
	p.AppendTxn(8, icebergtest.Rec{Value: []byte(`{"carrier": "XX", "delay": 1.5}`)})         // 8
	p.EndTxn(8, true)                                                                         // 9
	p.AppendTxn(9, icebergtest.Rec{Value: []byte(`{"carrier": "open"}`)})                     // 10 open
	p.Append(icebergtest.Rec{Key: []byte("gone")}, icebergtest.Rec{Value: []byte(`{"a":1}`)}) // 11, 12 above the LSO
	c := w.committer()
	w.drain(c)
	w.equal("table", w.rows(ident()), want(0, 0, 3, 5, 8))
	w.equal("dead letters", w.rows(w.deadIdent()), want(0, 1, 2))
	if got := ends(c); got[0] != 10 {
		t.Fatalf("offsets are %v, want 10", got)
	}
	p.EndTxn(9, true) // 13
	w.drain(c)
	w.equal("table", w.rows(ident()), want(0, 0, 3, 5, 8, 10, 11))
	w.equal("dead letters", w.rows(w.deadIdent()), want(0, 1, 2, 12))
}

// A commit never passes what the bucket holds (invariant 7); the planted fault
// does, which shows that the check looks.
func TestCommitStopsAtBucketEnd(t *testing.T) {
	for _, fault := range []bool{false, true} {
		w := newWorld(t, 1, false)
		w.parts[0].AppendValues("a", "b")
		w.parts[0].AppendValues("c", "d")
		w.bucket = map[int32]record.Offset{0: 2}
		cfg := w.config()
		cfg.Faults.CommitPastBucket = fault
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		w.drain(c)
		if passed := ends(c)[0] > 2; passed != fault {
			t.Fatalf("fault %v: table is at %d, bucket at 2", fault, ends(c)[0])
		}
	}
}

// A changed schema adds its columns by a commit of its own before the next
// data; a changed type stops the table; the table's mode may change.
func TestConfigure(t *testing.T) {
	w := newWorld(t, 1, true)
	c := w.committer()
	w.parts[0].AppendValues(`{"carrier": "UA", "extra": "unknown yet"}`)
	w.drain(c)
	compile := func(text string) Topic {
		t.Helper()
		v, err := schema.Compile(text)
		if err != nil {
			t.Fatal(err)
		}
		return Topic{Value: v}
	}
	c.Configure(compile(`{"type": "object", "properties": {"carrier": {"type": "string"}, "extra": {"type": "string"}}}`))
	w.parts[0].AppendValues(`{"extra": "known"}`)
	w.drain(c)
	table := scan.At(w.fs(), ident(), c.main.meta)
	groups, err := table.CountBy(context.Background(), "extra", nil)
	if err != nil || len(groups) != 2 || len(c.main.meta.Schemas()) != 2 {
		t.Fatalf("groups %v, %d schemas: %v", groups, len(c.main.meta.Schemas()), err)
	}
	// A filter on a column that old files lack.
	if n, err := table.Count(context.Background(), ice.EqualTo(ice.Reference("extra"), "known")); n != 1 || err != nil {
		t.Fatalf("%d rows, %v", n, err)
	}
	c.Configure(compile(`{"type": "object", "properties": {"carrier": {"type": "integer"}}}`))
	var stopped *StoppedError
	if _, err := c.RunOnce(context.Background()); !errors.As(err, &stopped) || !strings.Contains(err.Error(), "column carrier is string in the table and long") {
		t.Fatalf("got %v, want a stop", err)
	}
	c.Configure(Topic{})
	w.parts[0].AppendValues("raw")
	w.drain(c)
	w.equal("table", w.rows(ident()), want(0, upTo(3)...))
}

package commit

import (
	"context"
	"testing"

	"tidewater/internal/record"
)

// Deleted records that a restore would bring back hold the table up until the
// bucket was told of the deletion; then it passes them.
func TestDeletedRecordsWaitForTheBucket(t *testing.T) {
	w := newWorld(t, 1, false)
	w.parts[0].AppendValues("a", "b", "c", "d")
	w.parts[0].Trim(2)
	cfg := w.config()
	told := record.Offset(0)
	cfg.BucketStart = func(record.PartitionID) record.Offset { return told }
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.drain(c) // a log that begins at 2 was never looked at below
	w.parts[0].AppendValues("e", "f", "g", "h")
	w.parts[0].Trim(6)
	if r, err := c.RunOnce(context.Background()); err == nil || r.Moved {
		t.Fatalf("the table passed records that would come back: %+v", r)
	}
	told = 6
	w.drain(c)
	w.equal("table", w.rows(ident()), want(0, 2, 3, 6, 7))
}

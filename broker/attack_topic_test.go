package broker

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"tidewater/broker/cluster"
	"tidewater/catalog"
)

// A topic is deleted and made again by name: a group does not go on in the new
// one where it was in the old one, which would skip what comes.
func TestOffsetsOfADeletedTopicAreNotThoseOfTheNext(t *testing.T) {
	w := newWorld(t)
	n := openNode(t, w.config())
	n.topic("cold", 1, tiered())
	w.way.all(hung) // and with it the loop that follows deletions
	if _, err := n.admin.DeleteTopics(t.Context(), "cold"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		n.topic("t", 1, nil)
		until(t, "an offset is committed", func() error {
			var o kadm.Offsets
			o.AddOffset("t", 0, 1100, -1)
			return n.admin.CommitAllOffsets(t.Context(), "g", o)
		})
		if _, err := n.admin.DeleteTopics(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		n.topic("t", 1, nil)
		got, err := n.admin.FetchOffsets(t.Context(), "g")
		if err != nil {
			t.Fatal(err)
		}
		if o, ok := got.Lookup("t", 0); ok {
			t.Fatalf("the group is at offset %d of a topic that is new", o.At)
		}
		if _, err := n.admin.DeleteTopics(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
	}
}

// Clearing a deleted topic is tried again, when the name may be another
// topic's: its table stays.
func TestDroppingADeletedTopicsTableSparesTheNext(t *testing.T) {
	w := newWorld(t)
	n := openNode(t, w.config())
	id := n.topic("t", 1, withTable())
	n.fill("t", 0, 0, 5)
	ident := tableIdent("t", "topics")
	until(t, "the table has rows", func() error {
		if pin, _ := n.tables.pin(n.parts.all()[0].ID()); pin == 5 {
			return nil
		}
		if table, err := n.tables.catalog.LoadTable(t.Context(), ident); err == nil && table.Metadata.CurrentSnapshot() != nil {
			return nil
		}
		return errors.New("not yet")
	})
	old := &cluster.Deletion{Topic: [16]byte{1}, Name: "t", DeletedMs: time.Now().UnixMilli(), Namespace: "topics"}
	if err := n.tables.dropTable(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if _, err := n.tables.catalog.LoadTable(t.Context(), ident); err != nil {
		t.Fatalf("the new topic's table is gone: %v", err)
	}
	if err := n.tables.dropTable(t.Context(), &cluster.Deletion{Topic: id, Name: "t", Namespace: "topics"}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.tables.catalog.LoadTable(t.Context(), ident); !errors.Is(err, catalog.ErrNoTable) {
		t.Fatalf("the deleted topic's table is there: %v", err)
	}
}

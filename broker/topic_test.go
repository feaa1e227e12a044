package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"tidewater/broker/multiraft"
	"tidewater/catalog"
	"tidewater/internal/record"
)

// Shows that a batch that a producer sends again after a restart is known as
// the same, and that one with a gap before it is refused.
func TestDuplicatesAreKnownAfterRestart(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	n := openNode(t, cfg)
	n.topic("t", 1, nil)
	n.fill("t", 0, 0, 3)
	producer := &record.Producer{ID: 1000, Sequence: 0}
	first := n.produce("t", 0, batchOf(t, producer, []byte("once")))
	if first.ErrorCode != 0 {
		t.Fatal(code(first.ErrorCode))
	}
	n.close()
	n = openNode(t, cfg)
	n.sameAgain("t", first.BaseOffset, producer)
}

// sameAgain sends a producer's last batch again: it must be answered with the
// offset that it has, and not be stored; what skips a sequence is refused.
func (n *node) sameAgain(topic string, offset int64, producer *record.Producer) {
	n.t.Helper()
	before := 0
	until(n.t, "the batch is known", func() error {
		again := n.produce(topic, 0, batchOf(n.t, producer, []byte("once")))
		if again.ErrorCode == 0 && again.BaseOffset != offset {
			n.t.Fatalf("a batch sent again is at offset %d, was at %d", again.BaseOffset, offset)
		}
		return code(again.ErrorCode)
	})
	gap := *producer
	gap.Sequence += 5
	wantCode(n.t, "a gap in a producer's sequence", n.produce(topic, 0, batchOf(n.t, &gap, []byte("later"))).ErrorCode, kerr.OutOfOrderSequenceNumber)
	values, err := n.read(topic, 0, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, v := range values {
		if v == "once" {
			before++
		}
	}
	if before != 1 {
		n.t.Errorf("a batch sent again is in the log %d times", before)
	}
}

// Shows that a group's offsets are there after a restart.
func TestGroupOffsetsSurviveReopening(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	n := openNode(t, cfg)
	n.topic("t", 1, nil)
	n.fill("t", 0, 0, 10)
	until(t, "a group commits", func() error { return n.commitOffset("g", "t", 7) })
	n.close()
	n = openNode(t, cfg)
	until(t, "the offset is back", func() error { return n.committed("g", "t", 7) })
}

// objects gives the keys in the store that have text in them.
func (w *world) objects(text string) []string {
	w.t.Helper()
	var found []string
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted while we look
		}
		if err == nil && !d.IsDir() && strings.Contains(path, text) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// files gives the partition folders of a topic on the broker's disk.
func (n *node) files(topic string) []string {
	found, err := filepath.Glob(filepath.Join(n.cfg.DataDir, partitionsDir, topic+"-*"))
	if err != nil {
		n.t.Fatal(err)
	}
	return found
}

// Shows that a deleted topic's files go at once, its objects after the grace
// period, its table when it was asked for and never else, and that a new topic
// of the name begins empty.
func TestDeletedTopicLeavesNothingButItsTable(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.DeleteGrace = time.Second
	n := openNode(t, cfg)
	dropped := withTable()
	dropped["tidewater.iceberg.delete"] = "true"
	n.topic("kept", 1, withTable())
	n.topic("dropped", 1, dropped)
	ids := map[string]string{}
	for _, name := range []string{"kept", "dropped"} {
		n.fill(name, 0, 0, 10)
		ids[name] = n.controller.View().TopicByName(name).ID.String()
		until(t, "the table is there", func() error { return n.agrees(name, 10) })
	}
	if err := n.seal(); err != nil {
		t.Fatal(err)
	}
	until(t, "objects are there", func() error {
		if len(w.objects(".segment")) < 2 {
			return errors.New("no segments")
		}
		return nil
	})
	n.delete("kept", "dropped")
	for _, name := range []string{"kept", "dropped"} {
		until(t, "files go", func() error {
			if found := n.files(name); len(found) > 0 {
				return fmt.Errorf("%v are there", found)
			}
			return nil
		})
	}
	until(t, "the table that was to go is gone", func() error {
		_, err := n.tables.catalog.LoadTable(t.Context(), catalog.Ident{Namespace: catalog.Namespace{"topics"}, Name: "dropped"})
		if errors.Is(err, catalog.ErrNoTable) {
			return nil
		}
		return fmt.Errorf("the table is there: %w", err)
	})
	if _, err := n.tables.catalog.LoadTable(t.Context(), catalog.Ident{Namespace: catalog.Namespace{"topics"}, Name: "kept"}); err != nil {
		t.Errorf("the table that was to stay: %v", err)
	}
	// A client that knew the old topic would go on asking for its id.
	n.client.Close()
	n.client, n.admin = openClient(t, n.KafkaAddr())
	n.topic("kept", 1, nil)
	n.fill("kept", 0, 0, 1)
	n.mustHold("kept", 0, 1)
	for _, name := range []string{"kept", "dropped"} {
		until(t, "objects go", func() error {
			if found := w.objects(name + "~" + ids[name]); len(found) > 0 {
				return fmt.Errorf("%d objects are there, first %s", len(found), found[0])
			}
			return nil
		})
	}
}

func (n *node) delete(topics ...string) {
	n.t.Helper()
	r, err := n.admin.DeleteTopics(n.t.Context(), topics...)
	if err == nil {
		err = r.Error()
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// Shows that a topic can be switched to the bucket, and to a table, after it
// was made, and that what it held before gets there.
func TestTieringSwitchedOnLater(t *testing.T) {
	w := newWorld(t)
	n := openNode(t, w.config())
	n.topic("t", 1, nil)
	n.fill("t", 0, 0, 10)
	var alter []kadm.AlterConfig
	for k, v := range withTable() {
		alter = append(alter, kadm.AlterConfig{Name: k, Value: &v})
	}
	local := "0"
	alter = append(alter, kadm.AlterConfig{Name: "local.retention.bytes", Value: &local})
	r, err := n.admin.AlterTopicConfigs(t.Context(), alter, "t")
	if err == nil && len(r) == 1 {
		err = r[0].Err
	}
	if err != nil {
		t.Fatal(err)
	}
	n.fill("t", 0, 10, 20)
	until(t, "the table is there", func() error { return n.agrees("t", 20) })
	n.untilCold("t", 0, 20)
	n.mustHold("t", 0, 20)
}

// machine is a state machine that keeps nothing.
type machine struct{}

func (machine) Append(multiraft.Entry) error { return nil }
func (machine) Truncate(record.Index)        {}
func (machine) Commit(record.Index)          {}
func (machine) Lead(multiraft.Leadership)    {}
func (machine) Stopped(error)                {}

// Shows that what a deletion left behind, because the process ended in the
// middle of it, goes at the next start: a group in the journal, which would
// keep journal files for ever, and a folder.
func TestLeftoversOfDeletedTopicsGoAtStart(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	n := openNode(t, cfg)
	n.topic("t", 1, nil)
	n.fill("t", 0, 0, 3)
	gone := record.PartitionID{Topic: record.TopicID{1, 2, 3}, Partition: 4}
	if err := n.dirs[0].host.Start(multiraft.GroupConfig{ID: gone, Replica: 9, StateMachine: machine{}}); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(cfg.DataDir, partitionsDir, fmt.Sprintf("gone-4~%s", gone.Topic))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	n.close()
	n = openNode(t, cfg)
	if exists(folder) {
		t.Errorf("%s is there", folder)
	}
	n.close()
	n = openNode(t, cfg)
	if left := n.dirs[0].host.Unstarted(); len(left) > 0 {
		t.Errorf("the journal holds %v", left)
	}
	if _, known := n.dirs[0].host.Recovered(gone); known {
		t.Error("the journal knows the group of a topic that is gone")
	}
	n.mustHold("t", 0, 3)
}

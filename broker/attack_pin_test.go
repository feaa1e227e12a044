package broker

import (
	"errors"
	"testing"

	"tidewater/internal/record"
)

// A topic is deleted, its table kept, and made again by name: retention of the
// new log is bound by what the table has of it, not by the old topic's offsets.
func TestPinIsNotThatOfAnOlderTopic(t *testing.T) {
	w := newWorld(t)
	n := openNode(t, w.config())
	configs := withTable()
	configs["tidewater.iceberg.delete"] = "false"
	end := func(id record.TopicID) record.Offset {
		running := n.tables.get(id)
		if running == nil {
			return -1
		}
		status, _ := running.loop.Status()
		return status.Offsets.Marks[0].End
	}
	old := n.topic("t", 1, configs)
	n.fill("t", 0, 0, 20)
	until(t, "the table has the old topic", func() error {
		if end(old) != 20 {
			return errors.New("not yet")
		}
		return nil
	})
	if _, err := n.admin.DeleteTopics(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	id := n.topic("t", 1, configs)
	until(t, "the new topic's committer reads the table", func() error {
		if end(id) != 20 {
			return errors.New("not yet")
		}
		return nil
	})
	p := record.PartitionID{Topic: id}
	if pin, ok := n.tables.pin(p); !ok || pin != 0 {
		t.Fatalf("the pin is %d, %v; the table has nothing of the new topic", pin, ok)
	}
	n.client, n.admin = openClient(t, n.KafkaAddr()) // which has not met the old topic
	n.fill("t", 0, 0, 5)
	until(t, "the pin follows the new topic", func() error {
		if pin, ok := n.tables.pin(p); !ok || pin != 5 {
			return errors.New("not yet")
		}
		return nil
	})
}

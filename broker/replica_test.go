package broker

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Shows a read replica with credentials that may not write: it follows records
// and topics of its source, refuses produce by the source's name, and groups
// commit there on their own.
func TestReadReplicaFollows(t *testing.T) {
	w := newWorld(t)
	source := openNode(t, w.config())
	source.topic("t", 1, tiered())
	source.topic("local", 1, nil)
	source.fill("t", 0, 0, 10)
	source.untilInBucket()

	cfg := w.config()
	cfg.Replica, cfg.CatalogAddr = true, ""
	cfg.BucketAccessKey, cfg.BucketSecretKey = w.store.ReadOnlyKey(), w.store.ReadOnlySecret()
	n := openNode(t, cfg)
	until(t, "records are there", func() error { return n.holds("t", 0, 10) })
	p := n.produce("t", 0, batchOf(t, nil, []byte("v")))
	wantCode(t, "produce to a replica", p.ErrorCode, kerr.PolicyViolation)
	if p.ErrorMessage == nil || !strings.Contains(*p.ErrorMessage, source.ClusterID()) {
		t.Errorf("the refusal does not name the source %s: %v", source.ClusterID(), p.ErrorMessage)
	}
	created, err := n.admin.CreateTopic(t.Context(), 1, 1, nil, "mine")
	if err == nil {
		err = created.Err
	}
	if !errors.Is(err, kerr.PolicyViolation) {
		t.Errorf("create a topic on a replica: %v", err)
	}
	deleted, err := n.admin.DeleteTopic(t.Context(), "t")
	if err == nil {
		err = deleted.Err
	}
	if !errors.Is(err, kerr.PolicyViolation) {
		t.Errorf("delete a topic on a replica: %v", err)
	}
	source.fill("t", 0, 10, 20)
	until(t, "new records come", func() error { return n.holds("t", 0, 20) })
	consumed(t, n, 20)

	source.topic("new", 1, tiered())
	source.fill("new", 0, 0, 5)
	until(t, "a new topic comes", func() error { return n.holds("new", 0, 5) })
	if _, err := n.read("local", 0, 0); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("a topic that is in no bucket: %v", err)
	}
	source.delete("new")
	until(t, "a deleted topic goes", func() error {
		if _, err := n.read("new", 0, 0); !errors.Is(err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("still there: %w", err)
		}
		return nil
	})
	// The way to the bucket breaks and comes back.
	w.way.all(busy)
	n.mustServe(t, "t")
	w.way.set(nil)
	source.fill("t", 0, 20, 30)
	until(t, "the replica catches up", func() error { return n.holds("t", 0, 30) })
}

// mustServe says that a broker answers for a topic, whatever its bucket does.
func (n *node) mustServe(t *testing.T, topic string) {
	t.Helper()
	if _, err := n.localStart(topic, 0); err != nil {
		t.Errorf("offsets of %s: %v", topic, err)
	}
}

// consumed has a group read a topic's records and commit its place.
func consumed(t *testing.T, n *node, count int) {
	t.Helper()
	consumer, _ := openClient(t, n.KafkaAddr(), kgo.ConsumerGroup("replica"), kgo.ConsumeTopics("t"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	got := 0
	for got < count {
		f := consumer.PollFetches(t.Context())
		if err := f.Err(); err != nil {
			t.Fatal(err)
		}
		got += f.NumRecords()
	}
	if err := consumer.CommitUncommittedOffsets(t.Context()); err != nil {
		t.Fatal(err)
	}
	consumer.Close()
	var place kadm.OffsetResponses
	until(t, "the group's place is kept", func() (err error) {
		place, err = n.admin.FetchOffsets(t.Context(), "replica")
		return err
	})
	if o, ok := place.Lookup("t", 0); !ok || o.At != int64(count) {
		t.Errorf("the group's place is %+v, want %d", o, count)
	}
}

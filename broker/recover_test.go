package broker

import (
	"errors"
	"strings"
	"testing"

	"tidewater/internal/record"
)

// Shows that a broker which knows less of a tiered partition than the bucket
// holds does not go on alone with it, nor without a look into the bucket, and
// that one which knows all of it may.
func TestRecoveryIsRefusedBehindBucket(t *testing.T) {
	w := newWorld(t)
	n := openNode(t, w.config())
	id := record.PartitionID{Topic: n.topic("t", 1, tiered())}
	n.fill("t", 0, 0, 40)
	until(t, "it is archived", func() error {
		h, err := n.parts.get(id)
		if err != nil {
			return err
		}
		if o, _ := h.Marks(); o.Archived < 40 {
			return errors.New("it is not")
		}
		return nil
	})
	topic := n.controller.View().Topic(id.Topic)
	n.close()
	who, _, err := loadIdentity(n.cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	r := &Recovery{cfg: n.cfg}
	if err := r.behindBucket(t.Context(), &who, topic, id, 40); err != nil {
		t.Errorf("it knows all: %v", err)
	}
	if err := r.behindBucket(t.Context(), &who, topic, id, 39); err == nil || !strings.Contains(err.Error(), "t-0 up to offset 40, this broker knows it up to 39") {
		t.Errorf("it knows less: %v", err)
	}
	r.cfg.Bucket = ""
	if err := r.behindBucket(t.Context(), &who, topic, id, 40); err == nil || !strings.Contains(err.Error(), "--bucket") {
		t.Errorf("without a bucket: %v", err)
	}
}

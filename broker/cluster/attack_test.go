package cluster

import (
	"fmt"
	"testing"

	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

// busyRaft has no room for tasks.
type busyRaft struct{ *fakeRaft }

func (busyRaft) Do(func(Proposer)) error {
	return fmt.Errorf("%w: group %s", multiraft.ErrBusy, GroupID())
}

// A checkpoint that meets a busy shard is no failure, which would end the
// broker under load: the next one lets the log go.
func TestCheckpointOutlastsABusyShard(t *testing.T) {
	c, raft, _ := cluster(t, 1)
	if _, err := c.CreateTopic(t.Context(), TopicSpec{Name: "t", Partitions: 1, ReplicationFactor: 1}, false); err != nil {
		t.Fatal(err)
	}
	c.cfg.Raft = busyRaft{raft}
	if err := c.Checkpoint(); err != nil {
		t.Fatalf("a busy shard fails the checkpoint: %v", err)
	}
	c.cfg.Raft = raft
	if err := c.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if raft.released != record.Index(len(raft.entries)) {
		t.Errorf("released to %d of %d", raft.released, len(raft.entries))
	}
}

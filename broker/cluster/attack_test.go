package cluster

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

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

// The journal of a broker dies while groups that it leads rest, the
// controller's among them: its heartbeats alone would keep the others from ever
// looking for another leader, so the broker must end.
func TestDeadJournalEndsTheBrokerOfACluster(t *testing.T) {
	c, _, _ := cluster(t, 1)
	c.cfg.Peers = struct{ Peers }{}
	c.Machine().Stopped(multiraft.ErrStopped)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.Run(ctx); !errors.Is(err, multiraft.ErrStopped) {
		t.Errorf("the controller's loop ended with %v", err)
	}
}

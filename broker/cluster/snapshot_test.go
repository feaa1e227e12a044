package cluster

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"tidewater/broker/peer"
	"tidewater/internal/record"
)

// The state of 10,000 topics with 16 partitions of three replicas, every one of
// them moving, goes to a new member of the controller in one message.
func TestLargeStateFitsAMessage(t *testing.T) {
	s := stateOf(emptyView())
	p := Partition{Leader: 1000, LeaderEpoch: 1 << 20, Moved: true, Move: &Move{Joining: true, StartedMs: 1.7e12}}
	for i := range 6 {
		id := uint64(1<<24 + i)
		p.Replicas = append(p.Replicas, Replica{Node: int32(1000 + i), ID: id})
		if i < 3 {
			p.Move.Adding = append(p.Move.Adding, id)
		} else {
			p.Move.Removing, p.Move.Before = append(p.Move.Removing, id), append(p.Move.Before, id)
		}
	}
	configs := map[string]string{"retention.ms": "604800000", "tidewater.iceberg.mode": "key_value", "remote.storage.enable": "true"}
	for i := range 10_000 {
		id := record.TopicID{1}
		binary.BigEndian.PutUint32(id[4:], uint32(i))
		topic := &Topic{ID: id, Name: fmt.Sprintf("%s%d", strings.Repeat("department.", 10), i), CreatedMs: 1.7e12, Configs: configs}
		for range 16 {
			topic.Partitions = append(topic.Partitions, p)
		}
		s.putTopic(id, topic)
	}
	data, err := snapshotOf(s.View())
	if err != nil || len(data) > snapshotBytesMax*3/4 {
		t.Errorf("%d bytes of at most %d: %v", len(data), snapshotBytesMax, err)
	}
}

// A state that no message carries is named where it is made; the message would
// be passed over, and the new member wait for ever without a word.
func TestTooLargeStateIsNamed(t *testing.T) {
	if snapshotBytesMax+1<<20 > peer.FrameBytesMaxDefault {
		t.Errorf("a snapshot of %d bytes does not fit a frame of %d", snapshotBytesMax, peer.FrameBytesMaxDefault)
	}
	s := stateOf(emptyView())
	id := record.TopicID{1}
	s.putTopic(id, &Topic{ID: id, Name: "t", Configs: map[string]string{"tidewater.iceberg.json.schema": strings.Repeat("x", snapshotBytesMax)}})
	if _, err := snapshotOf(s.View()); err == nil || !strings.Contains(err.Error(), "properties") {
		t.Errorf("%v", err)
	}
}

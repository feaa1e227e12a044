package broker

import (
	"context"
	"fmt"
	"io"
	"sync"

	"tidewater/broker/partition"
	"tidewater/broker/peer"
	"tidewater/internal/record"
)

// segmentSource reaches the segments of other brokers' replicas.
type segmentSource struct{ network *peer.Network }

var _ partition.SegmentSource = segmentSource{}

// Segments implements partition.SegmentSource.
func (s segmentSource) Segments(ctx context.Context, node int32, id record.PartitionID, request []byte) (io.ReadCloser, error) {
	return s.network.Stream(ctx, node, methodSegments, encodeSegments(id, request))
}

// answerSegments implements methodSegments.
func (b *Broker) answerSegments(ctx context.Context, from int32, request []byte, w io.Writer) error {
	id, request, err := decodeSegments(request)
	if err != nil {
		return err
	}
	h, err := b.parts.get(id)
	if err != nil {
		return err
	}
	b.log.Info("a replica is brought up to date from this one", "partition", h.Name(), "to", from)
	return h.ServeSegments(ctx, request, w)
}

// encodeSegments puts the partition before a replica's request.
func encodeSegments(id record.PartitionID, request []byte) []byte {
	return append((&readRequest{ID: id}).encode(), request...)
}

func decodeSegments(b []byte) (record.PartitionID, []byte, error) {
	c := newMessage(b)
	r := c.readRequest()
	if c.bad != nil {
		return r.ID, nil, fmt.Errorf("segments: %w", c.bad)
	}
	return r.ID, c.b, nil
}

// copies are the tasks that bring replicas up to date.
type copies struct {
	done    context.Context // ends when the broker does
	running sync.WaitGroup
}

// run implements partition.Config.Background. Shard loops call it, so that
// nothing is begun once the groups have stopped.
func (c *copies) run(task func(context.Context)) {
	c.running.Go(func() { task(c.done) })
}

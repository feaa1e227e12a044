package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"tidewater/broker/cluster"
	"tidewater/catalog"
	"tidewater/iceberg/translate"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// exchangeEvery is how often a table's owner and the leaders of its partitions
// tell each other how far table and bucket are.
const exchangeEvery = 500 * time.Millisecond

// owner says whether this broker is to write a topic's table: it leads the
// topic's first partition.
func (t *tables) owner(id record.TopicID) bool {
	h, err := t.b.parts.get(record.PartitionID{Topic: id})
	return err == nil && h.Leadership().Ready
}

// sources are the topic's partitions: logs that this broker leads, its replicas
// of those that others lead, and for the rest the leaders' own.
func (t *tables) sources(id record.TopicID) []translate.Source {
	topic := t.b.controller.View().Topic(id)
	if topic == nil {
		return nil
	}
	out := make([]translate.Source, 0, len(topic.Partitions))
	for n := range topic.Partitions {
		p := record.PartitionID{Topic: id, Partition: int32(n)}
		h, err := t.b.parts.get(p)
		switch {
		case err != nil:
			out = append(out, remoteSource{t.b, p})
		case h.Leadership().Leading:
			out = append(out, h.Partition)
		default:
			out = append(out, followedSource{t.b, h})
		}
	}
	return out
}

// followedSource is a log that another broker leads, read from the replica here.
type followedSource struct {
	b *Broker
	*hosted
}

// Offsets are the replica's own. Until it has what its leader has brought to
// the bucket they would say that the log is shorter than it is.
func (s followedSource) Offsets() (logio.Offsets, error) {
	o, _ := s.Marks()
	m, ok := s.b.ends.get(s.ID())
	if !ok || o.HighWatermark < m.End {
		return o, fmt.Errorf("%w: %s: this replica ends at %d, and broker %d leads", logio.ErrNotAvailable, s.Name(), o.HighWatermark, s.Leadership().Leader)
	}
	return o, nil
}

// Read implements translate.Source.
func (s followedSource) Read(ctx context.Context, r logio.ReadRequest) (logio.ReadResult, error) {
	r.Follower = true
	return s.Partition.Read(ctx, r)
}

// remoteSource is a log without a replica here, read by asking its leader.
type remoteSource struct {
	b  *Broker
	id record.PartitionID
}

// ID implements translate.Source.
func (s remoteSource) ID() record.PartitionID { return s.id }

// Offsets implements translate.Source.
func (s remoteSource) Offsets() (logio.Offsets, error) {
	ctx, stop := context.WithTimeout(s.b.done, endsTimeout)
	defer stop()
	res, err := s.ask(ctx, readRequest{ID: s.id, Offset: -1})
	return res.Offsets, err
}

// Read implements translate.Source.
func (s remoteSource) Read(ctx context.Context, r logio.ReadRequest) (logio.ReadResult, error) {
	return s.ask(ctx, readRequest{ID: s.id, Offset: r.Offset, BytesMax: min(r.BytesMax, remoteReadBytes)})
}

// remoteReadBytes bounds one answer, but for a batch that is larger.
const remoteReadBytes = 4 << 20

func (s remoteSource) ask(ctx context.Context, r readRequest) (logio.ReadResult, error) {
	p := s.b.controller.View().PartitionOf(s.id)
	if p == nil || p.Leader == cluster.NoLeader || s.b.network == nil {
		return logio.ReadResult{}, fmt.Errorf("%w: %s has no leader", logio.ErrNotAvailable, s.id)
	}
	answer, err := peers{s.b.network}.Call(ctx, p.Leader, methodRead, r.encode())
	if err != nil {
		return logio.ReadResult{}, fmt.Errorf("read partition %s at broker %d: %w", s.id, p.Leader, err)
	}
	return decodeReadAnswer(answer)
}

// answerRead implements methodRead: committed, stable records of a log led
// here, or with a negative offset its marks alone.
func (b *Broker) answerRead(ctx context.Context, _ int32, request []byte) ([]byte, error) {
	r, err := decodeReadRequest(request)
	if err != nil {
		return nil, err
	}
	h, err := b.parts.get(r.ID)
	if err != nil {
		return nil, err
	}
	if r.Offset < 0 {
		o, err := h.Offsets()
		return encodeReadAnswer(&logio.ReadResult{Offsets: o}), err
	}
	res, err := h.Partition.Read(ctx, logio.ReadRequest{Offset: r.Offset, Isolation: logio.ReadCommitted, BytesMax: r.BytesMax, MinOne: true, CurrentEpoch: -1})
	if err != nil {
		return nil, err
	}
	return encodeReadAnswer(&res), nil
}

// exchange tells the leaders of a table's partitions how far it is, so that
// their retention may go on, and learns how far the bucket holds them.
func (t *tables) exchange(ctx context.Context, id record.TopicID) {
	if t.b.network == nil {
		return
	}
	tick := time.NewTicker(exchangeEvery)
	defer tick.Stop()
	var told trouble
	for {
		err := t.tell(ctx, id, false)
		if tell := told.tell(err, time.Now()); tell && ctx.Err() == nil {
			t.b.log.Warn("leaders of a table's partitions and its owner do not hear each other", "topic", id.String(), "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// tell is one exchange; with upload the leaders bring what is committed to the
// bucket first.
func (t *tables) tell(ctx context.Context, id record.TopicID, upload bool) error {
	topic := t.b.controller.View().Topic(id)
	running := t.get(id)
	if topic == nil || running == nil || t.b.network == nil {
		return nil
	}
	r := endsRequest{Topic: id, Upload: upload}
	if marks, ok := running.marks(id); ok {
		for n, m := range marks {
			r.Marks = append(r.Marks, partitionMark{ID: record.PartitionID{Topic: id, Partition: n}, End: m.End})
		}
	}
	var leaders []int32
	for n := range topic.Partitions {
		l := topic.Partitions[n].Leader
		if node, epoch := t.b.parts.Leader(record.PartitionID{Topic: id, Partition: int32(n)}); node >= 0 && epoch > topic.Partitions[n].LeaderEpoch {
			l = node
		}
		if l >= 0 && l != t.b.cfg.NodeID && !slices.Contains(leaders, l) {
			leaders = append(leaders, l)
		}
	}
	return t.b.askEnds(ctx, leaders, methodTable, &r)
}

// upload has everything that is committed in a topic brought to the bucket, by
// whoever leads it.
func (t *tables) upload(ctx context.Context, id record.TopicID) error {
	faults := make([]error, 2)
	var uploads sync.WaitGroup
	uploads.Go(func() { faults[0] = t.b.tier.uploadTail(ctx) })
	uploads.Go(func() { faults[1] = t.tell(ctx, id, true) })
	uploads.Wait()
	return errors.Join(faults...)
}

// askFreshen has the owner of a table bring it up to date; a table of nobody's
// is as it is.
func (t *tables) askFreshen(ctx context.Context, ident catalog.Ident) error {
	if t.b.network == nil {
		return nil
	}
	for _, topic := range t.b.controller.View().Topics() {
		s := t.b.controller.Settings(topic)
		if !s.Iceberg.On() || s.ReadReplica != "" || tableIdent(topic.Name, s.Iceberg.Namespace).String() != ident.String() {
			continue
		}
		leader := topic.Partitions[0].Leader
		if leader == cluster.NoLeader || leader == t.b.cfg.NodeID || !t.b.up(leader) {
			return nil
		}
		_, err := peers{t.b.network}.Call(ctx, leader, methodFreshen, encodeNames(append(slices.Clone(ident.Namespace), ident.Name)))
		return err
	}
	return nil
}

// answerFreshen implements methodFreshen. It asks nobody else: the owner may
// have changed meanwhile, and a question must not go in circles.
func (b *Broker) answerFreshen(ctx context.Context, _ int32, request []byte) ([]byte, error) {
	names, err := decodeNames(request)
	if err != nil || len(names) == 0 {
		return nil, errors.Join(err, errMessage)
	}
	ident := catalog.Ident{Namespace: names[:len(names)-1], Name: names[len(names)-1]}
	if loop := b.tables.loopOf(ident); loop != nil {
		return nil, loop.Freshen(ctx)
	}
	return nil, nil
}

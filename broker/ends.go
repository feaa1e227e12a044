package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"tidewater/broker/cluster"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// endsTimeout bounds one question to the brokers that lead others' partitions.
const endsTimeout = 2 * time.Second

// bucketEnds is what brokers told each other of the partitions they lead: how
// far the bucket holds them, and how far tables do. What the bucket holds it
// holds for good, so an old answer is a bound that is only too low.
type bucketEnds struct {
	mu sync.Mutex // guards what follows
	// ends are of partitions that others lead.
	ends map[record.PartitionID]partitionMark
	// tables are the ends of what tables have of partitions, by their owners.
	tables map[record.PartitionID]record.Offset
	series map[int32]manifest.Series // tail series of other brokers, in their present life
}

func newBucketEnds() *bucketEnds {
	return &bucketEnds{ends: map[record.PartitionID]partitionMark{}, tables: map[record.PartitionID]record.Offset{}, series: map[int32]manifest.Series{}}
}

// take notes a broker's answer.
func (e *bucketEnds) take(node int32, a *endsAnswer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a.Boot > 0 {
		e.series[node] = manifest.Series{Node: node, Boot: a.Boot}
	}
	for _, m := range a.Ends {
		old := e.ends[m.ID]
		e.ends[m.ID] = partitionMark{ID: m.ID, Start: max(old.Start, m.Start), End: max(old.End, m.End)}
	}
}

func (e *bucketEnds) get(id record.PartitionID) (partitionMark, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	m, ok := e.ends[id]
	return m, ok
}

// takeTable notes how far a table is, as its owner says now.
func (e *bucketEnds) takeTable(marks []partitionMark) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range marks {
		e.tables[m.ID] = m.End
	}
}

// table is how far a partition's table was when its owner last said.
func (e *bucketEnds) table(id record.PartitionID) record.Offset {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.tables[id]
}

// forget drops what is known of a topic that is no more.
func (e *bucketEnds) forget(topic record.TopicID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range e.ends {
		if id.Topic == topic {
			delete(e.ends, id)
		}
	}
	for id := range e.tables {
		if id.Topic == topic {
			delete(e.tables, id)
		}
	}
}

// live are the tail series of all brokers, as far as they said.
func (e *bucketEnds) live() []manifest.Series {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []manifest.Series
	for _, s := range e.series {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b manifest.Series) int { return int(a.Node) - int(b.Node) })
	return out
}

// answerEnds implements methodEnds and methodTable.
func (b *Broker) answerEnds(ctx context.Context, _ int32, request []byte) ([]byte, error) {
	r, err := decodeEndsRequest(request)
	if err != nil {
		return nil, err
	}
	b.ends.takeTable(r.Marks)
	if r.Upload {
		if err := b.tier.uploadTail(ctx); err != nil {
			return nil, fmt.Errorf("upload the tail: %w", err)
		}
	}
	a := b.tier.known(r.Topic)
	return a.encode(), nil
}

// known is what this broker knows of the partitions it leads, of one topic or
// of all for a zero id.
func (t *tier) known(topic record.TopicID) endsAnswer {
	t.mu.Lock()
	tails := t.tails
	a := endsAnswer{Boot: t.series.Boot}
	t.mu.Unlock()
	if tails == nil {
		return a
	}
	for _, led := range t.archives.List() {
		id := led.Archive.Dir().ID
		if !topic.IsZero() && id.Topic != topic || !led.Source.Marks().Leading {
			continue
		}
		if end, ok := tails.Confirmed(id); ok {
			a.Ends = append(a.Ends, partitionMark{ID: id, Start: tails.BucketStart(id), End: end})
		}
	}
	return a
}

// askEnds asks brokers for their ends, all at once. The error is that of a
// broker that is up and did not answer; one that is down leads nothing.
func (b *Broker) askEnds(ctx context.Context, nodes []int32, method cluster.Method, r *endsRequest) error {
	ctx, stop := context.WithTimeout(ctx, endsTimeout)
	defer stop()
	request := r.encode()
	faults := make([]error, len(nodes))
	var asking sync.WaitGroup
	for i, node := range nodes {
		if !b.up(node) {
			continue
		}
		asking.Go(func() {
			answer, err := peers{b.network}.Call(ctx, node, method, request)
			var a endsAnswer
			if err == nil {
				a, err = decodeEndsAnswer(answer)
			}
			if err != nil {
				faults[i] = fmt.Errorf("ask broker %d: %w", node, err)
				return
			}
			b.ends.take(node, &a)
		})
	}
	asking.Wait()
	return errors.Join(faults...)
}

// others are the other brokers of the cluster.
func (b *Broker) others() []int32 {
	if b.network == nil {
		return nil
	}
	var nodes []int32
	for _, k := range b.controller.View().Brokers() {
		if k.ID != b.cfg.NodeID {
			nodes = append(nodes, k.ID)
		}
	}
	return nodes
}

// bucketEnd is how far the bucket holds a partition, whoever leads it, as far
// as this broker was told.
func (b *Broker) bucketEnd(id record.PartitionID) record.Offset {
	m, _ := b.ends.get(id)
	return max(b.tier.bucketEnd(id), m.End)
}

// bucketStart is the log start that the bucket was told, likewise.
func (b *Broker) bucketStart(id record.PartitionID) record.Offset {
	m, _ := b.ends.get(id)
	return max(b.tier.bucketStart(id), m.Start)
}

// cutEnds captures the ends of a class for a cut: those of the partitions led
// here, and those that their leaders say.
func (b *Broker) cutEnds(ctx context.Context, class manifest.Class) ([]manifest.CutEnd, error) {
	if err := b.askEnds(ctx, b.others(), methodEnds, &endsRequest{}); err != nil {
		return nil, err
	}
	var ends []manifest.CutEnd
	for _, t := range b.controller.View().Topics() {
		if manifest.ClassOf(t.Name) != class || !b.controller.Settings(t).Tiered {
			continue
		}
		for n := range t.Partitions {
			id := record.PartitionID{Topic: t.ID, Partition: int32(n)}
			end := b.tier.confirmed(id) // archive.EndUnknown is below every offset
			if m, ok := b.ends.get(id); ok {
				end = max(end, m.End)
			}
			ends = append(ends, manifest.CutEnd{Topic: t.Name, Partition: id, End: end})
		}
	}
	slices.SortFunc(ends, func(a, b manifest.CutEnd) int { return a.Partition.Compare(b.Partition) })
	return ends, nil
}

// liveSeries are the tail series that are being written.
func (b *Broker) liveSeries() []manifest.Series {
	b.tier.mu.Lock()
	own := b.tier.series
	b.tier.mu.Unlock()
	return append([]manifest.Series{own}, b.ends.live()...)
}

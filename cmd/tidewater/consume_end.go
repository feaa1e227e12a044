package main

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// remaining is where a consume without --follow stops: the high watermarks of
// the partitions when it began. A nil remaining never stops.
type remaining struct {
	next map[int32]int64 // partition -> exclusive end still to be reached
	ends map[int32]int64
}

// endsOf asks for the ends, and refuses a topic or partition that is not there.
func endsOf(ctx context.Context, k *kgo.Client, topic string, f consumeFlags) (*remaining, error) {
	adm := kadm.NewClient(k)
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list end offsets of %s: %w", topic, err)
	}
	if _, ok := ends.Lookup(topic, f.partition); f.partition >= 0 && !ok {
		return nil, fmt.Errorf("topic %s has no partition %d; it has %d", topic, f.partition, len(ends[topic]))
	}
	if f.follow || f.group != "" {
		return nil, nil
	}
	starts, err := firstOffsets(ctx, adm, topic, f)
	if err != nil {
		return nil, err
	}
	r := &remaining{next: map[int32]int64{}, ends: map[int32]int64{}}
	for p, l := range ends[topic] {
		first, _ := starts.Lookup(topic, p)
		if (f.partition < 0 || p == f.partition) && l.Offset > max(first.Offset, f.offset) {
			r.next[p], r.ends[p] = l.Offset, l.Offset
		}
	}
	return r, nil
}

// firstOffsets is where each partition will begin to be read.
func firstOffsets(ctx context.Context, adm *kadm.Client, topic string, f consumeFlags) (kadm.ListedOffsets, error) {
	var starts kadm.ListedOffsets
	var err error
	if f.at.IsZero() {
		starts, err = adm.ListStartOffsets(ctx, topic)
	} else {
		starts, err = adm.ListOffsetsAfterMilli(ctx, f.at.UnixMilli(), topic)
	}
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list start offsets of %s: %w", topic, err)
	}
	return starts, nil
}

func (r *remaining) done() bool { return r != nil && len(r.next) == 0 }

// past reports whether a record came after the end that consume began with.
func (r *remaining) past(rec *kgo.Record) bool {
	return r != nil && rec.Offset >= r.ends[rec.Partition]
}

// saw takes note of how far a partition was read; markers and aborted records
// at the end are not shown, so the high watermark of the answer counts too.
func (r *remaining) saw(p kgo.FetchTopicPartition) {
	if r == nil {
		return
	}
	for _, rec := range p.Records {
		if rec.Offset+1 >= r.ends[p.Partition] {
			delete(r.next, p.Partition)
		}
	}
}

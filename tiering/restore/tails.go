package restore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
	"tidewater/tiering/remote"
)

// tails are the extents of all tail objects of an incarnation, by partition.
type tails struct {
	byID        map[record.PartitionID][]extent // looked up by key; left sorts
	newest      int64
	maxProducer int64
}

// extent is one partition's part of one tail object.
type extent struct {
	manifest.Extent
	batches [][]byte
}

// readTails reads every tail object that is still there.
func readTails(ctx context.Context, store objstore.Store, l manifest.Layout, now func() time.Time) (*tails, error) {
	t := &tails{byID: map[record.PartitionID][]extent{}, maxProducer: -1}
	series, err := manifest.ListSeries(ctx, store, l)
	if err != nil {
		return nil, err
	}
	for _, s := range series {
		r := remote.NewTailReader(store, l, s, now)
		for {
			tail, err := r.Next(ctx)
			if err != nil {
				return nil, fmt.Errorf("restore: %w", err)
			}
			if tail == nil {
				// Nothing more, or the next one was collected just now.
				more, err := r.More(ctx)
				if err != nil {
					return nil, fmt.Errorf("restore: %w", err)
				}
				if !more {
					break
				}
				continue
			}
			if err := t.add(tail); err != nil {
				return nil, fmt.Errorf("restore: %w", err)
			}
		}
	}
	return t, nil
}

func (t *tails) add(tail *manifest.Tail) error {
	t.newest = max(t.newest, tail.Created)
	for i := range tail.Extents {
		x := &tail.Extents[i]
		batches, err := tail.Batches(x)
		if err != nil {
			return err
		}
		for _, b := range batches {
			t.maxProducer = max(t.maxProducer, record.Batch(b).ProducerID())
		}
		t.byID[x.Partition] = append(t.byID[x.Partition], extent{*x, batches})
	}
	return nil
}

// take hands over a partition's extents, highest epoch first, then by offset.
func (t *tails) take(id record.PartitionID) []extent {
	list := t.byID[id]
	delete(t.byID, id)
	slices.SortStableFunc(list, func(a, b extent) int {
		return cmp.Or(cmp.Compare(b.Epoch, a.Epoch), cmp.Compare(a.Base, b.Base))
	})
	return list
}

// left are the partitions that nobody took and that have data.
func (t *tails) left() []record.PartitionID {
	var ids []record.PartitionID
	for id, list := range t.byID {
		if slices.ContainsFunc(list, func(x extent) bool { return x.Length > 0 }) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, record.PartitionID.Compare)
	return ids
}

// run gives the contiguous batches from offset on, below limit: each step
// takes the first extent, highest epoch first, that holds the wanted offset.
func run(list []extent, from, limit record.Offset) (batches [][]byte, end record.Offset) {
	end = from
	for {
		i := slices.IndexFunc(list, func(x extent) bool { return x.Length > 0 && x.Base <= end && x.Next > end })
		if i < 0 {
			return batches, end
		}
		for _, raw := range list[i].batches {
			b := record.Batch(raw)
			if b.BaseOffset() < end {
				continue
			}
			if b.BaseOffset() != end || b.NextOffset() > limit {
				return batches, end
			}
			batches = append(batches, raw)
			end = b.NextOffset()
		}
	}
}

package partition

import (
	"context"
	"fmt"

	"tidewater/broker/segment"
	"tidewater/internal/record"
)

// ReplaySnapshot brings a producer snapshot (nil: none, nobody has written)
// forward over the batches that scan gives, whole and in order, and returns the
// snapshot at next. A restore makes a partition's producer state with it;
// nowMs is when the producers count as having written last.
func ReplaySnapshot(ctx context.Context, id segment.Identity, snapshot []byte, next record.Offset, nowMs int64, scan func(context.Context, func(record.Batch) error) error) ([]byte, error) {
	var s producers
	if len(snapshot) > 0 {
		var err error
		if _, _, s, err = decodeSnapshot(snapshot); err != nil {
			return nil, fmt.Errorf("replay producer snapshot: %w", err)
		}
	}
	err := scan(ctx, func(b record.Batch) error { return s.append(b, 0, 0, nowMs) })
	if err != nil {
		return nil, fmt.Errorf("replay producers up to offset %d: %w", next, err)
	}
	// A snapshot says of a transaction that it is open or aborted, not that
	// its marker waits for a commit: everything in the bucket is committed.
	s.txns.commit(next)
	return encodeSnapshot(id, next, &s), nil
}

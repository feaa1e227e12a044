package record

import (
	"cmp"
	"slices"
)

// Newest gives the first record with the greatest timestamp among those of
// [from, end) in batches, which are whole and in offset order: its offset, its
// timestamp (milliseconds since the Unix epoch) and its batch's epoch, all -1
// if there is none. Control records do not count.
//
// It decodes the batch whose header claims the greatest timestamp, and others
// only where that one has no such record inside the bounds.
func Newest(batches []Batch, from, end Offset) (at Offset, ms int64, epoch LeaderEpoch, err error) {
	var look []Batch
	for _, b := range batches {
		if !b.Control() && b.MaxTimestamp() >= 0 && b.NextOffset() > from && b.BaseOffset() < end {
			look = append(look, b)
		}
	}
	slices.SortStableFunc(look, func(a, b Batch) int { return cmp.Compare(b.MaxTimestamp(), a.MaxTimestamp()) })
	at, ms, epoch = -1, -1, -1
	var r Reader
	for _, b := range look {
		if b.MaxTimestamp() < ms {
			break
		}
		if b.MaxTimestamp() == ms && b.BaseOffset() > at {
			continue
		}
		if err := r.Reset(b, 0); err != nil {
			return -1, -1, -1, err
		}
		for r.Next() {
			one := r.Record()
			if one.Offset < from || one.Offset >= end || one.Timestamp < 0 {
				continue
			}
			if one.Timestamp > ms || one.Timestamp == ms && one.Offset < at {
				at, ms, epoch = one.Offset, one.Timestamp, b.Epoch()
			}
		}
		if r.Err() != nil {
			return -1, -1, -1, r.Err()
		}
	}
	return at, ms, epoch, nil
}

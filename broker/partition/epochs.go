package partition

import (
	"fmt"
	"slices"
	"sort"

	"tidewater/broker/segment"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// epochsMax bounds a partition's leader-epoch history, so that it fits a mark.
// The oldest go first; a client that asks for an older one learns the start of
// the oldest known, as it does after retention.
const epochsMax = 4096

// epochHistory is the leader epochs of a log, each with the offset of its
// first record. Both columns rise strictly.
type epochHistory []logio.EpochStart

// add notes that a batch of epoch begins at start. An epoch enters at its
// first record only, so a term without records leaves no line.
func (h *epochHistory) add(epoch record.LeaderEpoch, start record.Offset) {
	if n := len(*h); n > 0 && (*h)[n-1].Epoch >= epoch {
		return
	}
	if len(*h) >= epochsMax {
		*h = slices.Delete(*h, 0, len(*h)-epochsMax+1)
	}
	*h = append(*h, logio.EpochStart{Epoch: epoch, Start: start})
}

// cutBack drops epochs whose first record is at or above next.
func (h *epochHistory) cutBack(next record.Offset) {
	n := len(*h)
	for n > 0 && (*h)[n-1].Start >= next {
		n--
	}
	*h = (*h)[:n]
}

// before gives the part of the history that concerns offsets below end.
func (h epochHistory) before(end record.Offset) epochHistory {
	c := slices.Clone(h)
	c.cutBack(end)
	return c
}

// at is the epoch of the record at o, -1 when unknown.
func (h epochHistory) at(o record.Offset) record.LeaderEpoch {
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].Start <= o {
			return h[i].Epoch
		}
	}
	return -1
}

// check compares the leader epochs of batches in order, which their CRCs leave
// out, with the history. It gives how many in front are right.
func (h epochHistory) check(batches [][]byte) (sound int, err error) {
	if len(batches) == 0 {
		return 0, nil
	}
	first := record.Batch(batches[0]).BaseOffset()
	i := sort.Search(len(h), func(i int) bool { return h[i].Start > first }) - 1
	for n, raw := range batches {
		b := record.Batch(raw)
		for i+1 < len(h) && h[i+1].Start <= b.BaseOffset() {
			i++
		}
		if i >= 0 && b.Epoch() != h[i].Epoch {
			return n, fmt.Errorf("%w: batch at offset %d has leader epoch %d, expected %d", segment.ErrCorrupt, b.BaseOffset(), b.Epoch(), h[i].Epoch)
		}
	}
	return len(batches), nil
}

// endOf answers OffsetForLeaderEpoch: the largest epoch of the log not above
// the asked one and where it ends; logEnd is the end of the newest. An epoch
// before all known ones ends where the oldest known begins, because what it
// wrote is gone. An epoch above current is unknown.
func (h epochHistory) endOf(asked, current record.LeaderEpoch, logEnd record.Offset) logio.EpochEnd {
	unknown := logio.EpochEnd{Epoch: -1, End: -1}
	if asked < 0 || asked > current || len(h) == 0 && asked != current {
		return unknown
	}
	if len(h) == 0 {
		return logio.EpochEnd{Epoch: asked, End: logEnd}
	}
	i := len(h) - 1
	for i >= 0 && h[i].Epoch > asked {
		i--
	}
	switch {
	case i < 0:
		return logio.EpochEnd{Epoch: asked, End: h[0].Start}
	case i == len(h)-1:
		return logio.EpochEnd{Epoch: h[i].Epoch, End: logEnd}
	}
	return logio.EpochEnd{Epoch: h[i].Epoch, End: h[i+1].Start}
}

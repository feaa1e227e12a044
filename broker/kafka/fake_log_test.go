package kafka

import (
	"context"
	"fmt"
	"sync"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// fakeLog is a Partition in memory: every append is committed at once, unless
// held. Idempotent producers are checked as a log does.
type fakeLog struct {
	mu        sync.Mutex
	batches   []record.Batch
	offsets   logio.Offsets
	aborted   []logio.AbortedTxn
	sequences map[int64]sequence // by producer id: the newest batch
	listeners map[int]listener
	listened  int
	appendErr error
	readErr   error
	held      []func() // answers of appends, while holding
	holding   bool
	reads     int
	bytesMax  int // max.message.bytes, 0 for none
}

type sequence struct {
	next int32
	base record.Offset
	last int32 // base sequence of the newest batch
}

type listener struct {
	iso   logio.Isolation
	after record.Offset
	fn    func()
}

func newFakeLog() *fakeLog {
	return &fakeLog{sequences: map[int64]sequence{}, listeners: map[int]listener{}, offsets: logio.Offsets{Epoch: 7}}
}

func (l *fakeLog) Append(r logio.AppendRequest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	res := l.append(r.Batch)
	answer := func() { r.Done(res) }
	if l.holding {
		l.held = append(l.held, answer)
	} else {
		answer()
	}
	for id, n := range l.listeners {
		if l.offsets.End(n.iso) > n.after {
			delete(l.listeners, id)
			n.fn()
		}
	}
}

func (l *fakeLog) append(b record.Batch) logio.AppendResult {
	if l.appendErr != nil {
		return logio.AppendResult{Err: l.appendErr}
	}
	if l.bytesMax > 0 && len(b) > l.bytesMax {
		return logio.AppendResult{Err: fmt.Errorf("%w: %d bytes", logio.ErrTooLarge, len(b))}
	}
	if id := b.ProducerID(); id >= 0 {
		s, known := l.sequences[id]
		switch {
		case known && b.BaseSequence() == s.last:
			return logio.AppendResult{BaseOffset: s.base, AppendTime: -1}
		case known && b.BaseSequence() != s.next:
			return logio.AppendResult{Err: fmt.Errorf("%w: %d, want %d", logio.ErrOutOfOrderSequence, b.BaseSequence(), s.next)}
		}
		l.sequences[id] = sequence{b.BaseSequence() + b.RecordCount(), l.offsets.LogEnd, b.BaseSequence()}
	}
	b.SetBaseOffset(l.offsets.LogEnd)
	b.SetEpoch(l.offsets.Epoch)
	l.batches = append(l.batches, b)
	l.offsets.LogEnd = b.NextOffset()
	l.offsets.HighWatermark, l.offsets.LastStable = l.offsets.LogEnd, l.offsets.LogEnd
	return logio.AppendResult{BaseOffset: b.BaseOffset(), AppendTime: -1, LogStart: l.offsets.LogStart}
}

// release answers the held appends in the order of perm, indexes into held.
func (l *fakeLog) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, answer := range l.held {
		answer()
	}
	l.held, l.holding = nil, false
}

func (l *fakeLog) setHolding() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holding = true
}

func (l *fakeLog) heldCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held)
}

func (l *fakeLog) Offsets() (logio.Offsets, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.offsets, l.readErr
}

func (l *fakeLog) Read(_ context.Context, r logio.ReadRequest) (logio.ReadResult, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	end := l.offsets.End(r.Isolation)
	if l.readErr != nil {
		return logio.ReadResult{}, l.readErr
	}
	if err := checkEpoch(l.offsets.Epoch, int32(r.CurrentEpoch)); err != nil {
		return logio.ReadResult{}, err
	}
	if r.Offset < l.offsets.LogStart || r.Offset > l.offsets.LogEnd {
		return logio.ReadResult{}, fmt.Errorf("%w: %d", logio.ErrOffsetOutOfRange, r.Offset)
	}
	res := logio.ReadResult{Offsets: l.offsets}
	size := 0
	for _, b := range l.batches {
		if b.LastOffset() < r.Offset {
			continue
		}
		fits := size+len(b) <= r.BytesMax || size == 0 && r.MinOne
		if b.NextOffset() > end || !fits {
			break
		}
		res.Batches = append(res.Batches, b)
		size += len(b)
	}
	res.Bytes[logio.FromMemory] = int64(size)
	if r.Isolation == logio.ReadCommitted {
		res.Aborted = l.aborted
	}
	return res, nil
}

func (l *fakeLog) Notify(iso logio.Isolation, after record.Offset, fn func()) (cancel func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.offsets.End(iso) > after {
		fn()
		return func() {}
	}
	l.listened++
	id := l.listened
	l.listeners[id] = listener{iso, after, fn}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.listeners, id)
	}
}

func (l *fakeLog) Find(_ context.Context, ts int64, iso logio.Isolation) (logio.FoundOffset, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readErr != nil {
		return logio.FoundOffset{}, l.readErr
	}
	f := logio.FoundOffset{Offset: -1, Timestamp: -1, Epoch: l.offsets.Epoch}
	switch ts {
	case logio.TimeLatest:
		f.Offset = l.offsets.End(iso)
	case logio.TimeEarliest, logio.TimeEarliestLocal:
		f.Offset = l.offsets.LogStart
	case logio.TimeLatestTiered:
		f.Offset = l.offsets.Archived - 1
	default:
		for _, b := range l.batches {
			var r record.Reader
			if err := r.Reset(b, 0); err != nil {
				return f, err
			}
			for r.Next() {
				at := r.Record().Timestamp
				newest := ts == logio.TimeMaxTimestamp && at > f.Timestamp
				if newest || ts >= 0 && f.Offset < 0 && at >= ts {
					f.Offset, f.Timestamp = r.Record().Offset, at
				}
			}
		}
	}
	return f, nil
}

func (l *fakeLog) EpochEnd(epoch record.LeaderEpoch) (logio.EpochEnd, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch != l.offsets.Epoch {
		return logio.EpochEnd{Epoch: -1, End: -1}, nil
	}
	return logio.EpochEnd{Epoch: l.offsets.Epoch, End: l.offsets.LogEnd}, nil
}

func (l *fakeLog) Trim(_ context.Context, before record.Offset) (record.Offset, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before == -1 {
		before = l.offsets.HighWatermark
	}
	if before > l.offsets.HighWatermark {
		return -1, logio.ErrOffsetOutOfRange
	}
	l.offsets.LogStart = max(l.offsets.LogStart, before)
	return l.offsets.LogStart, nil
}

// waiting is how many consumers wait for more.
func (l *fakeLog) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.listeners)
}

// with changes or looks at the log's fields between its calls.
func (l *fakeLog) with(fn func(l *fakeLog)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn(l)
}

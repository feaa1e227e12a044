// Package archivetest is a partition in memory for tests of everything that
// stands on archive.Source: it appends, seals, archives and trims as
// broker/partition does, and can be told to rot.
package archivetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"tidewater/internal/logio"
	"tidewater/internal/record"
	"tidewater/tiering/archive"
)

// Log is one partition. All methods are safe for concurrent use.
type Log struct {
	mu       sync.Mutex
	batches  []record.Batch
	sealed   []record.Offset // exclusive ends of sealed segments
	epochs   []logio.EpochStart
	epoch    record.LeaderEpoch
	leading  bool
	logStart record.Offset
	local    record.Offset // batches below were trimmed
	end      record.Offset
	archived record.Offset
	manifest uint64
	wantSeal bool
	// FailSet, if not nil, is asked before SetArchived takes effect.
	FailSet func() error
}

var _ archive.Source = (*Log)(nil)

// New is an empty log led at epoch.
func New(epoch record.LeaderEpoch) *Log { return &Log{epoch: epoch, leading: true} }

// Lead makes the log led (or not) at an epoch.
func (l *Log) Lead(epoch record.LeaderEpoch, leading bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epoch, l.leading = epoch, leading
}

// Clone is another replica with the same committed batches, as far as it knows
// archived up to the same offset, with no segment sealed.
func (l *Log) Clone() *Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Log{
		batches: slices.Clone(l.batches), epochs: slices.Clone(l.epochs), epoch: l.epoch, logStart: l.logStart,
		local: l.local, end: l.end, archived: l.archived, manifest: l.manifest,
	}
}

// Append commits one batch of count records with timestamp ms, the first of
// the returned offsets.
func (l *Log) Append(count int, ms int64) record.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b record.Builder
	b.Producer = &record.Producer{ID: 7, Epoch: 0, Sequence: int32(l.end)}
	for i := range count {
		b.Add(ms, fmt.Appendf(nil, "key %d", i), fmt.Appendf(nil, "value of offset %d at epoch %d", int(l.end)+i, l.epoch))
	}
	batch, err := b.Build(l.end)
	if err != nil {
		panic(err)
	}
	batch.SetEpoch(l.epoch)
	base := l.end
	l.batches = append(l.batches, batch)
	l.end = batch.NextOffset()
	if n := len(l.epochs); n == 0 || l.epochs[n-1].Epoch < l.epoch {
		l.epochs = append(l.epochs, logio.EpochStart{Epoch: l.epoch, Start: base})
	}
	return base
}

// Roll seals everything appended so far.
func (l *Log) Roll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.sealed); n == 0 && l.end > l.local || n > 0 && l.sealed[n-1] < l.end {
		l.sealed = append(l.sealed, l.end)
	}
	l.wantSeal = false
}

// SealWanted reports whether Seal was called since the last Roll.
func (l *Log) SealWanted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wantSeal
}

// Rot flips a bit of the stored batch that holds an offset.
func (l *Log) Rot(o record.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, b := range l.batches {
		if b.BaseOffset() <= o && o < b.NextOffset() {
			l.batches[i] = slices.Clone(b)
			l.batches[i][len(b)-1] ^= 1
		}
	}
}

// Trim moves the log start.
func (l *Log) Trim(o record.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logStart = max(l.logStart, o)
}

// TrimLocal drops local batches below what is archived.
func (l *Log) TrimLocal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.local = max(l.local, l.archived)
	l.batches = slices.DeleteFunc(l.batches, func(b record.Batch) bool { return b.NextOffset() <= l.local })
	l.sealed = slices.DeleteFunc(l.sealed, func(o record.Offset) bool { return o <= l.local })
}

// Bytes are the local batches of [from, to), one after the other.
func (l *Log) Bytes(from, to record.Offset) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []byte
	for _, b := range l.batches {
		if b.BaseOffset() >= from && b.NextOffset() <= to {
			out = append(out, b...)
		}
	}
	return out
}

// Marks implements archive.Source.
func (l *Log) Marks() archive.Marks {
	l.mu.Lock()
	defer l.mu.Unlock()
	return archive.Marks{Leading: l.leading, Offsets: logio.Offsets{
		LogStart: l.logStart, LocalLogStart: max(l.local, l.logStart), Archived: l.archived,
		LastStable: l.end, HighWatermark: l.end, LogEnd: l.end, Epoch: l.epoch,
	}}
}

// Sealed implements archive.Source.
func (l *Log) Sealed(from record.Offset) []archive.Segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []archive.Segment
	base := l.local
	for _, next := range l.sealed {
		if next > from {
			out = append(out, archive.Segment{Base: base, Next: next})
		}
		base = next
	}
	return out
}

// Batches implements archive.Source.
func (l *Log) Batches(_ context.Context, from, limit record.Offset, bytesMax int) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if first := max(l.local, l.logStart); from < first {
		return nil, fmt.Errorf("%w: %d, local log starts at %d", logio.ErrOffsetOutOfRange, from, first)
	}
	var out [][]byte
	size := 0
	for _, b := range l.batches {
		if b.NextOffset() <= from {
			continue
		}
		if b.BaseOffset() >= limit || len(out) > 0 && size+len(b) > bytesMax {
			break
		}
		out = append(out, b)
		size += len(b)
	}
	return out, nil
}

// History implements archive.Source; a snapshot is the offset it is of.
func (l *Log) History(_ context.Context, base, end record.Offset) (archive.History, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return archive.History{
		ProducersAtBase: Snapshot(base), ProducersAtEnd: Snapshot(end),
		Epochs: slices.DeleteFunc(slices.Clone(l.epochs), func(e logio.EpochStart) bool { return e.Start >= end }),
	}, nil
}

// Snapshot is what History gives for an offset.
func Snapshot(o record.Offset) []byte {
	return binary.BigEndian.AppendUint64([]byte("state"), uint64(o))
}

// SetArchived implements archive.Source.
func (l *Log) SetArchived(_ context.Context, end record.Offset, manifest uint64) error {
	if l.FailSet != nil {
		if err := l.FailSet(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.leading {
		return logio.ErrNotLeader
	}
	if end > l.archived {
		l.archived, l.manifest = end, manifest
	}
	return nil
}

// Archived is what SetArchived said last.
func (l *Log) Archived() (record.Offset, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.archived, l.manifest
}

// Confirm implements archive.Source.
func (l *Log) Confirm(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.leading {
		return logio.ErrNotLeader
	}
	return nil
}

// Seal implements archive.Source.
func (l *Log) Seal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wantSeal = true
}

// NewAt is a log that goes on at end, as after a restore: everything below is
// archived and nothing is local.
func NewAt(epoch record.LeaderEpoch, end, logStart record.Offset) *Log {
	return &Log{epoch: epoch, leading: true, local: end, end: end, archived: end, logStart: logStart}
}

package partition

import (
	"encoding/binary"
	"fmt"
	"slices"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// transactions is the transactional side of a log: which are open, which have
// ended, and where readers of committed data must stop or skip.
type transactions struct {
	// undecided holds transactions whose marker is missing or not committed
	// yet, by first offset: a marker may still be truncated, so until then the
	// transaction counts as open for readers.
	undecided []transaction
	// aborted is in the order of the markers.
	aborted []logio.AbortedTxn
}

type transaction struct {
	producer int64
	first    record.Offset
	marker   record.Offset // -1 while there is none
	abort    bool
}

func (t *transactions) find(producer int64) int {
	return slices.IndexFunc(t.undecided, func(x transaction) bool { return x.producer == producer && x.marker < 0 })
}

func (t *transactions) isOpen(producer int64) bool { return t.find(producer) >= 0 }

// begin notes a transactional batch of producer at base.
func (t *transactions) begin(producer int64, base record.Offset) {
	if !t.isOpen(producer) {
		t.undecided = append(t.undecided, transaction{producer: producer, first: base, marker: -1})
	}
}

// end notes producer's marker; without an open transaction it means nothing,
// as when a coordinator sends its marker again.
func (t *transactions) end(producer int64, marker record.Offset, abort bool) {
	if i := t.find(producer); i >= 0 {
		t.undecided[i].marker, t.undecided[i].abort = marker, abort
	}
}

// commit decides the transactions whose marker lies below highWatermark.
func (t *transactions) commit(highWatermark record.Offset) {
	var ended []logio.AbortedTxn
	t.undecided = slices.DeleteFunc(t.undecided, func(x transaction) bool {
		done := x.marker >= 0 && x.marker < highWatermark
		if done && x.abort {
			ended = append(ended, logio.AbortedTxn{ProducerID: x.producer, FirstOffset: x.first, LastOffset: x.marker})
		}
		return done
	})
	slices.SortFunc(ended, func(a, b logio.AbortedTxn) int { return int(a.LastOffset - b.LastOffset) })
	t.aborted = append(t.aborted, ended...)
}

// firstUndecided is where readers of committed data stop, at most highWatermark.
func (t *transactions) firstUndecided(highWatermark record.Offset) record.Offset {
	if len(t.undecided) > 0 {
		return min(highWatermark, t.undecided[0].first)
	}
	return highWatermark
}

// abortedIn lists the aborted transactions with records or marker in [from, to).
func (t *transactions) abortedIn(from, to record.Offset) []logio.AbortedTxn {
	var in []logio.AbortedTxn
	for _, a := range t.aborted {
		if a.LastOffset >= from && a.FirstOffset < to {
			in = append(in, a)
		}
	}
	return in
}

// forgetBefore drops aborted transactions that lie wholly below logStart.
func (t *transactions) forgetBefore(logStart record.Offset) {
	t.aborted = slices.DeleteFunc(t.aborted, func(a logio.AbortedTxn) bool { return a.LastOffset < logStart })
}

func (t *transactions) clone() transactions {
	return transactions{undecided: slices.Clone(t.undecided), aborted: slices.Clone(t.aborted)}
}

// marker is the end of a transaction, as Kafka's control record says it.
type marker struct {
	commit           bool
	coordinatorEpoch int32
}

// parseMarker reads a control batch: one record whose key is version and type
// (0 abort, 1 commit) and whose value is version and coordinator epoch.
func parseMarker(b record.Batch) (marker, error) {
	var r record.Reader
	if err := r.Reset(b, markerBytesMax); err != nil {
		return marker{}, err
	}
	if !r.Next() {
		return marker{}, fmt.Errorf("%w: control batch at %d has no record: %v", record.ErrCorrupt, b.BaseOffset(), r.Err())
	}
	rec := r.Record()
	if len(rec.Key) < 4 || len(rec.Value) < 6 {
		return marker{}, fmt.Errorf("%w: control record at %d: key of %d, value of %d bytes", record.ErrCorrupt, rec.Offset, len(rec.Key), len(rec.Value))
	}
	kind := binary.BigEndian.Uint16(rec.Key[2:])
	if kind > 1 {
		return marker{}, fmt.Errorf("%w: control record at %d has type %d", record.ErrCorrupt, rec.Offset, kind)
	}
	return marker{commit: kind == 1, coordinatorEpoch: int32(binary.BigEndian.Uint32(rec.Value[2:]))}, nil
}

// markerBytesMax bounds a control batch's body: a marker takes about 30 bytes.
const markerBytesMax = 4 << 10

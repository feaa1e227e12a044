package partition

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// History is the state of a partition at a segment's two ends, to lie beside
// it in the bucket.
type History struct {
	// ProducersAtBase and ProducersAtEnd are producer snapshots
	// (docs/formats/producers.md); nil where none is kept.
	ProducersAtBase, ProducersAtEnd []byte
	Epochs                          []logio.EpochStart // of offsets below the end
}

// History gives what stands beside a segment [base, end).
func (p *Partition) History(_ context.Context, base, end record.Offset) (History, error) {
	var h History
	var err error
	if h.ProducersAtBase, err = p.snapshotAt(base); err != nil {
		return h, err
	}
	if h.ProducersAtEnd, err = p.snapshotAt(end); err != nil {
		return h, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	h.Epochs = p.stable.epochs.before(end)
	return h, nil
}

// snapshotAt gives the producer snapshot at an offset, nil when there is none.
func (p *Partition) snapshotAt(next record.Offset) ([]byte, error) {
	if next == 0 {
		return encodeSnapshot(p.cfg.Identity, 0, &producers{}), nil
	}
	data, _, err := p.openSnapshot(next)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, ErrCorrupt) {
		return p.remakeSnapshot(next)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", logio.ErrStorage, p.Name(), err)
	}
	return data, nil
}

// remakeSnapshot makes a damaged snapshot anew from an older one and the batches
// behind that.
func (p *Partition) remakeSnapshot(next record.Offset) ([]byte, error) {
	s, err := p.recoverProducers(next)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", logio.ErrStorage, p.Name(), err)
	}
	p.mu.Lock()
	logStart := p.stable.logStart
	p.mu.Unlock()
	s.txns.forgetBefore(logStart)
	s.txns.commit(next)
	data := encodeSnapshot(p.cfg.Identity, next, &s)
	if p.begin() { // else the next one who asks
		err = errors.Join(writeSnapshot(p.cfg.FS, p.cfg.Dir, next, data), p.end())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", logio.ErrStorage, p.Name(), err)
	}
	p.cfg.Log.Info("a damaged producer snapshot was made anew", "topic", p.cfg.Topic, "partition", p.cfg.ID.Partition, "offset", int64(next))
	return data, nil
}

// ProducerSnapshot gives the producers' state at an offset of the committed
// log that memory still leads up to: at the end of what is in segments. Tail
// objects carry it.
func (p *Partition) ProducerSnapshot() (next record.Offset, snapshot []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stable.next, encodeSnapshot(p.cfg.Identity, p.stable.next, &p.stable.producers)
}

// EpochHistory is the leader epochs of the committed log.
func (p *Partition) EpochHistory() []logio.EpochStart {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live.epochs.before(p.highWatermark)
}

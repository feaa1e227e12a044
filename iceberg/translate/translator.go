package translate

import (
	"context"
	"fmt"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Translator makes data files. It is for one caller at a time.
type Translator struct {
	cfg    Config
	reader record.Reader
}

// New makes a translator.
func New(cfg Config) *Translator {
	cfg.withDefaults()
	return &Translator{cfg: cfg}
}

// round is the state of one Translate.
type round struct {
	*Translator
	request Request
	table   *writer
	dead    *writer
	done    Done // of the range at hand
}

// Translate makes the files of one round. After an error nothing of it may be
// committed.
func (t *Translator) Translate(ctx context.Context, request Request) (Result, error) {
	r := &round{Translator: t, request: request}
	var err error
	if r.table, err = newWriter(&t.cfg, request.Table, request.Value); err != nil {
		return Result{}, fmt.Errorf("write table %s: %w", request.Table.Location, err)
	}
	if request.Dead != nil {
		if r.dead, err = newWriter(&t.cfg, *request.Dead, nil); err != nil {
			return Result{}, fmt.Errorf("write dead letters %s: %w", request.Dead.Location, err)
		}
	}
	var out Result
	for i := range request.Ranges {
		if err := r.translateRange(ctx, &request.Ranges[i]); err != nil {
			return Result{}, err
		}
		out.Done = append(out.Done, r.done)
	}
	if out.Files, err = r.table.close(ctx); err != nil {
		return Result{}, err
	}
	if r.dead != nil {
		if out.DeadFiles, err = r.dead.close(ctx); err != nil {
			return Result{}, err
		}
	}
	return out, nil
}

func (r *round) translateRange(ctx context.Context, a *Range) error {
	id := a.Source.ID()
	r.done = Done{Partition: id, From: a.From, To: a.From, Epoch: -1}
	o, err := a.Source.Offsets()
	if err != nil {
		return fmt.Errorf("translate partition %s: %w", id, err)
	}
	if o.LogStart > a.From {
		r.done.To = min(o.LogStart, a.To)
		r.done.Lost = int64(r.done.To - a.From)
		r.cfg.Log.Warn("records were removed from the log before they were translated",
			"partition", id.Partition, "from", a.From, "to", r.done.To)
	}
	for r.done.To < a.To && !r.full() {
		got, err := a.Source.Read(ctx, logio.ReadRequest{
			Offset: r.done.To, Isolation: logio.ReadCommitted, BytesMax: r.cfg.ReadBytes, MinOne: true, CurrentEpoch: -1,
		})
		if err != nil {
			return fmt.Errorf("translate partition %s: read at offset %d: %w", id, r.done.To, err)
		}
		if len(got.Batches) == 0 {
			return nil
		}
		if err := r.answer(ctx, a, got); err != nil {
			return fmt.Errorf("translate partition %s: %w", id, err)
		}
	}
	return nil
}

// full reports whether the range has used up its share of the round.
func (r *round) full() bool {
	return r.request.RangeBytesMax > 0 && r.done.ValueBytes >= r.request.RangeBytesMax
}

// answer translates what one read gave.
func (r *round) answer(ctx context.Context, a *Range, got logio.ReadResult) error {
	for _, p := range got.Batches {
		for len(p) > 0 {
			b, rest, err := record.Next(p)
			if err != nil {
				return fmt.Errorf("batch after offset %d: %w", r.done.To, err)
			}
			p = rest
			if b.BaseOffset() >= a.To {
				r.done.To = a.To
				return nil
			}
			if b.NextOffset() <= r.done.To {
				continue // before the asked offset
			}
			if err := r.batch(ctx, a, b, got.Aborted); err != nil {
				return err
			}
			r.done.To = min(b.NextOffset(), a.To)
			r.done.Epoch = b.Epoch()
			if r.full() {
				return nil
			}
		}
	}
	return nil
}

func (r *round) batch(ctx context.Context, a *Range, b record.Batch, aborted []logio.AbortedTxn) error {
	if err := b.Check(); err != nil {
		return err
	}
	if b.Control() || isAborted(b, aborted) {
		return nil
	}
	if err := r.reader.Reset(b, 0); err != nil {
		return err
	}
	for r.reader.Next() {
		rec := r.reader.Record()
		if rec.Offset < r.done.To || rec.Offset >= a.To {
			continue
		}
		if err := r.record(a, rec); err != nil {
			return err
		}
	}
	if err := r.reader.Err(); err != nil {
		return err
	}
	if err := r.table.flushIfFull(ctx); err != nil {
		return err
	}
	if r.dead != nil {
		return r.dead.flushIfFull(ctx)
	}
	return nil
}

func isAborted(b record.Batch, aborted []logio.AbortedTxn) bool {
	if !b.Transactional() {
		return false
	}
	for _, t := range aborted {
		if t.ProducerID == b.ProducerID() && b.BaseOffset() >= t.FirstOffset && b.BaseOffset() <= t.LastOffset {
			return true
		}
	}
	return false
}

func (r *round) record(a *Range, rec *record.Record) error {
	partition := r.done.Partition.Partition
	r.done.ValueBytes += int64(len(rec.Key) + len(rec.Value))
	if a.Decided[rec.Offset] {
		r.done.Decided++
		return nil
	}
	if r.request.Value == nil {
		r.table.rows.AppendKeyValue(partition, rec)
	} else if reason, ok := r.table.rows.AppendJSON(partition, rec); !ok {
		return r.invalid(rec, reason)
	}
	r.done.Rows++
	r.done.Checksum += RowSum(partition, rec)
	return nil
}

func (r *round) invalid(rec *record.Record, reason string) error {
	switch {
	case r.request.Invalid == Drop:
		r.done.Dropped++
		return nil
	case r.request.Invalid == Fail || r.dead == nil:
		return &InvalidRecordError{Partition: r.done.Partition, Offset: rec.Offset, Reason: reason}
	}
	r.dead.rows.AppendDeadLetter(r.done.Partition.Partition, rec, reason)
	r.done.Dead++
	return nil
}

// Records gives every committed data record of a partition in [from, to), in
// order: what a table of it must hold. A record is valid during the call only.
// It ends early, at end, when the log does.
func Records(ctx context.Context, s Source, from, to record.Offset, fn func(*record.Record) error) (end record.Offset, err error) {
	const readBytes = 1 << 20
	var reader record.Reader
	for at := from; at < to; {
		got, err := s.Read(ctx, logio.ReadRequest{Offset: at, Isolation: logio.ReadCommitted, BytesMax: readBytes, MinOne: true, CurrentEpoch: -1})
		if err != nil {
			return at, fmt.Errorf("read partition %s at offset %d: %w", s.ID(), at, err)
		}
		before := at
		for _, p := range got.Batches {
			for len(p) > 0 {
				var b record.Batch
				if b, p, err = record.Next(p); err != nil {
					return at, fmt.Errorf("read partition %s at offset %d: %w", s.ID(), at, err)
				}
				if err := records(&reader, b, got.Aborted, at, to, fn); err != nil {
					return at, err
				}
				at = max(at, b.NextOffset())
			}
		}
		if at == before {
			return at, nil
		}
	}
	return to, nil
}

func records(reader *record.Reader, b record.Batch, aborted []logio.AbortedTxn, from, to record.Offset, fn func(*record.Record) error) error {
	if b.NextOffset() <= from || b.BaseOffset() >= to || b.Control() || isAborted(b, aborted) {
		return nil
	}
	if err := reader.Reset(b, 0); err != nil {
		return err
	}
	for reader.Next() {
		if rec := reader.Record(); rec.Offset >= from && rec.Offset < to {
			if err := fn(rec); err != nil {
				return err
			}
		}
	}
	return reader.Err()
}

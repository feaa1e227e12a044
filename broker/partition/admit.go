package partition

import (
	"fmt"
	"time"

	"tidewater/internal/logio"
	"tidewater/internal/record"
	"tidewater/internal/topicconfig"
)

// admit applies a topic's rules to a batch before it is appended, and the two
// changes a leader may make to it: LogAppendTime and compression.type. The
// answer is the batch to append.
func admit(r logio.AppendRequest, s *topicconfig.Settings, nowMs int64) (record.Batch, error) {
	b := r.Batch
	if err := admitHeader(r, s, nowMs); err != nil {
		return nil, err
	}
	if !r.Internal && (s.CleanupCompact || s.TimestampBeforeMax >= 0 && !unbounded(s.TimestampBeforeMax) && !s.LogAppendTime) {
		if err := admitRecords(b, s, nowMs); err != nil {
			return nil, err
		}
	}
	if !s.CompressionProducer && b.Codec() != s.Compression && !b.Control() {
		out, err := b.Recompress(s.Compression)
		if err != nil {
			return nil, fmt.Errorf("recompress batch as %s: %w", s.Compression, err)
		}
		b = out
	}
	if len(b) > s.MaxMessageBytes && !r.Internal {
		return nil, fmt.Errorf("%w: batch of %d bytes, at most %d", logio.ErrTooLarge, len(b), s.MaxMessageBytes)
	}
	if s.LogAppendTime && !b.Control() {
		b.SetLogAppendTime(nowMs)
	}
	return b, nil
}

func admitHeader(r logio.AppendRequest, s *topicconfig.Settings, nowMs int64) error {
	b := r.Batch
	switch {
	case len(b) > s.MaxMessageBytes && s.CompressionProducer && !r.Internal:
		return fmt.Errorf("%w: batch of %d bytes, at most %d", logio.ErrTooLarge, len(b), s.MaxMessageBytes)
	case b.Control() && !r.Internal:
		return fmt.Errorf("%w: clients do not write control batches", logio.ErrInvalidRecord)
	case b.RecordCount() < 1 || b.RecordCount()-1 != b.LastOffsetDelta():
		return fmt.Errorf("%w: %d records with last offset delta %d", logio.ErrInvalidRecord, b.RecordCount(), b.LastOffsetDelta())
	case b.ProducerID() >= 0 && (b.ProducerEpoch() < 0 || b.BaseSequence() < 0 && !b.Control()):
		return fmt.Errorf("%w: producer %d with epoch %d and sequence %d", logio.ErrInvalidRecord, b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	case b.ProducerID() < 0 && (b.Transactional() || b.Control()):
		return fmt.Errorf("%w: transactional batch without a producer", logio.ErrInvalidRecord)
	case b.LogAppendTime() && !s.LogAppendTime:
		return fmt.Errorf("%w: a producer does not set the log append time", logio.ErrInvalidTimestamp)
	}
	if s.LogAppendTime || r.Internal || unbounded(s.TimestampAfterMax) {
		return nil
	}
	if last := nowMs + s.TimestampAfterMax.Milliseconds(); b.MaxTimestamp() > last {
		return fmt.Errorf("%w: %d is later than %d (message.timestamp.after.max.ms)", logio.ErrInvalidTimestamp, b.MaxTimestamp(), last)
	}
	return nil
}

// admitRecords looks into the batch; only topics that ask for it pay for that.
func admitRecords(b record.Batch, s *topicconfig.Settings, nowMs int64) error {
	first := int64(-1)
	if !unbounded(s.TimestampBeforeMax) && !s.LogAppendTime {
		first = nowMs - s.TimestampBeforeMax.Milliseconds()
	}
	var r record.Reader
	if err := r.Reset(b, 0); err != nil {
		return err
	}
	for r.Next() {
		one := r.Record()
		if one.Key == nil && s.CleanupCompact {
			return fmt.Errorf("%w: a compacted topic needs a key in every record", logio.ErrInvalidRecord)
		}
		if one.Timestamp < first {
			return fmt.Errorf("%w: %d is earlier than %d (message.timestamp.before.max.ms)", logio.ErrInvalidTimestamp, one.Timestamp, first)
		}
	}
	return r.Err()
}

// unbounded reports whether a topic's duration is no bound: without end, or
// so long that Kafka's default (the largest int64 of ms) was meant.
func unbounded(d time.Duration) bool { return d < 0 || d > 100*365*24*time.Hour }

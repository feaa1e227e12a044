package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// refusal is an error that the wire itself decides on: a Kafka code and the
// sentence told to the client where the version has room for one.
type refusal struct {
	kerr   *kerr.Error
	reason string
}

func (r *refusal) Error() string { return r.reason }

// refuse makes an error that is answered with code e and the reason.
func refuse(e *kerr.Error, reason string) error { return &refusal{e, reason} }

// logCode is the one table from the errors of logs and batches to Kafka's.
func logCode(err error) *kerr.Error {
	for _, line := range [...]struct {
		err  error
		code *kerr.Error
	}{
		{logio.ErrUnknownPartition, kerr.UnknownTopicOrPartition},
		{logio.ErrNotLeader, kerr.NotLeaderForPartition},
		{logio.ErrOffsetOutOfRange, kerr.OffsetOutOfRange},
		{logio.ErrNotAvailable, kerr.OffsetNotAvailable},
		{logio.ErrFencedEpoch, kerr.FencedLeaderEpoch},
		{logio.ErrUnknownEpoch, kerr.UnknownLeaderEpoch},

		{logio.ErrOutOfOrderSequence, kerr.OutOfOrderSequenceNumber},
		{logio.ErrInvalidProducerEpoch, kerr.InvalidProducerEpoch},
		{logio.ErrInvalidTxnState, kerr.InvalidTxnState},
		{logio.ErrTooLarge, kerr.MessageTooLarge},
		{logio.ErrInvalidTimestamp, kerr.InvalidTimestamp},
		{logio.ErrInvalidRecord, kerr.InvalidRecord},

		{logio.ErrNotEnoughReplicas, kerr.NotEnoughReplicas},
		// What an overloaded Kafka answers; every client tries again. Kafka's
		// THROTTLING_QUOTA_EXCEEDED would say more, but librdkafka gives up on it.
		{logio.ErrBusy, kerr.RequestTimedOut},
		{logio.ErrStorage, kerr.KafkaStorageError},
		// The client looks for another leader until its own timeout ends; no
		// code says "this cluster has been replaced".
		{logio.ErrFenced, kerr.NotLeaderForPartition},
		// Not retriable in any client and, unlike INVALID_TOPIC_EXCEPTION or an
		// authorization error, without effect on the topic's other uses. The
		// message names the source cluster.
		{logio.ErrReadOnly, kerr.PolicyViolation},
		// The partition is being moved or deleted, or the broker stops.
		{logio.ErrClosed, kerr.NotLeaderForPartition},

		{record.ErrShort, kerr.CorruptMessage},
		{record.ErrCorrupt, kerr.CorruptMessage},
		{record.ErrMagic, kerr.UnsupportedForMessageFormat},
		{record.ErrCodec, kerr.UnsupportedCompressionType},

		{context.DeadlineExceeded, kerr.RequestTimedOut},
		{context.Canceled, kerr.RequestTimedOut},
	} {
		if errors.Is(err, line.err) {
			return line.code
		}
	}
	return nil
}

// code turns an error into the code and message to answer, and notes that the
// request failed. An error that no table knows is logged, since it is ours.
func (s *Server) code(r *request, err error) (int16, string) {
	if err == nil {
		return 0, ""
	}
	r.failed = true
	var own *refusal
	if errors.As(err, &own) {
		return own.kerr.Code, own.reason
	}
	if e := logCode(err); e != nil {
		return e.Code, err.Error()
	}
	if e := clusterCode(err); e != nil {
		return e.Code, err.Error()
	}
	s.log.Error("answer request", "api", apiName(r.key), "error", err)
	return kerr.UnknownServerError.Code, err.Error()
}

// produceCode is code for an append: while a leader is not ready yet a
// producer must refresh and retry, and not every client does on
// OFFSET_NOT_AVAILABLE, which Kafka never answers to Produce.
func (s *Server) produceCode(r *request, err error) (int16, string) {
	if errors.Is(err, logio.ErrNotAvailable) {
		r.failed = true
		return kerr.NotLeaderForPartition.Code, err.Error()
	}
	return s.code(r, err)
}

// message is code for fields that are nullable strings.
func (s *Server) message(r *request, err error) (int16, *string) {
	code, text := s.code(r, err)
	if code == 0 {
		return 0, nil
	}
	return code, &text
}

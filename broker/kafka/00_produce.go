package kafka

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Produce (key 0): v3-v13 are served. v0-v2 are advertised, because librdkafka
// stops compressing when they are not (KAFKA-18659), and answered with
// UNSUPPORTED_VERSION for each partition.
//
// Behaviour decided:
//   - The request is walked whole before the first append, so a malformed one
//     appends nothing. Record bytes stay where they arrived; the log gets a view.
//   - One batch for each partition, of magic 2, without gaps, CRC checked.
//     Compressed bodies are not opened: what a producer compressed wrongly is
//     found by its consumers.
//   - Appends are made in the order of the requests of a connection; answers
//     wait for the commit as acks says, at most for the request's timeout. A
//     timeout answers REQUEST_TIMED_OUT; the append goes on.
//   - acks=0 has no answer; an error then closes the connection, so that the
//     client refreshes its metadata.
//   - Internal topics, control batches and, until there is a coordinator for
//     transactions, transactional batches are refused. A transactional id in
//     the request is read and has no effect of its own.
//   - A read replica answers POLICY_VIOLATION with a message naming the source.
//
// Versions:
//   - v1 throttle time, v2 append time, v3 transactional id and magic 2
//   - v5 log start offset; v7 zstd
//   - v8 record errors and error message; v9 flexible
//   - v10 current leader and its address, beside NOT_LEADER_OR_FOLLOWER (leader.go); v12 transactions without AddPartitionsToTxn
//   - v13 topic ids

const (
	produceVersionMin = 3
	produceZstdMin    = 7
	produceLeaderMin  = 10
	produceIDsMin     = 13
	// produceTimeoutMax bounds the wait a client may ask for.
	produceTimeoutMax = 5 * time.Minute
)

// produceCall is one Produce request: made by the reader, filled by the logs,
// answered by the writer. Its byte slices are views of the request.
type produceCall struct {
	acks    logio.Acks
	timeout time.Duration
	begun   time.Time
	topics  []producedTopic
	parts   []producedPartition // of all topics, in order

	mu        sync.Mutex // guards what follows and parts' results
	pending   int        // appends without an answer
	abandoned bool       // the answer is written: later results are dropped
	done      chan struct{}
}

type producedTopic struct {
	name  []byte
	id    record.TopicID
	parts int // how many of produceCall.parts are its
}

type producedPartition struct {
	partition  int32
	records    []byte
	answered   bool
	err        error
	base       record.Offset
	appendTime int64
	logStart   record.Offset
}

// beginProduce walks a request and makes its appends.
func (s *Server) beginProduce(r *request, body walker) (*produceCall, error) {
	call, err := walkProduce(r.version, body)
	if err != nil {
		return nil, fmt.Errorf("%w: body of Produce v%d", err, r.version)
	}
	call.begun = time.Now()
	call.pending = len(call.parts)
	call.done = make(chan struct{})
	if call.pending == 0 {
		close(call.done)
		return call, nil
	}
	next := 0
	for _, t := range call.topics {
		for range t.parts {
			s.appendPart(r, call, t, next)
			next++
		}
	}
	return call, nil
}

// appendPart checks one partition's records and hands them to its log.
func (s *Server) appendPart(r *request, call *produceCall, t producedTopic, i int) {
	p := &call.parts[i]
	log, err := s.producible(r.version, call.acks, t, p.partition)
	if err == nil {
		err = checkRecords(r.version, p.records)
	}
	if err != nil {
		call.finish(i, logio.AppendResult{Err: err})
		return
	}
	s.counters.produceBytes.Add(int64(len(p.records)))
	log.Append(logio.AppendRequest{
		Batch: record.Batch(p.records),
		Acks:  call.acks,
		Done:  func(res logio.AppendResult) { call.finish(i, res) },
	})
}

// producible finds the log to append to.
func (s *Server) producible(version int16, acks logio.Acks, t producedTopic, partition int32) (Partition, error) {
	if version < produceVersionMin {
		return nil, refuse(kerr.UnsupportedVersion, fmt.Sprintf("Produce v%d is not served, v%d is the oldest", version, produceVersionMin))
	}
	if acks < logio.AcksAll || acks > logio.AcksLeader {
		return nil, refuse(kerr.InvalidRequiredAcks, fmt.Sprintf("acks is %d, want -1, 0 or 1", acks))
	}
	topic, err := s.resolve(t.name, t.id, version >= produceIDsMin)
	if err != nil {
		return nil, err
	}
	if topic.internal {
		return nil, refuse(kerr.InvalidTopicException, fmt.Sprintf("topic %s is internal: clients do not write to it", topic.name))
	}
	return s.partition(topic, partition)
}

// checkRecords verifies everything about a client's records that can be seen
// without opening their body.
func checkRecords(version int16, records []byte) error {
	if len(records) == 0 {
		return refuse(kerr.InvalidRecord, "no record batch for this partition")
	}
	b, rest, err := record.Next(records)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return refuse(kerr.InvalidRecord, fmt.Sprintf("%d bytes after the first record batch: one batch for each partition", len(rest)))
	}
	if err := b.Check(); err != nil {
		return err
	}
	switch {
	case b.RecordCount() < 1 || b.RecordCount()-1 != b.LastOffsetDelta():
		return refuse(kerr.InvalidRecord, fmt.Sprintf("%d records with last offset delta %d", b.RecordCount(), b.LastOffsetDelta()))
	case b.Control():
		return refuse(kerr.InvalidRecord, "clients do not write control records")
	case b.Transactional():
		return refuse(kerr.InvalidTxnState, "transactions are not served")
	case b.ProducerID() >= 0 && (b.ProducerEpoch() < 0 || b.BaseSequence() < 0):
		return refuse(kerr.InvalidRecord, fmt.Sprintf("producer %d with epoch %d and sequence %d", b.ProducerID(), b.ProducerEpoch(), b.BaseSequence()))
	case b.Codec() == record.Zstd && version < produceZstdMin:
		return refuse(kerr.UnsupportedCompressionType, fmt.Sprintf("zstd needs Produce v%d, this is v%d", produceZstdMin, version))
	}
	return nil
}

// finish notes one partition's result.
func (p *produceCall) finish(i int, r logio.AppendResult) {
	p.mu.Lock()
	defer p.mu.Unlock()
	part := &p.parts[i]
	if p.abandoned || part.answered {
		return
	}
	part.answered = true
	part.err, part.base, part.appendTime, part.logStart = r.Err, r.BaseOffset, r.AppendTime, r.LogStart
	part.records = nil
	if p.pending--; p.pending == 0 {
		close(p.done)
	}
}

// ready says whether all appends are answered, or none need be.
func (p *produceCall) ready() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pending == 0 || p.acks == logio.AcksNone
}

// wait returns when all appends are answered, or gives up on those that are not.
func (p *produceCall) wait(ctx context.Context) {
	if !p.ready() {
		timer := time.NewTimer(time.Until(p.begun.Add(p.timeout)))
		defer timer.Stop()
		select {
		case <-p.done:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.abandoned = true
	for i := range p.parts {
		if part := &p.parts[i]; !part.answered && p.acks != logio.AcksNone {
			part.err = refuse(kerr.RequestTimedOut, fmt.Sprintf("not committed within %v; it may be later", p.timeout))
		}
	}
}

// finishProduce answers a Produce in its turn.
func (c *conn) finishProduce(ctx context.Context, x *exchange) answer {
	x.produce.wait(ctx)
	if x.produce.acks != logio.AcksNone {
		c.out = c.s.appendProduceAnswer(ctx, c.out, &x.request, x.produce)
		return answer{}
	}
	for i := range x.produce.parts {
		if err := x.produce.parts[i].err; err != nil {
			x.failed = true
			c.s.log.Debug("close connection after an error with acks=0", "client", c.ip.String(), "error", err)
			return answer{cut: true}
		}
	}
	return answer{silent: true}
}

// walkProduce reads the request's structure. Nothing is copied but what lies
// across two pieces of the frame.
//
//	transactional id  nullable string (v3+)
//	acks              int16
//	timeout           int32, milliseconds
//	topics            array of: name string (to v12) or id (v13+), partitions, tags (v9+)
//	partitions        array of: index int32, records nullable bytes, tags (v9+)
//	tags              (v9+)
func walkProduce(version int16, w walker) (*produceCall, error) {
	flexible := version >= 9
	if version >= produceVersionMin {
		w.string(flexible)
	}
	call := &produceCall{acks: logio.Acks(w.int16())}
	call.timeout = min(time.Duration(max(w.int32(), 0))*time.Millisecond, produceTimeoutMax)
	topics := w.array(flexible, 3)
	call.topics = make([]producedTopic, 0, min(topics, 64))
	for range topics {
		var t producedTopic
		if version >= produceIDsMin {
			copy(t.id[:], w.take(len(t.id)))
		} else {
			t.name, _ = w.string(flexible)
		}
		t.parts = w.array(flexible, 5)
		for range t.parts {
			p := producedPartition{partition: w.int32(), base: -1, appendTime: -1, logStart: -1}
			p.records = w.bytes(flexible)
			w.tags(flexible)
			if w.bad {
				return nil, errMalformed
			}
			call.parts = append(call.parts, p)
		}
		w.tags(flexible)
		call.topics = append(call.topics, t)
	}
	w.tags(flexible)
	if w.bad || w.left() != 0 || len(call.parts) > math.MaxInt32 {
		return nil, errMalformed
	}
	return call, nil
}

package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerId (key 22): v0-v5, for idempotent producers.
//
// Behaviour decided:
//   - Ids come from the controller in blocks and are never given twice; what a
//     stopped broker had left of its block is lost.
//   - A producer that names its id and epoch (v3) gets a new id too, as from
//     Kafka: without a transactional id nobody could fence the old one.
//   - A transactional id is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED
//     until there is a coordinator: the one code that makes every client stop
//     at once with a clear error instead of trying for ever.
//
// Versions:
//   - v2 flexible; v3 id and epoch of the producer; v4 fenced producers have
//     their own code; v5 for transactions v2
func (s *Server) initProducerID(ctx context.Context, r *request, m *kmsg.InitProducerIDRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.InitProducerIDResponse)
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	id, err := s.initProducer(ctx, m)
	if resp.ErrorCode, _ = s.code(r, err); err == nil {
		resp.ProducerID, resp.ProducerEpoch = id, 0
	}
	return resp
}

func (s *Server) initProducer(ctx context.Context, m *kmsg.InitProducerIDRequest) (int64, error) {
	switch {
	case m.TransactionalID != nil:
		return 0, refuse(kerr.TransactionalIDAuthorizationFailed, fmt.Sprintf("transactions are not served (transactional id %q)", *m.TransactionalID))
	case m.Version >= 3 && (m.ProducerID == -1) != (m.ProducerEpoch == -1):
		return 0, refuse(kerr.InvalidRequest, "producer id and epoch come together")
	}
	ctx, cancel := context.WithTimeout(ctx, adminTimeoutDefault)
	defer cancel()
	return s.producerIDs.next(ctx, s.cfg.Cluster)
}

// producerIDBlock is how many ids one command of the controller gives; Kafka's
// number.
const producerIDBlock = 1000

// producerIDs hands out ids from a block. Its lock is held across the call to
// the controller on purpose: those who wait need its result.
type producerIDs struct {
	turn         chan struct{} // holds one token: the lock, which a context can end the wait for
	left, nextID int64         // of the block
}

func newProducerIDs() *producerIDs {
	p := &producerIDs{turn: make(chan struct{}, 1)}
	p.turn <- struct{}{}
	return p
}

func (p *producerIDs) next(ctx context.Context, from TopicAdmin) (int64, error) {
	select {
	case <-p.turn:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { p.turn <- struct{}{} }()
	if p.left == 0 {
		first, err := from.AllocateProducerIDs(ctx, producerIDBlock)
		if err != nil {
			return 0, fmt.Errorf("allocate producer ids: %w", err)
		}
		p.nextID, p.left = first, producerIDBlock
	}
	p.left--
	p.nextID++
	return p.nextID - 1, nil
}

package sim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"tidewater/internal/record"
)

const (
	// beatEvery is the pause between a broker's heartbeats, lostAfter how long
	// one is not heard until it counts as down.
	beatEvery = 100 * time.Millisecond
	lostAfter = 400 * time.Millisecond
)

// beat asks every other broker whether it is there, and tells the groups.
func (l *life) beat() {
	c := l.node.c
	for _, n := range c.nodes {
		if n == l.node {
			continue
		}
		if o := n.life; o != nil && o.up && !n.paused() && !c.net.cut(l.node, n) && !c.net.cut(n, l.node) {
			l.heard[n.id] = l.w.now
			l.raft.PeerUp(n.id, uint64(o.boot))
		} else if l.w.now.Sub(l.heard[n.id]) >= lostAfter {
			l.raft.PeerDown(n.id)
		}
	}
	l.stepSoon()
	l.w.add(l.w.jitter(beatEvery), event{life: l, front: true, run: l.beat})
}

// copies reaches the segments of other brokers' replicas.
type copies struct{ life *life }

var (
	errUnreachable = errors.New("the broker is not reached")
	errBroken      = errors.New("the connection broke")
)

// Segments implements partition.SegmentSource. The stream may break off.
func (s copies) Segments(ctx context.Context, node int32, id record.PartitionID, request []byte) (io.ReadCloser, error) {
	l, w := s.life, s.life.w
	l.pass(w.millis(0, 20))
	var from *life
	for _, o := range l.reach() {
		if o.node.id == node {
			from = o
		}
	}
	if from == nil {
		return nil, errUnreachable
	}
	var b bytes.Buffer
	var err error
	w.guard(from, false, func() { err = from.partition(id).ServeSegments(ctx, request, &b) })
	if err != nil || from.dead {
		return nil, errors.Join(errBroken, err)
	}
	if w.closing || w.rng.IntN(5) > 0 {
		l.pass(w.millis(0, 100))
		return io.NopCloser(&b), nil
	}
	part := b.Bytes()[:w.rng.IntN(b.Len()+1)]
	return io.NopCloser(io.MultiReader(bytes.NewReader(part), broken{})), nil
}

// broken is what comes of a connection that is gone.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBroken }

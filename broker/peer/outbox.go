package peer

import (
	"context"
	"sync"

	"tidewater/broker/multiraft"
)

// outbox is what waits to be written on a connection, bounded in bytes and
// raft messages, and a place for one heartbeat of each kind that goes first.
// What is being written counts until it is.
type outbox struct {
	bytesMax, messagesMax int
	// wake holds one token when there is something to take.
	wake chan struct{}

	mu              sync.Mutex // guards what follows
	next, spare     *batch
	bytes, messages int
	pings, pongs    beats
	room            chan struct{} // closed when there may be room; nil when nobody waits
	closed          bool
}

// beats is at most one heartbeat that waits: a newer one replaces it.
type beats struct {
	set bool
	beat
}

func newOutbox(bytesMax, messagesMax int) *outbox {
	return &outbox{bytesMax: bytesMax, messagesMax: messagesMax, wake: make(chan struct{}, 1), next: &batch{}, spare: &batch{}}
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// message queues a raft message, or reports that there is no room. The caller
// signals when it is done with its messages.
func (o *outbox) message(m *multiraft.Message) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.messages >= o.messagesMax || o.bytes >= o.bytesMax {
		return false
	}
	bytes := o.next.bytes
	o.next.message(m)
	o.bytes += o.next.bytes - bytes
	o.messages++
	return true
}

// flush wakes the writer if anything waits.
func (o *outbox) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.next.empty() {
		o.signal()
	}
}

// put queues a frame and waits for room until ctx ends. With force it does not
// wait: for frames that are few and small.
func (o *outbox) put(ctx context.Context, force bool, encode func([]byte) []byte) error {
	for {
		room, err := o.offer(force, encode)
		if room == nil {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (o *outbox) offer(force bool, encode func([]byte) []byte) (<-chan struct{}, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, ErrLost
	}
	if o.bytes >= o.bytesMax && !force {
		if o.room == nil {
			o.room = make(chan struct{})
		}
		return o.room, nil
	}
	bytes := o.next.bytes
	o.next.frame(encode)
	o.bytes += o.next.bytes - bytes
	o.signal()
	return nil, nil
}

func (o *outbox) ping(p beat) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pings = beats{true, p}
	o.signal()
}

func (o *outbox) pong(p beat) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pongs = beats{true, p}
	o.signal()
}

// beats appends the heartbeats that wait.
func (o *outbox) beats(b []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pongs.set {
		b = o.pongs.appendTo(b, kindPong)
	}
	if o.pings.set {
		b = o.pings.appendTo(b, kindPing)
	}
	o.pings.set, o.pongs.set = false, false
	return b
}

// take gives what waits, nil for nothing. The batch comes back with written.
func (o *outbox) take() *batch {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.next.empty() {
		return nil
	}
	b := o.next
	b.closeFrame()
	o.next, o.spare = o.spare, nil
	return b
}

func (o *outbox) written(b *batch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bytes -= b.bytes
	o.messages -= b.messages
	b.reset()
	o.spare = b
	o.makeRoom()
}

func (o *outbox) makeRoom() {
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
}

// close drops what waits, refuses what comes, and gives the number of raft
// messages that were not written.
func (o *outbox) close() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	dropped := o.messages
	o.closed, o.bytes, o.messages = true, 0, 0
	o.next, o.spare = &batch{}, nil
	o.makeRoom()
	o.signal()
	return dropped
}

package multiraft

import (
	"sync"
	"time"
)

// item is one piece of work for a shard: task or call is set. Items are values,
// so that queueing one allocates nothing.
type item struct {
	nodeTask
	call func(*Shard)
}

// answer is one batch and what its flush gave.
type answer struct {
	batch *Batch // nil: the journal is dead, whatever is in flight
	err   error
}

// messagesMax and messageQueueBytesMax bound the messages from peers that wait
// at a shard, whatever its tasks do: some of each of ten thousand groups. A
// message that is lost costs its group the time to the next heartbeat.
const (
	messagesMax          = 64 << 10
	messageQueueBytesMax = 64 << 20
)

// inbox is the bounded queues before a shard's loop, one for tasks and one for
// messages, with an unbounded lane for flush answers, of which there are at
// most batchesInFlightMax.
type inbox struct {
	max int
	// wake holds one token when there is something to take.
	wake chan struct{}
	now  func() int64 // pace's clock
	pace pace

	mu           sync.Mutex // guards what follows
	items        []item
	messages     []Message
	messageBytes int64 // of the entries in messages
	answers      []answer
	room         chan struct{} // closed when items are taken; nil when nobody waits
	ticks        int
	closed       bool
}

func newInbox(max int, now func() int64) *inbox {
	return &inbox{max: max, wake: make(chan struct{}, 1), now: now}
}

// put queues an item, waiting up to wait for room.
func (b *inbox) put(it item, wait time.Duration) error {
	var deadline *time.Timer
	for {
		room, err := b.offer(it)
		if room == nil {
			return err
		}
		if deadline == nil {
			if wait <= 0 {
				return ErrBusy
			}
			deadline = time.NewTimer(wait)
			defer deadline.Stop()
		}
		select {
		case <-room:
		case <-deadline.C:
			return ErrBusy
		}
	}
}

// offer queues the item, or gives a channel that is closed when there may be
// room again.
func (b *inbox) offer(it item) (<-chan struct{}, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrStopped
	}
	if len(b.items) >= b.max && it.call == nil {
		if b.room == nil {
			b.room = make(chan struct{})
		}
		return b.room, nil
	}
	b.items = append(b.items, it)
	b.come()
	b.signal()
	return nil, nil
}

// receive queues those of the messages that are for shard number me of n, and
// gives how many found no room.
func (b *inbox) receive(messages []Message, me, n int) (dropped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := len(b.messages)
	for i := range messages {
		m := &messages[i]
		if n > 1 && shardOf(m.Group, n) != me {
			continue
		}
		if b.closed || len(b.messages) >= messagesMax || b.messageBytes >= messageQueueBytesMax {
			dropped++
			continue
		}
		b.messages = append(b.messages, *m)
		b.messageBytes += dataBytes(m.Entries)
	}
	if len(b.messages) > before {
		b.come()
		b.signal()
	}
	return dropped
}

// come notes since when something waits.
func (b *inbox) come() {
	if b.pace.since.Load() == 0 {
		b.pace.since.Store(b.now())
	}
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) answer(a answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answers = append(b.answers, a)
	b.signal()
}

// tick adds a tick unless the loop is already late by several.
func (b *inbox) tick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ticks < heartbeatTicks {
		b.ticks++
	}
	b.come()
	b.signal()
}

// close refuses what comes from now on; what is queued is still taken.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.signal()
}

// work is what one take gives.
type work struct {
	items    []item
	messages []Message
	answers  []answer
	ticks    int
	closed   bool
}

func (w *work) empty() bool {
	return len(w.items)+len(w.messages)+len(w.answers)+w.ticks == 0
}

// take gives everything queued, items and messages only if asked for, and uses
// the slices of the last work again.
func (b *inbox) take(last work, items bool) work {
	clear(last.items)
	clear(last.messages)
	clear(last.answers)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pace.begin(b.now(), items)
	w := work{answers: b.answers, ticks: b.ticks, closed: b.closed}
	b.answers, b.ticks = last.answers[:0], 0
	if !items {
		w.items, w.messages = last.items[:0], last.messages[:0]
		return w
	}
	w.items, b.items = b.items, last.items[:0]
	w.messages, b.messages, b.messageBytes = b.messages, last.messages[:0], 0
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
	return w
}

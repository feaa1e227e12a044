package kafka

import (
	"context"
	"sync"
)

// memory counts the request bytes held. It delays whoever wants to start on a
// request while the bound is passed; a request once started is never stopped in
// the middle, since two half-read requests could then wait for each other. So
// the bound can be passed by at most one request per connection.
type memory struct {
	mu   sync.Mutex
	max  int64
	used int64
	free chan struct{} // closed when used falls below max; nil when nobody waits
}

// wait returns once there is room, or with ctx.
func (m *memory) wait(ctx context.Context) (waited bool, err error) {
	for {
		m.mu.Lock()
		if m.used < m.max {
			m.mu.Unlock()
			return waited, nil
		}
		if m.free == nil {
			m.free = make(chan struct{})
		}
		free := m.free
		m.mu.Unlock()
		waited = true
		select {
		case <-free:
		case <-ctx.Done():
			return true, ctx.Err()
		}
	}
}

// hold adds n bytes; a negative n gives them back.
func (m *memory) hold(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used += int64(n)
	if m.used < m.max && m.free != nil {
		close(m.free)
		m.free = nil
	}
}

// grant adds what of want there is room for, but at least the smaller of want
// and least, without waiting. The caller gives it back by hold.
func (m *memory) grant(want, least int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := int(min(int64(want), max(m.max-m.used, int64(least))))
	m.used += int64(n)
	return n
}

func (m *memory) held() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

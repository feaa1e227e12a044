package remote

// queue has a span in memory written to the disk beside the reads; false if
// too much waits for the disk, or there is nobody to do it.
func (c *Cache) queue(s *span) bool {
	m := c.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if !c.holds(s.bytes) {
		return true // never kept
	}
	if m.wake == nil || s.place == nil || m.filling+s.bytes > m.bytesMax*fillShare/4 {
		return false
	}
	s.filling = true
	m.filling += s.bytes
	m.fills = append(m.fills, s)
	m.wake(Fill)
	return true
}

// fillOne writes the span that waits for longest; false without one.
func (c *Cache) fillOne() bool {
	m := c.memory
	m.mu.Lock()
	if len(m.fills) == 0 {
		m.mu.Unlock()
		return false
	}
	s := m.fills[0]
	m.fills[0] = nil
	m.fills = m.fills[1:]
	m.mu.Unlock()
	c.put(s.keys, s.cuts, s.body)
	m.mu.Lock()
	defer m.mu.Unlock()
	s.filling = false
	m.filling -= s.bytes
	return true
}

package remote

import "fmt"

// Audit checks what memory must be at any moment: within its budget, and
// counted right. It gives the bytes read ahead and not read.
func (c *Cache) Audit() (unread int64, err error) {
	m := c.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	var bytes, filling int64
	seen := map[*span]bool{}
	for _, at := range m.byKey {
		if seen[at.span] {
			continue
		}
		seen[at.span] = true
		bytes += at.span.bytes
		if at.span.stream != nil {
			unread += at.span.bytes
		}
		if (at.span.place == nil) != (at.span.body == nil) || at.span.waiters < 0 {
			return 0, fmt.Errorf("span %+v", at.span)
		}
	}
	for _, f := range m.fills {
		filling += f.bytes
	}
	switch {
	case m.bytes != bytes || m.unread != unread || m.filling < filling:
		return 0, fmt.Errorf("counted %d bytes, %d unread, %d to fill; it holds %d, %d, %d", m.bytes, m.unread, m.filling, bytes, unread, filling)
	case bytes > m.bytesMax || unread > m.bytesMax*unreadShare/4 || m.filling > m.bytesMax*fillShare/4:
		return 0, fmt.Errorf("%d bytes, %d unread, %d to fill of %d", bytes, unread, m.filling, m.bytesMax)
	}
	return unread, nil
}

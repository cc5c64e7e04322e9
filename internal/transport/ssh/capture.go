package ssh

import "sync"

const defaultMaxOutput = 256 << 10

// capture keeps the first and the last half of what is written to it.
type capture struct {
	mu   sync.Mutex
	half int
	head []byte
	tail []byte // a ring once it is full
	next int    // where the ring is written next
	cut  bool
}

func newCapture(limit int) *capture {
	if limit <= 0 {
		limit = defaultMaxOutput
	}
	return &capture{half: max(1, limit/2)}
}

func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	written := len(p)
	room := min(len(p), c.half-len(c.head))
	c.head = append(c.head, p[:room]...)
	p = p[room:]
	if room := min(len(p), c.half-len(c.tail)); room > 0 {
		c.tail = append(c.tail, p[:room]...)
		p = p[room:]
	}
	if len(p) == 0 {
		return written, nil
	}
	c.cut = true
	if len(p) > c.half {
		p = p[len(p)-c.half:]
	}
	for len(p) > 0 {
		n := copy(c.tail[c.next:], p)
		c.next = (c.next + n) % c.half
		p = p[n:]
	}
	return written, nil
}

// bytes returns what was kept, and whether the middle is missing.
func (c *capture) bytes() ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := make([]byte, 0, len(c.head)+len(c.tail))
	kept = append(kept, c.head...)
	kept = append(kept, c.tail[c.next:]...)
	return append(kept, c.tail[:c.next]...), c.cut
}

package wsman

import (
	"sync"
	"time"
)

// contexts are the enumerations that have instances left. One that nobody reads on
// ends by itself.
type contexts struct {
	lasts time.Duration
	mu    sync.Mutex
	open  map[string]enumeration
}

type enumeration struct {
	items [][]byte
	ends  time.Time
}

func (c *contexts) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire()
	return len(c.open)
}

// expire removes what has ended. The lock is held.
func (c *contexts) expire() {
	for id, e := range c.open {
		if time.Now().After(e.ends) {
			delete(c.open, id)
		}
	}
}

func (c *contexts) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = nil
}

// keep stores what is left and returns the name of the context.
func (c *contexts) keep(items [][]byte) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[string]enumeration{}
	}
	id := "uuid:" + newID()
	c.open[id] = enumeration{items: items, ends: time.Now().Add(c.lasts)}
	return id
}

// take removes a context and returns what it held.
func (c *contexts) take(id string) ([][]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire()
	e, ok := c.open[id]
	delete(c.open, id)
	return e.items, ok
}

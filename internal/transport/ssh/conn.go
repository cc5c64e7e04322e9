package ssh

import (
	"net"
	"sync"
)

// recordingConn remembers the first error of a connection.
type recordingConn struct {
	net.Conn
	mu    sync.Mutex
	first error
}

func (c *recordingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.record(err)
}

func (c *recordingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.record(err)
}

func (c *recordingConn) record(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil {
		c.first = err
	}
	return err
}

func (c *recordingConn) lost() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first
}

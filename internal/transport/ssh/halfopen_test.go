package ssh

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// halfOpen is a proxy that can stop forwarding, as a path does from which a
// router has vanished: nothing is closed, and nothing arrives.
type halfOpen struct {
	listener net.Listener
	target   string
	mu       sync.Mutex
	frozen   map[net.Conn]chan struct{} // by client, closed when it is frozen
	conns    []net.Conn
	stopped  bool
}

func newHalfOpen(t *testing.T, target string) *halfOpen {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &halfOpen{listener: listener, target: target, frozen: map[net.Conn]chan struct{}{}}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.carry(&group, conn)
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
		group.Wait()
	})
	return p
}

// cut ends all connections, as the hosts' own timeouts do in the end.
func (p *halfOpen) cut() {
	p.freeze()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		_ = conn.Close()
	}
}

func (p *halfOpen) address() string { return p.listener.Addr().String() }

func (p *halfOpen) carry(group *sync.WaitGroup, client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.Close()
		return
	}
	frozen := make(chan struct{})
	p.mu.Lock()
	p.conns = append(p.conns, client, server)
	if p.stopped {
		close(frozen)
	} else {
		p.frozen[client] = frozen
	}
	p.mu.Unlock()
	group.Go(func() { pump(server, client, frozen) })
	group.Go(func() { pump(client, server, frozen) })
}

// pump swallows what comes after the freeze, an end included.
func pump(to, from net.Conn, frozen <-chan struct{}) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		select {
		case <-frozen:
			_, _ = io.Copy(io.Discard, from)
			return
		default:
		}
		if _, failed := to.Write(buffer[:n]); failed != nil || err != nil {
			_ = to.Close()
			return
		}
	}
}

// freeze stops what is open and what comes.
func (p *halfOpen) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	for client, frozen := range p.frozen {
		close(frozen)
		delete(p.frozen, client)
	}
}

// thaw carries what comes; what was frozen stays so.
func (p *halfOpen) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = false
}

package delay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// window is how many pieces of at most pieceBytes may be under way in one direction.
const (
	window     = 256
	pieceBytes = 16 << 10
)

// Proxy forwards connections to a target.
type Proxy struct {
	target   string
	listener net.Listener
	oneWay   atomic.Int64 // nanoseconds
	done     chan struct{}
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// piece is what was read at once, and when it may be passed on.
type piece struct {
	bytes []byte
	due   time.Time
}

// Start listens on a port of loopback and forwards to target, HOST:PORT, with a
// delay in each direction; the round trip takes twice as long. Connecting to the
// proxy itself is not delayed.
func Start(target string, oneWay time.Duration) (*Proxy, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start a delaying proxy: %w", err)
	}
	p := &Proxy{target: target, listener: listener, done: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	p.SetDelay(oneWay)
	p.running.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens, HOST:PORT.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// SetDelay changes the delay for what is read from now on. Bytes never overtake
// one another.
func (p *Proxy) SetDelay(oneWay time.Duration) { p.oneWay.Store(int64(oneWay)) }

// Drop resets the connections that are open. New ones are accepted.
func (p *Proxy) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset instead of an orderly end
		}
		_ = conn.Close()
	}
}

// Close ends the proxy and all connections through it.
func (p *Proxy) Close() error {
	close(p.done)
	err := p.listener.Close()
	p.Drop()
	p.running.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		if !p.keep(client) {
			return
		}
		p.running.Go(func() { p.forward(client) })
	}
}

// keep records an open connection, unless the proxy has been closed.
func (p *Proxy) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		_ = conn.Close()
		return false
	default:
		p.conns[conn] = struct{}{}
		return true
	}
}

func (p *Proxy) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
	_ = conn.Close()
}

func (p *Proxy) forward(client net.Conn) {
	defer p.forget(client)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", p.target)
	if err != nil || !p.keep(server) {
		return
	}
	defer p.forget(server)
	var both sync.WaitGroup
	both.Go(func() { p.pump(server, client) })
	both.Go(func() { p.pump(client, server) })
	both.Wait()
}

// pump copies from one connection to the other. One goroutine reads and stamps,
// the other writes when it is time, so that many bytes can be under way at once.
func (p *Proxy) pump(to, from net.Conn) {
	pieces := make(chan piece, window)
	go func() {
		defer close(pieces)
		for {
			buffer := make([]byte, pieceBytes)
			n, err := from.Read(buffer)
			due := time.Now().Add(time.Duration(p.oneWay.Load()))
			if n > 0 {
				pieces <- piece{bytes: buffer[:n], due: due}
			}
			if err != nil {
				pieces <- piece{due: due} // the end travels as long as the bytes do
				return
			}
		}
	}()
	for next := range pieces {
		if !p.waitUntil(next.due) {
			break
		}
		if len(next.bytes) == 0 {
			closeWrite(to)
			continue
		}
		if _, err := to.Write(next.bytes); err != nil {
			_ = from.Close()
			break
		}
	}
	// The reader may still wait for room.
	for range pieces { //nolint:revive // emptied on purpose
	}
}

func (p *Proxy) waitUntil(due time.Time) bool {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.done:
		return false
	}
}

// closeWrite passes on that one side has nothing more to say.
func closeWrite(conn net.Conn) {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err == nil || errors.Is(err, io.EOF) {
			return
		}
	}
	_ = conn.Close()
}

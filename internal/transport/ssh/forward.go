package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// errJumpLost says that the connection to a jump host was found dead. That says
// nothing about what is behind it, nor about the jump host.
var errJumpLost = errors.New("the connection to the jump host was lost")

// forward connects to an address from the host (RFC 4254, section 7.2). It calls
// ended once, when nothing goes through the host any longer.
func (c *Client) forward(ctx context.Context, config Config, ended func()) (net.Conn, error) {
	host, port, err := hostPort(config.Address)
	if err != nil {
		ended()
		return nil, unreachable(config, err)
	}
	opened := c.openChannel(ctx, "direct-tcpip", ssh.Marshal(struct {
		Host       string
		Port       uint32
		Originator string
		From       uint32
	}{host, port, "127.0.0.1", 0}), ended)
	if opened.err == nil {
		return newForwarded(c, config.Address, opened, ended), nil
	}
	if !opened.late {
		ended()
	}
	return nil, unreachable(config, forwardError(opened))
}

func hostPort(address string) (host string, port uint32, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	number, err := strconv.ParseUint(text, 10, 16)
	return host, uint32(number), err
}

func unreachable(config Config, err error) error {
	return &transport.UnreachableError{Address: config.where(), Err: err}
}

func forwardError(o opening) error {
	refused := &ssh.OpenChannelError{}
	switch {
	case o.late:
		return fmt.Errorf("the jump host has no answer from it in time: %w", o.err)
	case !errors.As(o.err, &refused):
		return fmt.Errorf("%w: %w", errJumpLost, o.err)
	case refused.Reason == ssh.Prohibited:
		return fmt.Errorf("the jump host's SSH server does not allow it (AllowTcpForwarding, PermitOpen): %s", refused.Message)
	default:
		return fmt.Errorf("the jump host cannot connect to it: %s", refused.Message)
	}
}

// forwarded is a connection that a jump host has made for us. A pipe stands
// between it and its user, for a channel can only be closed with the other end's consent, and a user
// must be able to leave without.
type forwarded struct {
	net.Conn // our end of the pipe
	client   *Client
	address  string
	channel  ssh.Channel
	joined   sync.WaitGroup
	once     sync.Once
	ended    func()
}

func newForwarded(client *Client, address string, o opening, ended func()) *forwarded {
	near, far := net.Pipe()
	f := &forwarded{Conn: near, client: client, address: address, channel: o.channel, ended: ended}
	f.joined.Go(func() { ssh.DiscardRequests(o.requests) })
	f.joined.Go(func() {
		_, _ = io.Copy(f.channel, far)
		_ = far.Close()
	})
	f.joined.Go(func() {
		_, _ = io.Copy(far, f.channel)
		_ = far.Close()
	})
	return f
}

// Close ends our side at once.
func (f *forwarded) Close() error {
	f.once.Do(func() {
		_ = f.Conn.Close()
		go f.hangUp()
	})
	return nil
}

// hangUp tells the jump host. One that does not agree in time is asked whether
// it is still there; if not, the connection to it ends, and with it what is left here.
func (f *forwarded) hangUp() {
	late := time.AfterFunc(closeTime, f.client.suspect)
	_ = f.channel.Close()
	f.joined.Wait()
	late.Stop()
	f.ended()
}

// RemoteAddr is the address behind the jump host, if it is no name.
func (f *forwarded) RemoteAddr() net.Addr {
	if address, err := netip.ParseAddrPort(f.address); err == nil {
		return net.TCPAddrFromAddrPort(address)
	}
	return f.Conn.RemoteAddr()
}

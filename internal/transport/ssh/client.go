package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// Client is a connection to a host. Its methods may be called from several goroutines.
type Client struct {
	address  string
	conn     ssh.Conn
	remote   netip.AddrPort
	hostKey  string
	sessions *limiter
	done     chan struct{}
	stopped  chan struct{} // the keepalives have ended
	probe    chan struct{} // asks for a keepalive now
}

// Dial connects, verifies the host key and authenticates. It returns a
// TrustError, a CredentialsError or an UnreachableError.
func Dial(ctx context.Context, config Config) (*Client, error) {
	config = config.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, config.DialTimeout)
	defer cancel()
	pinned, err := parsePins(config.HostKeys)
	if err != nil {
		return nil, err
	}
	client, err := dial(ctx, config, pinned)
	if !noPinnedType(err) || len(pinned.keys) == 0 {
		return client, err
	}
	_, err = dial(ctx, config, pins{algorithms: hostKeyAlgorithms})
	shown := &transport.TrustError{}
	if errors.As(err, &shown) {
		shown.Reason = transport.TrustMismatch
	}
	return nil, err
}

func dial(ctx context.Context, config Config, pinned pins) (*Client, error) {
	dialer := net.Dialer{Control: config.Control}
	tcp, err := dialer.DialContext(ctx, "tcp", config.Address)
	if err != nil {
		return nil, &transport.UnreachableError{Address: config.Address, Err: err}
	}
	conn := &recordingConn{Conn: tcp}
	client, err := handshake(ctx, config, pinned, conn)
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	return client, nil
}

// handshake ends with ctx: closing the connection is what ends the library's reads.
func handshake(ctx context.Context, config Config, pinned pins, conn *recordingConn) (*Client, error) {
	identity := &verifier{pins: pinned}
	auth, err := newAuthenticator(config, conn.lost)
	if err != nil {
		return nil, err
	}
	release := context.AfterFunc(ctx, func() { _ = conn.Close() })
	sshConn, channels, requests, err := ssh.NewClientConn(conn, config.Address, &ssh.ClientConfig{
		Config:            ssh.Config{KeyExchanges: keyExchanges, Ciphers: ciphers, MACs: macs},
		User:              config.User,
		AuthCallback:      auth.next,
		HostKeyCallback:   identity.check,
		HostKeyAlgorithms: pinned.algorithms,
		BannerCallback:    ssh.BannerCallback(func(string) error { return nil }),
		ClientVersion:     "SSH-2.0-isthmus",
	})
	if !release() && err == nil {
		_ = sshConn.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, classify(ctx, config, auth, err)
	}
	return newClient(config, sshConn, channels, requests, keyLine(identity.seen)), nil
}

// classify is the one place where the library's errors are told apart.
func classify(ctx context.Context, config Config, auth *authenticator, err error) error {
	trust := &transport.TrustError{}
	switch {
	case errors.As(err, &trust):
		return trust
	case ctx.Err() != nil:
		return &transport.UnreachableError{Address: config.Address, Err: fmt.Errorf("no SSH handshake in time: %w", context.Cause(ctx))}
	case auth.refused(err):
		return &transport.CredentialsError{Method: auth.methods(), User: config.User, Err: err}
	default:
		return &transport.UnreachableError{Address: config.Address, Err: err}
	}
}

func newClient(config Config, conn ssh.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request, hostKey string) *Client {
	c := &Client{
		address:  config.Address,
		conn:     conn,
		remote:   addrPort(conn.RemoteAddr()),
		hostKey:  hostKey,
		sessions: newLimiter(maxSessions),
		done:     make(chan struct{}),
		stopped:  make(chan struct{}),
		probe:    make(chan struct{}, 1),
	}
	go ssh.DiscardRequests(requests)
	go refuseChannels(channels)
	go func() {
		_ = conn.Wait()
		close(c.done)
	}()
	go c.keepAlive(config.KeepAliveInterval, config.KeepAliveTimeout)
	return c
}

// refuseChannels: a host that we are logged in to has nothing to open here.
func refuseChannels(channels <-chan ssh.NewChannel) {
	for channel := range channels {
		_ = channel.Reject(ssh.Prohibited, "no channels are accepted")
	}
}

func addrPort(address net.Addr) netip.AddrPort {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	port := tcp.AddrPort()
	return netip.AddrPortFrom(port.Addr().Unmap(), port.Port())
}

// keepAlive closes the connection when the host does not answer in time.
func (c *Client) keepAlive(interval, timeout time.Duration) {
	defer close(c.stopped)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-c.probe:
		case <-ticker.C:
		}
		overdue := time.AfterFunc(timeout, func() { _ = c.conn.Close() })
		// Any answer will do, a refusal included.
		_, _, err := c.conn.SendRequest("keepalive@openssh.com", true, nil)
		overdue.Stop()
		if err != nil {
			_ = c.conn.Close()
			return
		}
	}
}

// suspect has the host asked at once whether it is still there.
func (c *Client) suspect() {
	select {
	case c.probe <- struct{}{}:
	default:
	}
}

// RemoteAddr is the address that is connected to.
func (c *Client) RemoteAddr() netip.AddrPort { return c.remote }

// HostKey is the key that the host showed, as "ssh-ed25519 AAAA...".
func (c *Client) HostKey() string { return c.hostKey }

// Fingerprint of the host key, as ssh-keygen -l prints it.
func (c *Client) Fingerprint() string {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(c.hostKey))
	if err != nil {
		return ""
	}
	return ssh.FingerprintSHA256(key)
}

// Done is closed when the connection has ended, for whatever reason.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the connection and waits for what belongs to it. What runs on the
// host goes on.
func (c *Client) Close() error {
	_ = c.conn.Close() // It fails only if the connection has ended already.
	<-c.done
	<-c.stopped
	return nil
}

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

// connect makes the connection that the handshake is to have.
type connect func(ctx context.Context, config Config) (net.Conn, error)

// Dial connects, verifies the host key and authenticates. It returns a
// TrustError, a CredentialsError or an UnreachableError. A host behind a jump
// host is reached by Pool.Dial.
func Dial(ctx context.Context, config Config) (*Client, error) {
	if config.Jump != nil {
		return nil, errors.New("a host behind a jump host is reached through a pool of connections")
	}
	attempt, err := prepare(config)
	if err != nil {
		return nil, err
	}
	return attempt.dial(ctx, direct)
}

// direct is the connect of a host that the operator reaches itself.
func direct(ctx context.Context, config Config) (net.Conn, error) {
	dialer := net.Dialer{Control: config.Control}
	conn, err := dialer.DialContext(ctx, "tcp", config.Address)
	if err != nil {
		return nil, &transport.UnreachableError{Address: config.Address, Err: err}
	}
	return conn, nil
}

// attempt is what a dial needs to know of both sides.
type attempt struct {
	config Config
	pinned pins
	auth   *authenticator
	now    time.Time
}

// prepare finds what is wrong on our side, before anything is sent.
func prepare(config Config) (attempt, error) {
	a := attempt{config: config.withDefaults(), now: time.Now()}
	var err error
	if a.pinned, err = parsePins(config); err != nil {
		return attempt{}, err
	}
	a.auth, err = newAuthenticator(config, a.now)
	return a, err
}

func (a attempt) dial(ctx context.Context, by connect) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, a.config.DialTimeout)
	defer cancel()
	client, err := dial(ctx, a.config, by, &verifier{pins: a.pinned, now: a.now}, a.auth)
	if !noPinnedType(err) || a.pinned.none() {
		return client, err
	}
	// Without pins no key is accepted; this only looks at what the host has instead.
	_, err = dial(ctx, a.config, by, &verifier{pins: pins{algorithms: hostKeyAlgorithms}, now: a.now}, a.auth)
	shown := &transport.TrustError{}
	if errors.As(err, &shown) {
		shown.Reason, shown.Accepted = transport.TrustMismatch, a.pinned.String()
	}
	return nil, err
}

func dial(ctx context.Context, config Config, by connect, identity *verifier, auth *authenticator) (*Client, error) {
	made, err := by(ctx, config)
	if err != nil {
		return nil, err
	}
	conn := &recordingConn{Conn: made}
	auth.lost = conn.lost
	client, err := handshake(ctx, config, identity, auth, conn)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return client, nil
}

// handshake ends with ctx: closing the connection is what ends the library's reads.
func handshake(ctx context.Context, config Config, identity *verifier, auth *authenticator, conn net.Conn) (*Client, error) {
	release := context.AfterFunc(ctx, func() { _ = conn.Close() })
	sshConn, channels, requests, err := ssh.NewClientConn(conn, config.Address, &ssh.ClientConfig{
		Config:            ssh.Config{KeyExchanges: keyExchanges, Ciphers: ciphers, MACs: macs},
		User:              config.User,
		AuthCallback:      auth.next,
		HostKeyCallback:   identity.check,
		HostKeyAlgorithms: identity.pins.algorithms,
		BannerCallback:    auth.banner,
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
		return &transport.UnreachableError{Address: config.where(), Err: fmt.Errorf("no SSH handshake in time: %w", context.Cause(ctx))}
	case auth.refused(err):
		return &transport.CredentialsError{Method: auth.methods(), User: config.User, Err: err}
	default:
		return &transport.UnreachableError{Address: config.where(), Err: tooWeak(err)}
	}
}

func newClient(config Config, conn ssh.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request, hostKey string) *Client {
	c := &Client{
		address:  config.where(),
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

func (c *Client) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
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

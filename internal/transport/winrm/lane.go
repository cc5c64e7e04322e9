package winrm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

const (
	// maxReply bounds a body of a reply; requests ask for at most maxEnvelope.
	maxReply = 4 << 20
	// maxHead is room for the headers of a reply and for the framing of its body.
	maxHead = 256 << 10
	// A lane that rested longer is not trusted to be alive: http.sys closes
	// idle connections after two minutes, and a request that meets the closing
	// would have an unknown outcome.
	restTime = 60 * time.Second
	// A lane that rested longer than this is asked whether its peer has closed it.
	peekAfter = time.Second
)

// lane is one TCP connection, authenticated for as long as it lives, with TLS or
// a session that seals messages. It is used by one request at a time. It speaks
// HTTP through net/http's codec but not through its pool: the pool may send a
// request again on another connection, and would not know which of its
// connections are authenticated.
type lane struct {
	conn   net.Conn
	reader *bufio.Reader
	// intake is what reader reads from.
	intake *intake
	tls    *tls.Conn // conn itself; nil over HTTP
	// session seals messages; without TLS none is sent but through it.
	session session
	// authorization goes with every request (Basic, Certificate); otherwise it is empty.
	authorization string
	rested        time.Time
}

// intake bounds what is read for one answer, with its status line and headers:
// net/http's codec reads those of any length.
type intake struct {
	conn net.Conn
	left int
}

func (i *intake) Read(p []byte) (int, error) {
	if i.left <= 0 {
		return 0, errTooLarge
	}
	n, err := i.conn.Read(p[:min(len(p), i.left)])
	i.left -= n
	return n, err
}

var errTooLarge = fmt.Errorf("the answer is larger than %d bytes", maxReply)

// newLane makes a lane of a connection, which is a TLS connection or is to be sealed.
func newLane(conn net.Conn) *lane {
	in := &intake{conn: conn}
	l := &lane{conn: conn, intake: in, reader: bufio.NewReader(in)}
	l.tls, _ = conn.(*tls.Conn)
	return l
}

// outgoing is a request before it is written; without a body it only authenticates.
type outgoing struct {
	authorization string
	contentType   string
	body          []byte
}

// httpReply is an answer with its body, before it is understood.
type httpReply struct {
	status int
	header http.Header
	body   []byte
	// last: the server closes the connection after it.
	last bool
}

// acquire takes a lane for one request: an idle one, or a new one that is
// connected and authenticated. Nothing of the request has been sent when it fails.
func (c *Client) acquire(ctx context.Context) (*lane, error) {
	if final := c.final.Load(); final != nil {
		return nil, final.err
	}
	select {
	case c.lanes <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a connection to %s: %w", c.config.Address, context.Cause(ctx))
	}
	for {
		l := c.popLane()
		if l == nil {
			break
		}
		if l.alive() {
			return l, nil
		}
		l.close()
	}
	l, err := c.connect(ctx)
	if err != nil {
		<-c.lanes
		return nil, err
	}
	return l, nil
}

func (c *Client) popLane() *lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idleLanes) == 0 {
		return nil
	}
	l := c.idleLanes[len(c.idleLanes)-1]
	c.idleLanes = c.idleLanes[:len(c.idleLanes)-1]
	return l
}

// release gives a lane back whose last exchange was complete.
func (c *Client) release(l *lane) {
	l.rested = time.Now()
	c.mu.Lock()
	c.idleLanes = append(c.idleLanes, l)
	c.mu.Unlock()
	<-c.lanes
}

// abandon closes a lane whose state is not known any more.
func (c *Client) abandon(l *lane) {
	l.close()
	<-c.lanes
}

func (c *Client) closeLanes() {
	for l := c.popLane(); l != nil; l = c.popLane() {
		l.close()
	}
}

// connect makes and authenticates a lane. A failure before the host has proved
// who it is never sends a credential.
func (c *Client) connect(ctx context.Context) (*lane, error) {
	dialCtx, cancel := context.WithTimeout(ctx, c.config.DialTimeout)
	defer cancel()
	dialer := &net.Dialer{Control: c.config.Control, KeepAlive: 15 * time.Second}
	raw, err := dialer.DialContext(dialCtx, "tcp", c.config.Address)
	if err != nil {
		return nil, &transport.UnreachableError{Address: c.config.Address, Err: err}
	}
	l, err := c.protect(dialCtx, raw)
	if err != nil {
		raw.Close() //nolint:errcheck // the handshake's error is the one that matters
		return nil, err
	}
	if err := c.authenticate(ctx, l); err != nil {
		l.close()
		return nil, err
	}
	if address, err := netip.ParseAddrPort(raw.RemoteAddr().String()); err == nil {
		c.mu.Lock()
		c.address = netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
		c.mu.Unlock()
	}
	return l, nil
}

// protect makes a lane of a connection: with TLS, unless messages are sealed.
func (c *Client) protect(ctx context.Context, raw net.Conn) (*lane, error) {
	if c.config.Scheme == HTTP {
		return newLane(raw), nil
	}
	conn := tls.Client(raw, c.config.tls())
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, c.handshakeError(err)
	}
	return newLane(conn), nil
}

// tls is how TLS is spoken. Windows asks for a client certificate after it has
// read the first request, unless its binding of the port says otherwise: by
// renegotiation in TLS 1.2, once a connection, and in TLS 1.3 by what crypto/tls
// does not have (post-handshake authentication).
func (config *Config) tls() *tls.Config {
	settings := &tls.Config{
		MinVersion:           tls.VersionTLS12,
		RootCAs:              config.Roots,
		ServerName:           config.ServerName,
		NextProtos:           []string{"http/1.1"},
		GetClientCertificate: config.present,
	}
	if config.Authentication == Certificate {
		settings.MaxVersion, settings.Renegotiation = tls.VersionTLS12, tls.RenegotiateOnceAsClient
	}
	return settings
}

// peer is the host's certificate; there is one, since it was verified.
func (l *lane) peer() *x509.Certificate { return l.tls.ConnectionState().PeerCertificates[0] }

func (c *Client) handshakeError(err error) error {
	var verification *tls.CertificateVerificationError
	if c.config.Authentication == Certificate && refusedCertificate(err) {
		return c.refuse(err)
	}
	if !errors.As(err, &verification) {
		return &transport.UnreachableError{Address: c.config.Address, Err: fmt.Errorf("TLS handshake: %w", err)}
	}
	trust := &transport.TrustError{Reason: transport.TrustMismatch, Err: verification.Err}
	if len(verification.UnverifiedCertificates) > 0 {
		trust.Seen, trust.Fingerprint = fingerprint(verification.UnverifiedCertificates[0])
	}
	return trust
}

func fingerprint(certificate *x509.Certificate) (seen, print string) {
	sum := sha256.Sum256(certificate.Raw)
	return hex.EncodeToString(sum[:]), "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

func (l *lane) close() {
	conn := l.conn
	if l.tls != nil {
		conn = l.tls.NetConn() // without a farewell that may block
	}
	conn.Close() //nolint:errcheck // nothing is owed to a connection that is given up
}

// alive says whether a resting lane may be used: a peer that has closed it, or
// that sends what nobody asked for, cannot be spoken to.
func (l *lane) alive() bool {
	rest := time.Since(l.rested)
	if rest > restTime {
		return false
	}
	if rest < peekAfter {
		return true
	}
	if err := l.conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return false
	}
	_, err := l.reader.Peek(1)
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// exchange sends one request and reads its answer. It ends when ctx does, or
// after limit. After an error the lane cannot be used again.
func (l *lane) exchange(ctx context.Context, url string, out outgoing, limit time.Duration) (*httpReply, error) {
	if err := l.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	l.intake.left = maxReply + maxHead
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		l.conn.SetDeadline(time.Unix(1, 0)) //nolint:errcheck // a closed connection is interrupted already
	})
	reply, err := l.roundTrip(ctx, url, out)
	if !stop() {
		<-interrupted
		if err != nil {
			return nil, context.Cause(ctx)
		}
		reply.last = true
	}
	return reply, err
}

func (l *lane) roundTrip(ctx context.Context, url string, out outgoing) (*httpReply, error) {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewReader(out.body)) // the caller bounds it by closing the connection
	if err != nil {
		return nil, err
	}
	if out.contentType == "" {
		out.contentType = soapType
	}
	request.Header.Set("Content-Type", out.contentType)
	request.Header.Set("User-Agent", "isthmus")
	if out.authorization != "" {
		request.Header.Set("Authorization", out.authorization)
	}
	sent := request.Write(l.conn)
	if sent != nil && !l.linger(ctx) {
		return nil, sent
	}
	reply, err := l.readReply(request)
	if err != nil && sent != nil {
		return nil, sent
	}
	if reply != nil && sent != nil {
		reply.last = true
	}
	return reply, err
}

// linger gives the answer to a request that could not be written whole a second:
// a server that refuses a request early (413) answers before it has read all of
// it, and the answer says more than the broken pipe. A context that has ended is
// not outlasted: it either comes after the deadline that is set here, or is seen.
func (l *lane) linger(ctx context.Context) bool {
	return l.conn.SetReadDeadline(time.Now().Add(time.Second)) == nil && ctx.Err() == nil
}

func (l *lane) readReply(request *http.Request) (*httpReply, error) {
	response, err := http.ReadResponse(l.reader, request)
	for err == nil && response.StatusCode >= 100 && response.StatusCode < 200 {
		response, err = http.ReadResponse(l.reader, request)
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // the body has been read or the lane is given up
	body, err := io.ReadAll(io.LimitReader(response.Body, maxReply+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > maxReply {
		return nil, errTooLarge
	}
	return &httpReply{status: response.StatusCode, header: response.Header, body: body, last: response.Close}, nil
}

package winrm

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// authenticate prepares a lane for requests. NTLM and Kerberos authenticate the
// connection here; otherwise each request says who comes, which needs TLS.
func (c *Client) authenticate(ctx context.Context, l *lane) (err error) {
	switch {
	case c.config.Authentication == NTLM:
		return c.negotiateNTLM(ctx, l)
	case c.config.Authentication == Kerberos:
		return c.negotiateKerberos(ctx, l)
	case l.tls != nil:
		l.authorization, err = c.withinTLS(l.tls)
		return err
	}
	return unprotected("authentication %s needs TLS", c.config.Authentication)
}

// withinTLS is the Authorization header of requests inside a connection whose
// handshake is done. It asks for that connection so that nobody can call it
// without one.
func (c *Client) withinTLS(conn *tls.Conn) (string, error) {
	if !conn.ConnectionState().HandshakeComplete {
		return "", errors.New("the TLS handshake is not complete")
	}
	if c.config.Authentication == Certificate {
		return authorizationMutual, nil
	}
	pair := c.config.Username + ":" + c.config.Password
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)), nil
}

func (c *Client) handshake(ctx context.Context, l *lane, scheme string, token []byte) (*httpReply, error) {
	authorization := scheme + " " + base64.StdEncoding.EncodeToString(token)
	reply, err := l.exchange(ctx, c.url, outgoing{authorization: authorization}, c.config.DialTimeout)
	if err != nil {
		return nil, &transport.UnreachableError{Address: c.config.Address, Err: fmt.Errorf("authenticate: %w", err)}
	}
	return reply, nil
}

// admitted reads the answer to the last message of a negotiation.
func (c *Client) admitted(reply *httpReply) error {
	switch {
	case reply.status == http.StatusUnauthorized:
		return c.refuse(errors.New("the host answered 401 to the proof"))
	case reply.status >= 300 && reply.status < 400, reply.status == http.StatusNotFound:
		return &transport.UnreachableError{Address: c.config.Address, Err: &HTTPError{Status: reply.status}}
	case reply.last:
		return &transport.UnreachableError{Address: c.config.Address,
			Err: fmt.Errorf("the listener does not keep connections, which %s needs", c.config.Authentication)}
	}
	return nil
}

// offer looks for a scheme among the WWW-Authenticate headers, and its token.
func offer(header http.Header, scheme string) (offered bool, token string) {
	for _, value := range header.Values("WWW-Authenticate") {
		for part := range strings.SplitSeq(value, ",") {
			name, rest, _ := strings.Cut(strings.TrimSpace(part), " ")
			if strings.EqualFold(name, scheme) {
				return true, strings.TrimSpace(rest)
			}
		}
	}
	return false, ""
}

// refuse remembers a refusal, so that no second attempt is made.
func (c *Client) refuse(why error) error {
	return c.finish(&transport.CredentialsError{Method: c.config.Authentication, User: c.config.user(), Err: why})
}

// notOffered is a refusal before any credential was sent.
func (c *Client) notOffered(header http.Header) error {
	offers := strings.Join(header.Values("WWW-Authenticate"), ", ")
	return c.finish(&transport.CredentialsError{
		Method: fmt.Sprintf("%s, not offered: the listener offers %.100q; no credential was sent", c.config.Authentication, offers),
		User:   c.config.user(),
		Err:    errors.New("the listener does not offer " + c.config.Authentication),
	})
}

// user is who comes, for errors: a certificate's subject where there is no name.
func (config *Config) user() string {
	if config.Username == "" && len(config.certificates) > 0 && config.certificates[0].Leaf != nil {
		return config.certificates[0].Leaf.Subject.String()
	}
	return config.Username
}

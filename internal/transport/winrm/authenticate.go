package winrm

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strings"

	"github.com/bodgit/ntlmssp"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// authenticate prepares a lane for requests. For Basic the credential travels
// with each of them; for NTLM the connection itself is authenticated here.
func (c *Client) authenticate(ctx context.Context, l *lane) error {
	if c.config.Authentication == Basic {
		pair := c.config.Username + ":" + c.config.Password
		l.authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
		return nil
	}
	return c.negotiate(ctx, l)
}

// negotiate carries out the three messages of NTLMv2 (MS-NLMP) as HTTP does
// (RFC 4559): the first says who asks for what, the second is the host's
// challenge, the third the proof. The proof is bound to the host's certificate.
// Their requests have no body, so nothing is carried out by them.
func (c *Client) negotiate(ctx context.Context, l *lane) error {
	client, err := c.newNTLM()
	if err != nil {
		return fmt.Errorf("prepare NTLM: %w", err)
	}
	first, err := client.Authenticate(nil, nil)
	if err != nil {
		return fmt.Errorf("prepare NTLM: %w", err)
	}
	scheme, challenge, err := c.challenge(ctx, l, first)
	if err != nil {
		return err
	}
	third, err := proof(client, challenge, bindings(l.conn.ConnectionState().PeerCertificates[0]))
	if err != nil {
		return &transport.UnreachableError{Address: c.config.Address, Err: fmt.Errorf("NTLM challenge: %w", err)}
	}
	reply, err := c.handshake(ctx, l, scheme, third)
	if err != nil {
		return err
	}
	if reply.status == http.StatusUnauthorized {
		return c.refuse(errors.New("the host answered 401 to the proof"))
	}
	if reply.last {
		return &transport.UnreachableError{Address: c.config.Address, Err: errors.New("the listener does not keep connections, which NTLM needs")}
	}
	return nil
}

// challenge sends the first message. WinRM offers Negotiate; a listener behind
// something else may offer NTLM only.
func (c *Client) challenge(ctx context.Context, l *lane, first []byte) (scheme string, challenge []byte, err error) {
	scheme = "Negotiate"
	reply, err := c.handshake(ctx, l, scheme, first)
	if err != nil {
		return "", nil, err
	}
	if reply.status != http.StatusUnauthorized {
		return "", nil, &transport.UnreachableError{Address: c.config.Address, Err: &HTTPError{Status: reply.status}}
	}
	if offered, _ := offer(reply.header, scheme); !offered {
		scheme = "NTLM"
		if offered, _ := offer(reply.header, scheme); !offered {
			return "", nil, c.notOffered(reply.header)
		}
		if reply, err = c.handshake(ctx, l, scheme, first); err != nil {
			return "", nil, err
		}
	}
	_, token := offer(reply.header, scheme)
	challenge, err = base64.StdEncoding.DecodeString(token)
	if err != nil || len(challenge) == 0 {
		return "", nil, &transport.UnreachableError{Address: c.config.Address, Err: errors.New("the listener sent no NTLM challenge")}
	}
	return scheme, challenge, nil
}

func (c *Client) handshake(ctx context.Context, l *lane, scheme string, token []byte) (*httpReply, error) {
	authorization := scheme + " " + base64.StdEncoding.EncodeToString(token)
	reply, err := l.exchange(ctx, c.url, authorization, nil, c.config.DialTimeout)
	if err != nil {
		return nil, &transport.UnreachableError{Address: c.config.Address, Err: fmt.Errorf("authenticate: %w", err)}
	}
	return reply, nil
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
	refused := &transport.CredentialsError{Method: c.config.Authentication, User: c.config.Username, Err: why}
	c.refused.CompareAndSwap(nil, refused)
	return c.refused.Load()
}

// notOffered is a refusal before any credential was sent.
func (c *Client) notOffered(header http.Header) error {
	offers := strings.Join(header.Values("WWW-Authenticate"), ", ")
	refused := &transport.CredentialsError{
		Method: fmt.Sprintf("%s, not offered: the listener offers %.100q; no credential was sent", c.config.Authentication, offers),
		User:   c.config.Username,
		Err:    errors.New("the listener does not offer " + c.config.Authentication),
	}
	c.refused.CompareAndSwap(nil, refused)
	return c.refused.Load()
}

func (c *Client) newNTLM() (*ntlmssp.Client, error) {
	domain, user := splitUser(c.config.Username)
	return ntlmssp.NewClient(
		ntlmssp.SetUserInfo(user, c.config.Password),
		ntlmssp.SetDomain(domain),
		ntlmssp.SetVersion(ntlmssp.DefaultVersion()),
	)
}

// splitUser takes DOMAIN\user apart. A dot means the host itself, as no domain
// does; user@domain stays whole.
func splitUser(name string) (domain, user string) {
	domain, user, found := strings.Cut(name, `\`)
	if !found {
		return "", name
	}
	if domain == "." {
		domain = ""
	}
	return domain, user
}

// proof computes the third message. The library reads what the host sent, and
// is not trusted to survive all of it.
func proof(client *ntlmssp.Client, challenge []byte, bindings *ntlmssp.ChannelBindings) (third []byte, err error) {
	defer func() {
		if recovered := recover(); recovered != nil {
			err = errors.New("malformed")
		}
	}()
	return client.Authenticate(challenge, bindings)
}

// bindings binds the authentication to the TLS connection (tls-server-end-point,
// RFC 5929): a proof that was relayed from another listener is worth nothing.
func bindings(certificate *x509.Certificate) *ntlmssp.ChannelBindings {
	sum := endpointHash(certificate.SignatureAlgorithm)
	sum.Write(certificate.Raw)
	return &ntlmssp.ChannelBindings{ApplicationData: sum.Sum([]byte(ntlmssp.TLSServerEndPoint + ":"))}
}

// endpointHash is the hash of the certificate's signature, with SHA-256 in the
// place of MD5 and SHA-1 and where there is none (RFC 5929, section 4.1).
func endpointHash(algorithm x509.SignatureAlgorithm) hash.Hash {
	switch algorithm {
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		return sha512.New384()
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		return sha512.New()
	default:
		return sha256.New()
	}
}

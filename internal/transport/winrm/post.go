package winrm

import (
	"context"
	"errors"
	"net/http"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

// send writes a message and gives the Body of the answer.
func (c *Client) send(ctx context.Context, doing string, m message) (*node, error) {
	data, err := c.marshal(m)
	if err != nil {
		return nil, err
	}
	return c.post(ctx, doing, data)
}

// post sends one envelope on a lane. It is sent again in one case only: the
// host answered 401, inside TLS, on a connection that it had authenticated,
// which says that it did not carry the request out. Without TLS anybody between
// can say so.
func (c *Client) post(ctx context.Context, doing string, data []byte) (*node, error) {
	for attempt := 0; ; attempt++ {
		l, err := c.acquire(ctx)
		if err != nil {
			return nil, err
		}
		reply, err := l.ask(ctx, c.url, data, c.config.OperationTimeout+answerGrace)
		if err != nil {
			c.abandon(l)
			return nil, c.failed(doing, err)
		}
		if reply.last || reply.status == http.StatusUnauthorized {
			c.abandon(l)
		} else {
			c.release(l)
		}
		if reply.status == http.StatusUnauthorized && attempt == 0 && c.negotiates() {
			continue
		}
		return c.understand(reply, len(data))
	}
}

// negotiates says whether it is connections that are authenticated, which a host
// may forget.
func (c *Client) negotiates() bool {
	return c.config.Authentication == NTLM || c.config.Authentication == Kerberos
}

// failed is the error of a request without an answer that can be believed.
func (c *Client) failed(doing string, err error) error {
	var (
		broken *ProtectionError
		large  *EnvelopeTooLargeError
	)
	switch {
	case errors.As(err, &broken):
		return c.finish(err)
	case errors.As(err, &large):
		return err
	case c.config.Authentication == Certificate && refusedCertificate(err):
		return c.refuse(err)
	}
	return &transport.LostError{Doing: doing, Err: err}
}

// understand turns an HTTP answer into a Body or a typed error. Faults come
// with 500 and, from some versions, with 400.
func (c *Client) understand(reply *httpReply, size int) (*node, error) {
	switch reply.status {
	case http.StatusOK:
		body, err := parseBody(reply.body)
		if err != nil {
			return nil, err
		}
		if fault := parseFault(body); fault != nil {
			return nil, fault
		}
		return body, nil
	case http.StatusUnauthorized:
		return nil, c.refuse(errors.New("the host answered 401"))
	case http.StatusRequestEntityTooLarge:
		return nil, &EnvelopeTooLargeError{Size: size}
	}
	if body, err := parseBody(reply.body); err == nil {
		if fault := parseFault(body); fault != nil {
			return nil, fault
		}
	}
	return nil, &HTTPError{Status: reply.status}
}

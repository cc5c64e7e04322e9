package artifact

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	maxRedirects = 5
	// The connection and the server's first words have their time, and so has every
	// piece of the content after that. The whole has none but its caller's: it may be large.
	connectTimeout = 10 * time.Second
	headerTimeout  = 30 * time.Second
	idleTimeout    = 30 * time.Second
)

// Options of a Client. The zero values are those of the operator.
type Options struct {
	// Dialer connects; its Control refuses addresses. Required.
	Dialer *net.Dialer
	// Roots that certificates are verified with; nil: the system's.
	Roots *x509.CertPool
	// Headers is how long a server's first words are waited for, Idle each next piece.
	Headers, Idle time.Duration
}

// Client downloads.
type Client struct {
	http *http.Client
	idle time.Duration
}

// New makes a client.
func New(options Options) *Client {
	if options.Headers == 0 {
		options.Headers = headerTimeout
	}
	if options.Idle == 0 {
		options.Idle = idleTimeout
	}
	dialer := *options.Dialer
	if dialer.Timeout == 0 {
		dialer.Timeout = connectTimeout
	}
	transport := &http.Transport{
		DialContext:           dialer.DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: options.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   connectTimeout,
		ResponseHeaderTimeout: options.Headers,
		DisableCompression:    true, // the digest is that of the content as it is stored
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          10,
		IdleConnTimeout:       options.Idle,
	}
	return &Client{http: &http.Client{Transport: transport, CheckRedirect: checkRedirect}, idle: options.Idle}
}

func checkRedirect(next *http.Request, before []*http.Request) error {
	next.Header.Del("Referer") // it would carry the query of the first URL
	last := before[len(before)-1].URL
	switch {
	case len(before) > maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case next.URL.Scheme != "https" && next.URL.Scheme != "http":
		return fmt.Errorf("redirected to %s, which is neither https nor http", Printable(next.URL.String()))
	case last.Scheme == "https" && next.URL.Scheme == "http":
		return fmt.Errorf("redirected from https to %s, which is not encrypted", Printable(next.URL.String()))
	}
	return nil
}

// Request says what to download.
type Request struct {
	URL     string
	SHA256  string // lower-case hex
	MaxSize int64
}

// Open begins a download. Reading it fails in place of its end if the content is
// larger than allowed or has another digest.
func (c *Client) Open(ctx context.Context, wanted Request) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	body, size, err := c.get(ctx, wanted.URL)
	if err != nil {
		cancel(nil)
		return nil, &Error{URL: wanted.URL, Err: err}
	}
	if size > wanted.MaxSize {
		_ = body.Close() // Nothing of it is wanted.
		cancel(nil)
		return nil, &Error{URL: wanted.URL, Err: &SizeError{Max: wanted.MaxSize}}
	}
	return newContent(ctx, cancel, body, wanted, c.idle), nil
}

func (c *Client) get(ctx context.Context, from string) (body io.ReadCloser, size int64, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, 0, withoutURL(err)
	}
	request.Header.Set("User-Agent", "isthmus")
	request.Header.Set("Accept-Encoding", "identity")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, 0, withoutURL(err)
	}
	if response.StatusCode != http.StatusOK {
		_ = response.Body.Close() // The status says it all.
		return nil, 0, fmt.Errorf("the server answered %s", response.Status)
	}
	return response.Body, response.ContentLength, nil
}

// withoutURL is an error of net/http without the URL that it begins with, or that the
// server sent us to: that one is quoted whole where it cannot be read.
func withoutURL(err error) error {
	var named *url.Error
	if !errors.As(err, &named) {
		return err
	}
	if strings.HasPrefix(named.Err.Error(), "failed to parse Location header") {
		return errors.New("redirected to a URL that cannot be read")
	}
	return named.Err
}

package fleet

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// maxProbeBody is how much of an answer is read so that the connection ends well.
const maxProbeBody = 10 << 10

// prober asks health questions over TCP and HTTP, within the address policy.
type prober struct {
	dialer *net.Dialer
	client *http.Client
}

func newProber(policy AddressPolicy) *prober {
	// The deadline of a probe comes with its context.
	dialer := policy.Dialer(0)
	return &prober{dialer: dialer, client: &http.Client{
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			DisableKeepAlives:      true, // a probe that reuses a connection does not see that no new one can be made
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
			TLSHandshakeTimeout:    30 * time.Second,
			// A probe asks whether something answers, not who it is, and sends
			// no secret. The kubelet's probes do not verify certificates either.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // explained above
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// probe returns nil if the answer means health.
func (p *prober) probe(ctx context.Context, address string, probe Probe) error {
	switch probe.Scheme {
	case "tcp":
		return p.tcp(ctx, address, probe)
	case "http", "https":
		return p.http(ctx, address, probe)
	}
	return fmt.Errorf("scheme %q is not one of tcp, http, https", probe.Scheme)
}

func (p *prober) tcp(ctx context.Context, address string, probe Probe) error {
	conn, err := p.dialer.DialContext(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(probe.Port)))
	if err != nil {
		return probeError(err)
	}
	_ = conn.Close() // It was made; that is the answer.
	return nil
}

func (p *prober) http(ctx context.Context, address string, probe Probe) error {
	target, err := url.ParseRequestURI(cmp.Or(probe.Path, "/"))
	if err != nil {
		return fmt.Errorf("read the path: %w", err)
	}
	target.Scheme, target.Host = probe.Scheme, net.JoinHostPort(address, strconv.Itoa(probe.Port))
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	request.Header.Set("User-Agent", "isthmus-probe")
	response, err := p.client.Do(request)
	if err != nil {
		return probeError(err)
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.CopyN(io.Discard, response.Body, maxProbeBody)
	if !expected(response.StatusCode, probe.ExpectStatus) {
		return fmt.Errorf("GET %s answered with status %d", target.EscapedPath(), response.StatusCode)
	}
	return nil
}

func expected(status, wanted int) bool {
	if wanted != 0 {
		return status == wanted
	}
	return status >= 200 && status < 400
}

// probeError leaves out what package net/http puts around an error, such as the address once more.
func probeError(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer in time")
	}
	return err
}

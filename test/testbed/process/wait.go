package process

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// interval is the time between two probes of a program that is not ready.
const interval = 50 * time.Millisecond

// WaitReady calls probe until it returns nil. It gives up when the program ends,
// with the end of its log, and when ctx ends, with what the last probe said.
func (p *Process) WaitReady(ctx context.Context, probe func(ctx context.Context) error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return p.Err()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w (%w); the end of %s:\n%s", p.name, ctx.Err(), err, p.log, p.tail())
		case <-tick.C:
		}
	}
}

// WaitHTTP waits until a GET of url is answered with status 200.
func (p *Process) WaitHTTP(ctx context.Context, client *http.Client, url string) error {
	return p.WaitReady(ctx, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close() //nolint:errcheck // only read
		body, err := io.ReadAll(io.LimitReader(response.Body, tailBytes))
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s: %s", url, response.Status, body)
		}
		return nil
	})
}

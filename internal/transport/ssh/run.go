package ssh

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/transport"
)

const (
	// drainTime is how long output may follow the exit status: a process left in
	// the background holds the stream open for as long as it lives.
	drainTime = 2 * time.Second
	// closeTime is how long the host may take to agree to the end of a session.
	closeTime = time.Second
)

var errClosed = errors.New("the connection is closed")

// Run runs a command in a session of its own and waits for it. When ctx ends,
// Run ends within a second; what became of the command is then unknown. It
// returns a LostError, or an UnreachableError when the command was not begun.
func (c *Client) Run(ctx context.Context, request Request) (Result, error) {
	s, err := c.openSession(ctx)
	if err != nil {
		return Result{}, err
	}
	s.begin(request)
	err = s.wait(ctx)
	s.end(c)
	if err != nil {
		return Result{}, err
	}
	return s.result(), nil
}

// openSession waits for a place and opens a session. A host that refuses has
// fewer places than we thought: there are half as many from then on, and one
// more attempt is made.
func (c *Client) openSession(ctx context.Context) (*session, error) {
	s, err := c.tryOpen(ctx)
	refused := &ssh.OpenChannelError{}
	if !errors.As(err, &refused) {
		return s, err
	}
	s, err = c.tryOpen(ctx)
	if errors.As(err, &refused) {
		err = &transport.UnreachableError{Address: c.address, Err: fmt.Errorf("the host opens no session: %w", err)}
	}
	return s, err
}

type opening struct {
	channel  ssh.Channel
	requests <-chan *ssh.Request
	err      error
	late     bool // given up: the channel may come yet
}

func (c *Client) tryOpen(ctx context.Context) (*session, error) {
	if err := ctx.Err(); err != nil {
		return nil, lost("open a session", err)
	}
	limit, err := c.sessions.acquire(ctx, c.done)
	if err != nil {
		return nil, lost("wait for a session", err)
	}
	o := c.openChannel(ctx, "session", nil, c.sessions.release)
	if o.err == nil {
		return newSession(c.address, o.channel, o.requests), nil
	}
	if refused := (&ssh.OpenChannelError{}); errors.As(o.err, &refused) {
		c.sessions.halve(limit)
		c.sessions.release()
		return nil, o.err
	}
	if !o.late {
		c.sessions.release()
	}
	return nil, lost("open a session", o.err)
}

// openChannel opens a channel, or stops waiting for it when ctx ends: what comes
// late is closed, and then abandoned is called.
func (c *Client) openChannel(ctx context.Context, kind string, data []byte, abandoned func()) opening {
	opened := make(chan opening, 1)
	go func() {
		channel, requests, err := c.conn.OpenChannel(kind, data)
		opened <- opening{channel: channel, requests: requests, err: err}
	}()
	select {
	case o := <-opened:
		return o
	case <-ctx.Done():
		go abandon(opened, abandoned)
		c.suspect()
		return opening{err: context.Cause(ctx), late: true}
	}
}

// abandon closes a channel that came too late. If it never comes, the keepalive
// that was asked for ends the connection, and that ends this wait.
func abandon(opened <-chan opening, abandoned func()) {
	defer abandoned()
	o := <-opened
	if o.err != nil {
		return
	}
	_ = o.channel.Close()
	ssh.DiscardRequests(o.requests)
}

func lost(doing string, err error) error { return &transport.LostError{Doing: doing, Err: err} }

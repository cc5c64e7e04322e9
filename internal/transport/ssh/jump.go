package ssh

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-dev/isthmus/internal/defect"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

const (
	// A jump host that could not be reached is left alone for a second, and for
	// twice as long each time, up to longestRest: each of a hundred hosts behind it would ask.
	firstRest   = time.Second
	longestRest = time.Minute
	// refusalRest is the least time between two attempts with credentials that a
	// jump host has refused, whoever asks for them.
	refusalRest = 10 * time.Second
	// refusalMemory is how long a refusal is remembered when nobody asks.
	refusalMemory = time.Hour
)

// jump is a jump host. Its fields are guarded by the pool's mu.
type jump struct {
	config Config
	budget budget
	client *Client // nil, or of a connection that may have ended
	users  int     // dials and connections that go through it
	flight *flight // the dial that is on its way
	timer  *time.Timer

	// after a failure
	failures int
	failed   error
	until    time.Time       // no attempt before
	asked    map[string]bool // the requests of people for which the credentials were refused; nil: they were not
}

// flight is a dial that several may wait for. It ends when none of them is left.
type flight struct {
	done    chan struct{}
	waiting int
	cancel  context.CancelFunc
	left    bool  // by all who waited, before it was through
	err     error // written before done is closed
}

// errLeft says that a dial was given up by those who waited for it: that tells nothing of the jump host.
var errLeft = errors.New("the dial was given up")

func (p *Pool) find(config Config) *jump {
	j := p.jumps[config.Version]
	if j == nil {
		j = &jump{config: config, budget: newBudget()}
		j.timer = time.AfterFunc(time.Hour, func() { p.expire(j) })
		p.jumps[config.Version] = j
	}
	return j
}

// acquire returns the connection to the jump host of a host, and a use of it.
func (p *Pool) acquire(ctx context.Context, config Config) (*jump, *Client, error) {
	for {
		j, client, flight, err := p.board(config)
		if err != nil || client != nil {
			return j, client, err
		}
		select {
		case <-flight.done:
			p.leave(j, flight)
			if flight.err != nil && !errors.Is(flight.err, errLeft) {
				return nil, nil, flight.err
			}
		case <-ctx.Done():
			p.leave(j, flight)
			return nil, nil, atHop(*config.Jump, unreachable(*config.Jump, fmt.Errorf("no connection in time: %w", context.Cause(ctx))))
		}
	}
}

// board returns the connection, or the dial that is to make it.
func (p *Pool) board(config Config) (*jump, *Client, *flight, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, nil, errPoolClosed
	}
	j := p.find(*config.Jump)
	if j.client != nil && !j.client.ended() {
		j.users++
		return j, j.client, nil, nil
	}
	if j.flight == nil {
		if err := j.resting(config.request(), time.Now()); err != nil {
			p.rest(j)
			return nil, nil, nil, err
		}
		p.launch(j, config)
	}
	j.flight.waiting++
	return j, nil, j.flight, nil
}

// resting returns why no attempt may be made now.
func (j *jump) resting(request string, now time.Time) error {
	if j.failed == nil {
		return nil
	}
	if now.Before(j.until) || j.asked[request] {
		return j.failed
	}
	return nil
}

// launch begins a dial for a host. The caller holds mu.
func (p *Pool) launch(j *jump, config Config) {
	hop := *config.Jump
	hop.RequestedAt = config.RequestedAt + "\n" + hop.RequestedAt // It is asked of the hops before this one too.
	ctx, cancel := context.WithCancel(context.Background())
	f := &flight{done: make(chan struct{}), cancel: cancel}
	j.flight = f
	p.tasks.Go(func() {
		defer cancel()
		client, err := defect.Guard(func() (*Client, error) { return p.Dial(ctx, hop) })
		p.land(j, client, err, config.request())
	})
}

// land takes over what a dial came to.
func (p *Pool) land(j *jump, client *Client, err error, request string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := j.flight
	j.flight = nil
	defer close(f.done)
	if err != nil && f.left && errors.Is(err, context.Canceled) {
		f.err = errLeft
		p.rest(j)
		return
	}
	if err != nil {
		f.err = atHop(j.config, err)
		j.fail(f.err, request, time.Now())
		p.rest(j)
		return
	}
	j.client, j.failures, j.failed, j.asked = client, 0, nil, nil
	if p.closed {
		p.remove(j)
		return
	}
	p.rest(j)
}

func (j *jump) fail(err error, request string, now time.Time) {
	j.failed = err
	if refused := (&transport.CredentialsError{}); errors.As(err, &refused) {
		if j.asked == nil {
			j.asked = map[string]bool{}
		}
		j.asked[request] = true
		j.until = now.Add(refusalRest)
		return
	}
	j.until = now.Add(min(firstRest<<min(j.failures, 10), longestRest))
	j.failures++
	j.asked = nil
}

// leave is for one who does not wait for a dial any more.
func (p *Pool) leave(j *jump, f *flight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		f.left = true
		f.cancel()
		p.rest(j)
	}
}

// keptFor is how long a jump host is remembered when nobody uses it.
func (j *jump) keptFor(idle time.Duration) time.Duration {
	if j.asked != nil {
		return refusalMemory
	}
	if j.failed != nil {
		return max(idle, longestRest)
	}
	return idle
}

// atHop names the jump host at which something failed. A jump host's key must
// never be taken for the target's: whoever pins keys is left without one.
func atHop(hop Config, err error) error {
	if further := (&transport.HopError{}); errors.As(err, &further) {
		return err // It failed at a hop before this one.
	}
	trust := &transport.TrustError{}
	if !errors.As(err, &trust) {
		return &transport.HopError{Hop: hop.Address, Err: err}
	}
	reason := trust.Err
	if trust.Reason == transport.TrustUnpinned {
		reason = errors.New("none is pinned for it; its own Host must be trusted first")
	}
	return &transport.HopError{Hop: hop.Address, Err: &transport.TrustError{
		Reason: transport.TrustMismatch, Fingerprint: trust.Fingerprint, Accepted: trust.Accepted, Err: reason,
	}}
}

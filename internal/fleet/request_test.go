package fleet_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// motdSize is what is known of a file that a test changes.
func (h *harness) motdSize() int64 {
	state, _ := h.View(hostKey, orders).Answers[motd].(machine.FileState)
	return state.Size
}

// The first look of a connection may have been begun before what the one that is asked for is to see.
func TestALookIsAskedForDuringTheFirstOne(t *testing.T) {
	gate := newGate()
	h := start(t, gate.install)
	gate.closed.Store(true)
	h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{motd}})
	h.Configure(hostKey, endpoint("web"))
	<-gate.asked
	h.host.Put("/etc/motd", fleettest.File{Content: []byte("later")})
	h.Observe(hostKey, orders)
	gate.closed.Store(false)
	gate.answer <- struct{}{}
	h.eventually("seen without a step of the clock", func() bool { return h.motdSize() == 5 })
}

// A look that is owed is not forgotten because a job fails while one is on its way.
func TestALookIsAskedForWhileAJobIsLost(t *testing.T) {
	h, gate := gatedHost(t)
	gate.closed.Store(true)
	h.Observe(hostKey, orders)
	<-gate.asked
	h.host.Put("/etc/motd", fleettest.File{Content: []byte("later")})
	h.Observe(hostKey, orders)
	h.host.LoseReply(fleettest.BeforeEffect)
	h.Submit(hostKey, orders, restart("a-1"))
	h.eventually("lost", h.state(fleet.Unreachable))
	gate.closed.Store(false)
	gate.answer <- struct{}{}
	h.eventually("seen without a step of the clock", func() bool { return h.motdSize() == 5 })
}

// The password may have been set right between an attempt and the request for another.
func TestARequestDuringAnAttemptThatIsRefusedIsAnsweredByAnother(t *testing.T) {
	begun, answer := make(chan struct{}, 10), make(chan error)
	h := start(t, func(o *fleet.Options) {
		connect := o.Connect
		o.Connect = func(ctx context.Context, e fleet.Endpoint) (machine.Machine, error) {
			begun <- struct{}{}
			if err := <-answer; err != nil {
				return nil, err
			}
			return connect(ctx, e)
		}
	})
	e := endpoint("web")
	h.Configure(hostKey, e)
	h.eventually("begun", func() bool { return len(begun) == 1 })
	e.RequestedAt = "one"
	h.Configure(hostKey, e)
	answer <- &transport.CredentialsError{}
	h.eventually("another attempt", func() bool { return len(begun) == 2 })
	assert.Empty(t, h.status().Answered)
	answer <- &transport.CredentialsError{}
	h.eventually("answered", func() bool { return h.status().Answered == "one" })
	h.settled()
	assert.Equal(t, fleet.CredentialsRefused, h.status().State)
	assert.Len(t, begun, 2, "one request, one attempt")
}

// A jump host that refused us is asked again for a new request: of a hundred Hosts behind it,
// each with a request of its own from long ago, none may pass for one.
func TestAnAttemptIsForTheRequestThatIsNotAnsweredYet(t *testing.T) {
	attempts := make(chan string, 10)
	h := start(t, func(o *fleet.Options) {
		connect := o.Connect
		o.Connect = func(ctx context.Context, e fleet.Endpoint) (machine.Machine, error) {
			attempts <- e.RequestedAt
			return connect(ctx, e)
		}
	})
	e := endpoint("web")
	e.RequestedAt = "long ago"
	h.Configure(hostKey, e)
	h.eventually("answered", func() bool { return h.status().Answered == "long ago" })
	assert.Equal(t, "long ago", <-attempts)
	h.host.Drop()
	h.Observe(hostKey, orders)
	assert.Empty(t, <-attempts)
	h.host.Stop()
	e.RequestedAt = "now"
	h.Configure(hostKey, e)
	assert.Equal(t, "now", <-attempts)
	h.eventually("answered", func() bool { return h.status().Answered == "now" })
}

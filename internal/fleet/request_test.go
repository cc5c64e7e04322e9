package fleet_test

import (
	"testing"

	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/machine"
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

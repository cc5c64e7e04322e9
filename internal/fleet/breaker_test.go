package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// attempts records when connections were tried, and decides their outcome.
type attempts struct {
	mu   sync.Mutex
	at   []time.Time
	fail func(attempt int) error
}

func (a *attempts) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.at)
}

func (a *attempts) pause(i int) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at[i].Sub(a.at[i-1])
}

func counted(t *testing.T, fail func(attempt int) error) (*harness, *attempts) {
	a := &attempts{fail: fail}
	var h *harness
	h = start(t, func(o *fleet.Options) {
		connect := o.Connect
		o.Connect = func(ctx context.Context, e fleet.Endpoint) (machine.Machine, error) {
			a.mu.Lock()
			a.at = append(a.at, h.clock.Now())
			err := a.fail(len(a.at))
			a.mu.Unlock()
			if err != nil {
				return nil, err
			}
			return connect(ctx, e)
		}
	})
	return h, a
}

var noRoute = &transport.UnreachableError{Address: "web", Err: errors.New("no route to host")}

func TestBackOffBeginsAnewAfterSuccess(t *testing.T) {
	h, a := counted(t, func(attempt int) error {
		if attempt == 7 {
			return nil
		}
		return noRoute
	})
	h.Configure(hostKey, endpoint("web"))
	h.stepping(time.Second, "connected at last", h.state(fleet.Connected))
	assert.GreaterOrEqual(t, a.pause(6), 28*time.Second, "32 s, a tenth less at most")
	h.host.Drop()
	h.stepping(time.Second, "lost again, and tried", func() bool { return a.count() >= 10 })
	assert.LessOrEqual(t, a.pause(8), 3*time.Second, "the first pause after a success is a second")
}

func TestARequestInBackOffMakesOneAttempt(t *testing.T) {
	h, a := counted(t, func(int) error { return noRoute })
	e := endpoint("web")
	h.Configure(hostKey, e)
	h.stepping(time.Second, "far into back-off", func() bool { return a.count() == 9 })
	h.settled()
	e.RequestedAt = "now"
	h.Configure(hostKey, e)
	h.Configure(hostKey, e)
	h.eventually("tried without a step of the clock", func() bool { return a.count() == 10 })
	h.settled()
	assert.Equal(t, 10, a.count())
	require.Equal(t, fleet.Unreachable, h.status().State)
}

// TestAFlappingHostIsNotHammered: it answers one pass and fails the next, for an hour.
func TestAFlappingHostIsNotHammered(t *testing.T) {
	h, a := counted(t, func(attempt int) error {
		if attempt%2 == 0 {
			return noRoute
		}
		return nil
	})
	h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{motd}})
	h.Configure(hostKey, endpoint("web"))
	h.eventually("connected", h.complete(orders))
	began := h.clock.Now()
	for h.clock.Since(began) < time.Hour {
		h.host.Drop()
		before := a.count()
		h.stepping(time.Second, "noticed", func() bool { return a.count() > before })
		h.stepping(time.Second, "back", h.state(fleet.Connected))
	}
	assert.LessOrEqual(t, a.count(), 300, "two attempts for each time that it came back")
	assert.True(t, h.View(hostKey, orders).Complete, "what was learnt stays")
}

// TestReceiptsThatCannotBeRemovedCostFewConnections: the host loses the connection each time that it is asked to.
func TestReceiptsThatCannotBeRemovedCostFewConnections(t *testing.T) {
	h := start(t, func(o *fleet.Options) {
		connect := o.Connect
		o.Connect = func(ctx context.Context, e fleet.Endpoint) (machine.Machine, error) {
			m, err := connect(ctx, e)
			return hoarder{m}, err
		}
	})
	h.connected()
	h.Forget(hostKey, []string{"a-1"})
	began := h.clock.Now()
	h.stepping(time.Second, "an hour", func() bool { return h.clock.Since(began) > time.Hour })
	assert.LessOrEqual(t, h.host.Logins(), 30)
	assert.Greater(t, h.host.Logins(), 5, "it is tried again")
}

type hoarder struct{ machine.Machine }

func (hoarder) Forget(context.Context, []string) error {
	return &transport.LostError{Doing: "forget jobs", Err: errors.New("connection reset by peer")}
}

// TestAHostKeyThatChangesInTheMiddle stops everything before a credential is sent.
func TestAHostKeyThatChangesInTheMiddle(t *testing.T) {
	h := start(t)
	h.host.SetHostKey("ssh-ed25519 AAAA")
	e := endpoint("web")
	e.HostKeys = []string{"ssh-ed25519 AAAA"}
	e.Version = e.Digest()
	h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{motd}, Interval: 10 * time.Second})
	h.Configure(hostKey, e)
	h.eventually("connected", h.state(fleet.Connected))
	logins := h.host.Logins()
	h.host.SetHostKey("ssh-ed25519 BBBB")
	h.host.Drop()
	h.stepping(time.Second, "noticed", h.state(fleet.Untrusted))
	h.Submit(hostKey, orders, restart("a-1"))
	assert.Contains(t, h.View(hostKey, orders).JobErrors["a-1"], "no credential was sent; nothing was done")
	for range 20 {
		h.clock.Step(time.Hour)
		h.Observe(hostKey, orders)
	}
	h.settled()
	assert.Equal(t, logins, h.host.Logins())
	assert.Equal(t, "ssh-ed25519 BBBB", h.status().SeenKey)
	assert.Empty(t, h.host.Jobs())
}

// slow answers after a while, whatever its context says.
type slow struct {
	machine.Machine
	after *atomic.Int64
}

func (s slow) Observe(_ context.Context, checks []machine.Check) (machine.Observation, error) {
	time.Sleep(time.Duration(s.after.Load()))
	return s.Machine.Observe(context.Background(), checks)
}

// TestAnAnswerAtTheDeadline is taken if it comes within a moment, and is a lost one else.
func TestAnAnswerAtTheDeadline(t *testing.T) {
	var after atomic.Int64
	h := start(t, func(o *fleet.Options) {
		connect := o.Connect
		o.Connect = func(ctx context.Context, e fleet.Endpoint) (machine.Machine, error) {
			m, err := connect(ctx, e)
			return slow{m, &after}, err
		}
	})
	e := endpoint("web")
	e.Spec.Probe.Timeout.Duration = 200 * time.Millisecond
	h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{motd}})
	h.Configure(hostKey, e)
	h.eventually("answered", h.complete(orders))
	told := h.hostTold()
	h.host.Put("/etc/motd", fleettest.File{Content: []byte("late")})
	after.Store(int64(10 * time.Second))
	h.Observe(hostKey, orders)
	h.eventually("lost", h.state(fleet.Unreachable))
	assert.Contains(t, h.status().Message, "wait 200ms for an answer")
	assert.Greater(t, h.hostTold(), told-1)
	after.Store(0)
	h.stepping(time.Second, "back", func() bool {
		state, _ := h.View(hostKey, orders).Answers[motd].(machine.FileState)
		return state.Size == 4
	})
}

func TestOneObjectOfAHundredIsTold(t *testing.T) {
	const objects = 100
	h := start(t)
	file := func(i int) machine.File { return machine.File{Path: fmt.Sprint("/etc/", i)} }
	for i := range objects {
		h.Watch(hostKey, object(fmt.Sprint("service-", i)), fleet.Watch{Checks: []machine.Check{file(i), motd}, Interval: 10 * time.Second})
	}
	h.connected()
	h.eventually("all answered", func() bool {
		for i := range objects {
			if !h.View(hostKey, object(fmt.Sprint("service-", i))).Complete {
				return false
			}
		}
		return true
	})
	h.settled()
	total := func() (sum int) {
		for i := range objects {
			sum += h.told(object(fmt.Sprint("service-", i)))
		}
		return sum
	}
	before, host := total(), h.hostTold()
	h.host.Put("/etc/42", fleettest.File{Content: []byte("new")})
	h.stepping(time.Second, "told", func() bool { return total() > before })
	passes := h.host.Observations()
	h.stepping(time.Second, "more passes", func() bool { return h.host.Observations() > passes+3 })
	h.settled()
	assert.Equal(t, before+1, total())
	assert.Equal(t, host, h.hostTold())
	assert.Len(t, h.host.LastPass(), objects+1, "one request for all that is watched")
}

// TestFactsAreReadAgainAfterAReboot, and not otherwise.
func TestFactsAreReadAgainAfterAReboot(t *testing.T) {
	var reads atomic.Int32
	h := start(t, func(o *fleet.Options) {
		connect := o.Connect
		o.Connect = func(ctx context.Context, e fleet.Endpoint) (machine.Machine, error) {
			m, err := connect(ctx, e)
			return reader{m, &reads}, err
		}
	})
	h.connected()
	passes := h.host.Observations()
	h.stepping(10*time.Second, "passes", func() bool { return h.host.Observations() > passes+5 })
	require.Equal(t, int32(1), reads.Load())
	boot := h.status().Facts.BootID
	h.host.Reboot()
	h.stepping(10*time.Second, "read again", func() bool { return h.status().Facts.BootID != boot })
	h.settled() // The event is on its way when the status has changed.
	told := h.hostTold()
	passes = h.host.Observations()
	h.stepping(10*time.Second, "passes", func() bool { return h.host.Observations() > passes+5 })
	h.settled()
	assert.Equal(t, int32(2), reads.Load())
	assert.Equal(t, told, h.hostTold())
}

type reader struct {
	machine.Machine
	reads *atomic.Int32
}

func (r reader) Facts(ctx context.Context) (machine.Facts, error) {
	r.reads.Add(1)
	return r.Machine.Facts(ctx)
}

package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/credential"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

func TestAWatchIsAnsweredAndOnlyChangesAreTold(t *testing.T) {
	h := start(t)
	h.host.Put("/etc/motd", fleettest.File{Content: []byte("hello")})
	h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{motd}, Interval: 10 * time.Second})
	h.Watch(hostKey, object("other"), fleet.Watch{Checks: []machine.Check{passwd, motd}, Interval: time.Minute})
	h.connected()
	h.eventually("answered", h.complete(orders))
	view := h.View(hostKey, orders)
	assert.Equal(t, int64(5), view.Answers[motd].(machine.FileState).Size)
	assert.NotContains(t, view.Answers, machine.Check(passwd), "another object's answers are not shown")
	assert.Equal(t, h.host.LastPass(), []machine.Check{motd, passwd}, "a question is asked once")
	assert.Equal(t, "linux", view.Host.Facts.Hostname)
	assert.Equal(t, 2, view.Host.Users)
	assert.Equal(t, []fleet.Object{orders, object("other")}, h.Users(hostKey))

	h.settled()
	told, toldOther, toldHost, passes := h.told(orders), h.told(object("other")), h.hostTold(), h.host.Observations()
	h.stepping(time.Second, "ten more passes", func() bool { return h.host.Observations() >= passes+10 })
	h.settled()
	assert.Equal(t, []int{told, toldOther, toldHost}, []int{h.told(orders), h.told(object("other")), h.hostTold()},
		"an unchanged host costs no event")

	h.host.Put("/etc/passwd", fleettest.File{Content: []byte("root")})
	h.stepping(time.Second, "the change is told", func() bool { return h.told(object("other")) == toldOther+1 })
	h.settled()
	assert.Equal(t, told, h.told(orders), "a change is told to those whom it matters to")
}

func TestAChangedSetOfChecksMakesAPassAtOnce(t *testing.T) {
	h := start(t)
	h.connected()
	h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{motd}})
	began := h.clock.Now()
	h.stepping(5*time.Millisecond, "answered", h.complete(orders))
	assert.LessOrEqual(t, h.clock.Since(began), 50*time.Millisecond)
	passes := h.host.Observations()
	h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{motd}})
	assert.True(t, h.View(hostKey, orders).Complete, "an equal watch changes nothing")
	h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{passwd, motd}})
	h.stepping(5*time.Millisecond, "answered", func() bool { return h.complete(orders)() && len(h.View(hostKey, orders).Answers) == 2 })
	h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{passwd}})
	assert.True(t, h.View(hostKey, orders).Complete, "fewer questions are answered already")
	assert.NotContains(t, h.View(hostKey, orders).Answers, machine.Check(motd))
	assert.Equal(t, passes+1, h.host.Observations())
}

// A request is answered when the look that it asked for has ended, well or not.
func TestARequestIsAnsweredAfterTheLook(t *testing.T) {
	h := start(t)
	h.connected()
	ask := func(value string) {
		e := endpoint("web")
		e.RequestedAt = value
		h.Configure(hostKey, e)
	}
	passes, told := h.host.Observations(), h.hostTold()
	ask("one")
	h.eventually("answered", func() bool { return h.status().Answered == "one" })
	assert.Equal(t, passes+1, h.host.Observations())
	h.eventually("told", func() bool { return h.hostTold() > told })
	h.host.Stop()
	ask("two")
	h.eventually("answered", func() bool { return h.status().Answered == "two" })
	assert.Equal(t, fleet.Unreachable, h.status().State)
}

func TestObjectsThatComeTogetherAreLookedAtTogether(t *testing.T) {
	h := start(t)
	h.connected()
	passes := h.host.Observations()
	var all []fleet.Object
	for i := range 20 {
		all = append(all, object(fmt.Sprint("together-", i)))
		h.Watch(hostKey, all[i], fleet.Watch{Checks: []machine.Check{machine.File{Path: fmt.Sprint("/etc/", i)}}})
	}
	h.stepping(5*time.Millisecond, "answered", func() bool {
		return !slices.ContainsFunc(all, func(o fleet.Object) bool { return !h.complete(o)() })
	})
	assert.Equal(t, passes+1, h.host.Observations())
}

func TestALostHostKeepsItsAnswersAndComesBack(t *testing.T) {
	h := start(t)
	h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{motd}, Interval: 10 * time.Second})
	h.connected()
	seen := h.status().LastSeen
	h.host.Stop()
	h.stepping(time.Second, "noticed", h.state(fleet.Unreachable))
	view := h.View(hostKey, orders)
	assert.True(t, view.Complete)
	assert.Equal(t, machine.FileState{Kind: machine.FileAbsent}, view.Answers[motd])
	assert.Contains(t, view.Host.Message, "connection refused")
	assert.False(t, view.Host.LastSeen.Before(seen))
	h.host.Resume()
	h.stepping(time.Second, "back", h.state(fleet.Connected))
}

func TestADroppedConnectionIsNotAnUnreachableHost(t *testing.T) {
	h := start(t)
	h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{motd}, Interval: 10 * time.Second})
	h.connected()
	h.settled()
	told := h.hostTold()
	h.host.Drop()
	logins := h.host.Logins()
	h.stepping(time.Second, "connected anew", func() bool { return h.host.Logins() == logins+1 })
	passes := h.host.Observations()
	h.stepping(time.Second, "observed", func() bool { return h.host.Observations() > passes })
	h.settled()
	assert.Equal(t, told, h.hostTold())
}

func TestBackOffGrowsAndIsNotHurriedByUsers(t *testing.T) {
	attempts := make(chan time.Time, 1000)
	var h *harness
	h = start(t, func(o *fleet.Options) {
		o.Connect = func(context.Context, fleet.Endpoint) (machine.Machine, error) {
			attempts <- h.clock.Now()
			return nil, &transport.UnreachableError{Address: "web", Err: errors.New("no route to host")}
		}
	})
	h.Configure(hostKey, endpoint("web"))
	h.stepping(500*time.Millisecond, "twelve attempts", func() bool {
		h.Observe(hostKey, orders)
		return len(attempts) >= 12
	})
	var pauses []time.Duration
	last := <-attempts
	for range 11 {
		next := <-attempts
		pauses = append(pauses, next.Sub(last))
		last = next
	}
	for i, pause := range pauses {
		wanted := min(time.Second<<i, 5*time.Minute)
		assert.GreaterOrEqual(t, pause, wanted*9/10, "pause %d", i)
		assert.LessOrEqual(t, pause, wanted*11/10+3*time.Second, "pause %d", i)
	}
}

func TestRefusedCredentialsOfAnOperatorBeforeAreNotTried(t *testing.T) {
	h := start(t)
	h.host.SetPassword("right")
	wrong := endpoint("web")
	wrong.Credentials = credential.Credentials{Username: "ann", Password: "wrong", Version: "1"}
	wrong.Version, wrong.Refused = wrong.Digest(), "the host refused user ann"
	h.Configure(hostKey, wrong)
	h.settled()
	require.Equal(t, fleet.CredentialsRefused, h.status().State)
	require.Equal(t, wrong.Refused, h.status().Message)
	require.Zero(t, h.host.Logins())

	right := wrong
	right.Credentials.Password, right.Credentials.Version, right.Refused = "right", "2", ""
	right.Version = right.Digest()
	h.Configure(hostKey, right)
	h.eventually("connected", h.state(fleet.Connected))
	require.Equal(t, 1, h.host.Logins())
}

func TestRefusedCredentialsStopUntilSomethingChanges(t *testing.T) {
	h := start(t)
	h.host.SetPassword("right")
	wrong := endpoint("web")
	wrong.Credentials = credential.Credentials{Username: "ann", Password: "wrong", Version: "1"}
	wrong.Version = wrong.Digest()
	h.Configure(hostKey, wrong)
	h.eventually("refused", h.state(fleet.CredentialsRefused))
	require.Equal(t, 1, h.host.Logins())
	for range 20 {
		h.Configure(hostKey, wrong)
		h.Observe(hostKey, orders)
		h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{motd}})
		h.clock.Step(time.Hour)
	}
	h.settled()
	require.Equal(t, 1, h.host.Logins(), "a wrong password is tried once")

	edited := wrong
	edited.HostKeys = []string{"ssh-ed25519 AAAA"}
	edited.Spec.StateDirectory, edited.Spec.Probe.Interval = "/srv/isthmus", nil
	edited.Version = edited.Digest()
	h.Configure(hostKey, edited)
	h.settled()
	require.Equal(t, 1, h.host.Logins(), "an edit that does not change the login is no reason to try it again")
	require.Equal(t, fleet.CredentialsRefused, h.status().State)
	require.Equal(t, edited.Version, h.status().Version)

	other := wrong
	other.Spec.SSH = &v1alpha1.SSHTransport{Port: 2222}
	other.Version = other.Digest()
	h.host.Stop()
	h.Configure(hostKey, other)
	h.eventually("another endpoint is tried", h.state(fleet.Unreachable))
	h.host.Resume()
	h.Configure(hostKey, wrong)
	h.settled()
	require.Equal(t, 1, h.host.Logins(), "coming back to what was refused is no reason to try it again")
	require.Equal(t, fleet.CredentialsRefused, h.status().State)

	asked := wrong
	asked.RequestedAt = "now"
	h.Configure(hostKey, asked)
	h.eventually("one attempt on request", func() bool { return h.host.Logins() == 2 })
	h.settled()
	require.Equal(t, 2, h.host.Logins())

	right := wrong
	right.Credentials = credential.Credentials{Username: "ann", Password: "right", Version: "2"}
	right.Version = right.Digest()
	h.Configure(hostKey, right)
	h.eventually("let in at once", h.state(fleet.Connected))
	assert.True(t, h.status().Version == right.Version)
}

func TestAnUnpinnedKeyIsShownBeforeCredentialsAreSent(t *testing.T) {
	h := start(t)
	h.host.SetHostKey("ssh-ed25519 AAAA")
	e := endpoint("web")
	h.Configure(hostKey, e)
	h.eventually("untrusted", h.state(fleet.Untrusted))
	status := h.status()
	assert.Equal(t, "ssh-ed25519 AAAA", status.SeenKey)
	assert.NotEmpty(t, status.Fingerprint)
	assert.True(t, status.Unpinned)
	assert.Zero(t, h.host.Logins())
	e.HostKeys = []string{status.SeenKey}
	e.Version = e.Digest()
	h.Configure(hostKey, e)
	h.eventually("trusted", h.state(fleet.Connected))
	h.host.SetHostKey("ssh-ed25519 BBBB")
	h.host.Drop()
	h.stepping(time.Second, "mismatch", h.state(fleet.Untrusted))
	assert.False(t, h.status().Unpinned)
	assert.Equal(t, 1, h.host.Logins())
}

func TestSuspendAndMaintenance(t *testing.T) {
	h := start(t)
	h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{motd}, Interval: 10 * time.Second})
	h.connected()
	h.Submit(hostKey, orders, restart("before"))
	h.eventually("handed over", h.handedOver)
	e := endpoint("web")
	e.Spec.Maintenance.Enabled, e.Spec.Maintenance.Reason = true, "new disk"
	h.Configure(hostKey, e)
	h.Submit(hostKey, orders, restart("a-1"))
	assert.Contains(t, h.View(hostKey, orders).JobErrors["a-1"], "maintenance (new disk)")
	h.Forget(hostKey, []string{"before"})
	passes := h.host.Observations()
	h.stepping(time.Second, "observed in maintenance", func() bool { return h.host.Observations() > passes })
	assert.Equal(t, 1, h.host.Logins(), "maintenance needs no new connection")
	h.settled()
	assert.Equal(t, []string{"before"}, h.host.Jobs(), "nothing is begun, nothing is removed")

	e.Spec.Suspend = true
	h.Configure(hostKey, e)
	h.eventually("closed", func() bool { return h.host.Sessions() == 0 })
	assert.Equal(t, fleet.Suspended, h.status().State)
	passes = h.host.Observations()
	for range 10 {
		h.clock.Step(time.Hour)
	}
	h.settled()
	assert.Equal(t, passes, h.host.Observations())
	h.Configure(hostKey, endpoint("web"))
	h.eventually("resumed", h.state(fleet.Connected))
}

func TestRemoveKeepsWhatIsWatched(t *testing.T) {
	h := start(t)
	h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{motd}})
	h.connected()
	h.settled()
	told := h.told(orders)
	h.Remove(hostKey)
	_, known := h.Host(hostKey)
	assert.False(t, known)
	h.eventually("told", func() bool { return h.told(orders) > told })
	h.eventually("closed", func() bool { return h.host.Sessions() == 0 })
	h.connected()
	h.eventually("served again", h.complete(orders))
	h.Unwatch(orders)
	assert.Empty(t, h.Users(hostKey))
	assert.Zero(t, h.status().Users)
}

func TestARebootIsTold(t *testing.T) {
	h := start(t)
	h.Watch(hostKey, orders, fleet.Watch{Checks: []machine.Check{motd}, Interval: 10 * time.Second})
	h.connected()
	h.settled()
	told, boot := h.told(orders), h.View(hostKey, orders).BootID
	h.host.Reboot()
	h.stepping(time.Second, "told", func() bool { return h.told(orders) > told })
	assert.NotEqual(t, boot, h.View(hostKey, orders).BootID)
	assert.Equal(t, h.View(hostKey, orders).BootID, h.status().Facts.BootID)
}

func TestAPanicInAMachineIsALostConnection(t *testing.T) {
	h := start(t, func(o *fleet.Options) {
		connect := o.Connect
		o.Connect = func(ctx context.Context, e fleet.Endpoint) (machine.Machine, error) {
			m, err := connect(ctx, e)
			return panicking{m}, err
		}
	})
	h.Configure(hostKey, endpoint("web"))
	h.eventually("unreachable", h.state(fleet.Unreachable))
	assert.Contains(t, h.status().Message, "defect")
	h.eventually("closed", func() bool { return h.host.Sessions() == 0 })
}

type panicking struct{ machine.Machine }

func (panicking) Observe(context.Context, []machine.Check) (machine.Observation, error) {
	panic("index out of range")
}

func TestMessagesAreStableAndBounded(t *testing.T) {
	ports := []int{40022, 40023}
	var attempts atomic.Int32
	h := start(t, func(o *fleet.Options) {
		o.Connect = func(context.Context, fleet.Endpoint) (machine.Machine, error) {
			from := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: ports[int(attempts.Add(1))%2]}
			to := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 22}
			cause := errors.New("connection reset by peer\n" + strings.Repeat("x", 10000))
			return nil, &transport.UnreachableError{Address: "web", Err: &net.OpError{Op: "read", Net: "tcp", Source: from, Addr: to, Err: cause}}
		}
	})
	h.Configure(hostKey, endpoint("web"))
	h.eventually("failed", h.state(fleet.Unreachable))
	h.settled()
	told, message := h.hostTold(), h.status().Message
	assert.Contains(t, message, "reach web: read tcp 10.0.0.2:22: connection reset by peer xxx")
	assert.Less(t, len(message), 600)
	h.stepping(time.Second, "more attempts", func() bool { return attempts.Load() > 4 })
	h.settled()
	assert.Equal(t, told, h.hostTold(), "the same failure from another port is no news")
	assert.Equal(t, message, h.status().Message)
}

// A connection that came too late is closed beside everything else.
func TestAPanicWhenALateConnectionIsClosed(t *testing.T) {
	var closed atomic.Bool
	h := start(t, func(o *fleet.Options) {
		connect := o.Connect
		o.Connect = func(_ context.Context, e fleet.Endpoint) (machine.Machine, error) {
			time.Sleep(1200 * time.Millisecond)
			m, err := connect(context.Background(), e)
			return &closing{m, &closed}, err
		}
	})
	late := endpoint("web")
	late.Spec.Probe.Timeout = &metav1.Duration{Duration: time.Millisecond}
	h.Configure(hostKey, late)
	h.eventually("closed", closed.Load)
	h.eventually("unreachable", h.state(fleet.Unreachable))
}

type closing struct {
	machine.Machine
	closed *atomic.Bool
}

func (c *closing) Close() error {
	c.closed.Store(true)
	panic("index out of range")
}

package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/fleet/fleettest"
	"github.com/isthmus-dev/isthmus/internal/machine"
)

const kind = "ExternalService"

var (
	hostKey = types.NamespacedName{Namespace: "shop", Name: "web"}
	orders  = object("orders")
	passwd  = machine.File{Path: "/etc/passwd"}
	motd    = machine.File{Path: "/etc/motd"}
)

func object(name string) fleet.Object {
	return fleet.Object{Kind: kind, Key: types.NamespacedName{Namespace: "shop", Name: name}}
}

// harness runs a fleet on a fake clock, and counts its events.
type harness struct {
	*fleet.Fleet
	t       *testing.T
	clock   *testclock.FakeClock
	network *fleettest.Network
	host    *fleettest.Host
	cancel  context.CancelFunc
	ended   chan struct{}

	mu     sync.Mutex
	events map[fleet.Object]int
}

func start(t *testing.T, change ...func(*fleet.Options)) *harness {
	t.Helper()
	h := &harness{
		t: t, clock: testclock.NewFakeClock(time.Now()), network: &fleettest.Network{}, host: fleettest.NewLinux(),
		events: map[fleet.Object]int{}, ended: make(chan struct{}),
	}
	h.network.Attach("web", h.host)
	options := fleet.Options{
		Connect: h.network.Connect, Kinds: []string{kind}, Clock: h.clock,
		Epoch: func(context.Context) (int64, error) { return 7, nil },
		Probe: func(context.Context, string, fleet.Probe) error { return errors.New("no route to host") },
	}
	for _, c := range change {
		c(&options)
	}
	h.Fleet = fleet.New(options)
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	go func() {
		defer close(h.ended)
		_ = h.Start(ctx)
	}()
	for _, k := range []string{kind, fleet.HostKind} {
		go h.count(ctx, k)
	}
	t.Cleanup(h.stop)
	return h
}

func (h *harness) count(ctx context.Context, kind string) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-h.Events(kind):
			h.mu.Lock()
			h.events[fleet.Object{Kind: kind, Key: types.NamespacedName{Namespace: e.Object.GetNamespace(), Name: e.Object.GetName()}}]++
			h.mu.Unlock()
		}
	}
}

func (h *harness) stop() {
	h.cancel()
	select {
	case <-h.ended:
	case <-time.After(10 * time.Second):
		h.t.Error("the fleet did not end")
	}
}

func (h *harness) told(object fleet.Object) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.events[object]
}

func (h *harness) hostTold() int { return h.told(fleet.Object{Kind: fleet.HostKind, Key: hostKey}) }

func (h *harness) eventually(what string, condition func() bool) {
	h.t.Helper()
	require.Eventually(h.t, condition, 10*time.Second, time.Millisecond, what)
}

// stepping moves the clock on until the condition holds.
func (h *harness) stepping(by time.Duration, what string, condition func() bool) {
	h.t.Helper()
	h.eventually(what, func() bool {
		if condition() {
			return true
		}
		if h.clock.HasWaiters() {
			h.clock.Step(by)
		}
		return condition()
	})
}

// settled waits until nothing has been told for a while of real time.
func (h *harness) settled() {
	h.t.Helper()
	sum := func() string {
		h.mu.Lock()
		defer h.mu.Unlock()
		return fmt.Sprint(h.events)
	}
	last, since := sum(), time.Now()
	h.eventually("events settle", func() bool {
		if now := sum(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 50*time.Millisecond
	})
}

func (h *harness) status() fleet.HostStatus {
	status, _ := h.Host(hostKey)
	return status
}

func (h *harness) state(state fleet.State) func() bool {
	return func() bool { return h.status().State == state }
}

func (h *harness) complete(object fleet.Object) func() bool {
	return func() bool { return h.View(hostKey, object).Complete }
}

// connected configures the host and waits for the first pass.
func (h *harness) connected() {
	h.t.Helper()
	h.Configure(hostKey, endpoint("web"))
	h.eventually("connected", h.state(fleet.Connected))
}

func endpoint(address string) fleet.Endpoint {
	e := fleet.Endpoint{Spec: v1alpha1.HostSpec{
		Address: address, OS: v1alpha1.Linux, SSH: &v1alpha1.SSHTransport{Port: 22},
		Probe: v1alpha1.HostProbe{
			Interval: &metav1.Duration{Duration: time.Minute}, Timeout: &metav1.Duration{Duration: 5 * time.Second},
		},
	}}
	e.Version = e.Digest()
	return e
}

func restart(id string) machine.Job {
	return machine.Job{ID: id, Timeout: time.Minute, Steps: []machine.Step{
		machine.PutFile{Path: "/tmp/" + id, Content: machine.Secret("x"), SHA256: "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"},
	}}
}

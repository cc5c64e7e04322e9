package operator

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/internal/credential"
	"github.com/isthmus-dev/isthmus/internal/fleet"
	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/machine/posix"
	"github.com/isthmus-dev/isthmus/internal/service"
	"github.com/isthmus-dev/isthmus/internal/transport/ssh"
	"github.com/isthmus-dev/isthmus/test/bench/target"
	"github.com/isthmus-dev/isthmus/test/bench/usage"
)

// Fleet is the part of the operator that looks at hosts, in this process and
// without an API server: what a pass costs when nothing changes and nobody asks.
type Fleet struct {
	fleet *fleet.Fleet
	hosts []*target.Host
	stop  context.CancelFunc
	ended sync.WaitGroup

	mu      sync.Mutex
	waiting map[string]bool // hosts that have not been looked at in this pass
	failed  error
	done    chan struct{}
}

// StartFleet connects to the hosts and watches what their ExternalServices would.
func StartFleet(ctx context.Context, bed *target.Bed) (*Fleet, error) {
	f := &Fleet{hosts: bed.Hosts}
	f.fleet = fleet.New(fleet.Options{Connect: func(ctx context.Context, endpoint fleet.Endpoint) (machine.Machine, error) {
		return f.connect(ctx, endpoint)
	}})
	running, stop := context.WithCancel(ctx)
	f.stop = stop
	f.ended.Go(func() { _ = f.fleet.Start(running) }) // it ends with its context, and without an error
	begun := f.begin()
	for _, h := range bed.Hosts {
		if err := f.watch(h); err != nil {
			f.Stop()
			return nil, err
		}
		f.fleet.Configure(keyOf(h), f.endpoint(bed, h))
	}
	err := f.await(ctx, begun)
	if err == nil {
		err = f.connected(ctx)
	}
	if err != nil {
		f.Stop()
		return nil, err
	}
	return f, nil
}

// connected waits until the fleet has taken the answers over, so that no pass
// pays for what is left of the first looks.
func (f *Fleet) connected(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, h := range f.hosts {
		for status, _ := f.fleet.Host(keyOf(h)); status.State != fleet.Connected; status, _ = f.fleet.Host(keyOf(h)) {
			if err := sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// Stop ends all connections.
func (f *Fleet) Stop() {
	f.stop()
	f.ended.Wait()
}

func keyOf(h *target.Host) fleet.HostKey {
	return fleet.HostKey{Namespace: namespace, Name: h.Name}
}

func objectOf(service *v1alpha1.ExternalService) fleet.Object {
	return fleet.Object{Kind: "ExternalService", Key: client.ObjectKeyFromObject(service)}
}

func (f *Fleet) endpoint(bed *target.Bed, h *target.Host) fleet.Endpoint {
	endpoint := fleet.Endpoint{
		Spec:        HostFor(h).Spec,
		HostKeys:    []string{h.HostKey},
		Credentials: credential.Credentials{Username: bed.User, PrivateKey: bed.PrivateKey, Version: "1"},
	}
	endpoint.Version = endpoint.Digest()
	return endpoint
}

func (f *Fleet) watch(h *target.Host) error {
	for _, object := range ServicesFor(h) {
		desired, err := service.Compile(service.Source{Spec: &object.Spec, OS: v1alpha1.Linux})
		if err != nil {
			return fmt.Errorf("compile %s: %w", object.Name, err)
		}
		f.fleet.Watch(keyOf(h), objectOf(object), fleet.Watch{Checks: service.Checks(desired, nil), Interval: never})
	}
	return nil
}

// connect does what the operator's own connector does, and has each look counted.
func (f *Fleet) connect(ctx context.Context, endpoint fleet.Endpoint) (machine.Machine, error) {
	client, err := ssh.Dial(ctx, ssh.Config{
		Address:    net.JoinHostPort(endpoint.Spec.Address, strconv.Itoa(int(endpoint.Spec.SSH.Port))),
		User:       endpoint.Credentials.Username,
		HostKeys:   endpoint.HostKeys,
		PrivateKey: endpoint.Credentials.PrivateKey,
	})
	if err != nil {
		return nil, err
	}
	host := posix.New(client, posix.Options{StateDir: endpoint.Spec.StateDirectory})
	return &counted{Machine: host, fleet: f, directory: endpoint.Spec.StateDirectory}, nil
}

// counted tells when a host has been looked at.
type counted struct {
	machine.Machine
	fleet     *Fleet
	directory string
}

// Observe implements machine.Observer.
func (c *counted) Observe(ctx context.Context, checks []machine.Check) (machine.Observation, error) {
	observed, err := c.Machine.Observe(ctx, checks)
	for check, answer := range observed.Answers {
		if problem, ok := answer.(machine.Problem); ok && err == nil {
			err = fmt.Errorf("%T: %s", check, problem.Message)
		}
	}
	c.fleet.looked(c.directory, err)
	return observed, err
}

// Pass looks at all hosts once.
func (f *Fleet) Pass(ctx context.Context) (time.Duration, usage.Usage, error) {
	cpu, began := usage.Self(), time.Now()
	begun := f.begin()
	for _, h := range f.hosts {
		f.fleet.Observe(keyOf(h), objectOf(ServicesFor(h)[0]))
	}
	err := f.await(ctx, begun)
	return time.Since(began), usage.Usage{CPU: usage.Self() - cpu}, err
}

func (f *Fleet) begin() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting, f.done = map[string]bool{}, make(chan struct{})
	for _, h := range f.hosts {
		f.waiting[h.StateDir] = true
	}
	return f.done
}

func (f *Fleet) looked(directory string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil && f.failed == nil {
		f.failed = err
	}
	if !f.waiting[directory] {
		return
	}
	delete(f.waiting, directory)
	if len(f.waiting) == 0 {
		close(f.done)
	}
}

func (f *Fleet) await(ctx context.Context, done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("look at all hosts: %w", ctx.Err())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

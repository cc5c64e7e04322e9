package controllers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/internal/leader"
)

// leaseName is the Lease of the election, in the operator's namespace.
const leaseName = "isthmus"

// newLock makes the lock of the election. Its identity is this process's own,
// so that an epoch can be drawn for this leadership and no other.
func newLock(config *rest.Config, namespace string) (resourcelock.Interface, error) {
	hostname, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name this process: %w", err)
	}
	core, err := corev1client.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for the lock: %w", err)
	}
	coordination, err := coordinationv1client.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for the lock: %w", err)
	}
	return resourcelock.New(resourcelock.LeasesResourceLock, namespace, leaseName, core, coordination,
		resourcelock.ResourceLockConfig{Identity: hostname + "_" + string(uuid.NewUUID())})
}

// deposed ends a leader as soon as it sees that somebody else holds the Lease.
// The election alone would let it go on until its deadline for renewals, in which
// a leader that was frozen has time to write what it saw before it froze.
type deposed struct {
	resourcelock.Interface
	held  atomic.Bool
	once  sync.Once
	found chan struct{}
}

func watchLock(lock resourcelock.Interface) *deposed {
	return &deposed{Interface: lock, found: make(chan struct{})}
}

// Get reads the Lease, as the election does when it could not renew it.
func (d *deposed) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := d.Interface.Get(ctx)
	if err != nil {
		return record, raw, err
	}
	switch record.HolderIdentity {
	case d.Identity():
		d.held.Store(true)
	case "": // given up, by us or by whoever had it
	default:
		if d.held.Load() {
			d.once.Do(func() { close(d.found) })
		}
	}
	return record, raw, nil
}

// Create implements resourcelock.Interface.
func (d *deposed) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return d.wrote(record, d.Interface.Create(ctx, record))
}

// Update implements resourcelock.Interface.
func (d *deposed) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return d.wrote(record, d.Interface.Update(ctx, record))
}

func (d *deposed) wrote(record resourcelock.LeaderElectionRecord, err error) error {
	if err == nil && record.HolderIdentity == d.Identity() {
		d.held.Store(true)
	}
	return err
}

var errDeposed = errors.New("leader election lost: another process holds the Lease")

// Start implements manager.Runnable: its error ends the manager.
func (d *deposed) Start(ctx context.Context) error {
	select {
	case <-d.found:
		return errDeposed
	case <-ctx.Done():
		return nil
	}
}

// epoch draws this leadership's epoch.
func epoch(live client.Client, options Options) func(ctx context.Context) (int64, error) {
	return func(ctx context.Context) (int64, error) {
		return leader.Epoch(ctx, live, types.NamespacedName{Namespace: options.Namespace, Name: leaseName}, options.identity)
	}
}

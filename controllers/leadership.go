package controllers

import (
	"context"
	"fmt"
	"os"

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

// epoch draws this leadership's epoch.
func epoch(live client.Client, options Options) func(ctx context.Context) (int64, error) {
	return func(ctx context.Context) (int64, error) {
		return leader.Epoch(ctx, live, types.NamespacedName{Namespace: options.Namespace, Name: leaseName}, options.identity)
	}
}

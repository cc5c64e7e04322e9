package operator

import (
	"context"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/test/bench/target"
	"github.com/isthmus-dev/isthmus/test/bench/usage"
)

// Pause tells whether the operator may contact a Host.
type Pause string

// The values of Pause.
const (
	Suspended Pause = "true"
	Resumed   Pause = "false"
)

// Add writes one Host, suspended, with an ExternalService that will never be answered.
func (o *Operator) Add(ctx context.Context, h *target.Host) error {
	host := HostFor(h)
	host.Spec.Suspend = true
	service := ServicesFor(h)[0]
	service.Spec.DeletionPolicy = v1alpha1.DeletionOrphan
	if err := o.Client.Create(ctx, host); err != nil {
		return err
	}
	return o.Client.Create(ctx, service)
}

// Suspend has the operator leave a Host alone, or no longer.
func (o *Operator) Suspend(ctx context.Context, h *target.Host, pause Pause) error {
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"suspend":%s}}`, pause))
	if err := o.Client.Patch(ctx, HostFor(h), patch); err != nil {
		return err
	}
	// The operator hears of it in a moment; a pass that is timed must find it done.
	return sleep(ctx, 300*time.Millisecond)
}

// Tries tells whether the operator has a connection under way to the Host's port.
func (o *Operator) Tries(_ context.Context, h *target.Host) (bool, error) {
	return usage.Dials(o.PID(), h.Port)
}

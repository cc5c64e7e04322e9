package story

import (
	"context"
	"errors"
	"fmt"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// runUnreachable drops every packet from and to the Linux host for a while.
func runUnreachable(ctx context.Context, b *Bed, tell Teller) error {
	before, err := b.unit(ctx, "InvocationID")
	if err != nil {
		return err
	}
	if err := b.Network.Cut(ctx, b.Linux.Address()); err != nil {
		return err
	}
	cut := time.Now()
	err = b.goesUnknown(ctx, tell, cut)
	if err := errors.Join(err, b.Network.Heal(ctx, b.Linux.Address())); err != nil {
		return err
	}
	tell.Say("the Linux host is back on the network")
	if err := b.allReady(ctx, 90*time.Second); err != nil {
		return err
	}
	after, err := b.unit(ctx, "InvocationID")
	if err != nil {
		return err
	}
	if before != after {
		return errors.New("the ledger was restarted although only the network was gone")
	}
	tell.Say("all Ready again; the ledger is the same process as before (invocation %s)", after)
	return nil
}

// goesUnknown sees Unknown conditions, an endpoint that stays, and Windows beside it untouched.
func (b *Bed) goesUnknown(ctx context.Context, tell Teller, cut time.Time) error {
	err := wait(ctx, 90*time.Second, func(ctx context.Context) error {
		service, err := b.service(ctx, ledgerService)
		if err != nil {
			return err
		}
		app, err := b.app(ctx)
		if err != nil {
			return err
		}
		return errors.Join(
			is(ledgerService, service.Status.Conditions, v1alpha1.ReadyCondition, metav1.ConditionUnknown),
			is(application, app.Status.Conditions, v1alpha1.ReadyCondition, metav1.ConditionUnknown))
	})
	if err != nil {
		return err
	}
	tell.Say("the ledger and the application are Unknown after %.1f s", time.Since(cut).Seconds())
	if err := b.hostUnreachable(ctx); err != nil {
		return err
	}
	b.show(ctx, tell, "get", "hosts,extsvc,happ")
	other, err := b.service(ctx, ordersService)
	if err != nil {
		return err
	}
	if err := is(ordersService, other.Status.Conditions, v1alpha1.ReadyCondition, metav1.ConditionTrue); err != nil {
		return fmt.Errorf("the other host suffers: %w", err)
	}
	return b.endpointStays(ctx)
}

// hostUnreachable waits for the end of the Host's grace period.
func (b *Bed) hostUnreachable(ctx context.Context) error {
	return wait(ctx, time.Minute, func(ctx context.Context) error {
		host, err := b.host(ctx, "ledger-vm")
		if err != nil {
			return err
		}
		return is("ledger-vm", host.Status.Conditions, v1alpha1.ReachableCondition, metav1.ConditionFalse)
	})
}

// endpointStays: lost contact with the host's SSH server is no reason to cut the
// service's own traffic (spec.expose.onUnreachable: KeepLast).
func (b *Bed) endpointStays(ctx context.Context) error {
	slices := &discoveryv1.EndpointSliceList{}
	if err := b.Client.List(ctx, slices, client.InNamespace(namespace), client.MatchingLabels{discoveryv1.LabelServiceName: ledgerService}); err != nil {
		return err
	}
	for _, slice := range slices.Items {
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready != nil && *endpoint.Conditions.Ready {
				return nil
			}
		}
	}
	return errors.New("the ledger's endpoint was taken out while its host could not be asked")
}

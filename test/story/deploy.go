package story

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// runDeploy applies the application and sees its parts become Ready in order.
func runDeploy(ctx context.Context, b *Bed, tell Teller) error {
	if err := b.applyDir(ctx, sample, only("HybridApplication")); err != nil {
		return err
	}
	if err := b.follow(ctx, tell); err != nil {
		return err
	}
	if err := b.inOrder(ctx, tell); err != nil {
		return err
	}
	b.show(ctx, tell, "get", "hosts,extsvc,happ,deploy,svc,endpointslices")
	return nil
}

// follow tells of each component as its state changes, until all is Ready.
func (b *Bed) follow(ctx context.Context, tell Teller) error {
	told := map[string]string{}
	err := wait(ctx, 2*time.Minute, func(ctx context.Context) error {
		app, err := b.app(ctx)
		if err != nil {
			return err
		}
		for _, component := range app.Status.Components {
			if told[component.Name] != component.State {
				told[component.Name] = component.State
				tell.Say("%-13s %-8s %s", component.Name, component.State, component.Message)
			}
		}
		return ready("the application", app.Generation, app.Status.Status)
	})
	if err != nil {
		b.show(ctx, tell, "describe", "happ,extsvc")
	}
	return err
}

// inOrder compares the times in the objects themselves: the Deployment was made after both services were Ready.
func (b *Bed) inOrder(ctx context.Context, tell Teller) error {
	gateway := &appsv1.Deployment{}
	if err := b.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: application + "-gateway"}, gateway); err != nil {
		return err
	}
	for _, name := range []string{ordersService, ledgerService} {
		service, err := b.service(ctx, name)
		if err != nil {
			return err
		}
		condition := meta.FindStatusCondition(service.Status.Conditions, v1alpha1.ReadyCondition)
		if condition == nil || gateway.CreationTimestamp.Time.Before(condition.LastTransitionTime.Time) {
			return fmt.Errorf("the gateway was created at %s, before %s was Ready", gateway.CreationTimestamp, name)
		}
	}
	for _, entry := range gateway.Spec.Template.Spec.Containers[0].Env {
		tell.Say("gateway has %s=%s", entry.Name, entry.Value)
	}
	return nil
}

// runRequest asks the gateway Pod, whose answer holds what both machines said.
func runRequest(ctx context.Context, b *Bed, tell Teller) error {
	var page string
	err := wait(ctx, 30*time.Second, func(ctx context.Context) error {
		var err error
		page, err = b.gateway(ctx)
		return errors.Join(err, contains(page, "north"), contains(page, "EUR"))
	})
	if err != nil {
		return fmt.Errorf("%w; the gateway answered:\n%s", err, page)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(page), "\n") {
		tell.Say("%s", line)
	}
	return nil
}

func contains(page, word string) error {
	if !strings.Contains(page, word) {
		return fmt.Errorf("the answer does not hold %q", word)
	}
	return nil
}

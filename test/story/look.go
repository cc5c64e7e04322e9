package story

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// Names of the sample's objects.
const (
	application   = "shop"
	ordersService = "shop-orders"
	ledgerService = "shop-ledger"
)

// service reads an ExternalService.
func (b *Bed) service(ctx context.Context, name string) (*v1alpha1.ExternalService, error) {
	object := &v1alpha1.ExternalService{}
	return object, b.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, object)
}

// host reads a Host.
func (b *Bed) host(ctx context.Context, name string) (*v1alpha1.Host, error) {
	object := &v1alpha1.Host{}
	return object, b.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, object)
}

// app reads the application.
func (b *Bed) app(ctx context.Context) (*v1alpha1.HybridApplication, error) {
	object := &v1alpha1.HybridApplication{}
	return object, b.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: application}, object)
}

// is tells whether a condition has a status, and says what it is otherwise.
func is(of string, conditions []metav1.Condition, kind string, status metav1.ConditionStatus) error {
	condition := meta.FindStatusCondition(conditions, kind)
	switch {
	case condition == nil:
		return fmt.Errorf("%s has no condition %s", of, kind)
	case condition.Status != status:
		return fmt.Errorf("%s: %s is %s (%s: %s), want %s", of, kind, condition.Status, condition.Reason, condition.Message, status)
	}
	return nil
}

// ready tells whether the status speaks of the spec as it is, and is Ready.
func ready(of string, generation int64, status v1alpha1.Status) error {
	if status.ObservedGeneration != generation {
		return fmt.Errorf("%s: status speaks of generation %d, the spec is at %d", of, status.ObservedGeneration, generation)
	}
	return is(of, status.Conditions, v1alpha1.ReadyCondition, metav1.ConditionTrue)
}

// allReady waits until the application and both services are Ready.
func (b *Bed) allReady(ctx context.Context, limit time.Duration) error {
	return wait(ctx, limit, func(ctx context.Context) error {
		app, err := b.app(ctx)
		if err != nil {
			return err
		}
		result := ready("the application", app.Generation, app.Status.Status)
		for _, name := range []string{ordersService, ledgerService} {
			service, err := b.service(ctx, name)
			if err != nil {
				return errors.Join(result, err)
			}
			result = errors.Join(result, ready(name, service.Generation, service.Status.Status))
		}
		return result
	})
}

// gone waits until an object is no longer there.
func (b *Bed) gone(ctx context.Context, object client.Object, limit time.Duration) error {
	return wait(ctx, limit, func(ctx context.Context) error {
		err := b.Client.Get(ctx, client.ObjectKeyFromObject(object), object)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return fmt.Errorf("%T %s is still there, with finalizers %v", object, object.GetName(), object.GetFinalizers())
	})
}

// gateway asks the gateway Pod for its page, through the API server.
func (b *Bed) gateway(ctx context.Context) (string, error) {
	return b.Kubectl(ctx, "get", "--raw", "/api/v1/namespaces/"+namespace+"/services/gateway:http/proxy/cgi-bin/all")
}

// show prints what a user sees.
func (b *Bed) show(ctx context.Context, tell Teller, args ...string) {
	out, err := b.Kubectl(ctx, append(args, "-n", namespace)...)
	if err != nil {
		tell.Say("%v", err)
		return
	}
	tell.Say("$ kubectl %s", strings.Join(args, " "))
	for line := range strings.SplitSeq(strings.TrimRight(out, "\n"), "\n") {
		_, _ = fmt.Fprintln(tell.out, "           "+line)
	}
}

// unit is one property of a systemd unit of the Linux host, asked on the host itself.
func (b *Bed) unit(ctx context.Context, property string) (string, error) {
	out, err := b.Linux.Run(ctx, "systemctl", "show", "-p", property, "--value", "ledger.service")
	return strings.TrimSpace(string(out)), err
}

// ledgerStarts counts how often the ledger was started, from the host's own journal.
func (b *Bed) ledgerStarts(ctx context.Context) (int, error) {
	out, err := b.Linux.Run(ctx, "journalctl", "--no-pager", "--output=cat", "_PID=1", "+", "UNIT=ledger.service")
	if err != nil {
		return 0, err
	}
	return strings.Count(string(out), "Started ledger.service"), nil
}

// windowsState asks the Windows host's own service manager; empty: there is no such service.
func (b *Bed) windowsState(ctx context.Context, name string) (string, error) {
	services, err := b.Windows.Services(ctx)
	if err != nil {
		return "", err
	}
	for _, service := range services {
		if service.Name == name {
			return map[uint32]string{1: "Stopped", 2: "Start Pending", 3: "Stop Pending", 4: "Running"}[service.State], nil
		}
	}
	return "", nil
}

package story

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

// runDelete removes the application and looks at the machines.
func runDelete(ctx context.Context, b *Bed, tell Teller) error {
	app, err := b.app(ctx)
	if err != nil {
		return err
	}
	if err := b.Client.Delete(ctx, app); err != nil {
		return err
	}
	if err := b.reverseOrder(ctx, tell); err != nil {
		return err
	}
	if err := b.gone(ctx, app, 4*time.Minute); err != nil {
		return err
	}
	tell.Say("the application is gone")
	if err := b.clean(ctx, 15*time.Second); err != nil {
		return err
	}
	tell.Say("both machines are clean: no service, no file, no state directory")
	for _, name := range []string{"orders-win", "ledger-vm"} {
		host := &v1alpha1.Host{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		if err := b.Client.Delete(ctx, host); err != nil {
			return err
		}
		if err := b.gone(ctx, host, 30*time.Second); err != nil {
			return err
		}
	}
	tell.Say("the Hosts are gone")
	return nil
}

// clean waits until nothing is left on the machines. The last receipt, and with it the
// state directory, goes once nobody needs it: after the object that it is of.
func (b *Bed) clean(ctx context.Context, within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		err := errors.Join(b.linuxClean(ctx), b.windowsClean(ctx))
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// reverseOrder sees the gateway go before the services that it was told of.
func (b *Bed) reverseOrder(ctx context.Context, tell Teller) error {
	gateway := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: application + "-gateway"}}
	for {
		deployed := b.Client.Get(ctx, client.ObjectKeyFromObject(gateway), gateway)
		if client.IgnoreNotFound(deployed) != nil {
			return deployed
		}
		if deployed != nil {
			tell.Say("the gateway is gone first")
			return nil
		}
		for _, name := range []string{ordersService, ledgerService} {
			service, err := b.service(ctx, name)
			if err != nil {
				return fmt.Errorf("while the gateway is still there: %w", err)
			}
			if service.DeletionTimestamp != nil && gateway.DeletionTimestamp == nil {
				return fmt.Errorf("%s is being deleted before the gateway", name)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// linuxClean asks the Linux host what is left.
func (b *Bed) linuxClean(ctx context.Context) error {
	left, err := b.Linux.Run(ctx, "sh", "-c",
		"ls -d "+unitFile+" /srv/ledger/ledger.json /var/lib/isthmus 2>/dev/null; systemctl list-units --all --plain --no-legend ledger.service; true")
	if err != nil {
		return err
	}
	if text := strings.TrimSpace(string(left)); text != "" {
		return fmt.Errorf("left on the Linux host: %s", text)
	}
	return nil
}

// windowsClean asks the service manager and the drive.
func (b *Bed) windowsClean(ctx context.Context) error {
	var result error
	state, err := b.windowsState(ctx, "Orders")
	if err != nil {
		return err
	}
	if state != "" {
		result = fmt.Errorf("the service Orders is still on the Windows host: %s", state)
	}
	for _, path := range []string{`C:\Orders\orders.json`, `C:\ProgramData\isthmus`} {
		file, err := b.Windows.Path(path)
		if err != nil {
			return errors.Join(result, err)
		}
		if _, err := os.Stat(file); err == nil {
			result = errors.Join(result, fmt.Errorf("left on the Windows host: %s", path))
		} else if !os.IsNotExist(err) {
			result = errors.Join(result, err)
		}
	}
	return result
}

package story

import (
	"context"
	"fmt"
	"io"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
)

const sample = "config/samples/shop"

// runInstall declares the hosts, with a wrong password for the Windows one first.
func runInstall(ctx context.Context, b *Bed, tell Teller) error {
	if err := b.applyDir(ctx, sample, only("Namespace", "ServiceAccount", "Role", "RoleBinding")); err != nil {
		return err
	}
	if err := b.credentials(ctx, "wrong"); err != nil {
		return err
	}
	before := b.Windows.FailedLogins()
	if err := b.applyDir(ctx, sample, only("Host"), b.adapt); err != nil {
		return err
	}
	if err := b.wrongPasswordStops(ctx, tell, before); err != nil {
		return err
	}
	if err := b.credentials(ctx, b.password); err != nil {
		return err
	}
	corrected := time.Now()
	if err := b.hostsReady(ctx); err != nil {
		return err
	}
	tell.Say("the Secret is corrected: both hosts are Ready after %.1f s", time.Since(corrected).Seconds())
	b.show(ctx, tell, "get", "hosts")
	return nil
}

// wrongPasswordStops sees one attempt on the host, a condition that says so, and no second attempt.
func (b *Bed) wrongPasswordStops(ctx context.Context, tell Teller, before int) error {
	refused := func(ctx context.Context) error {
		host, err := b.host(ctx, "orders-win")
		if err != nil {
			return err
		}
		return is("orders-win", host.Status.Conditions, v1alpha1.CredentialsAcceptedCondition, metav1.ConditionFalse)
	}
	if err := wait(ctx, time.Minute, refused); err != nil {
		return err
	}
	// Longer than the probe's interval and the first back-offs: a second attempt would come now.
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(12 * time.Second):
	}
	if n := b.Windows.FailedLogins() - before; n != 1 {
		return fmt.Errorf("the Windows host counted %d attempts with the wrong password, want 1", n)
	}
	tell.Say("a wrong password was tried once, and not again in 12 s")
	return nil
}

// DeclareHosts declares both hosts with the right credentials, and waits until they are Ready.
func (b *Bed) DeclareHosts(ctx context.Context) error {
	if err := b.applyDir(ctx, sample, only("Namespace")); err != nil {
		return err
	}
	if err := b.credentials(ctx, b.password); err != nil {
		return err
	}
	if err := b.applyDir(ctx, sample, only("Host"), b.adapt); err != nil {
		return err
	}
	return b.hostsReady(ctx)
}

func (b *Bed) hostsReady(ctx context.Context) error {
	for _, name := range []string{"orders-win", "ledger-vm"} {
		if err := b.hostReady(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bed) hostReady(ctx context.Context, name string) error {
	return wait(ctx, time.Minute, func(ctx context.Context) error {
		host, err := b.host(ctx, name)
		if err != nil {
			return err
		}
		return ready(name, host.Generation, host.Status.Status)
	})
}

// credentials writes what the Hosts refer to: the part of the sample that is different for everyone.
func (b *Bed) credentials(ctx context.Context, password string) error {
	if err := b.secret(ctx, "orders-win-admin", map[string][]byte{"username": []byte(windowsUser), "password": []byte(password)}); err != nil {
		return err
	}
	if err := b.secret(ctx, "ledger-vm-key", map[string][]byte{"ssh-privatekey": b.key}); err != nil {
		return err
	}
	authority := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": "corp-ca", "namespace": namespace},
		"data":     map[string]any{"ca.crt": string(b.Windows.CA())},
	}}
	return b.apply(ctx, authority)
}

// adapt writes the addresses and keys of the bed's machines into the sample's Hosts.
func (b *Bed) adapt(object *unstructured.Unstructured) error {
	if object.GetKind() != "Host" {
		return nil
	}
	switch object.GetName() {
	case "orders-win":
		if err := unstructured.SetNestedField(object.Object, int64(b.Windows.Port()), "spec", "winrm", "port"); err != nil {
			return err
		}
		return unstructured.SetNestedField(object.Object, b.Windows.Address(), "spec", "address")
	case "ledger-vm":
		keys, err := b.Linux.HostKeys(context.Background())
		if err != nil {
			return err
		}
		if err := unstructured.SetNestedStringSlice(object.Object, keys, "spec", "ssh", "hostKeys"); err != nil {
			return err
		}
		return unstructured.SetNestedField(object.Object, b.Linux.Address().String(), "spec", "address")
	}
	return fmt.Errorf("the bed has no machine for Host %s", object.GetName())
}

// only keeps objects of some kinds.
func only(kinds ...string) func(*unstructured.Unstructured) error {
	return func(object *unstructured.Unstructured) error {
		for _, kind := range kinds {
			if object.GetKind() == kind {
				return nil
			}
		}
		return errSkip
	}
}

// Again declares hosts and application once more after the story, for a look around.
func (b *Bed) Again(ctx context.Context, out io.Writer) error {
	if err := b.applyDir(ctx, sample, b.adapt); err != nil {
		return err
	}
	return b.follow(ctx, Teller{out: out, began: time.Now()})
}

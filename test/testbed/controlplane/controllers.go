package controlplane

import (
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-dev/isthmus/test/testbed/process"
)

// limits lift the rate that controllers impose on themselves. It is meant for an
// API server with many clients, and here it only makes the start slow.
var limits = []string{"--kube-api-qps=500", "--kube-api-burst=1000"}

// startControllers starts the controllers side by side and waits for a trace of
// each at work: without a port of their own, which nothing here needs, there is
// no health to ask for.
func (c *ControlPlane) startControllers(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.AdminConfig())
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	var waits []func() error
	if c.options.ControllerManager {
		p, err := c.runControllerManager()
		if err != nil {
			return err
		}
		waits = append(waits, func() error { return p.WaitReady(ctx, hasDefaultServiceAccount(client)) })
	}
	if c.options.Scheduler {
		p, err := c.runScheduler()
		if err != nil {
			return err
		}
		waits = append(waits, func() error { return p.WaitReady(ctx, hasScheduler(client)) })
	}
	for _, wait := range waits {
		if err := wait(); err != nil {
			return err
		}
	}
	return nil
}

func (c *ControlPlane) runControllerManager() (*process.Process, error) {
	kubeconfig, err := c.KubeconfigFor("kube-controller-manager", "system:kube-controller-manager")
	if err != nil {
		return nil, err
	}
	args := append([]string{
		"--kubeconfig=" + kubeconfig,
		"--secure-port=0",
		"--leader-elect=false",
		"--use-service-account-credentials",
		"--service-account-private-key-file=pki/service-account.key",
		"--root-ca-file=pki/ca.crt",
		"--cluster-signing-cert-file=pki/ca.crt",
		"--cluster-signing-key-file=pki/ca.key",
		"--service-cluster-ip-range=" + c.options.ServiceCIDR,
	}, limits...)
	if c.options.PodCIDR == "" {
		args = append(args, "--allocate-node-cidrs=false")
	} else {
		args = append(args, "--allocate-node-cidrs=true", "--cluster-cidr="+c.options.PodCIDR)
	}
	return c.run("kube-controller-manager", args...)
}

// runScheduler leaves the election of a leader on: the lease is what tells that it works.
func (c *ControlPlane) runScheduler() (*process.Process, error) {
	kubeconfig, err := c.KubeconfigFor("kube-scheduler", "system:kube-scheduler")
	if err != nil {
		return nil, err
	}
	return c.run("kube-scheduler", append([]string{"--kubeconfig=" + kubeconfig, "--secure-port=0"}, limits...)...)
}

// hasDefaultServiceAccount asks for something that every namespace has once the
// controller manager works, and that Pods cannot be created without.
func hasDefaultServiceAccount(client kubernetes.Interface) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	}
}

// hasScheduler asks for the lease that the scheduler takes when its caches are filled.
func hasScheduler(client kubernetes.Interface) func(context.Context) error {
	return func(ctx context.Context) error {
		lease, err := client.CoordinationV1().Leases("kube-system").Get(ctx, "kube-scheduler", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
			return errors.New("the lease of the scheduler has no holder")
		}
		return nil
	}
}

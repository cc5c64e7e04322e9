package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// The sockets are relative paths, since the path of a Unix socket is short (108
// bytes, unix(7)) and the state directory of a test may not be.
const (
	etcdSocket = "unix://etcd.sock"
	etcdPeer   = "http://127.0.0.1:0"
)

func (c *ControlPlane) startEtcd(ctx context.Context) error {
	args := []string{
		"--data-dir=etcd",
		"--listen-client-urls=" + etcdSocket,
		"--advertise-client-urls=" + etcdSocket,
		"--listen-peer-urls=" + etcdPeer,
		"--initial-advertise-peer-urls=" + etcdPeer,
		"--initial-cluster=default=" + etcdPeer,
		"--log-level=warn",
	}
	if !c.options.Durable {
		args = append(args, "--unsafe-no-fsync")
	}
	p, err := c.run("etcd", args...)
	if err != nil {
		return err
	}
	return p.WaitReady(ctx, func(context.Context) error {
		_, err := os.Stat(c.path("etcd.sock"))
		return err
	})
}

func (c *ControlPlane) startAPIServer(ctx context.Context) error {
	reconciler := "lease"
	if net.ParseIP(c.options.Address).IsLoopback() {
		// The API server refuses to advertise a loopback address as an endpoint.
		reconciler = "none"
	}
	p, err := c.run("kube-apiserver",
		"--etcd-servers="+etcdSocket,
		"--bind-address="+c.options.Address,
		"--advertise-address="+c.options.Address,
		fmt.Sprintf("--secure-port=%d", c.port.number),
		"--permit-port-sharing",
		"--endpoint-reconciler-type="+reconciler,
		"--service-cluster-ip-range="+c.options.ServiceCIDR,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged",
		"--client-ca-file=pki/ca.crt",
		"--tls-cert-file=pki/apiserver.crt",
		"--tls-private-key-file=pki/apiserver.key",
		"--kubelet-client-certificate=pki/kubelet-client.crt",
		"--kubelet-client-key=pki/kubelet-client.key",
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=pki/service-account.pub",
		"--service-account-signing-key-file=pki/service-account.key",
	)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.pki.caCert)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	return p.WaitHTTP(ctx, &http.Client{Transport: transport}, c.URL()+"/readyz")
}

// startControllerManager waits for a trace of the controllers at work: without a
// port of its own, which nothing here needs, there is no health to ask for.
func (c *ControlPlane) startControllerManager(ctx context.Context) error {
	if !c.options.ControllerManager {
		return nil
	}
	kubeconfig, err := c.KubeconfigFor("kube-controller-manager", "system:kube-controller-manager")
	if err != nil {
		return err
	}
	args := []string{
		"--kubeconfig=" + kubeconfig,
		"--secure-port=0",
		"--leader-elect=false",
		"--use-service-account-credentials",
		"--service-account-private-key-file=pki/service-account.key",
		"--root-ca-file=pki/ca.crt",
		"--cluster-signing-cert-file=pki/ca.crt",
		"--cluster-signing-key-file=pki/ca.key",
		"--service-cluster-ip-range=" + c.options.ServiceCIDR,
		"--allocate-node-cidrs=false",
	}
	if c.options.PodCIDR != "" {
		args = append(args, "--allocate-node-cidrs=true", "--cluster-cidr="+c.options.PodCIDR)
	}
	p, err := c.run("kube-controller-manager", args...)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(c.AdminConfig())
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	return p.WaitReady(ctx, func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// startScheduler waits for the lease that the scheduler takes when its caches are filled.
func (c *ControlPlane) startScheduler(ctx context.Context) error {
	if !c.options.Scheduler {
		return nil
	}
	kubeconfig, err := c.KubeconfigFor("kube-scheduler", "system:kube-scheduler")
	if err != nil {
		return err
	}
	p, err := c.run("kube-scheduler", "--kubeconfig="+kubeconfig, "--secure-port=0")
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(c.AdminConfig())
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	return p.WaitReady(ctx, func(ctx context.Context) error {
		lease, err := client.CoordinationV1().Leases("kube-system").Get(ctx, "kube-scheduler", metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err != nil {
			return err
		}
		if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
			return errors.New("the lease of the scheduler has no holder")
		}
		return nil
	})
}

package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
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

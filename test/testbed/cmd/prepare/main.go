// Command prepare builds and installs, once, what the tests need, and prints
// the directory of etcd, kube-apiserver and kubectl (KUBEBUILDER_ASSETS) on
// stdout. Progress goes to stderr. Without root it prepares what can be used
// without root.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/isthmus-dev/isthmus/test/testbed/cache"
	"github.com/isthmus-dev/isthmus/test/testbed/controlplane"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/linuxhost"
	"github.com/isthmus-dev/isthmus/test/testbed/node"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/orders"
)

// packages of Debian that tests use as they are, beside those that the parts of the test bed install.
var packages = []string{"busybox-static", "dash", "nftables", "iproute2", "openssh-server", "openssh-client", "procps", "python3-winrm", "sudo", "openssl",
	"krb5-kdc", "krb5-admin-server", "krb5-user", "python3-gssapi", "python3-requests-kerberos", "ansible"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	assets, err := prepare(ctx, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(1)
	}
	fmt.Println(assets)
}

func prepare(ctx context.Context, progress io.Writer) (assets string, err error) {
	if assets, err = controlplane.Assets(ctx, progress); err != nil {
		return "", err
	}
	if os.Geteuid() != 0 {
		return assets, nil
	}
	dir, err := os.MkdirTemp("", "isthmus-prepare-")
	if err != nil {
		return "", err
	}
	j, err := janitor.New(dir)
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	if err := j.Remove(dir); err != nil {
		return "", err
	}
	for _, part := range []func() error{
		func() error { return cache.Packages(ctx, progress, packages...) },
		func() error { return linuxhost.Build(ctx, j, dir, progress) },
		func() error { return linuxhost.Build(ctx, j, dir, progress, "busybox-static") },
		func() error { return node.Build(ctx, j, dir, progress) },
		func() error { return windows(ctx, j, dir, progress) },
	} {
		if err := part(); err != nil {
			return "", err
		}
	}
	return assets, nil
}

// windows starts a Windows host and stops it again: the next start is quick.
func windows(ctx context.Context, j *janitor.Janitor, dir string, progress io.Writer) error {
	if _, err := orders.Build(ctx, progress); err != nil {
		return err
	}
	host, err := windowshost.Start(ctx, windowshost.Options{Dir: dir, Janitor: j, Progress: progress})
	if err != nil {
		return err
	}
	return host.Stop(ctx)
}

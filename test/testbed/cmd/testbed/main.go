// Command testbed brings parts of the test bed up for a look around, prints how
// to reach them, and undoes everything at Ctrl-C:
//
//	go run ./test/testbed/cmd/testbed -controlplane -linux 2
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/test/testbed/controlplane"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/linuxhost"
	"github.com/isthmus-dev/isthmus/test/testbed/network"
	"github.com/isthmus-dev/isthmus/test/testbed/node"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost"
)

func main() {
	var b bed
	flag.BoolVar(&b.controlPlane, "controlplane", false, "etcd, kube-apiserver, kube-controller-manager, kube-scheduler")
	flag.BoolVar(&b.node, "node", false, "a node of that control plane")
	flag.IntVar(&b.linux, "linux", 0, "number of Linux hosts")
	flag.BoolVar(&b.windows, "windows", false, "a Windows host on Wine")
	flag.Parse()
	if !b.controlPlane && !b.node && !b.windows && b.linux == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "testbed:", err)
		os.Exit(1)
	}
}

// bed is what was asked for, and what there is of it.
type bed struct {
	controlPlane, node, windows bool
	linux                       int

	dir     string
	janitor *janitor.Janitor
	network *network.Network
	plane   *controlplane.ControlPlane
}

func (b *bed) run(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "isthmus-testbed-"); err != nil {
		return err
	}
	if b.janitor, err = janitor.New(b.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.janitor.Close()) }()
	if err := b.janitor.Remove(b.dir); err != nil {
		return err
	}
	if b.network, err = network.New(ctx, b.janitor); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{b.startControlPlane, b.startNode, b.startLinux, b.startWindows} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	fmt.Println("Ctrl-C undoes everything.")
	<-ctx.Done()
	return nil
}

func (b *bed) startControlPlane(ctx context.Context) (err error) {
	if !b.controlPlane && !b.node {
		return nil
	}
	b.plane, err = controlplane.Start(ctx, controlplane.Options{
		Dir: filepath.Join(b.dir, "controlplane"), Janitor: b.janitor, Progress: os.Stderr,
		Address: b.network.Address().String(), ControllerManager: true, Scheduler: true,
	})
	if err != nil {
		return err
	}
	fmt.Printf("control plane: export KUBECONFIG=%s PATH=%s:$PATH\n", b.plane.AdminKubeconfig(), b.plane.Programs())
	return nil
}

func (b *bed) startNode(ctx context.Context) error {
	if !b.node {
		return nil
	}
	_, err := node.Start(ctx, node.Options{
		Name: "node-1", ControlPlane: b.plane, Network: b.network, Janitor: b.janitor,
		Dir: b.dir, Progress: os.Stderr, PodCIDR: b.network.PodPrefix(0),
	})
	if err != nil {
		return err
	}
	fmt.Println("node: node-1")
	return nil
}

func (b *bed) startLinux(ctx context.Context) error {
	key, authorized, err := b.newKey()
	if err != nil {
		return err
	}
	for i := range b.linux {
		machine, err := linuxhost.Start(ctx, linuxhost.Options{
			Name: fmt.Sprintf("linux-%d", i+1), Network: b.network, Janitor: b.janitor, Dir: b.dir, Progress: os.Stderr,
		})
		if err != nil {
			return err
		}
		if err := machine.Authorize(ctx, "deploy", authorized); err != nil {
			return err
		}
		if err := machine.AllowSudo(ctx, "deploy", linuxhost.NoPassword); err != nil {
			return err
		}
		fmt.Printf("%s: ssh -i %s deploy@%s\n", machine.Name(), key, machine.Address())
	}
	return nil
}

func (b *bed) startWindows(ctx context.Context) error {
	if !b.windows {
		return nil
	}
	namespace, err := b.network.Namespace(ctx, "windows")
	if err != nil {
		return err
	}
	host, err := windowshost.Start(ctx, windowshost.Options{
		Dir: b.dir, Janitor: b.janitor, Progress: os.Stderr, Namespace: namespace,
	})
	if err != nil {
		return err
	}
	authority := filepath.Join(b.dir, "windows-ca.crt")
	if err := os.WriteFile(authority, host.CA(), 0o644); err != nil {
		return err
	}
	fmt.Printf("windows: https://%s:%d/wsman, user %s, password %s, authority %s\n",
		host.Address(), host.Port(), host.User(), host.Password(), authority)
	return nil
}

// newKey makes the key that all Linux hosts of this bed accept.
func (b *bed) newKey() (path string, authorized []byte, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "testbed")
	if err != nil {
		return "", nil, err
	}
	shown, err := ssh.NewPublicKey(public)
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(b.dir, "id_ed25519")
	return path, ssh.MarshalAuthorizedKey(shown), os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

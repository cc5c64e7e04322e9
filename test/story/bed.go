package story

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/isthmus-dev/isthmus/api/v1alpha1"
	"github.com/isthmus-dev/isthmus/test/testbed/controlplane"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/linuxhost"
	"github.com/isthmus-dev/isthmus/test/testbed/network"
	"github.com/isthmus-dev/isthmus/test/testbed/node"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost"
	"github.com/isthmus-dev/isthmus/test/testbed/windowshost/orders"
)

// What the machines of the bed are called and where their Pods are.
const (
	windowsUser = "isthmus"
	linuxUser   = "deploy"
)

// Bed is everything that the story happens on.
type Bed struct {
	dir      string
	progress io.Writer
	janitor  *janitor.Janitor
	lease    time.Duration // of the operator's leadership
	starts   int           // of operator processes

	Network      *network.Network
	ControlPlane *controlplane.ControlPlane
	Linux        *linuxhost.Machine
	Windows      *windowshost.Host
	Node         *node.Node
	Operator     *Operator
	Client       client.Client

	key      []byte // private key that the Linux host accepts, OpenSSH format
	password string // of the Windows account
}

// storyLease is short: a killed leader's Lease has to run out, and the story waits for it three times.
const storyLease = 6 * time.Second

// Start brings the bed up: control plane first, machines beside each other,
// the operator last. Progress receives a line for each part, and the output of
// builds. The caller closes what it returns, also beside an error.
func Start(ctx context.Context, progress io.Writer) (*Bed, error) {
	b, err := prepare(progress, storyLease)
	if err != nil {
		return b, err
	}
	return b, b.bringUp(ctx, b.startControlPlane, b.startMachines, b.connect, b.startOperator)
}

// StartHosts is Start without a node, for tests that run no Pods, and with a
// lease of their own choice for the operator's leadership.
func StartHosts(ctx context.Context, progress io.Writer, lease time.Duration) (*Bed, error) {
	b, err := prepare(progress, lease)
	if err != nil {
		return b, err
	}
	return b, b.bringUp(ctx, b.startControlPlane, b.startHosts, b.connect, b.startOperator)
}

// prepare makes the bed's directory, its janitor and its secrets.
func prepare(progress io.Writer, lease time.Duration) (*Bed, error) {
	dir, err := os.MkdirTemp("", "isthmus-story-")
	if err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	j, err := janitor.New(dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	b := &Bed{dir: dir, progress: progress, janitor: j, lease: lease}
	if err := j.Remove(dir); err != nil {
		return b, err
	}
	return b, b.secrets()
}

// bringUp starts parts one after the other.
func (b *Bed) bringUp(ctx context.Context, parts ...func(context.Context) error) error {
	for _, part := range parts {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Close ends the operator and undoes everything.
func (b *Bed) Close() error {
	return b.janitor.Close()
}

// Dir holds the logs of everything that runs, until Close.
func (b *Bed) Dir() string { return b.dir }

// secrets makes the credentials of this run; nothing is fixed, nothing is kept.
func (b *Bed) secrets() error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make ssh key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, "story")
	if err != nil {
		return fmt.Errorf("encode ssh key: %w", err)
	}
	b.key = pem.EncodeToMemory(block)
	random := make([]byte, 12)
	if _, err := rand.Read(random); err != nil {
		return fmt.Errorf("make password: %w", err)
	}
	b.password = "Pw!" + hex.EncodeToString(random)
	return nil
}

func (b *Bed) startControlPlane(ctx context.Context) error {
	var err error
	if b.Network, err = network.New(ctx, b.janitor); err != nil {
		return err
	}
	return b.timed("control plane", func() error {
		b.ControlPlane, err = controlplane.Start(ctx, controlplane.Options{
			Dir:               filepath.Join(b.dir, "controlplane"),
			Janitor:           b.janitor,
			Progress:          b.progress,
			Address:           b.Network.Address().String(),
			ControllerManager: true,
			Scheduler:         true,
		})
		return err
	})
}

// startMachines starts the hosts and the node beside each other: each takes a
// while, and none needs another.
func (b *Bed) startMachines(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return b.startHosts(ctx) })
	group.Go(func() error { return b.timed("node", func() error { return b.startNode(ctx) }) })
	return group.Wait()
}

func (b *Bed) startHosts(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return b.timed("Linux host", func() error { return b.startLinux(ctx) }) })
	group.Go(func() error { return b.timed("Windows host", func() error { return b.startWindows(ctx) }) })
	return group.Wait()
}

func (b *Bed) startLinux(ctx context.Context) error {
	var err error
	b.Linux, err = linuxhost.Start(ctx, linuxhost.Options{
		Name: "ledger-vm", Network: b.Network, Janitor: b.janitor, Progress: b.progress,
		Dir: b.dir, Packages: []string{"busybox-static"},
	})
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey(b.key)
	if err != nil {
		return fmt.Errorf("read ssh key: %w", err)
	}
	if err := b.Linux.Authorize(ctx, linuxUser, ssh.MarshalAuthorizedKey(signer.PublicKey())); err != nil {
		return err
	}
	return b.Linux.AllowSudo(ctx, linuxUser, linuxhost.NoPassword)
}

func (b *Bed) startWindows(ctx context.Context) error {
	namespace, err := b.Network.Namespace(ctx, "orders-win")
	if err != nil {
		return err
	}
	b.Windows, err = windowshost.Start(ctx, windowshost.Options{
		Name: "ORDERS-WIN", Dir: b.dir, Janitor: b.janitor, Progress: b.progress,
		Namespace: namespace, User: windowsUser, Password: b.password,
	})
	if err != nil {
		return err
	}
	return b.installOrders(ctx)
}

// installOrders puts the program where its vendor's installer would.
func (b *Bed) installOrders(ctx context.Context) error {
	program, err := orders.Build(ctx, b.progress)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("read orders.exe: %w", err)
	}
	target, err := b.Windows.Path(`C:\Orders\orders.exe`)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return fmt.Errorf("install orders.exe: %w", err)
	}
	return os.WriteFile(target, content, 0o755)
}

func (b *Bed) startNode(ctx context.Context) error {
	var err error
	b.Node, err = node.Start(ctx, node.Options{
		Name: "node-1", ControlPlane: b.ControlPlane, Network: b.Network, Janitor: b.janitor,
		Dir: b.dir, Progress: b.progress, PodCIDR: b.Network.PodPrefix(0),
	})
	return err
}

func (b *Bed) connect(context.Context) error {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return fmt.Errorf("make scheme: %w", err)
	}
	var err error
	b.Client, err = client.New(b.ControlPlane.AdminConfig(), client.Options{Scheme: scheme})
	return err
}

// timed says when a part begins to run and how long it took.
func (b *Bed) timed(part string, start func() error) error {
	began := time.Now()
	if err := start(); err != nil {
		return fmt.Errorf("start the %s: %w", part, err)
	}
	_, err := fmt.Fprintf(b.progress, "  %-14s up after %.1f s\n", part, time.Since(began).Seconds())
	return err
}

// Secrets are the credentials of this run, for tests that look where they must not be.
func (b *Bed) Secrets() [][]byte {
	return [][]byte{[]byte(b.password), b.key}
}

// Bridge is the name of the bed's bridge.
func (b *Bed) Bridge() string {
	if b.Network == nil {
		return ""
	}
	return b.Network.Bridge()
}

package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/isthmus-dev/isthmus/test/testbed/cache"
	"github.com/isthmus-dev/isthmus/test/testbed/controlplane"
	"github.com/isthmus-dev/isthmus/test/testbed/image"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/linuxhost"
	"github.com/isthmus-dev/isthmus/test/testbed/network"
)

// readyTimeout bounds the wait for a node that has all it needs.
const readyTimeout = 2 * time.Minute

// Options say what node to start.
type Options struct {
	// ControlPlane is the one to join. Its address must be one that the machine
	// reaches: the bridge's own address.
	ControlPlane *controlplane.ControlPlane
	Network      *network.Network
	Janitor      *janitor.Janitor
	// Dir is an existing directory for the machine's files.
	Dir string
	// Progress receives the lines of builds. It may be nil.
	Progress io.Writer
	// Name is the host name of the machine and the name of the Node.
	Name string
	// PodCIDR is the subnet of the node's Pods, which no other node has.
	PodCIDR netip.Prefix
	// Images are paths of archives (see package image) to import, besides pause and busybox.
	Images []string
	// Packages are Debian packages that the machine has besides those a node needs.
	Packages []string
}

// Node is a machine that is, or can become, a node.
type Node struct {
	options Options
	machine *linuxhost.Machine
	state   string
}

// containerd is the container runtime and what it starts.
var containerd = cache.Programs{
	Name: "containerd", Module: "hack/tools/containerd", Requirement: "github.com/containerd/containerd/v2",
	Packages: []string{
		"github.com/containerd/containerd/v2/cmd/containerd",
		"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
		"github.com/containerd/containerd/v2/cmd/ctr",
	},
	Flags: []string{"-s", "-w", "-X github.com/containerd/containerd/v2/version.Version=VERSION"},
}

// packages is what a node needs of Debian. nftables is part of every machine.
var packages = []string{"conntrack", "containernetworking-plugins", "runc"}

// Build makes what nodes are made of, as far as it is not there yet: programs,
// container images, the image of the machine. dir is for the logs of the build.
func Build(ctx context.Context, j *janitor.Janitor, dir string, progress io.Writer) error {
	n := &Node{options: Options{Progress: progress}}
	if _, err := n.programs(ctx); err != nil {
		return err
	}
	if _, err := n.images(ctx); err != nil {
		return err
	}
	return linuxhost.Build(ctx, j, dir, progress, packages...)
}

// Start boots a machine, lets it join the control plane and waits until the Node is Ready.
func Start(ctx context.Context, options Options) (*Node, error) {
	n, err := Prepare(ctx, options)
	if err != nil {
		return nil, err
	}
	if err := n.Join(ctx); err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
		defer cancel()
		return nil, errors.Join(err, n.Stop(stop))
	}
	return n, nil
}

// Prepare boots a machine that has everything a node needs, with its images
// imported, but that has not joined: no kubelet runs, and the control plane does
// not know of it.
func Prepare(ctx context.Context, options Options) (*Node, error) {
	n := &Node{options: options, state: filepath.Join(options.Dir, options.Name+"-state")}
	if err := n.prepare(ctx); err != nil {
		err = fmt.Errorf("prepare node %s: %w", options.Name, err)
		if n.machine == nil {
			return nil, err
		}
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
		defer cancel()
		return nil, errors.Join(err, n.Stop(stop))
	}
	return n, nil
}

func (n *Node) prepare(ctx context.Context) error {
	programs, err := n.programs(ctx)
	if err != nil {
		return err
	}
	images, err := n.images(ctx)
	if err != nil {
		return err
	}
	if err := n.boot(ctx, programs); err != nil {
		return err
	}
	return n.provision(ctx, images)
}

// provision makes a machine that has booted run containers.
func (n *Node) provision(ctx context.Context, images []string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := n.install(); err != nil {
		return err
	}
	if _, err := n.machine.Run(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	if _, err := n.machine.Run(ctx, "systemctl", "enable", "--now", "containerd.service"); err != nil {
		return fmt.Errorf("%w\n%s", err, n.journal())
	}
	if err := n.importImages(ctx, images); err != nil {
		return err
	}
	return n.options.Network.RouteVia(ctx, n.options.PodCIDR, n.machine.Address())
}

// programs returns the paths of the static programs, by name.
func (n *Node) programs(ctx context.Context) ([]string, error) {
	kubernetes, err := controlplane.Binaries(ctx, n.options.Progress)
	if err != nil {
		return nil, err
	}
	runtime, err := containerd.Ensure(ctx, n.options.Progress)
	if err != nil {
		return nil, err
	}
	paths := []string{filepath.Join(kubernetes, "kubelet"), filepath.Join(kubernetes, "kube-proxy")}
	for _, name := range containerd.Names() {
		paths = append(paths, filepath.Join(runtime, name))
	}
	return paths, nil
}

func (n *Node) images(ctx context.Context) ([]string, error) {
	pause, err := image.Pause(ctx, n.options.Progress)
	if err != nil {
		return nil, err
	}
	busybox, err := image.Busybox(ctx, n.options.Progress)
	if err != nil {
		return nil, err
	}
	return append([]string{pause, busybox}, n.options.Images...), nil
}

// boot starts the machine with the programs in /usr/local/bin. The state of
// containerd and kubelet is on this machine's file system: an overlay, which the
// machine's own is, cannot be the upper layer of the containers' overlays.
func (n *Node) boot(ctx context.Context, programs []string) error {
	if err := n.options.Janitor.Remove(n.state); err != nil {
		return err
	}
	var binds []string
	for _, name := range []string{"containerd", "kubelet"} {
		if err := os.MkdirAll(filepath.Join(n.state, name), 0o711); err != nil {
			return fmt.Errorf("make state directory: %w", err)
		}
		binds = append(binds, filepath.Join(n.state, name)+":/var/lib/"+name)
	}
	for _, program := range programs {
		path, err := filepath.EvalSymlinks(program)
		if err != nil {
			return fmt.Errorf("find %s: %w", program, err)
		}
		binds = append(binds, path+":/usr/local/bin/"+filepath.Base(program)+":ro")
	}
	var err error
	n.machine, err = linuxhost.Start(ctx, linuxhost.Options{
		Name: n.options.Name, Network: n.options.Network, Janitor: n.options.Janitor, Dir: n.options.Dir,
		Progress: n.options.Progress, Node: true, Binds: binds,
		Packages: append(append([]string(nil), packages...), n.options.Packages...),
	})
	return err
}

// importImages hands the archives to containerd as a stream, since the machine
// does not see this machine's files.
func (n *Node) importImages(ctx context.Context, paths []string) error {
	for _, path := range paths {
		if err := n.ImportImage(ctx, path); err != nil {
			return err
		}
	}
	return nil
}

// ImportImage makes the images of an archive available to the Pods of the node.
func (n *Node) ImportImage(ctx context.Context, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("import image: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	_, err = n.machine.RunInput(ctx, file, "ctr", "--namespace", "k8s.io", "images", "import", "--local", "-")
	if err != nil {
		return fmt.Errorf("import image %s: %w", filepath.Base(path), err)
	}
	return nil
}

// Name is the name of the Node.
func (n *Node) Name() string { return n.options.Name }

// Machine is the machine underneath.
func (n *Node) Machine() *linuxhost.Machine { return n.machine }

// Stop shuts the machine down. The Node object stays, as it does when a machine
// loses power; Leave removes it.
func (n *Node) Stop(ctx context.Context) error {
	return errors.Join(n.machine.Stop(ctx), os.RemoveAll(n.state))
}

func (n *Node) client() (kubernetes.Interface, error) {
	client, err := kubernetes.NewForConfig(n.options.ControlPlane.AdminConfig())
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return client, nil
}

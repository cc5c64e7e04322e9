package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/rest"

	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/process"
)

// startTimeout bounds the wait for each program: a cold disk on a busy machine has room.
const startTimeout = 2 * time.Minute

// Options say what control plane to start.
type Options struct {
	// Dir holds the state: certificates, kubeconfig files, the database, logs.
	// It must not hold the state of another control plane.
	Dir string
	// Janitor undoes what was started when its owner ends.
	Janitor *janitor.Janitor
	// Progress receives the lines of a build, if there is something to build. It may be nil.
	Progress io.Writer
	// Address is the IP address to bind and to advertise, 127.0.0.1 if empty. With a
	// loopback address the Service "kubernetes" has no endpoints, as a Pod could not reach it.
	Address string
	// ControllerManager and Scheduler say whether these run.
	ControllerManager, Scheduler bool
	// Durable makes the database wait for the disk, so that its state survives a power cut.
	Durable bool
	// PodCIDR, if not empty, is what the controller manager gives the nodes' Pod subnets out of.
	PodCIDR string
	// ServiceCIDR holds the cluster IPs of Services, 10.96.0.0/16 if empty.
	ServiceCIDR string
}

// ControlPlane is a running control plane.
type ControlPlane struct {
	options   Options
	programs  string
	port      *port
	pki       *pki
	admin     credentials
	processes []*process.Process
}

// Start builds the programs if need be, starts them and waits until they are ready.
func Start(ctx context.Context, options Options) (*ControlPlane, error) {
	if options.Janitor == nil {
		return nil, errors.New("start control plane: no janitor")
	}
	if options.Address == "" {
		options.Address = "127.0.0.1"
	}
	if options.ServiceCIDR == "" {
		options.ServiceCIDR = "10.96.0.0/16"
	}
	programs, err := programsFor(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("start control plane: %w", err)
	}
	if options.Dir, err = filepath.Abs(options.Dir); err != nil {
		return nil, fmt.Errorf("start control plane: %w", err)
	}
	c := &ControlPlane{options: options, programs: programs}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start control plane: %w", err), c.Stop(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// programsFor does not build the controllers for a control plane that has none.
func programsFor(ctx context.Context, options Options) (string, error) {
	if options.ControllerManager || options.Scheduler {
		return Binaries(ctx, options.Progress)
	}
	return Assets(ctx, options.Progress)
}

func (c *ControlPlane) start(ctx context.Context) error {
	steps := []func(context.Context) error{
		c.prepare, c.startEtcd, c.startAPIServer, c.startControllers,
	}
	for _, step := range steps {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		err := step(ctx)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// prepare makes all that the programs read: the port, the keys and the kubeconfig of the administrator.
func (c *ControlPlane) prepare(context.Context) error {
	if err := os.MkdirAll(c.options.Dir, 0o755); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	// Mkdir and not MkdirAll: an old CA with a new database is neither of two clusters.
	if err := os.Mkdir(c.path("pki"), 0o700); err != nil {
		return fmt.Errorf("make directory of certificates: %w", err)
	}
	address := net.ParseIP(c.options.Address)
	if address == nil {
		return fmt.Errorf("address %q is not an IP address", c.options.Address)
	}
	var err error
	if c.port, err = reservePort(address); err != nil {
		return err
	}
	if c.pki, err = newPKI(c.path("pki"), address, c.options.ServiceCIDR); err != nil {
		return err
	}
	if c.admin, err = c.pki.client("kubernetes-admin", "system:masters"); err != nil {
		return err
	}
	_, err = c.writeKubeconfig("admin", c.admin)
	return err
}

// AdminConfig is a client configuration that may do everything, without a limit on its rate.
func (c *ControlPlane) AdminConfig() *rest.Config {
	return &rest.Config{
		Host: c.URL(),
		TLSClientConfig: rest.TLSClientConfig{
			CAData: c.pki.caCert, CertData: c.admin.cert, KeyData: c.admin.key,
		},
		QPS: -1,
	}
}

// AdminKubeconfig is the path of a kubeconfig file with the rights of AdminConfig.
func (c *ControlPlane) AdminKubeconfig() string { return c.path("admin.kubeconfig") }

// CACertificate is the path of the certificate that vouches for the API server and for its clients.
func (c *ControlPlane) CACertificate() string { return c.path("pki/ca.crt") }

// URL is where the API server listens, such as "https://127.0.0.1:40321".
func (c *ControlPlane) URL() string {
	return "https://" + net.JoinHostPort(c.options.Address, strconv.Itoa(c.port.number))
}

// ServiceCIDR is the range of the cluster IPs of Services.
func (c *ControlPlane) ServiceCIDR() string { return c.options.ServiceCIDR }

// Programs is the directory of the programs, with kubectl among them.
func (c *ControlPlane) Programs() string { return c.programs }

// Stop ends the programs in the reverse order of their start. The state stays.
func (c *ControlPlane) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var errs []error
	for i := len(c.processes) - 1; i >= 0; i-- {
		errs = append(errs, c.processes[i].Stop(ctx))
	}
	if c.port != nil {
		errs = append(errs, c.port.release())
	}
	return errors.Join(errs...)
}

func (c *ControlPlane) path(name string) string { return filepath.Join(c.options.Dir, name) }

// run starts one program in the state directory. Relative paths in its arguments are meant for there.
func (c *ControlPlane) run(name string, args ...string) (*process.Process, error) {
	argv := append([]string{filepath.Join(c.programs, name)}, args...)
	p, err := process.Start(c.options.Janitor, c.options.Dir, name, nil, argv...)
	if err != nil {
		return nil, err
	}
	c.processes = append(c.processes, p)
	return p, nil
}

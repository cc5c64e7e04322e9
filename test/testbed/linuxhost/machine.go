package linuxhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/cache"
	"github.com/isthmus-dev/isthmus/test/testbed/cgroup"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/network"
	"github.com/isthmus-dev/isthmus/test/testbed/process"
)

// bootTimeout is how long a machine may take to boot, some fifty times what it
// takes on a machine with two cores. The building of an image is not in it.
const bootTimeout = 90 * time.Second

// Options says what machine to start.
type Options struct {
	Name     string // host name, one DNS label
	Network  *network.Network
	Janitor  *janitor.Janitor
	Dir      string    // existing directory; the machine's files go to the directory Name in it
	Progress io.Writer // told when an image has to be built; may be nil
	// Node gives the machine what a kubelet and a container runtime need: all
	// capabilities, the system calls keyctl and bpf, and a writable /proc/sys and /sys.
	Node     bool
	Binds    []string // HOST:GUEST[:ro], directories of this machine to show inside
	Args     []string // further arguments of systemd-nspawn
	Packages []string // Debian packages in the image besides those every machine has
}

// Machine is a running machine.
type Machine struct {
	options Options
	address netip.Addr
	dir     string
	root    string
	unique  string // the name of the machine on this host
	groups  *cgroup.Group

	mu       sync.Mutex
	power    *process.Process // the generation of systemd-nspawn that runs, or ran last
	boots    int
	stopping bool
	failure  error         // why the machine could not be started again
	off      chan struct{} // closed when the machine is off for good
}

// Start boots a machine and returns when it answers on port 22 and systemd has
// finished booting. The machine runs until Stop, until it is shut down from
// inside, or until the janitor ends it.
func Start(ctx context.Context, o Options) (*Machine, error) {
	if os.Geteuid() != 0 {
		return nil, network.ErrNotRoot
	}
	m, err := create(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := m.powerOn(); err != nil {
		return nil, err
	}
	ready, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	if err := m.WaitReady(ready); err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
		defer cancel()
		return nil, errors.Join(err, m.Stop(stop))
	}
	return m, nil
}

// Build makes the image of such machines, if there is none yet, and nothing
// else. dir is an existing directory for the logs of the build.
func Build(ctx context.Context, j *janitor.Janitor, dir string, progress io.Writer, packages ...string) error {
	if err := tools(ctx, progress); err != nil {
		return err
	}
	_, err := (&builder{janitor: j, logs: dir, progress: progress}).image(ctx, packages)
	return err
}

// tools are the programs that make and boot machines.
func tools(ctx context.Context, progress io.Writer) error {
	return cache.Packages(ctx, progress, "debootstrap", "debian-archive-keyring", "systemd-container", "util-linux")
}

// create makes the machine's directory, file system and control groups.
func create(ctx context.Context, o Options) (*Machine, error) {
	if err := tools(ctx, o.Progress); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Join(o.Dir, o.Name))
	if err != nil {
		return nil, err
	}
	m := &Machine{
		options: o, address: o.Network.Next(), dir: dir, root: filepath.Join(dir, "root"),
		unique: o.Network.ID() + "-" + o.Name, off: make(chan struct{}),
	}
	if !m.address.IsValid() {
		return nil, fmt.Errorf("make machine %s: no address is left in %s", o.Name, o.Network.Prefix())
	}
	if err := o.Janitor.Remove(dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make machine %s: %w", o.Name, err)
	}
	image, err := (&builder{janitor: o.Janitor, logs: dir, progress: o.Progress}).image(ctx, o.Packages)
	if err != nil {
		return nil, fmt.Errorf("make the image of %s: %w", o.Name, err)
	}
	if err := m.mount(image); err != nil {
		return nil, fmt.Errorf("make machine %s: %w", o.Name, err)
	}
	if err := m.prepare(); err != nil {
		return nil, err
	}
	if err := m.recordState(); err != nil {
		return nil, fmt.Errorf("make machine %s: %w", o.Name, err)
	}
	m.groups, err = cgroup.New(o.Janitor, "isthmus-"+m.unique)
	return m, err
}

// mount lays the machine's own, writable layer over the image.
func (m *Machine) mount(image string) error {
	upper, work := filepath.Join(m.dir, "upper"), filepath.Join(m.dir, "work")
	for _, dir := range []string{upper, work, m.root} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := m.options.Janitor.Mount(m.root); err != nil {
		return err
	}
	data := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", image, upper, work)
	if err := syscall.Mount("overlay", m.root, "overlay", 0, data); err != nil {
		return fmt.Errorf("mount the file system: %w", err)
	}
	return nil
}

// recordState tells the janitor what systemd-nspawn leaves behind in /run when it
// is killed: a directory with the machine's name, and a lock with the numbers of
// the machine's root directory, which are unique as long as that is mounted.
func (m *Machine) recordState() error {
	info, err := os.Stat(m.root)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("the root directory has no inode number")
	}
	const state = "/run/systemd/nspawn/"
	return errors.Join(
		m.options.Janitor.Remove(state+"propagate/"+m.unique),
		m.options.Janitor.Remove(fmt.Sprintf(state+"locks/inode-%d:%d", stat.Dev, stat.Ino)),
	)
}

// Name is the host name.
func (m *Machine) Name() string { return m.options.Name }

// Address is the machine's address in its network.
func (m *Machine) Address() netip.Addr { return m.address }

// Root is the machine's file system, seen from outside.
func (m *Machine) Root() string { return m.root }

// Log is the file with what the machine has written to its console.
func (m *Machine) Log() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.power.Log()
}

// Off is closed when the machine is off and will not start again.
func (m *Machine) Off() <-chan struct{} { return m.off }

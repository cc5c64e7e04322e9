package posix

import (
	"context"
	"time"

	"k8s.io/utils/clock"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// Runner runs one command on the host: *ssh.Client is one.
type Runner interface {
	Run(ctx context.Context, request transport.Request) (transport.Result, error)
	Close() error
}

// Become gets the rights of another user by sudo.
type Become struct {
	User string
	// Password of the login user, if sudo asks for one. Empty: sudo -n.
	Password machine.Secret
}

// Options of a machine.
type Options struct {
	// StateDir is an absolute path. Default: /var/lib/isthmus.
	StateDir string
	// Become, if any; nil: as logged in.
	Become *Become
	// LoginUser is named when sudo refuses.
	LoginUser string
	// RequestTimeout bounds a request whose context has no deadline. Default: 60 s.
	RequestTimeout time.Duration
	Clock          clock.PassiveClock
}

const (
	defaultShell          = "/bin/sh"
	defaultStateDir       = "/var/lib/isthmus"
	defaultRequestTimeout = 60 * time.Second
)

// Machine implements machine.Machine.
type Machine struct {
	runner  Runner
	options Options
	shell   string // /bin/sh; tests put others in its place
	files   *digestCache
	sudo    *sudoState
}

var _ machine.Machine = (*Machine)(nil)

// New returns the machine behind runner. It does no I/O.
func New(runner Runner, options Options) *Machine {
	if options.StateDir == "" {
		options.StateDir = defaultStateDir
	}
	if options.RequestTimeout <= 0 {
		options.RequestTimeout = defaultRequestTimeout
	}
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	if options.Become != nil && options.Become.User == "" {
		options.Become = &Become{User: "root", Password: options.Become.Password}
	}
	return &Machine{runner: runner, options: options, shell: defaultShell, files: newDigestCache(options.Clock), sudo: newSudoState()}
}

// Close implements machine.Machine.
func (m *Machine) Close() error { return m.runner.Close() }

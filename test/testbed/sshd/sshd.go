package sshd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"github.com/isthmus-dev/isthmus/test/testbed/cache"
	"github.com/isthmus-dev/isthmus/test/testbed/cgroup"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/process"
)

// program is OpenSSH's server. It insists on being started by an absolute path.
const program = "/usr/sbin/sshd"

// attempts is how many ports are tried: another program may take a free port
// between the moment it was found and the moment the server binds it.
const attempts = 5

// errPortTaken is why a server is started again on another port.
var errPortTaken = errors.New("the port was taken by another program")

// Options says what server to start.
type Options struct {
	Dir     string // existing directory for the server's files
	Janitor *janitor.Janitor
	// Config is lines of sshd_config(5). They come before the defaults, and so win.
	Config []string
	// AuthorizedKeys is lines of authorized_keys; Authorize adds more.
	AuthorizedKeys [][]byte
	// ForceShell is the shell that sessions see and get as the user's login shell,
	// such as /bin/sh. It needs root.
	ForceShell string
	// Certify, where set, gives the host key a certificate, which the server shows
	// to those who ask for one. It is called for each new key and port.
	Certify func(hostKey ssh.PublicKey, address netip.AddrPort) (*ssh.Certificate, error)
}

// Server is a running OpenSSH server.
type Server struct {
	options Options
	user    *user.User
	addr    netip.AddrPort
	process *process.Process
	group   *cgroup.Group // nil without root

	mu      sync.Mutex
	hostKey ssh.PublicKey
}

// Start starts a server and returns when it listens.
func Start(ctx context.Context, o Options) (*Server, error) {
	if err := prerequisites(ctx, o); err != nil {
		return nil, fmt.Errorf("start sshd: %w", err)
	}
	return start(ctx, o)
}

// StartMany starts count servers at once, each in a directory of its own below
// o.Dir. If one cannot be started, all that were are stopped.
func StartMany(ctx context.Context, count int, o Options) ([]*Server, error) {
	if err := prerequisites(ctx, o); err != nil {
		return nil, fmt.Errorf("start sshd: %w", err)
	}
	servers := make([]*Server, count)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i := range count {
		group.Go(func() (err error) {
			each := o
			each.Dir = filepath.Join(o.Dir, fmt.Sprintf("sshd-%03d", i))
			if err := os.Mkdir(each.Dir, 0o700); err != nil {
				return fmt.Errorf("start sshd: %w", err)
			}
			servers[i], err = start(groupCtx, each)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, errors.Join(err, StopAll(context.WithoutCancel(ctx), servers))
	}
	return servers, nil
}

// StopAll stops servers side by side. Nil ones are passed over.
func StopAll(ctx context.Context, servers []*Server) error {
	errs := make([]error, len(servers))
	var group sync.WaitGroup
	for i, s := range servers {
		if s != nil {
			group.Go(func() { errs[i] = s.Stop(ctx) })
		}
	}
	group.Wait()
	return errors.Join(errs...)
}

// prerequisites makes sure once that servers can be started.
func prerequisites(ctx context.Context, o Options) error {
	if _, err := os.Stat(program); err != nil {
		if err := cache.Packages(ctx, nil, "openssh-server"); err != nil {
			return err
		}
	}
	if os.Geteuid() != 0 {
		if o.ForceShell != "" {
			return errors.New("forcing a shell needs root")
		}
		return nil
	}
	// OpenSSH's privilege separation changes its root to this empty directory.
	if err := os.Mkdir("/run/sshd", 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

func start(ctx context.Context, o Options) (*Server, error) {
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("start sshd: %w", err)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("start sshd: %w", err)
	}
	o.Dir = dir
	s := &Server{options: o, user: me}
	if err := s.writeFiles(); err != nil {
		return nil, fmt.Errorf("start sshd: %w", err)
	}
	if os.Geteuid() == 0 {
		if s.group, err = cgroup.NewTracker(o.Janitor, "isthmus-sshd-"+groupName()); err != nil {
			return nil, fmt.Errorf("start sshd: %w", err)
		}
	}
	for range attempts {
		if s.addr, err = freePort(); err != nil {
			break
		}
		if err = s.launch(ctx); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("start sshd: %w", err), s.Stop(stop))
	}
	return s, nil
}

// launch runs the server on the port of s.addr.
func (s *Server) launch(ctx context.Context) (err error) {
	if err := s.writeConfig(); err != nil {
		return err
	}
	listening := s.listening()
	s.process, err = process.Start(s.options.Janitor, s.options.Dir, "sshd", nil, s.argv()...)
	if err != nil {
		return err
	}
	return s.waitListening(ctx, listening)
}

func (s *Server) argv() []string {
	argv := []string{program, "-D", "-e", "-f", s.file("sshd_config")}
	if s.options.ForceShell != "" {
		// A mount namespace of its own is where the other list of users is seen.
		const overlay = `mount --bind "$1" /etc/passwd && shift && exec "$@"`
		argv = append([]string{"unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", overlay, "sh", s.file("passwd")}, argv...)
	}
	if s.group != nil {
		argv = s.group.Argv(argv...)
	}
	return argv
}

// waitListening waits until the server has said once more than before that it
// listens. A connection would prove less: it may be answered by another server.
func (s *Server) waitListening(ctx context.Context, before int) error {
	err := s.process.WaitReady(ctx, func(context.Context) error {
		if s.listening() > before {
			return nil
		}
		return errors.New("it does not listen yet")
	})
	if err != nil && strings.Contains(err.Error(), "Address already in use") {
		return fmt.Errorf("%w: %w", errPortTaken, err)
	}
	return err
}

// listening counts how often the server has said that it listens.
func (s *Server) listening() int {
	log, err := os.ReadFile(s.file("sshd.log"))
	if err != nil {
		return 0
	}
	return strings.Count(string(log), "Server listening on ")
}

// Addr is where the server listens, HOST:PORT.
func (s *Server) Addr() string { return s.addr.String() }

// AddrPort is where the server listens.
func (s *Server) AddrPort() netip.AddrPort { return s.addr }

// User is who can log in.
func (s *Server) User() string { return s.user.Username }

// PID is the PID of the listening process. Each connection has processes of its own.
func (s *Server) PID() int { return s.process.PID() }

// Log is the path of the server's log.
func (s *Server) Log() string { return s.process.Log() }

// HostKeys lists the public host keys, as "ssh-ed25519 AAAA..." without a comment.
func (s *Server) HostKeys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.hostKey)))}
}

// SwapHostKey gives the server another host key, as a reinstalled machine has.
// Connections that are open go on.
func (s *Server) SwapHostKey(ctx context.Context) error {
	if err := errors.Join(s.generateHostKey(), s.certify()); err != nil {
		return fmt.Errorf("swap the host key: %w", err)
	}
	listening := s.listening()
	if err := syscall.Kill(s.PID(), syscall.SIGHUP); err != nil {
		return fmt.Errorf("swap the host key: %w", err)
	}
	if err := s.waitListening(ctx, listening); err != nil {
		return fmt.Errorf("swap the host key: %w", err)
	}
	return nil
}

// Freeze stops the listening process: connections are accepted by the kernel, and
// nobody answers them. Sessions that are open go on. Thaw undoes it.
func (s *Server) Freeze() error { return syscall.Kill(s.PID(), syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (s *Server) Thaw() error { return syscall.Kill(s.PID(), syscall.SIGCONT) }

// Stop ends the server. As root its sessions end with it, and what they left running.
func (s *Server) Stop(ctx context.Context) error {
	var err error
	if s.process != nil {
		if s.process.Err() == nil {
			// A stopped process would not see the request to end.
			err = s.Thaw()
		}
		err = errors.Join(err, s.process.Stop(ctx))
	}
	if s.group != nil {
		err = errors.Join(err, s.group.Remove())
	}
	if err != nil {
		return fmt.Errorf("stop sshd: %w", err)
	}
	return nil
}

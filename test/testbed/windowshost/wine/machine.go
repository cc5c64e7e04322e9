package wine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/process"
)

// supervisor is the shell that the Wine server is a child of. Only on SIGINT does
// the server end all Wine processes before itself; a janitor sends SIGTERM. A server
// that dies by itself leaves its clients hanging, of which one may have started another
// server in its stead: all of them are told by the prefix in their environment, which
// no other machine has.
const supervisor = `"$@" & server=$!; trap 'kill -INT $server' TERM; wait $server; wait $server
for file in /proc/[0-9]*/environ; do
	pid=${file#/proc/}; pid=${pid%/environ}
	[ "$pid" = $$ ] || ! grep -qzxF "WINEPREFIX=$WINEPREFIX" "$file" || kill -KILL "$pid"
done 2>/dev/null
exit 0`

// pollInterval is how often a condition is looked at again.
const pollInterval = 10 * time.Millisecond

// Config says what a machine is made of.
type Config struct {
	// Dir is where the prefix is made; it must not exist yet, and is removed with the janitor.
	Dir string
	// Name is the machine's NetBIOS name: up to 15 letters, digits and hyphens.
	Name     string
	Janitor  *janitor.Janitor
	Progress io.Writer
	// Argv, if not nil, is a command that becomes argv in another network namespace.
	Argv func(argv ...string) []string
}

// Machine is a running Wine.
type Machine struct {
	config   Config
	dir      string
	loader   string
	server   string
	process  *process.Process
	provider *Provider
}

// Boot makes a prefix and starts Wine in it.
func Boot(ctx context.Context, c Config) (*Machine, error) {
	loader, server, err := install(ctx, c.Progress)
	if err != nil {
		return nil, err
	}
	if err := c.Janitor.Remove(c.Dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the machine's directory: %w", err)
	}
	booted, err := bootedPrefix(ctx, c, loader, server)
	if err != nil {
		return nil, err
	}
	m := &Machine{config: c, dir: c.Dir, loader: loader, server: server}
	if err := copyPrefix(filepath.Join(booted, "prefix"), m.prefix()); err != nil {
		return nil, fmt.Errorf("copy the booted prefix: %w", err)
	}
	if err := setName(m.prefix(), c.Name); err != nil {
		return nil, err
	}
	m.provider = newProvider(m)
	if err := m.Start(ctx); err != nil {
		return nil, errors.Join(err, m.Shutdown(ctx))
	}
	return m, nil
}

// Start powers a machine on that has been shut down. Services that start by
// themselves are started.
func (m *Machine) Start(ctx context.Context) error {
	if err := m.startServer(ctx); err != nil {
		return err
	}
	if err := m.bootWindows(ctx, m.drive(), `C:\windows\system32\cmd.exe`, "/c", "exit"); err != nil {
		return err
	}
	_, err := m.provider.Call(ctx, "ping")
	return err
}

// bootWindows runs the first program, which has Wine start its service manager. That
// lives on and keeps the streams it was given, so they must be nobody's.
func (m *Machine) bootWindows(ctx context.Context, dir string, argv ...string) error {
	if err := m.on(); err != nil {
		return err
	}
	boot := m.command(ctx, argv...)
	boot.Dir = dir
	if err := boot.Run(); err != nil {
		return fmt.Errorf("boot Wine: %w", errors.Join(err, ctx.Err()))
	}
	return nil
}

// Shutdown powers the machine off: every process in it ends at once.
func (m *Machine) Shutdown(ctx context.Context) error {
	return errors.Join(m.provider.stop(), m.stopServer(ctx))
}

// Provider is the way to services, processes and the registry.
func (m *Machine) Provider() *Provider { return m.provider }

func (m *Machine) prefix() string { return filepath.Join(m.dir, "prefix") }

// drive is the directory that is C:.
func (m *Machine) drive() string { return filepath.Join(m.prefix(), "drive_c") }

// environment is all that Wine sees of the environment; a program under it would
// find any other variable in its own.
func (m *Machine) environment() []string {
	return []string{
		"WINEPREFIX=" + m.prefix(),
		"WINEARCH=win64",
		"WINEDEBUG=-all",
		// No menus, no downloads of .NET and a browser engine, and our own sc.exe.
		"WINEDLLOVERRIDES=winemenubuilder.exe=d;mscoree=;mshtml=;sc.exe=n;WmiPrvSE.exe=n",
		"WINELOADER=" + m.loader,
		"HOME=" + m.dir,
		"TMPDIR=" + filepath.Join(m.dir, "tmp"),
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
		"LC_ALL=C.UTF-8",
	}
}

// argv is a command in the machine's network namespace.
func (m *Machine) argv(argv ...string) []string {
	if m.config.Argv == nil {
		return argv
	}
	return m.config.Argv(argv...)
}

// errOff is what is returned for a machine whose Wine server does not run.
var errOff = errors.New("the machine is off")

// on is nil while the Wine server runs. Nothing may be started otherwise: a program
// under Wine that finds no server starts one, which nobody would end.
func (m *Machine) on() error {
	if m.process == nil {
		return errOff
	}
	select {
	case <-m.process.Exited():
		return errOff
	default:
		return nil
	}
}

// command is a program under Wine.
func (m *Machine) command(ctx context.Context, argv ...string) *exec.Cmd {
	full := m.argv(append([]string{m.loader}, argv...)...)
	cmd := exec.CommandContext(ctx, full[0], full[1:]...)
	cmd.Env = m.environment()
	// Wine cannot make anything of a working directory outside of its drives.
	cmd.Dir = m.drive()
	// Ctrl-C in the owner's terminal is for the owner to act on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// startServer starts the Wine server in the foreground, with no limit on how long it
// stays without a client, and waits for its socket.
func (m *Machine) startServer(ctx context.Context) error {
	tmp := filepath.Join(m.dir, "tmp")
	if err := errors.Join(os.RemoveAll(tmp), os.Mkdir(tmp, 0o700)); err != nil {
		return fmt.Errorf("start the Wine server: %w", err)
	}
	_ = os.Remove(filepath.Join(m.prefix(), "wineserver"))
	argv := m.argv(m.server, "-f", "-p")
	started, err := process.Start(m.config.Janitor, m.dir, "wineserver", m.environment(),
		append([]string{"/bin/sh", "-c", supervisor, "wineserver"}, argv...)...)
	if err != nil {
		return err
	}
	m.process = started
	for {
		if found, _ := m.socket(); found {
			return nil
		}
		select {
		case <-started.Exited():
			return started.Err()
		case <-ctx.Done():
			return fmt.Errorf("wait for the Wine server: %w", ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}

// socket looks for the server's socket. Debian's Wine keeps it in a directory whose
// name is in the file wineserver of the prefix, below /run/user or TMPDIR.
func (m *Machine) socket() (bool, error) {
	name, err := os.ReadFile(filepath.Join(m.prefix(), "wineserver"))
	if err != nil {
		return false, err
	}
	element := strings.TrimSpace(string(name))
	runtime := filepath.Join("/run/user", fmt.Sprint(os.Getuid()))
	for _, dir := range []string{filepath.Join(m.dir, "tmp"), runtime} {
		sockets, err := filepath.Glob(filepath.Join(dir, element, "server-*", "socket"))
		if err != nil || len(sockets) == 0 || element == "" {
			continue
		}
		if dir == runtime {
			return true, m.config.Janitor.Remove(filepath.Join(dir, element))
		}
		return true, nil
	}
	return false, nil
}

func (m *Machine) stopServer(ctx context.Context) error {
	if m.process == nil {
		return nil
	}
	return m.process.Stop(ctx)
}

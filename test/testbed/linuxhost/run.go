package linuxhost

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/cgroup"
)

// path is where programs are looked for inside, whatever it is outside.
const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Run runs argv as root inside the machine and returns its standard output. An
// error carries what it wrote to standard error.
func (m *Machine) Run(ctx context.Context, argv ...string) ([]byte, error) {
	return m.RunInput(ctx, nil, argv...)
}

// RunInput is Run with a standard input.
func (m *Machine) RunInput(ctx context.Context, input io.Reader, argv ...string) ([]byte, error) {
	cmd, err := m.Command(ctx, argv...)
	if err != nil {
		return nil, err
	}
	var out, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &out, &stderr
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("run %s on %s: %w: %s", argv[0], m.options.Name, err, strings.TrimSpace(stderr.String()))
	}
	return out.Bytes(), nil
}

// Command prepares argv to run as root inside the machine: in all of its
// namespaces and its control groups, in its environment, and nobody's terminal.
func (m *Machine) Command(ctx context.Context, argv ...string) (*exec.Cmd, error) {
	leader := m.LeaderPID()
	if leader == 0 {
		return nil, fmt.Errorf("run %s on %s: the machine is off", argv[0], m.options.Name)
	}
	// --wd without a value is the leader's directory, / inside; with a value it
	// would be a directory outside, which no process of the machine may hold.
	enter := []string{"nsenter", "--target", strconv.Itoa(leader), "--all", "--wd"}
	inside, err := cgroup.SameAs(leader, append(enter, argv...)...)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, inside[0], inside[1:]...)
	cmd.Env = []string{path, "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh", "LANG=C.UTF-8"}
	// A program that was left running inside may hold the pipes open for ever.
	cmd.WaitDelay = time.Second
	return cmd, nil
}

// WaitReady waits until the machine answers on port 22 and systemd says that it is
// running, or degraded, which it is when a unit has failed.
func (m *Machine) WaitReady(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := m.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-m.off:
			m.mu.Lock()
			defer m.mu.Unlock()
			return fmt.Errorf("%s is off: %w", m.options.Name, errors.Join(m.failure, m.power.Err()))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w (%w)", m.options.Name, ctx.Err(), err)
		}
	}
}

// ready is one look at a machine that may not be ready.
func (m *Machine) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := m.greet(ctx); err != nil {
		return err
	}
	out, err := m.Run(ctx, "systemctl", "is-system-running")
	switch state := strings.TrimSpace(string(out)); state {
	case "running", "degraded":
		return nil
	case "":
		return err
	default:
		return fmt.Errorf("systemd is %s", state)
	}
}

// greet reads the greeting of the SSH server.
func (m *Machine) greet(ctx context.Context) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(m.address.String(), "22"))
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // only read
	deadline, _ := ctx.Deadline()
	greeting := make([]byte, 4)
	if err := conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, greeting); err != nil {
		return fmt.Errorf("read the greeting of the SSH server: %w", err)
	}
	if string(greeting) != "SSH-" {
		return fmt.Errorf("the SSH server greets with %q", greeting)
	}
	return nil
}

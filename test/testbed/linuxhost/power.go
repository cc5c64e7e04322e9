package linuxhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/isthmus-dev/isthmus/test/testbed/process"
)

// rebootStatus is the exit status of systemd-nspawn when the machine has asked for
// a reboot (systemd-nspawn(1), "Exit status"); any other means that it is off.
const rebootStatus = 133

// powerOn starts the first generation of the machine, and with it the supervision
// that starts the next ones.
func (m *Machine) powerOn() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.boot(); err != nil {
		return err
	}
	go m.supervise()
	return nil
}

// boot starts a generation. The caller holds the lock.
func (m *Machine) boot() error {
	m.boots++
	power, err := process.Start(m.options.Janitor, m.dir, m.options.Name, m.environment(), m.groups.Argv(m.argv()...)...)
	if err != nil {
		return fmt.Errorf("boot %s: %w", m.options.Name, err)
	}
	m.power = power
	return nil
}

// supervise starts the machine again whenever it reboots, until it is shut down.
func (m *Machine) supervise() {
	defer close(m.off)
	for {
		m.mu.Lock()
		power := m.power
		m.mu.Unlock()
		<-power.Exited()
		if !m.again(power) {
			return
		}
	}
}

// again boots a machine that has rebooted, and says whether it runs.
func (m *Machine) again(ended *process.Process) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopping || ended.ExitCode() != rebootStatus {
		return false
	}
	// An error here means, as a rule, that the test bed is being taken down.
	m.failure = m.boot()
	return m.failure == nil
}

func (m *Machine) environment() []string {
	env := []string{"SYSTEMD_COLORS=0"}
	if m.options.Node {
		env = append(env, "SYSTEMD_NSPAWN_API_VFS_WRITABLE=1")
	}
	return env
}

func (m *Machine) argv() []string {
	argv := []string{
		"systemd-nspawn", "-D", m.root, "--boot", "--register=no", "--keep-unit", "--machine=" + m.unique,
		"--hostname=" + m.options.Name, "--network-bridge=" + m.options.Network.Bridge(),
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=pipe",
	}
	if m.options.Node {
		argv = append(argv, "--capability=all", "--system-call-filter=@keyring bpf")
	}
	for _, bind := range m.options.Binds {
		// nspawn has a flag of its own for read-only binds; its third field means other things.
		if writable, found := strings.CutSuffix(bind, ":ro"); found {
			argv = append(argv, "--bind-ro="+writable)
		} else {
			argv = append(argv, "--bind="+bind)
		}
	}
	return append(argv, m.options.Args...)
}

// LeaderPID is the PID, outside, of the machine's first process; 0 while the machine is off.
func (m *Machine) LeaderPID() int {
	m.mu.Lock()
	pid := m.power.PID()
	m.mu.Unlock()
	// The leader is the only child of systemd-nspawn (proc(5), task/TID/children).
	// Early in the boot that child is a helper which is not yet inside.
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	for _, field := range strings.Fields(string(children)) {
		if child, err := strconv.Atoi(field); err == nil && firstInside(child) {
			return child
		}
	}
	return 0
}

// firstInside says whether a process is PID 1 of a PID namespace of its own.
func firstInside(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if inside, found := strings.CutPrefix(line, "NSpid:"); found {
			fields := strings.Fields(inside)
			return len(fields) > 1 && fields[len(fields)-1] == "1"
		}
	}
	return false
}

// BootID is the machine's boot id, which no two boots of any machine share.
func (m *Machine) BootID(ctx context.Context) (string, error) {
	out, err := m.Run(ctx, "cat", "/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(out)), err
}

// Reboot reboots the machine from inside and returns when it is ready again with a new boot id.
func (m *Machine) Reboot(ctx context.Context) error {
	before, err := m.BootID(ctx)
	if err != nil {
		return fmt.Errorf("reboot %s: %w", m.options.Name, err)
	}
	m.mu.Lock()
	power := m.power
	m.mu.Unlock()
	if _, err := m.Run(ctx, "systemctl", "reboot"); err != nil {
		return fmt.Errorf("reboot %s: %w", m.options.Name, err)
	}
	select {
	case <-power.Exited():
	case <-ctx.Done():
		return fmt.Errorf("reboot %s: it does not go down: %w", m.options.Name, ctx.Err())
	}
	if err := m.WaitReady(ctx); err != nil {
		return fmt.Errorf("reboot %s: %w", m.options.Name, err)
	}
	after, err := m.BootID(ctx)
	if err == nil && after == before {
		err = errors.New("the boot id is the same as before")
	}
	if err != nil {
		return fmt.Errorf("reboot %s: %w", m.options.Name, err)
	}
	return nil
}

// Freeze stops every process of the machine: the kernel still accepts connections
// for it, and nobody answers. Stop works on a frozen machine.
func (m *Machine) Freeze() error { return m.signal(syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (m *Machine) Thaw() error { return m.signal(syscall.SIGCONT) }

// signal signals all but systemd-nspawn itself, which is the power supply and not the machine.
func (m *Machine) signal(sig syscall.Signal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.groups.Signal(sig, "payload")
}

// Stop shuts the machine down and removes its file system. When ctx ends first,
// the machine is killed. Stopping a machine that is off is not an error.
func (m *Machine) Stop(ctx context.Context) error {
	m.mu.Lock()
	m.stopping = true
	power := m.power
	m.mu.Unlock()
	err := m.Thaw()
	// systemd-nspawn answers SIGTERM with an orderly shutdown of the machine.
	err = errors.Join(err, power.Stop(ctx))
	<-m.off
	err = errors.Join(err, m.groups.Remove())
	if unmount := unmount(m.root); unmount != nil {
		return errors.Join(err, fmt.Errorf("stop %s: %w", m.options.Name, unmount))
	}
	return errors.Join(err, os.RemoveAll(m.dir))
}

// unmount passes over a file system that is not mounted, because the janitor was first.
func unmount(path string) error {
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := syscall.Unmount(path, 0)
		if err == nil || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOENT) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
		// The last processes of a machine let go of its files a moment after it.
		time.Sleep(20 * time.Millisecond)
	}
}

package linuxhost_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/linuxhost"
	"github.com/isthmus-dev/isthmus/test/testbed/network"
)

const password = "correct horse: battery"

// TestMachines boots two machines once and asks everything of them, because a boot
// is what costs time. The subtests build upon each other.
func TestMachines(t *testing.T) {
	ctx, n, j := testbed(t)
	first, second := startTwo(ctx, t, n, j)
	key, public := newKey(t)

	t.Run("run", func(t *testing.T) { testRun(ctx, t, first, second) })
	t.Run("distinct", func(t *testing.T) { testDistinct(ctx, t, first, second) })
	if err := first.Authorize(ctx, "ops", public); err != nil {
		t.Fatal(err)
	}
	if err := first.SetPassword(ctx, "ops", password); err != nil {
		t.Fatal(err)
	}
	t.Run("key", func(t *testing.T) { testLogin(ctx, t, first, ssh.PublicKeys(key)) })
	t.Run("password", func(t *testing.T) { testLogin(ctx, t, first, ssh.Password(password)) })
	t.Run("wrong password", func(t *testing.T) { testRefused(ctx, t, first, ssh.Password("wrong")) })
	t.Run("sudo", func(t *testing.T) { testSudo(ctx, t, first, key) })
	t.Run("cut", func(t *testing.T) { testCut(ctx, t, n, first, second, key) })
	t.Run("freeze", func(t *testing.T) { testFreeze(ctx, t, first, key) })
	t.Run("reboot", func(t *testing.T) { testReboot(ctx, t, first, key) })
	t.Run("stop", func(t *testing.T) { testStop(ctx, t, first) })
	t.Run("shut down from inside", func(t *testing.T) { testShutDown(ctx, t, second) })
}

func testbed(t *testing.T) (context.Context, *network.Network, *janitor.Janitor) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("machines need root")
		}
		t.Skip("machines need root")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	j, err := janitor.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		start := time.Now()
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		t.Logf("undone in %v", time.Since(start))
	})
	n, err := network.New(ctx, j)
	if err != nil {
		t.Fatal(err)
	}
	return ctx, n, j
}

func startTwo(ctx context.Context, t *testing.T, n *network.Network, j *janitor.Janitor) (first, second *linuxhost.Machine) {
	t.Helper()
	machines := make([]*linuxhost.Machine, 2)
	dir := t.TempDir()
	start := time.Now()
	var group sync.WaitGroup
	for i, name := range []string{"first", "second"} {
		group.Go(func() {
			m, err := linuxhost.Start(ctx, linuxhost.Options{Name: name, Network: n, Janitor: j, Dir: dir, Progress: t.Output()})
			if err != nil {
				t.Error(err)
				return
			}
			machines[i] = m
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("two machines ready in %v", time.Since(start))
	return machines[0], machines[1]
}

func testRun(ctx context.Context, t *testing.T, machines ...*linuxhost.Machine) {
	for _, m := range machines {
		start := time.Now()
		out := run(ctx, t, m, "hostname")
		t.Logf("one command in %v", time.Since(start))
		if out != m.Name() {
			t.Errorf("hostname of %s is %q", m.Name(), out)
		}
		if out := run(ctx, t, m, "/bin/sh", "-c", "cat /proc/1/comm; id -u"); out != "systemd\n0" {
			t.Errorf("PID 1 and user are %q", out)
		}
		if out := run(ctx, t, m, "/bin/sh", "-c", "pwd; ls ./etc/hostname"); out != "/\n./etc/hostname" {
			t.Errorf("the directory of a command is %q", out)
		}
		// A command must be in the machine's own control groups, not in those of the tests.
		if out := run(ctx, t, m, "cat", "/proc/self/cgroup"); strings.Contains(out, "..") {
			t.Errorf("control groups outside the machine:\n%s", out)
		}
	}
	if _, err := machines[0].Run(ctx, "ls", "/nowhere"); err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("a failing command gives %v, want its standard error", err)
	}
}

func testDistinct(ctx context.Context, t *testing.T, first, second *linuxhost.Machine) {
	for _, file := range []string{"/proc/sys/kernel/random/boot_id", "/etc/machine-id"} {
		a, b := run(ctx, t, first, "cat", file), run(ctx, t, second, "cat", file)
		if a == b || a == "" {
			t.Errorf("%s is %q and %q", file, a, b)
		}
	}
	a, b := hostKeys(ctx, t, first), hostKeys(ctx, t, second)
	for _, key := range a {
		if slices.Contains(b, key) {
			t.Errorf("both machines have the host key %s", key)
		}
	}
}

func testLogin(ctx context.Context, t *testing.T, m *linuxhost.Machine, auth ssh.AuthMethod) {
	client, err := dial(ctx, t, m, auth)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // only read
	if out := exec(t, client, "id -un; echo $SHELL"); out != "ops\n/bin/sh" {
		t.Errorf("user and shell are %q", out)
	}
}

func testRefused(ctx context.Context, t *testing.T, m *linuxhost.Machine, auth ssh.AuthMethod) {
	if client, err := dial(ctx, t, m, auth); err == nil {
		client.Close() //nolint:errcheck // it should not exist
		t.Error("the login was accepted")
	}
}

func testSudo(ctx context.Context, t *testing.T, m *linuxhost.Machine, key ssh.Signer) {
	client, err := dial(ctx, t, m, ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // only read
	for _, c := range []struct {
		mode    linuxhost.SudoMode
		command string
		want    string
	}{
		{linuxhost.NoPassword, "sudo -n id -u", "0"},
		{linuxhost.WithPassword, "sudo -n id -u", "a password is required"},
		{linuxhost.WithPassword, "echo '" + password + "' | sudo -k -S -p '' id -u", "0"},
		{linuxhost.Denied, "echo '" + password + "' | sudo -k -S -p '' id -u", "not in the sudoers file"},
	} {
		if err := m.AllowSudo(ctx, "ops", c.mode); err != nil {
			t.Fatal(err)
		}
		if out := exec(t, client, c.command+" 2>&1; true"); !strings.Contains(out, c.want) {
			t.Errorf("%s: %q, want %q", c.mode, out, c.want)
		}
	}
}

// testCut holds a session open over the cut and over its end.
func testCut(ctx context.Context, t *testing.T, n *network.Network, cut, other *linuxhost.Machine, key ssh.Signer) {
	client, err := dial(ctx, t, cut, ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // only read
	if err := n.Cut(ctx, cut.Address()); err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() {
		_, _, err := client.SendRequest("keepalive@openssh.com", true, nil)
		answer <- err
	}()
	if _, err := net.DialTimeout("tcp", address(cut), 4*time.Second); err == nil || !os.IsTimeout(err) {
		t.Errorf("a connection to a cut machine gives %v, want silence", err)
	}
	if out, err := other.Run(ctx, "timeout", "1", "/bin/bash", "-c", "echo >/dev/tcp/"+cut.Address().String()+"/22"); err == nil || !strings.Contains(err.Error(), "124") {
		t.Errorf("between machines: %q, %v, want a time-out", out, err)
	}
	select {
	case err := <-answer:
		t.Errorf("an open connection was answered during the cut: %v", err)
	default:
	}
	if conn, err := net.DialTimeout("tcp", address(other), 2*time.Second); err != nil {
		t.Errorf("the other machine: %v", err)
	} else {
		conn.Close() //nolint:errcheck // only opened
	}
	heal := time.Now()
	for range 2 { // Healing twice is as healing once.
		if err := n.Heal(ctx, cut.Address()); err != nil {
			t.Fatal(err)
		}
	}
	if err := cut.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("new connections %v after the end of the cut", time.Since(heal))
	select {
	case err := <-answer:
		if err != nil {
			t.Errorf("the open connection did not survive: %v", err)
		}
		t.Logf("the open connection went on %v after the end of the cut", time.Since(heal))
	case <-time.After(20 * time.Second):
		t.Error("the open connection is not answered after the end of the cut")
	}
}

func testFreeze(ctx context.Context, t *testing.T, m *linuxhost.Machine, key ssh.Signer) {
	client, err := dial(ctx, t, m, ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close() //nolint:errcheck // only read
	if err := m.Freeze(); err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() {
		_, _, err := client.SendRequest("keepalive@openssh.com", true, nil)
		answer <- err
	}()
	conn, err := net.DialTimeout("tcp", address(m), time.Second)
	if err != nil {
		t.Errorf("the kernel of a frozen machine: %v", err)
	} else {
		conn.Close() //nolint:errcheck // only opened
	}
	select {
	case err := <-answer:
		t.Errorf("a frozen machine answered: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	if err := m.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := <-answer; err != nil {
		t.Errorf("after the thaw: %v", err)
	}
}

func testReboot(ctx context.Context, t *testing.T, m *linuxhost.Machine, key ssh.Signer) {
	keys := hostKeys(ctx, t, m)
	seen := map[string]bool{run(ctx, t, m, "cat", "/proc/sys/kernel/random/boot_id"): true}
	for range 2 {
		start := time.Now()
		if err := m.Reboot(ctx); err != nil {
			t.Fatal(err)
		}
		t.Logf("rebooted in %v", time.Since(start))
		id := run(ctx, t, m, "cat", "/proc/sys/kernel/random/boot_id")
		if seen[id] {
			t.Errorf("boot id %s was seen before", id)
		}
		seen[id] = true
	}
	if got := hostKeys(ctx, t, m); !slices.Equal(got, keys) {
		t.Errorf("the host keys changed from %v to %v", keys, got)
	}
	client, err := dial(ctx, t, m, ssh.PublicKeys(key))
	if err != nil {
		t.Fatalf("a login after the reboot: %v", err)
	}
	client.Close() //nolint:errcheck // only opened
}

func testStop(ctx context.Context, t *testing.T, m *linuxhost.Machine) {
	start := time.Now()
	if err := m.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("stopped in %v", time.Since(start))
	if _, err := os.Stat(m.Root()); !os.IsNotExist(err) {
		t.Errorf("the file system is still there: %v", err)
	}
	if _, err := m.Run(ctx, "true"); err == nil || !strings.Contains(err.Error(), "the machine is off") {
		t.Errorf("a command on a stopped machine: %v", err)
	}
}

func testShutDown(ctx context.Context, t *testing.T, m *linuxhost.Machine) {
	run(ctx, t, m, "systemctl", "poweroff")
	select {
	case <-m.Off():
	case <-time.After(20 * time.Second):
		t.Fatal("the machine does not go off, or was started again")
	}
	if m.LeaderPID() != 0 {
		t.Error("a machine that is off has a leader")
	}
}

func run(ctx context.Context, t *testing.T, m *linuxhost.Machine, argv ...string) string {
	t.Helper()
	out, err := m.Run(ctx, argv...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func hostKeys(ctx context.Context, t *testing.T, m *linuxhost.Machine) []string {
	t.Helper()
	keys, err := m.HostKeys(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) == 0 {
		t.Fatal("no host keys")
	}
	return keys
}

func address(m *linuxhost.Machine) string { return net.JoinHostPort(m.Address().String(), "22") }

// dial logs in as ops and insists on a host key that HostKeys tells.
func dial(ctx context.Context, t *testing.T, m *linuxhost.Machine, auth ssh.AuthMethod) (*ssh.Client, error) {
	t.Helper()
	keys := hostKeys(ctx, t, m)
	return ssh.Dial("tcp", address(m), &ssh.ClientConfig{
		User: "ops", Auth: []ssh.AuthMethod{auth}, Timeout: 5 * time.Second,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))); !slices.Contains(keys, line) {
				t.Errorf("the server has the host key %s, want one of %v", line, keys)
			}
			return nil
		},
	})
}

func exec(t *testing.T, client *ssh.Client, command string) string {
	t.Helper()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close() //nolint:errcheck // it has ended
	out, err := session.Output(command)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return strings.TrimSpace(string(out))
}

func newKey(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, ssh.MarshalAuthorizedKey(signer.PublicKey())
}

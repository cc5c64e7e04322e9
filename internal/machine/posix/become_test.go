package posix

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
	"github.com/isthmus-dev/isthmus/test/testbed/linuxhost"
)

func (d *debian) become(t *testing.T, password string) *Machine {
	t.Helper()
	return New(d.dial(t, "ops"), Options{LoginUser: "ops", Become: &Become{User: "root", Password: machine.Secret(password)}})
}

// testSudoWithPassword asks a real sudo, of a user who has a password.
func testSudoWithPassword(t *testing.T, d *debian) {
	const password = "it's a $ecret pass"
	require.NoError(t, d.SetPassword(testContext(t), "ops", password))
	require.NoError(t, d.AllowSudo(testContext(t), "ops", linuxhost.WithPassword))
	m := d.become(t, password)
	facts, err := m.Facts(testContext(t))
	require.NoError(t, err)
	require.Equal(t, "ledger", facts.Hostname)
	require.Equal(t, machine.ScriptState{ExitCode: 4, Output: "0 /root"}, observe(t, m, asking(`echo "$(id -u) $HOME"; exit 4`)))
	opened := 0
	blob := randomBlob(t, 5<<20, &opened)
	require.NoError(t, m.Stage(testContext(t), blob))
	succeed(t, m, testJob("placed", machine.PlaceFile{Path: "/var/tmp/placed", SHA256: blob.SHA256, Size: blob.Size, Mode: 0o600}))
	require.Equal(t, blob.SHA256, observe(t, m, machine.File{Path: "/var/tmp/placed"}).(machine.FileState).SHA256)
	large := make([]byte, 100<<10)
	succeed(t, m, testJob("large", machine.PutFile{Path: "/var/tmp/large", Content: large}))
	require.NoError(t, m.Forget(testContext(t), []string{"placed", "large"}))
	require.Empty(t, d.sh(t, "grep -la 'ecret[ ]pass' /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null || true"))

	refused := func(m *Machine, says ...string) {
		t.Helper()
		_, err := m.Facts(testContext(t))
		credentials := &transport.CredentialsError{}
		require.ErrorAs(t, err, &credentials)
		for _, words := range says {
			require.ErrorContains(t, err, words)
		}
		require.NotContains(t, err.Error(), "ecret pass")
		require.NotContains(t, err.Error(), "that is wrong")
		t.Log(err)
	}
	// sudo remembers who has just given a password.
	d.sh(t, "rm -rf /run/sudo/ts")
	failures := func() string {
		return d.sh(t, "journalctl --no-pager -q | grep -c 'authentication failure.*ruser=ops' || true")
	}
	before := failures()
	wrong := d.become(t, "an ecret that is wrong")
	refused(wrong, "the password is wrong", "become-password")
	refused(wrong, "the password is wrong")
	require.Equal(t, fmt.Sprint(atoi(t, before)+1), failures(), "one attempt, whatever is asked")
	refused(d.connect(t), "a password is required", "add the key become-password to the Secret")

	d.sh(t, "echo 'Defaults requiretty' >/etc/sudoers.d/tty && chmod 0440 /etc/sudoers.d/tty")
	refused(d.become(t, password), "you must have a tty", "remove requiretty")
	d.sh(t, "rm /etc/sudoers.d/tty")
	require.NoError(t, d.AllowSudo(testContext(t), "ops", linuxhost.Denied))
	refused(d.become(t, password), "not in the sudoers", "in sudoers")
	require.NoError(t, d.AllowSudo(testContext(t), "ops", linuxhost.NoPassword))
	_, err = d.become(t, "not asked for").Facts(testContext(t))
	require.NoError(t, err)
}

func atoi(t *testing.T, text string) (n int) {
	t.Helper()
	_, err := fmt.Sscan(text, &n)
	require.NoError(t, err)
	return n
}

// testCancelOnSystemd: what has left the group of the job is still in its unit.
func testCancelOnSystemd(t *testing.T, d *debian) {
	m := d.connect(t)
	job := testJob("hangs", machine.RunScript{
		Text:        machine.Secret("setsid sh -c 'trap \"\" TERM; while :; do sleep 1000; done' & : >/var/tmp/hangs; while :; do sleep 1000; done"),
		Environment: []machine.Variable{variable("ISTHMUS_MARKER", "isthmus-cancel")},
	})
	job.Timeout = 5 * time.Minute
	require.Equal(t, machine.JobRunning, start(t, m, job).Phase)
	d.sh(t, "while [ ! -e /var/tmp/hangs ]; do sleep 0.1; done")
	state, err := m.Cancel(testContext(t), "hangs", 1)
	require.NoError(t, err)
	require.Equal(t, machine.JobCancelled, await(t, m, "hangs", state).Phase)
	d.nothingLeft(t, "isthmus-cancel")
}

func (d *debian) nothingLeft(t *testing.T, marker string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return d.sh(t, "grep -la ISTHMUS_MARKER=%s /proc/[0-9]*/environ 2>/dev/null || true", marker) == ""
	}, 30*time.Second, 200*time.Millisecond)
}

// testAbandoned: a pass is cancelled while a script hangs, as root by sudo, by sudo with a password, and as the user.
func testAbandoned(t *testing.T, d *debian) {
	const password = "another secret"
	require.NoError(t, d.SetPassword(testContext(t), "ops", password))
	for name, m := range map[string]*Machine{
		"sudo":     d.connect(t),
		"password": d.become(t, password),
		"user":     New(d.dial(t, "ops"), Options{StateDir: "/home/ops/state"}),
	} {
		if name == "password" {
			require.NoError(t, d.AllowSudo(testContext(t), "ops", linuxhost.WithPassword))
		} else {
			require.NoError(t, d.AllowSudo(testContext(t), "ops", linuxhost.NoPassword))
		}
		marker := "isthmus-abandoned-" + name
		begun := filepath.Join("/var/tmp", marker)
		ctx, cancel := context.WithCancel(testContext(t))
		failed := make(chan error, 1)
		go func() {
			_, err := m.Observe(ctx, []machine.Check{hanging(marker, begun)})
			failed <- err
		}()
		d.sh(t, "while [ ! -e %s ]; do sleep 0.1; done", begun)
		cancel()
		require.Error(t, <-failed)
		d.nothingLeft(t, marker)
	}
	require.NoError(t, d.AllowSudo(testContext(t), "ops", linuxhost.NoPassword))
}

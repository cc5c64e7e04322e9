package posix

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	gossh "golang.org/x/crypto/ssh"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
	"github.com/isthmus-dev/isthmus/internal/transport/ssh"
	"github.com/isthmus-dev/isthmus/test/testbed/janitor"
	"github.com/isthmus-dev/isthmus/test/testbed/sshd"
)

func newKey(t testing.TB) (private, public []byte) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := gossh.MarshalPrivateKey(key, "")
	require.NoError(t, err)
	signer, err := gossh.NewSignerFromKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(block), gossh.MarshalAuthorizedKey(signer.PublicKey())
}

func newJanitor(t testing.TB) *janitor.Janitor {
	t.Helper()
	j, err := janitor.New(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, j.Close()) })
	return j
}

// forcedShell spares the tests the startup files of whoever runs them.
func forcedShell() string {
	if os.Geteuid() != 0 {
		return ""
	}
	return "/bin/sh"
}

// realServer starts an OpenSSH server on loopback and connects to it.
func realServer(t testing.TB, config ...string) (*sshd.Server, *ssh.Client) {
	t.Helper()
	if _, err := exec.LookPath("/usr/sbin/sshd"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("OpenSSH's server is not installed")
		}
		t.Skip("OpenSSH's server is not installed")
	}
	private, public := newKey(t)
	server, err := sshd.Start(context.Background(), sshd.Options{
		Dir: t.TempDir(), Janitor: newJanitor(t), Config: config, AuthorizedKeys: [][]byte{public}, ForceShell: forcedShell(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	client, err := ssh.Dial(context.Background(), ssh.Config{
		Address: server.Addr(), User: server.User(), HostKeys: server.HostKeys(), PrivateKey: private,
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return server, client
}

func TestOverOpenSSH(t *testing.T) {
	_, client := realServer(t)
	m := New(client, Options{StateDir: filepath.Join(t.TempDir(), "state")})

	facts, err := m.Facts(testContext(t))
	require.NoError(t, err)
	hostname, err := os.Hostname()
	require.NoError(t, err)
	require.Equal(t, hostname, facts.Hostname)
	require.NotEmpty(t, facts.BootID)
	require.NotEmpty(t, facts.OSName)
	require.NotEmpty(t, facts.Kernel)
	require.Contains(t, []string{"amd64", "arm64"}, facts.Architecture)
	require.Positive(t, facts.CPUs)
	require.Greater(t, facts.MemoryBytes, int64(64<<20))

	file := filepath.Join(t.TempDir(), "f")
	subject := machine.Subject("file/" + file)
	succeed(t, m, testJob("put",
		machine.Claim{Subject: subject, Owner: owner, Adopted: true},
		machine.PutFile{Path: file, Content: machine.Secret("over the wire")},
	))
	checks := []machine.Check{
		machine.File{Path: file}, machine.Mark{Subject: subject}, machine.JobReceipt{ID: "put"},
		machine.JobReceipt{ID: "none"}, machine.WindowsService{Name: "x"}, machine.File{Path: "relative"}, machine.File{Path: file},
	}
	observation, err := m.Observe(testContext(t), checks)
	require.NoError(t, err)
	require.Len(t, observation.Answers, len(checks)-1)
	require.Equal(t, facts.BootID, observation.BootID)
	require.Equal(t, digestOf("over the wire"), observation.Answers[checks[0]].(machine.FileState).SHA256)
	require.Equal(t, machine.MarkState{Exists: true, Owner: owner, Adopted: true}, observation.Answers[checks[1]])
	require.Equal(t, machine.JobSucceeded, observation.Answers[checks[2]].(machine.JobState).Phase)
	require.Equal(t, machine.JobState{Phase: machine.JobAbsent}, observation.Answers[checks[3]])
	require.Equal(t, "NotSupported", observation.Answers[checks[4]].(machine.Problem).Reason)
	require.Equal(t, "Failed", observation.Answers[checks[5]].(machine.Problem).Reason)
}

// TestManyPassesAtOnce: more than the server allows on one connection.
func TestManyPassesAtOnce(t *testing.T) {
	_, client := realServer(t, "MaxSessions 4")
	m := New(client, Options{StateDir: filepath.Join(t.TempDir(), "state")})
	pass := func() error {
		_, err := m.Observe(context.Background(), []machine.Check{machine.File{Path: "/etc/passwd"}})
		return err
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	refused := 0
	for range 30 {
		group.Go(func() {
			if err := pass(); err != nil {
				unreachable := &transport.UnreachableError{}
				mu.Lock()
				defer mu.Unlock()
				refused++
				require.ErrorAs(t, err, &unreachable)
			}
		})
	}
	group.Wait()
	t.Logf("%d of 30 passes found no session", refused)
	require.NoError(t, pass())
}

// TestConnectionKilledDuringAJob: the job goes on, and its receipt is read through a new connection.
func TestConnectionKilledDuringAJob(t *testing.T) {
	private, public := newKey(t)
	server, err := sshd.Start(context.Background(), sshd.Options{Dir: t.TempDir(), Janitor: newJanitor(t), AuthorizedKeys: [][]byte{public}, ForceShell: forcedShell()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	connect := func() *ssh.Client {
		client, err := ssh.Dial(context.Background(), ssh.Config{
			Address: server.Addr(), User: server.User(), HostKeys: server.HostKeys(), PrivateKey: private,
		})
		require.NoError(t, err)
		return client
	}
	dir := t.TempDir()
	content := make([]byte, 3<<20) // Long enough to be cut while it is sent.
	_, _ = rand.Read(content)
	begun := 0
	for i, delay := range []time.Duration{0, 5, 10, 20, 40, 80, 120, 160, 240, 400, 800} {
		client := connect()
		m := New(client, Options{StateDir: dir + "/state"})
		file := fmt.Sprintf("%s/file-%d", dir, i)
		job := testJob(fmt.Sprintf("job-%d", i), machine.PutFile{Path: file, Content: content})
		timer := time.AfterFunc(delay*time.Millisecond, func() { _ = client.Close() })
		_, err := m.Start(testContext(t), job)
		timer.Stop()
		_ = client.Close()

		again := New(connect(), Options{StateDir: dir + "/state"})
		state := await(t, again, job.ID, receipt(t, again, job.ID))
		if state.Phase != machine.JobAbsent {
			begun++
		}
		require.Contains(t, []machine.JobPhase{machine.JobAbsent, machine.JobSucceeded}, state.Phase, "after %d ms: %v", delay, err)
		succeed(t, again, job)
		require.NoError(t, again.Close())
	}
	t.Logf("%d of 11 jobs had begun when their connection was gone", begun)
}

func BenchmarkObserveFourChecks(b *testing.B) {
	_, client := realServer(b)
	m := New(client, Options{StateDir: filepath.Join(b.TempDir(), "state")})
	checks := []machine.Check{
		machine.File{Path: "/etc/passwd"}, machine.File{Path: "/etc/hostname"},
		machine.Mark{Subject: "file//etc/passwd"}, machine.JobReceipt{ID: "seen"},
	}
	state, err := m.Start(context.Background(), testJob("seen", machine.Claim{Subject: "file//etc/passwd", Owner: owner}))
	require.NoError(b, err)
	require.Equal(b, machine.JobSucceeded, state.Phase)
	pass := func() {
		_, err := m.Observe(context.Background(), checks)
		require.NoError(b, err)
	}
	pass()
	time.Sleep(settleTime + 100*time.Millisecond) // Digests settle.
	pass()
	b.Run("Observe", func(b *testing.B) { reportMedian(b, pass) })
	// What any request costs here: a session, a shell, and nothing in it.
	b.Run("EmptyShell", func(b *testing.B) {
		reportMedian(b, func() {
			_, err := client.Run(context.Background(), transport.Request{Command: "/bin/sh -s"})
			require.NoError(b, err)
		})
	})
}

// BenchmarkObserveScript tells what a script costs beside two files.
func BenchmarkObserveScript(b *testing.B) {
	_, client := realServer(b)
	m := New(client, Options{StateDir: filepath.Join(b.TempDir(), "state")})
	files := []machine.Check{machine.File{Path: "/etc/passwd"}, machine.File{Path: "/etc/hostname"}}
	pass := func(checks ...machine.Check) {
		_, err := m.Observe(context.Background(), checks)
		require.NoError(b, err)
	}
	pass(files...)
	time.Sleep(settleTime + 100*time.Millisecond) // Digests settle.
	pass(files...)
	b.Run("TwoFiles", func(b *testing.B) { reportMedian(b, func() { pass(files...) }) })
	for _, count := range []int{1, 4} {
		checks := slices.Clone(files)
		for i := range count {
			checks = append(checks, asking(fmt.Sprintf("[ -e /etc/passwd ] && exit %d", i)))
		}
		b.Run(fmt.Sprintf("AndScripts-%d", count), func(b *testing.B) { reportMedian(b, func() { pass(checks...) }) })
	}
}

func reportMedian(b *testing.B, do func()) {
	var times []time.Duration
	for b.Loop() {
		began := time.Now()
		do()
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "µs/median")
	b.ReportMetric(float64(times[len(times)/20].Microseconds()), "µs/p5")
}

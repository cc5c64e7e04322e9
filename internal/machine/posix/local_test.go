package posix

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// localHost runs requests on this machine as a host of one kind would: with the
// shell and the tools that it has.
type localHost struct {
	name       string
	shell      string   // in the place of /bin/sh
	bin        string   // in front of PATH
	hidden     []string // programs of this machine that this host does not have
	credential *syscall.Credential
	// cut, if not negative, is after how many bytes of a request the connection ends.
	cut int
	// noise is printed before the shell answers, as profiles do.
	noise string

	mu       sync.Mutex
	requests []string
}

func (h *localHost) Run(ctx context.Context, request transport.Request) (transport.Result, error) {
	var stdout, stderr bytes.Buffer
	heard := &recorder{}
	stdout.WriteString(h.noise)
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", request.Command)
	cmd.Stdout, cmd.Stderr = tapped(&stdout, request.OnStdout), tapped(&stderr, request.OnStderr)
	if len(h.hidden) > 0 {
		const hide = `command=$1; shift; for x; do mount --bind /dev/null "$x" || exit; done; exec /bin/sh -c "$command"`
		cmd.Args = append([]string{"unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", hide, "hide", request.Command}, h.hidden...)
		cmd.Path = "/usr/bin/unshare"
	}
	cmd.Env = []string{"PATH=" + h.bin + ":" + os.Getenv("PATH"), "HOME=/nonexistent", "http_proxy=http://127.0.0.1:1", "https_proxy=http://127.0.0.1:1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: h.credential}
	cmd.WaitDelay = 2 * time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return transport.Result{}, err
	}
	if err := cmd.Start(); err != nil {
		return transport.Result{}, err
	}
	limit := int64(math.MaxInt64)
	if h.cut >= 0 {
		limit = int64(h.cut)
	}
	go func() {
		_, _ = io.Copy(stdin, io.LimitReader(io.TeeReader(request.Stdin, heard), limit))
		_ = stdin.Close()
	}()
	err = cmd.Wait()
	h.mu.Lock()
	h.requests = append(h.requests, heard.text())
	h.mu.Unlock()
	exit := &exec.ExitError{}
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return transport.Result{}, &transport.LostError{Doing: "test", Err: err}
	}
	if h.cut >= 0 {
		return transport.Result{}, &transport.LostError{Doing: "test", Err: errors.New("cut")}
	}
	return transport.Result{ExitCode: cmd.ProcessState.ExitCode(), Stdout: stdout.Bytes(), Stderr: stderr.Bytes()}, nil
}

type recorder struct {
	mu   sync.Mutex
	said bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.Write(p)
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.said.String()
}

type tap func([]byte)

func (t tap) Write(p []byte) (int, error) {
	t(p)
	return len(p), nil
}

func tapped(to io.Writer, hear func([]byte)) io.Writer {
	if hear == nil {
		return to
	}
	return io.MultiWriter(to, tap(hear))
}

func (h *localHost) Close() error { return nil }

// tool puts a program of the test's own in front of the host's.
func (h *localHost) tool(t *testing.T, name, script string) {
	t.Helper()
	path := filepath.Join(h.bin, name)
	_ = os.Remove(path) // It may be a link to BusyBox.
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755))
}

// machine is the machine behind h, with its state in dir.
func (h *localHost) machine(dir string) *Machine {
	m := New(h, Options{StateDir: dir})
	m.shell = h.shell
	return m
}

// hosts are the three kinds: Debian and Ubuntu, Red Hat, Alpine.
func hosts(t *testing.T) []*localHost {
	t.Helper()
	kinds := map[string]string{"dash": "exec dash", "bash": "exec bash --posix", "busybox": "exec busybox sh"}
	var made []*localHost
	for name, command := range kinds {
		words := strings.Fields(command)
		if _, err := exec.LookPath(words[1]); err != nil {
			missing(t, words[1]+" is not installed")
		}
		h := &localHost{name: name, bin: openDir(t), cut: -1}
		if name == "busybox" {
			out, err := exec.Command("busybox", "--install", "-s", h.bin).CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
		h.tool(t, "isthmus-test-sh", command+` "$@"`+"\n")
		h.shell = filepath.Join(h.bin, "isthmus-test-sh")
		made = append(made, h)
	}
	return made
}

// openDir is a temporary directory that every user can get into.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "isthmus-test-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// eachHost runs a test on every kind of host, with an empty state directory.
func eachHost(t *testing.T, test func(t *testing.T, h *localHost, m *Machine)) {
	t.Helper()
	for _, h := range hosts(t) {
		t.Run(h.name, func(t *testing.T) {
			test(t, h, h.machine(filepath.Join(t.TempDir(), "state")))
		})
	}
}

// missing ends a test that lacks a prerequisite: a failure in CI, a skip elsewhere.
func missing(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "this test needs root")
	}
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

var owner = machine.Owner{Cluster: "c-1", UID: "u-1", Object: "shop/ledger"}

func testJob(id string, steps ...machine.Step) machine.Job {
	return machine.Job{ID: id, Epoch: 1, Owner: owner, Steps: steps, Timeout: time.Minute}
}

func start(t *testing.T, m machine.Machine, job machine.Job) machine.JobState {
	t.Helper()
	state, err := m.Start(testContext(t), job)
	require.NoError(t, err)
	return state
}

func succeed(t *testing.T, m machine.Machine, job machine.Job) {
	t.Helper()
	job.Timeout = max(job.Timeout, 5*time.Minute) // The machine may be busy.
	state := finish(t, m, job)
	require.Equal(t, machine.JobSucceeded, state.Phase, "%+v", state)
}

// finish starts a job and waits for its end: a machine that is busy takes more than the moment that Start waits.
func finish(t *testing.T, m machine.Machine, job machine.Job) machine.JobState {
	t.Helper()
	return await(t, m, job.ID, start(t, m, job))
}

// await waits until a job does not run any more.
func await(t *testing.T, m machine.Machine, id string, state machine.JobState) machine.JobState {
	t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for state.Phase == machine.JobRunning {
		require.True(t, time.Now().Before(deadline), "job %s runs for ever", id)
		time.Sleep(50 * time.Millisecond)
		state = receipt(t, m, id)
	}
	return state
}

func receipt(t *testing.T, m machine.Machine, id string) machine.JobState {
	t.Helper()
	return observe(t, m, machine.JobReceipt{ID: id}).(machine.JobState)
}

func observe(t *testing.T, m machine.Machine, check machine.Check) machine.Answer {
	t.Helper()
	observation, err := m.Observe(testContext(t), []machine.Check{check})
	require.NoError(t, err)
	require.Contains(t, observation.Answers, check)
	return observation.Answers[check]
}

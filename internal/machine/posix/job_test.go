package posix

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
	"github.com/isthmus-dev/isthmus/internal/transport"
)

// reload is a step that runs the test's own systemctl.
var reload = machine.ReloadUnits{}

func TestJobSucceedsInOneRequest(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		h.tool(t, "systemctl", "exit 0")
		state := start(t, m, testJob("short", reload))
		require.Equal(t, machine.JobSucceeded, state.Phase)
		require.Equal(t, int64(1), state.Epoch)
		require.NotEmpty(t, state.BootID)
		for _, at := range []string{state.Started, state.Finished} {
			_, err := time.Parse(time.RFC3339, at)
			require.NoError(t, err)
		}
		require.Len(t, h.requests, 1)
		require.Equal(t, state, receipt(t, m, "short"))
	})
}

func TestJobFailsAtTheFirstStepThatDoes(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		h.tool(t, "systemctl", `[ "$1" = daemon-reload ] || { echo "no such unit: $4" >&2; exit 5; }`)
		file := filepath.Join(t.TempDir(), "later")
		state := finish(t, m, testJob("fails", reload, machine.EnableUnit{Unit: "a.service"}, machine.PutFile{Path: file}))
		require.Equal(t, machine.JobFailed, state.Phase)
		require.Equal(t, 1, state.Step)
		require.Equal(t, 1, state.ExitCode)
		require.Equal(t, "no such unit: a.service\nsystemctl enable failed", state.Message)
		require.NoFileExists(t, file)
		require.Equal(t, state, start(t, m, testJob("fails", reload)), "a second Start returns what became of the first")
	})
}

// TestSecretsOfAJobAreShortLived: the script holds file contents, and output is redacted.
func TestSecretsOfAJobAreShortLived(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		secret := `pa$$'w"o\rd*`
		key := "-----BEGIN KEY-----\nAAAABBBB*?[x]\n-----END KEY-----\n"
		h.tool(t, "systemctl", `printf '%s\n' 'x'"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`).Replace(secret)+
			`"'y pa$$ twice AAAABBBB*?[x]AAAABBBB*?[x]'; exit 1`)
		job := testJob("secrets", machine.PutFile{Path: filepath.Join(t.TempDir(), "f"), Content: machine.Secret("sesame-in-a-file")}, reload)
		job.Secrets = []machine.Secret{machine.Secret(secret), machine.Secret(key)}
		state := finish(t, m, job)
		require.Equal(t, machine.JobFailed, state.Phase)
		require.Equal(t, "x[redacted]y pa$$ twice [redacted][redacted]\nsystemctl daemon-reload failed", state.Message)
		encoded := "c2VzYW1lLWluLWEtZmlsZ"
		left, err := exec.Command("grep", "-rlF", "-e", encoded, "-e", "sesame", "-e", "AAAABBBB", m.options.StateDir).Output()
		require.Equal(t, 1, err.(*exec.ExitError).ExitCode(), "left behind in %s", left)
	})
}

func TestOutputIsBounded(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		h.tool(t, "systemctl", `echo first line
i=0; while [ $i -lt 4000 ]; do echo "$i tell-no-one tell-no-one tell-no-one tell-no-one"; i=$((i+1)); done; echo last; exit 3`)
		job := testJob("loud", reload)
		job.Secrets = []machine.Secret{machine.Secret("tell-no-one")}
		state := await(t, m, "loud", start(t, m, job))
		require.Equal(t, machine.JobFailed, state.Phase)
		require.LessOrEqual(t, len(state.Message), maxMessage)
		require.True(t, strings.HasSuffix(state.Message, "last\nsystemctl daemon-reload failed"), state.Message)
		output, err := os.ReadFile(filepath.Join(m.options.StateDir, "jobs/loud/output"))
		require.NoError(t, err)
		require.LessOrEqual(t, len(output), 64<<10)
		require.True(t, strings.HasPrefix(string(output), "first line\n"))
		for line := range strings.Lines(string(output)) {
			require.NotContains(t, line, "tell-no-one")
			require.NotContains(t, line, "no-one", "a secret was cut in two: %q", line)
		}
	})
}

func TestJobRunsOutOfTime(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		pids := filepath.Join(t.TempDir(), "pids")
		// One child ignores TERM, as programs do that hang.
		h.tool(t, "systemctl", fmt.Sprintf(`(trap '' TERM; echo $$ >>%s; sleep 300; sleep 300) & echo $! >>%s; wait`, pids, pids))
		job := testJob("slow", reload)
		job.Timeout = time.Second
		began := time.Now()
		state := await(t, m, "slow", start(t, m, job))
		require.Equal(t, machine.JobFailed, state.Phase)
		require.Equal(t, 124, state.ExitCode)
		require.Contains(t, state.Message, "ran out of time after 1 s")
		require.Less(t, time.Since(began), 15*time.Second)
		list, err := os.ReadFile(pids)
		require.NoError(t, err)
		for _, text := range strings.Fields(string(list)) {
			requireGone(t, text)
		}
	})
}

func requireGone(t *testing.T, pid string) {
	t.Helper()
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, 5*time.Second, 20*time.Millisecond, "process %s lives", pid)
}

// TestLostJob: the process is gone and there is no exit receipt.
func TestLostJob(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		h.tool(t, "systemctl", `exec sleep 300`)
		state := start(t, m, testJob("lost", reload))
		require.Equal(t, machine.JobRunning, state.Phase)
		require.Equal(t, 0, state.Step)
		dir := filepath.Join(m.options.StateDir, "jobs/lost")
		supervisor := fields(t, dir+"/started")[2]
		steps := fields(t, dir+"/steps")[0]
		kill(t, supervisor)
		requireGone(t, supervisor)
		require.Equal(t, machine.JobRunning, receipt(t, m, "lost").Phase, "the steps go on without their supervisor")
		kill(t, "-"+steps)
		requireGone(t, steps)
		require.Equal(t, machine.JobLost, receipt(t, m, "lost").Phase)
		require.Equal(t, machine.JobLost, start(t, m, testJob("lost", reload)).Phase, "a lost job is not begun again")
	})
}

func fields(t *testing.T, path string) []string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.Fields(string(content))
}

func kill(t *testing.T, pid string) {
	t.Helper()
	number, err := strconv.Atoi(pid)
	require.NoError(t, err)
	require.NotContains(t, []int{0, 1, -1}, number)
	require.NoError(t, syscall.Kill(number, syscall.SIGKILL))
}

func TestJobOfAnotherBootIsLost(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		dir := filepath.Join(m.options.StateDir, "jobs/old")
		require.NoError(t, os.MkdirAll(dir, 0o700))
		receiptOf := fmt.Sprintf("%019d some-other-boot %d 1 2026-01-02T03:04:05Z\n", 7, os.Getpid())
		require.NoError(t, os.WriteFile(dir+"/started", []byte(receiptOf), 0o600))
		require.Equal(t, machine.JobState{
			Phase: machine.JobLost, Epoch: 7, BootID: "some-other-boot", Started: "2026-01-02T03:04:05Z",
		}, receipt(t, m, "old"))
	})
}

// TestEmptyReceipt: the power failed before the receipt's content was on the disk. It is known that it was written.
func TestEmptyReceipt(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		dir := filepath.Join(m.options.StateDir, "jobs/cut")
		require.NoError(t, os.MkdirAll(dir, 0o700))
		require.NoError(t, os.WriteFile(dir+"/started", nil, 0o600))
		require.Equal(t, machine.JobState{Phase: machine.JobLost}, receipt(t, m, "cut"))
	})
}

// TestTenStartsBeginOnce: all of them launch the job, and it runs once.
func TestTenStartsBeginOnce(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		effects := filepath.Join(t.TempDir(), "effects")
		h.tool(t, "systemctl", "echo effect >>"+effects)
		var group sync.WaitGroup
		states := make([]machine.JobState, 10)
		errs := make([]error, len(states))
		for i := range states {
			group.Go(func() { states[i], errs[i] = m.Start(testContext(t), testJob("race", reload)) })
		}
		group.Wait()
		for i := range states {
			require.NoError(t, errs[i])
			require.Equal(t, machine.JobSucceeded, await(t, m, "race", states[i]).Phase)
		}
		require.Equal(t, []string{"effect"}, fields(t, effects))
	})
}

// TestConnectionEndsAnywhere: after any byte of a request, the job has not begun
// at all, or it runs to its end; and a later Start does what is left.
func TestConnectionEndsAnywhere(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		effects := filepath.Join(t.TempDir(), "effects")
		h.tool(t, "systemctl", "echo effect >>"+effects)
		whole := len(m.requestOf(t, testJob("cut-0", reload)))
		begun := 0
		cuts := []int{whole - 1, whole - 2, whole - 5, whole - 11, whole - 12, whole - 20, whole - 21, whole - 22, whole - 40}
		for cut := 0; cut < whole; cut += 397 {
			cuts = append(cuts, cut)
		}
		for i, cut := range cuts {
			job := testJob(fmt.Sprintf("cut-%d", i+1), reload)
			require.NoError(t, os.RemoveAll(effects))
			h.cut = cut
			_, err := m.Start(testContext(t), job)
			require.Error(t, err)
			h.cut = -1
			state := receipt(t, m, job.ID)
			if state.Phase == machine.JobAbsent {
				require.NoFileExists(t, effects, "cut at %d of %d", cut, whole)
			} else {
				begun++
			}
			succeed(t, m, job)
			require.Equal(t, []string{"effect"}, fields(t, effects), "cut at %d of %d", cut, whole)
		}
		require.LessOrEqual(t, begun, 1, "only a lost last character leaves a whole script")
	})
}

// requestOf is the request that starts a job.
func (m *Machine) requestOf(t *testing.T, job machine.Job) string {
	t.Helper()
	compiled, err := m.compileJob(job)
	require.NoError(t, err)
	r := m.newRequest()
	m.compileStart(r, job, compiled)
	return r.close()
}

// TestDamagedDelivery: a script that is not what was sent is not begun.
func TestDamagedDelivery(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		preferApplets(t, h)
		h.tool(t, "cat", "printf 'exit 0\n'")
		_, err := m.Start(testContext(t), testJob("damaged", reload))
		require.ErrorContains(t, err, "could not be written")
		require.Equal(t, machine.JobAbsent, receipt(t, m, "damaged").Phase)
		left, err := filepath.Glob(filepath.Join(m.options.StateDir, "jobs/damaged/*"))
		require.NoError(t, err)
		require.Empty(t, left)
	})
}

// preferApplets passes over BusyBox, whose shell runs its own applets whatever PATH says.
func preferApplets(t *testing.T, h *localHost) {
	t.Helper()
	if h.name == "busybox" {
		t.Skip("tools of BusyBox cannot be replaced")
	}
}

func TestStaleLeaderIsRefused(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		effects := filepath.Join(t.TempDir(), "effects")
		h.tool(t, "systemctl", "echo effect >>"+effects)
		job := func(id string, epoch int64) machine.Job {
			j := testJob(id, reload)
			j.Epoch = epoch
			return j
		}
		succeed(t, m, job("a", 9))
		succeed(t, m, job("b", 10)) // One digit more: epochs are numbers.
		_, err := m.Start(testContext(t), job("c", 9))
		stale := &machine.StaleLeaderError{}
		require.ErrorAs(t, err, &stale)
		require.Equal(t, machine.StaleLeaderError{Epoch: 9, Seen: 10}, *stale)
		require.Equal(t, machine.JobAbsent, receipt(t, m, "c").Phase)
		succeed(t, m, job("d", 10))
		require.Len(t, fields(t, effects), 3)
	})
}

// TestLeaderChangesBetweenDeliveryAndBegin: the job was accepted, and before it
// writes its receipt a newer leader comes.
func TestLeaderChangesBetweenDeliveryAndBegin(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		effects := filepath.Join(t.TempDir(), "effects")
		h.tool(t, "systemctl", "echo effect >>"+effects)
		preferApplets(t, h)
		h.tool(t, "setsid", fmt.Sprintf(`: >%s/epoch/%019d; exec /usr/bin/setsid "$@"`, m.options.StateDir, 2))
		_, err := m.Start(testContext(t), testJob("old", reload))
		stale := &machine.StaleLeaderError{}
		require.ErrorAs(t, err, &stale)
		require.NoFileExists(t, effects)
		require.Equal(t, machine.JobAbsent, receipt(t, m, "old").Phase)
	})
}

// TestJobOutlivesItsRequest: nothing of the session is left to a running job.
func TestJobOutlivesItsRequest(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		release := filepath.Join(t.TempDir(), "release")
		require.NoError(t, syscall.Mkfifo(release, 0o600))
		h.tool(t, "systemctl", "read -r go <"+release)
		state := start(t, m, testJob("long", reload))
		require.Equal(t, machine.JobRunning, state.Phase)
		require.NoError(t, m.Forget(testContext(t), []string{"long", "unknown"}))
		require.Equal(t, machine.JobRunning, receipt(t, m, "long").Phase, "a running job is not forgotten")
		require.NoError(t, os.WriteFile(release, []byte("go\n"), 0o600))
		require.Equal(t, machine.JobSucceeded, await(t, m, "long", state).Phase)
	})
}

func TestForgetRemovesTheStateWithTheLastUser(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		subject := machine.Subject("file//etc/x")
		succeed(t, m, testJob("claim", machine.Claim{Subject: subject, Owner: owner}))
		require.NoError(t, m.Forget(testContext(t), []string{"claim"}))
		require.DirExists(t, m.options.StateDir, "a mark is left")
		succeed(t, m, testJob("release", machine.Release{Subject: subject, Owner: owner}))
		require.NoError(t, m.Forget(testContext(t), nil))
		require.DirExists(t, m.options.StateDir, "a receipt is left")
		require.NoError(t, m.Forget(testContext(t), []string{"release"}))
		require.NoDirExists(t, m.options.StateDir)
		succeed(t, m, testJob("again", machine.Claim{Subject: subject, Owner: owner}))
	})
}

func TestJobsThatCannotBe(t *testing.T) {
	m := New(&localHost{}, Options{})
	for name, job := range map[string]machine.Job{
		"id":       {ID: "../x", Timeout: time.Second, Steps: []machine.Step{reload}},
		"timeout":  {ID: "a", Steps: []machine.Step{reload}},
		"steps":    {ID: "a", Timeout: time.Second},
		"windows":  testJob("a", machine.DeleteWindowsService{Name: "x"}),
		"manager":  testJob("a", machine.StopService{Service: machine.Service{Manager: machine.WindowsSCM, Name: "x"}}),
		"unit":     testJob("a", machine.EnableUnit{Unit: "a b.service"}),
		"path":     testJob("a", machine.PutFile{Path: "/etc/../x"}),
		"relative": testJob("a", machine.RemoveFile{Path: "x"}),
		"digest":   testJob("a", machine.PutFile{Path: "/x", SHA256: strings.Repeat("0", 64)}),
		"owner":    testJob("a", machine.PutFile{Path: "/x", Owner: "-R"}),
		"claim":    testJob("a", machine.Claim{Subject: "x"}),
	} {
		_, err := m.Start(testContext(t), job)
		require.Error(t, err, name)
		lost := &transport.LostError{}
		require.False(t, errors.As(err, &lost))
	}
	_, err := m.Start(testContext(t), testJob("a", machine.DeleteWindowsService{Name: "x"}))
	require.EqualError(t, err, "start job a: step 0: DeleteWindowsService is not supported on a POSIX host")
}

package conformance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

// patience is for slow hosts; no promise is measured by it. A job has twice as
// much, so that it is never the job that gives up first.
const patience = 3 * time.Minute

var (
	owner    = machine.Owner{Cluster: "conformance", UID: "u-1", Object: "conformance/first"}
	stranger = machine.Owner{Cluster: "conformance", UID: "u-2", Object: "conformance/second"}
)

// jobs counts the jobs of a run, so that no two have an id and all can be forgotten.
type jobs struct {
	run   string
	ids   []string
	epoch int64
}

func (s *suite) job(steps ...machine.Step) machine.Job {
	id := fmt.Sprintf("conformance-%s-%d", s.jobs.run, len(s.jobs.ids))
	s.jobs.ids = append(s.jobs.ids, id)
	return machine.Job{ID: id, Epoch: s.jobs.epoch, Owner: owner, Steps: steps, Timeout: 2 * patience}
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, m machine.Machine, job machine.Job) machine.JobState {
	t.Helper()
	state, err := m.Start(limited(t), job)
	require.NoError(t, err)
	return state
}

// end starts a job and waits for its end.
func (s *suite) end(t *testing.T, job machine.Job) machine.JobState {
	t.Helper()
	return await(t, s.first, job.ID, start(t, s.first, job))
}

func (s *suite) succeed(t *testing.T, steps ...machine.Step) {
	t.Helper()
	state := s.end(t, s.job(steps...))
	require.Equal(t, machine.JobSucceeded, state.Phase, "%+v", state)
}

func (s *suite) fail(t *testing.T, steps ...machine.Step) machine.JobState {
	t.Helper()
	state := s.end(t, s.job(steps...))
	require.Equal(t, machine.JobFailed, state.Phase, "%+v", state)
	return state
}

// await waits until a job does not run any more.
func await(t *testing.T, m machine.Machine, id string, state machine.JobState) machine.JobState {
	t.Helper()
	for deadline := time.Now().Add(patience); state.Phase == machine.JobRunning; time.Sleep(100 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "job %s runs for ever", id)
		state = receipt(t, m, id)
	}
	return state
}

func receipt(t *testing.T, m machine.Machine, id string) machine.JobState {
	t.Helper()
	return see[machine.JobState](t, m, machine.JobReceipt{ID: id})
}

func see[A machine.Answer](t *testing.T, m machine.Machine, check machine.Check) A {
	t.Helper()
	seen, err := m.Observe(limited(t), []machine.Check{check})
	require.NoError(t, err)
	require.NotEmpty(t, seen.BootID)
	answer, ok := seen.Answers[check].(A)
	require.True(t, ok, "%T: %+v", check, seen.Answers[check])
	return answer
}

func digest[T string | []byte](content T) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func put(path, content string) machine.PutFile {
	return machine.PutFile{Path: path, Content: machine.Secret(content), SHA256: digest(content)}
}

// holds requires a file with a content.
func (s *suite) holds(t *testing.T, path, content string) machine.FileState {
	t.Helper()
	state := see[machine.FileState](t, s.second, machine.File{Path: path})
	require.Equal(t, machine.FileRegular, state.Kind, "%s: %+v", path, state)
	require.Equal(t, int64(len(content)), state.Size, path)
	require.Equal(t, digest(content), state.SHA256, path)
	return state
}

func (s *suite) absent(t *testing.T, path string) {
	t.Helper()
	state := see[machine.FileState](t, s.second, machine.File{Path: path})
	require.Equal(t, machine.FileState{Kind: machine.FileAbsent}, state, path)
}

// run is a step that runs a script in the host's own shell.
func (s *suite) run(phrases ...string) machine.RunScript {
	text := s.words.lines(phrases...)
	return machine.RunScript{Text: machine.Secret(text), Digest: digest(text)}
}

// entries counts what is in a directory.
func (s *suite) entries(t *testing.T, dir string) int {
	t.Helper()
	state := see[machine.ScriptState](t, s.second, s.check(time.Minute, s.words.phrase(list, dir)))
	require.Zero(t, state.ExitCode, state.Output)
	return len(strings.Split(strings.TrimSpace(unix(state.Output)), "\n"))
}

package conformance

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

func testJobs(t *testing.T, s *suite) {
	t.Run("BegunOnce", func(t *testing.T) { s.begunOnce(t) })
	t.Run("Receipt", func(t *testing.T) { s.receipts(t) })
	t.Run("FailingStep", func(t *testing.T) { s.failingStep(t) })
	t.Run("Invalid", func(t *testing.T) { s.invalid(t) })
	t.Run("LongJob", func(t *testing.T) { s.longJob(t) })
	t.Run("TimeOut", func(t *testing.T) { s.timeOut(t) })
	t.Run("Cancelled", func(t *testing.T) { s.cancelled(t) })
	t.Run("CancelledTooLate", func(t *testing.T) { s.cancelledTooLate(t) })
	t.Run("StaleLeader", func(t *testing.T) { s.staleLeader(t) })
}

// begunOnce: ten operators ask for a job at once, and again later, and it happens once.
func (s *suite) begunOnce(t *testing.T) {
	path := s.path("effects")
	job := s.job(s.run(s.words.phrase(appendLine, path), s.words.phrase(sleep, 1)))
	var group sync.WaitGroup
	answers := make([]machine.JobState, 10)
	for i := range answers {
		m := s.first
		if i%2 == 1 {
			m = s.second
		}
		group.Go(func() {
			state, err := m.Start(t.Context(), job)
			if err != nil || (state.Phase != machine.JobRunning && state.Phase != machine.JobSucceeded) {
				t.Errorf("start: %+v, %v", state, err)
			}
			answers[i] = state
		})
	}
	group.Wait()
	require.Equal(t, machine.JobSucceeded, await(t, s.first, job.ID, receipt(t, s.first, job.ID)).Phase, "ten starts gave %+v", answers)
	for _, m := range []machine.Machine{s.first, s.second, s.first} {
		require.Equal(t, machine.JobSucceeded, start(t, m, job).Phase)
	}
	s.holds(t, path, s.words.appended(1))
}

func (s *suite) receipts(t *testing.T) {
	require.Equal(t, machine.JobState{Phase: machine.JobAbsent}, receipt(t, s.first, "conformance-never-started"))
	job := s.job(put(s.path("receipt"), "x"))
	state := s.end(t, job)
	facts, err := s.first.Facts(limited(t))
	require.NoError(t, err)
	require.Equal(t, machine.JobSucceeded, state.Phase)
	require.Equal(t, job.Epoch, state.Epoch)
	require.Equal(t, facts.BootID, state.BootID)
	require.Zero(t, state.ExitCode)
	began, err := time.Parse(time.RFC3339, state.Started)
	require.NoError(t, err)
	ended, err := time.Parse(time.RFC3339, state.Finished)
	require.NoError(t, err)
	require.False(t, ended.Before(began), "%s after %s", state.Started, state.Finished)
	again := receipt(t, s.second, job.ID)
	require.Equal(t, state.Phase, again.Phase)
	require.Equal(t, state.Started+state.Finished, again.Started+again.Finished)
}

// failingStep: what is before it is done, what is after it is not, and its last words are told.
func (s *suite) failingStep(t *testing.T) {
	before, after := s.path("before"), s.path("after")
	state := s.fail(t, put(before, "x"), s.run(s.words.phrase(count, 3000), s.words.phrase(say, "last-words"), s.words.phrase(exit, 7)), put(after, "x"))
	require.Equal(t, 1, state.Step)
	require.Equal(t, 7, state.ExitCode)
	require.LessOrEqual(t, len(state.Message), 2048)
	require.Contains(t, state.Message, "last-words")
	require.Contains(t, state.Message, "line 3000")
	require.NotContains(t, state.Message, "line 1\n")
	s.holds(t, before, "x")
	s.absent(t, after)
}

// invalid: a job that cannot be understood is not begun.
func (s *suite) invalid(t *testing.T) {
	path := s.path("invalid")
	for name, change := range map[string]func(*machine.Job){
		"id":      func(j *machine.Job) { j.ID = "../" + j.ID },
		"capital": func(j *machine.Job) { j.ID = strings.ToUpper(j.ID) },
		"long":    func(j *machine.Job) { j.ID = strings.Repeat("x", 64) },
		"timeout": func(j *machine.Job) { j.Timeout = 0 },
	} {
		job := s.job(put(path, "x"))
		change(&job)
		_, err := s.first.Start(limited(t), job)
		require.Error(t, err, name)
	}
	s.absent(t, path)
}

// longJob: Start does not wait for it, it goes on without the connection that
// began it, and its receipt says that it runs.
func (s *suite) longJob(t *testing.T) {
	path := s.path("long")
	job := s.job(s.run(s.words.phrase(sleep, 8), s.words.phrase(appendLine, path)))
	began := time.Now()
	state := start(t, s.first, job)
	require.Equal(t, machine.JobRunning, state.Phase)
	require.Less(t, time.Since(began), 30*time.Second)
	require.Equal(t, machine.JobRunning, receipt(t, s.second, job.ID).Phase)
	require.Equal(t, machine.JobRunning, start(t, s.second, job).Phase)
	require.Equal(t, machine.JobSucceeded, await(t, s.second, job.ID, receipt(t, s.second, job.ID)).Phase)
	s.holds(t, path, s.words.appended(1))
}

// timeOut: all that the job has started ends with it.
func (s *suite) timeOut(t *testing.T) {
	path := s.path("too-late")
	job := s.job(s.run(s.words.phrase(sleep, 15), s.words.phrase(appendLine, path)))
	job.Timeout = 3 * time.Second
	began := time.Now()
	state := s.end(t, job)
	require.Equal(t, machine.JobFailed, state.Phase)
	require.Equal(t, 124, state.ExitCode)
	require.Zero(t, state.Step)
	time.Sleep(time.Until(began.Add(18 * time.Second)))
	s.absent(t, path)
}

func (s *suite) cancelled(t *testing.T) {
	path := s.path("cancelled")
	job := s.job(s.run(s.words.phrase(sleep, 15), s.words.phrase(appendLine, path)), put(s.path("step-after"), "x"))
	began := time.Now()
	require.Equal(t, machine.JobRunning, start(t, s.first, job).Phase)
	state, err := s.second.Cancel(limited(t), job.ID, job.Epoch)
	require.NoError(t, err)
	require.Equal(t, machine.JobCancelled, await(t, s.second, job.ID, state).Phase)
	require.Equal(t, machine.JobCancelled, receipt(t, s.first, job.ID).Phase)
	require.Equal(t, machine.JobCancelled, start(t, s.first, job).Phase, "it is not begun again")
	time.Sleep(time.Until(began.Add(18 * time.Second)))
	s.absent(t, path)
	s.absent(t, s.path("step-after"))
}

func (s *suite) cancelledTooLate(t *testing.T) {
	job := s.job(put(s.path("done"), "x"))
	ended := s.end(t, job)
	state, err := s.first.Cancel(limited(t), job.ID, job.Epoch)
	require.NoError(t, err)
	require.Equal(t, machine.JobSucceeded, state.Phase)
	require.Equal(t, ended.Finished, state.Finished)
	unknown, err := s.first.Cancel(limited(t), "conformance-never-started", job.Epoch)
	require.NoError(t, err)
	require.Equal(t, machine.JobAbsent, unknown.Phase)
}

// staleLeader: a leader that was replaced does nothing any more.
func (s *suite) staleLeader(t *testing.T) {
	s.jobs.epoch += 10
	long := s.job(s.run(s.words.phrase(sleep, 5)))
	require.Equal(t, machine.JobRunning, start(t, s.first, long).Phase)

	path := s.path("stale")
	job := s.job(put(path, "x"))
	job.Epoch -= 5
	stale := &machine.StaleLeaderError{}
	_, err := s.second.Start(limited(t), job)
	require.ErrorAs(t, err, &stale)
	require.Equal(t, machine.StaleLeaderError{Epoch: job.Epoch, Seen: s.jobs.epoch}, *stale)
	_, err = s.second.Cancel(limited(t), long.ID, job.Epoch)
	require.ErrorAs(t, err, &stale)
	require.Equal(t, machine.JobAbsent, receipt(t, s.first, job.ID).Phase)
	s.absent(t, path)
	require.Equal(t, machine.JobSucceeded, await(t, s.first, long.ID, receipt(t, s.first, long.ID)).Phase)
}

// testForgetting comes last: with the last receipt goes the last of what is kept on the host.
func testForgetting(t *testing.T, s *suite) {
	kept, gone := s.job(put(s.path("kept"), "x")), s.job(put(s.path("gone"), "x"))
	s.end(t, kept)
	s.end(t, gone)
	running := s.job(s.run(s.words.phrase(sleep, 5)))
	require.Equal(t, machine.JobRunning, start(t, s.first, running).Phase)
	require.NoError(t, s.second.Forget(limited(t), []string{gone.ID, "conformance-never-started", running.ID}))
	require.Equal(t, machine.JobAbsent, receipt(t, s.first, gone.ID).Phase)
	require.Equal(t, machine.JobSucceeded, receipt(t, s.first, kept.ID).Phase)
	require.Equal(t, machine.JobSucceeded, await(t, s.first, running.ID, receipt(t, s.first, running.ID)).Phase, "a job that runs is not forgotten")

	require.NoError(t, s.first.Forget(limited(t), s.jobs.ids))
	for _, id := range []string{kept.ID, running.ID} {
		require.Equal(t, machine.JobAbsent, receipt(t, s.second, id).Phase)
	}
	state := see[machine.FileState](t, s.second, machine.File{Path: s.path("state", "jobs")})
	require.Equal(t, machine.FileAbsent, state.Kind, "receipts are left")
}

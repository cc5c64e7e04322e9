package posix

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/isthmus-dev/isthmus/internal/machine"
)

func TestCancel(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		pids := filepath.Join(t.TempDir(), "pids")
		file := filepath.Join(t.TempDir(), "before")
		job := testJob("hangs",
			machine.PutFile{Path: file, Content: machine.Secret("x")},
			machine.RunScript{Text: machine.Secret(`trap '' TERM; echo said; (echo $$ >>` + pids + `; sleep 300) & echo $! >>` + pids + `; while :; do sleep 300; done`)},
			machine.RemoveFile{Path: file},
		)
		job.Timeout = 5 * time.Minute
		require.Equal(t, machine.JobRunning, start(t, m, job).Phase)
		state, err := m.Cancel(testContext(t), "hangs", 1)
		require.NoError(t, err)
		state = await(t, m, "hangs", state)
		require.Equal(t, machine.JobCancelled, state.Phase)
		require.Equal(t, 1, state.Step)
		require.Contains(t, state.Message, "said")
		require.Contains(t, state.Message, "the job was cancelled")
		require.FileExists(t, file, "the step before is done, the one after is not")
		for _, pid := range fields(t, pids) {
			requireGone(t, pid)
		}
		again, err := m.Cancel(testContext(t), "hangs", 2)
		require.NoError(t, err)
		require.Equal(t, state, again)
		require.Equal(t, state, receipt(t, m, "hangs"))

		_, err = m.Cancel(testContext(t), "hangs", 1)
		stale := &machine.StaleLeaderError{}
		require.ErrorAs(t, err, &stale)
		require.Equal(t, machine.StaleLeaderError{Epoch: 1, Seen: 2}, *stale)
	})
}

func TestCancelWhatDoesNotRun(t *testing.T) {
	eachHost(t, func(t *testing.T, h *localHost, m *Machine) {
		state, err := m.Cancel(testContext(t), "none", 1)
		require.NoError(t, err)
		require.Equal(t, machine.JobAbsent, state.Phase)
		require.NoDirExists(t, m.options.StateDir)
		h.tool(t, "systemctl", "exit 0")
		done := start(t, m, testJob("done", reload))
		require.Equal(t, machine.JobSucceeded, done.Phase)
		state, err = m.Cancel(testContext(t), "done", 1)
		require.NoError(t, err)
		require.Equal(t, done, state)
		state, err = m.Cancel(testContext(t), "none", 1)
		require.NoError(t, err)
		require.Equal(t, machine.JobAbsent, state.Phase)
		_, err = m.Cancel(testContext(t), "../x", 1)
		require.Error(t, err)
	})
}

// TestCancelWhileItEnds: whatever comes first, the receipt is whole and stays.
func TestCancelWhileItEnds(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		seen := map[machine.JobPhase]int{}
		for i := range 8 {
			id := fmt.Sprintf("race-%d", i)
			effect := filepath.Join(t.TempDir(), "effect")
			job := testJob(id, machine.RunScript{Text: machine.Secret(fmt.Sprintf("sleep 0.%02d; echo done >%s", i*9, effect))})
			var group sync.WaitGroup
			group.Go(func() { _, _ = m.Start(testContext(t), job) })
			time.Sleep(time.Duration(i%3) * 50 * time.Millisecond)
			var state machine.JobState
			require.Eventually(t, func() bool {
				var err error
				state, err = m.Cancel(testContext(t), id, 1)
				return err == nil && state.Phase != machine.JobAbsent && state.Phase != machine.JobRunning
			}, 30*time.Second, 10*time.Millisecond)
			group.Wait()
			require.Equal(t, state, receipt(t, m, id))
			seen[state.Phase]++
			_, err := os.Stat(effect)
			switch state.Phase {
			case machine.JobSucceeded:
				require.NoError(t, err)
			default:
				require.Equal(t, machine.JobCancelled, state.Phase)
			}
		}
		t.Log(seen)
	})
}

// TestCancelWhileTheStepIsWrittenDown: who ends the steps may find the file with their number empty.
func TestCancelWhileTheStepIsWrittenDown(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		require.Equal(t, machine.JobRunning, start(t, m, testJob("blank", machine.RunScript{Text: machine.Secret("sleep 300")})).Phase)
		require.NoError(t, os.Truncate(filepath.Join(m.options.StateDir, "jobs/blank/step"), 0))
		require.Equal(t, machine.JobRunning, receipt(t, m, "blank").Phase)
		state, err := m.Cancel(testContext(t), "blank", 1)
		require.NoError(t, err)
		require.Equal(t, machine.JobCancelled, state.Phase)
		require.Equal(t, state, receipt(t, m, "blank"))
	})
}

// TestCancelWithoutSupervisor: the steps run on alone, and who cancels writes the receipt.
func TestCancelWithoutSupervisor(t *testing.T) {
	eachHost(t, func(t *testing.T, _ *localHost, m *Machine) {
		require.Equal(t, machine.JobRunning, start(t, m, testJob("alone", machine.RunScript{Text: machine.Secret("sleep 300")})).Phase)
		dir := filepath.Join(m.options.StateDir, "jobs/alone")
		supervisor, steps := fields(t, dir+"/started")[2], fields(t, dir+"/steps")[0]
		kill(t, supervisor)
		requireGone(t, supervisor)
		state, err := m.Cancel(testContext(t), "alone", 1)
		require.NoError(t, err)
		require.Equal(t, machine.JobCancelled, state.Phase)
		requireGone(t, steps)
		require.Equal(t, state, receipt(t, m, "alone"))
	})
}
